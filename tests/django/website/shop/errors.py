"""What may go wrong."""


class SoldOut(Exception):
    """Its path is not that of a class of Python's."""

    class Forever(ValueError):
        """One inside of another."""
