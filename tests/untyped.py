"""What a test passes that the call does not declare."""

from typing import Any


def untyped(value: Any) -> Any:
    """The value itself, with nothing known of its type: for a call that is wrong on purpose."""
    return value
