"""The worker's rooms without a worker and without a database: what each decides, told line by line."""
