"""F56: two years of ten zones, minute by minute, against the rules in words.

A time with `*` in its minute or hour runs in each minute whose reading on the zone's clocks it names. Any other runs in the first
minute that has such a reading, and where clocks jump over one, in the minute in which they have jumped; once, whatever it names
there.
"""

import calendar
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest

from pgqueue.schedules.times import When

MINUTE = timedelta(minutes=1)
Day = Callable[[datetime], bool]


class Expression(NamedTuple):
    """What it says, by hand: the readings of a day, on which days, and whether real time continues."""

    cron: str
    times: frozenset[tuple[int, int]]
    day: Day
    real: bool = False


def every_day(_: datetime) -> bool:
    return True


def hours(*hours: int) -> Callable[..., frozenset[tuple[int, int]]]:
    return lambda *minutes: frozenset((hour, minute) for hour in hours for minute in minutes)


EXPRESSIONS = [
    Expression("30 2 * * *", hours(2)(30), every_day),
    Expression("0 0 * * *", hours(0)(0), every_day),
    Expression("30 0 * * 5", hours(0)(30), lambda at: at.weekday() == 4),
    Expression("0,15,45 1-3 * * *", hours(1, 2, 3)(0, 15, 45), every_day),
    Expression("0-59 2 * * SUN", hours(2)(*range(60)), lambda at: at.weekday() == 6),
    Expression("0 12 13 * 5", hours(12)(0), lambda at: at.day == 13 or at.weekday() == 4),
    Expression("45 1 29 2 *", hours(1)(45), lambda at: (at.month, at.day) == (2, 29)),
    Expression("15 3 L * *", hours(3)(15), lambda at: at.day == calendar.monthrange(at.year, at.month)[1]),
    Expression("0 12 30 12 *", hours(12)(0), lambda at: (at.month, at.day) == (12, 30)),
    Expression("*/20 * * * *", hours(*range(24))(0, 20, 40), every_day, real=True),
    Expression("*/20 2 * * *", hours(2)(0, 20, 40), every_day, real=True),
    Expression("15 * * * *", hours(*range(24))(15), every_day, real=True),
    Expression("*/30 0-1 * * 0,1", hours(0, 1)(0, 30), lambda at: at.weekday() in (6, 0), real=True),
]
ZONES = [
    ("UTC", 2027), ("Europe/Berlin", 2026), ("America/New_York", 2026), ("Australia/Lord_Howe", 2026), ("Asia/Kolkata", 2026),
    ("Africa/Cairo", 2026), ("Africa/Casablanca", 2026), ("America/St_Johns", 2026), ("Pacific/Apia", 2011),
    ("America/Sao_Paulo", 2017),
]  # fmt: skip


def oracle(zone: str, begin: datetime, end: datetime) -> dict[str, list[datetime]]:
    """By the rules alone: each minute is looked at."""
    runs: dict[str, list[datetime]] = {each.cron: [] for each in EXPRESSIONS}
    by_time: dict[tuple[int, int], list[Expression]] = {}
    for each in EXPRESSIONS:
        for time in each.times:
            by_time.setdefault(time, []).append(each)
    clocks = ZoneInfo(zone)
    at = begin
    latest = at.astimezone(clocks).replace(tzinfo=None) - MINUTE  # of all readings so far
    while at < end:
        reading = at.astimezone(clocks).replace(tzinfo=None)
        due = {each.cron for each in by_time.get((reading.hour, reading.minute), ()) if each.real and each.day(reading)}
        while latest < reading:  # for the first time, or jumped over
            latest += MINUTE
            named = by_time.get((latest.hour, latest.minute), ())
            due |= {each.cron for each in named if not each.real and each.day(latest)}
        for cron in due:
            runs[cron].append(at)
        at += MINUTE
    return runs


@pytest.mark.long
@pytest.mark.parametrize(("zone", "year"), ZONES)
def test_two_years_minute_by_minute(zone: str, year: int) -> None:
    begin, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 2, 1, 1, tzinfo=UTC)
    expected = oracle(zone, begin, end)
    assert all(expected[each.cron] or "29 2" in each.cron for each in EXPRESSIONS)
    some = random.Random(7)
    for each in EXPRESSIONS:
        when = When(cron=each.cron, tz=zone)
        found = [*takewhile(lambda time: time < end, when.upcoming(begin - MINUTE))]
        assert found == expected[each.cron], each.cron
        for _ in range(min(200, len(found))):  # from any moment on, not only from a time of its own
            index = some.randrange(len(found))
            before = found[index - 1] if index else begin - MINUTE
            assert when.following(before + (found[index] - before) * some.random()) == found[index]
