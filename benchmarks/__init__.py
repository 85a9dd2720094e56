"""Measurements of pgqueue against its own targets: `python -m benchmarks`."""
