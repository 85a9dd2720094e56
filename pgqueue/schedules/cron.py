"""Cron expressions and time zones, checked field by field. cronsim reads them; what is wrong is said in words of our own."""

import zoneinfo
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import NoReturn
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from pgqueue.errors import InvalidOption

NAMED_CRONS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
FIELDS = ("second", "minute", "hour", "day of the month", "month", "day of the week")
LONGEST_CRON = 300  # characters: sixty minutes by name are 169
_SOME_DAY = datetime(2026, 1, 1)


def check_cron(option: str, value: object) -> str:
    """An expression of five fields, or of six that begin with the seconds; spaces made one. Raises InvalidOption."""
    if not isinstance(value, str):
        raise InvalidOption(f"{option} takes a string such as '0 3 * * *', not a {type(value).__name__}")
    if len(value) > LONGEST_CRON:
        raise InvalidOption(f"{option} is {len(value)} characters long; at most {LONGEST_CRON} fit")
    text = NAMED_CRONS.get(value.strip().lower(), value)
    if text.strip().startswith("@"):
        raise InvalidOption(
            f"{option}={value!r}: there is no such name; there are {', '.join(NAMED_CRONS)}, and every= for intervals"
        )
    fields = text.split()
    if len(fields) not in (5, 6):
        raise InvalidOption(
            f"{option}={value!r} has {len(fields)} fields: write five, minute hour day month weekday, or six with the second first"
        )
    for number, field in enumerate(fields, 1):
        if not _reads(["*"] * (number - 1) + [field] + ["*"] * (len(fields) - number)):
            _refuse(option, fields, number)
    if not _reads(fields):  # each field is right, and no date has all of them
        raise InvalidOption(f"{option}={value!r} never comes: no such day is in that month")
    return " ".join(fields)


def _reads(fields: list[str]) -> bool:
    try:
        CronSim(" ".join(fields), _SOME_DAY)
    except (CronSimError, AssertionError, ValueError, TypeError):  # it asserts what some nonsense breaks, as in 5L/2
        return False
    return True


def _refuse(option: str, fields: list[str], number: int) -> NoReturn:
    """Name the field, and of a list the part that is wrong."""
    names = FIELDS[-len(fields) :]
    parts = fields[number - 1].split(",")
    around = [["*"] * (number - 1), ["*"] * (len(fields) - number)]
    wrong = next((part for part in parts if not _reads([*around[0], part, *around[1]])), fields[number - 1])
    raise InvalidOption(
        f"{option}={' '.join(fields)!r}: field {number}, {names[number - 1]}: {wrong or 'nothing before a comma'}"
    )


def check_zone(option: str, value: object) -> str:
    """The name of a time zone that is known here; None is UTC. Raises InvalidOption."""
    if value is None or value is UTC:
        return "UTC"
    name = value.key if isinstance(value, ZoneInfo) else value
    if not isinstance(name, str):
        raise InvalidOption(f"{option} takes the name of a zone, such as 'Europe/Berlin', not a {type(value).__name__}")
    try:
        zone(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        close = get_close_matches(name, zoneinfo.available_timezones(), n=1)
        hint = f"did you mean {close[0]!r}? Else" if close else "check its name, or"
        raise InvalidOption(
            f"{option}={name!r}: this machine knows no such time zone; {hint} `pip install tzdata`, also for the workers"
        ) from None
    return name


def zone(name: str) -> ZoneInfo:
    """The zone by its name; raises ZoneInfoNotFoundError, or ValueError for what is no name."""
    if not name or name != name.strip():
        raise ValueError(f"{name!r} is not the name of a zone")
    return ZoneInfo(name)
