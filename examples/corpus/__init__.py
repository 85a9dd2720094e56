"""Real input: each source file of Python's standard library is one job, and the sum must come out right."""
