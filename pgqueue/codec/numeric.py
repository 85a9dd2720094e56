"""Numbers as people's code hands them over, of whatever kind, made Python's own where they enter."""

import math
from decimal import Decimal
from numbers import Integral, Real


def as_float(value: object) -> float | None:
    """None if it is not a number, as a bool. What no float can hold is infinite."""
    if isinstance(value, bool) or not isinstance(value, Real | Decimal):
        return None
    try:
        return float(value)
    except OverflowError:  # an int of 400 digits
        return math.copysign(math.inf, -1 if value < 0 else 1)


def as_int(value: object) -> int | None:
    """None if it is not a whole number, as a bool or a float."""
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else None
