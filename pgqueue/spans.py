"""Spans of time as people write them: 90, 90s, 15m, 2h, 3d, 1w."""

import re
from datetime import timedelta

SPAN = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([smhdw]?)", re.ASCII)
UNITS = {"": "seconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def span_of(text: str) -> timedelta | None:
    """The span that the text says; None: it says none."""
    found = SPAN.fullmatch(text)
    try:
        return timedelta(**{UNITS[found[2]]: float(found[1])}) if found else None
    except OverflowError:  # longer than Python can say
        return None
