"""What `pgqueue bench` measures: one module per measurement, each yielding its figures with their share of the floor."""
