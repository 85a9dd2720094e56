"""A small program whose tests run its jobs: `pytest examples/tested_app`."""
