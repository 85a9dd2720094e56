"""When schedules are due: over the nights in which clocks move, from the rules in words; and what is refused, by name."""

from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from pgqueue import InvalidOption
from pgqueue.schedules.cron import FIELDS, check_cron, check_zone
from pgqueue.schedules.times import When

NIGHTS = [
    # zone, expression, local time after which, what follows in UTC
    ("Europe/Berlin", "30 2 * * *", "2026-03-28 12:00", "29T01:00 30T00:30"),  # in the gap: when clocks have jumped
    ("Europe/Berlin", "0,30 2 * * *", "2026-03-28 12:00", "29T01:00 30T00:00"),  # once, though it names two times there
    ("Europe/Berlin", "0 30 2 * * *", "2026-03-28 12:00", "29T01:00 30T00:30"),
    ("Europe/Berlin", "*/30 * * * *", "2026-03-29 01:10", "29T00:30 29T01:00 29T01:30 29T02:00"),
    ("Europe/Berlin", "15 * * * *", "2026-03-29 00:20", "29T00:15 29T01:15 29T02:15"),
    ("Europe/Berlin", "30 2 * * *", "2026-10-24 12:00", "25T00:30 26T01:30"),  # shown twice: at the first
    ("Europe/Berlin", "0 * * * *", "2026-10-25 01:10", "25T00:00 25T01:00 25T02:00"),  # hour by hour
    (
        "Europe/Berlin",
        "*/20 2 * * *",
        "2026-10-25 01:10",
        "25T00:00 25T00:20 25T00:40 25T01:00 25T01:20 25T01:40 26T01:00",
    ),
    ("America/New_York", "30 2 * * *", "2026-03-07 12:00", "08T07:00 09T06:30"),
    ("Australia/Lord_Howe", "15 2 * * *", "2026-10-03 12:00", "03T15:30 04T15:15"),
    ("Australia/Lord_Howe", "45 1 * * *", "2026-04-04 12:00", "04T14:45 05T15:15"),
    (
        "Australia/Lord_Howe",
        "*/20 2 * * *",
        "2026-04-05 00:59",
        "04T15:30 04T15:50 04T16:10 05T15:30",
    ),  # cronsim loses two
    ("Australia/Lord_Howe", "*/15 * * * *", "2026-04-05 01:20", "04T14:30 04T14:45 04T15:00 04T15:15 04T15:30"),
    ("Asia/Kolkata", "30 2 * * *", "2026-03-28 12:00", "28T21:00 29T21:00"),
    ("Africa/Cairo", "0 0 * * *", "2026-04-23 12:00", "23T22:00 24T21:00"),  # the gap is at midnight
    ("Africa/Cairo", "30 0 * * 5", "2026-04-23 12:00", "23T22:00 30T21:30"),
    ("Pacific/Apia", "0 12 30 12 *", "2011-12-01 00:00", "30T10:00 29T22:00"),  # a day that never was: at its end
    ("Africa/Casablanca", "30 2 * * *", "2026-02-14 12:00", "15T01:30 16T02:30"),
    ("UTC", "0 0 29 2 *", "2026-01-01 00:00", "29T00:00 29T00:00"),
    ("UTC", "0 0 13 * 5", "2026-11-08 00:00", "13T00:00 20T00:00"),  # either, as in cron
    ("UTC", "0 0 L * *", "2026-02-08 00:00", "28T00:00 31T00:00"),
    ("UTC", "*/10 * * * * *", "2026-02-08 00:00", "08T00:00:10 08T00:00:20"),
]


@pytest.mark.parametrize(("zone", "cron", "after", "expected"), NIGHTS)
def test_a_night(zone: str, cron: str, after: str, expected: str) -> None:
    begin = datetime.fromisoformat(after).replace(tzinfo=ZoneInfo(zone))
    wanted = expected.split()
    found = islice(When(cron=check_cron("cron", cron), tz=zone).upcoming(begin), len(wanted))
    assert [f"{time:%dT%H:%M:%S}".removesuffix(":00") for time in found] == wanted


def test_in_the_hour_that_is_shown_again_it_has_run() -> None:
    """A schedule that is declared then does not run for the first half past two."""
    within = When(cron="30 2 * * *", tz="Europe/Berlin")
    assert within.following(datetime(2026, 10, 25, 1, 10, tzinfo=UTC)) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


def test_intervals_count_from_their_anchor() -> None:
    anchor = datetime(2026, 3, 29, 0, 0, 0, 250_000, tzinfo=UTC)
    when = When(every_s=0.5, anchor_at=anchor)
    assert [(time - anchor).total_seconds() for time in islice(when.upcoming(anchor), 3)] == [0.5, 1.0, 1.5]
    assert when.following(anchor + timedelta(seconds=86_400.2)) == anchor + timedelta(seconds=86_400.5)
    assert when.latest(anchor, anchor + timedelta(days=400, seconds=0.7)) == anchor + timedelta(days=400, seconds=0.5)


@pytest.mark.parametrize("cron", ["* * * * * *", "0 3 * * *", "*/20 2 * * 1"])
def test_the_latest_of_a_year_is_found_without_counting(cron: str) -> None:
    when, now = When(cron=cron, tz="Australia/Lord_Howe"), datetime(2027, 5, 1, 12, 0, 0, 5, tzinfo=UTC)
    first = when.following(datetime(2026, 5, 1, tzinfo=UTC))
    assert first is not None
    latest = when.latest(first, now)
    following = when.following(latest)
    assert latest <= now and following is not None and following > now
    assert when.following(latest - timedelta(seconds=1)) == latest


WRONG = [
    ("0 24 * * *", "field 2, hour: 24"),
    ("0 0 * * 8", "field 5, day of the week: 8"),
    ("61 0 * * * *", "field 1, second: 61"),
    ("0 0 1,32 * *", "field 3, day of the month: 32"),
    ("*/0 * * * *", "field 1, minute: */0"),
    ("0 0 * * FRI-MON", "field 5, day of the week: FRI-MON"),
    ("0 0 ? * MON", "field 3, day of the month: ?"),
    ("1,,2 * * * *", "field 1, minute: nothing before a comma"),
    ("0 0 * * 5L/2", "field 5, day of the week: 5L/2"),
    ("٣ * * * *", "field 1, minute: ٣"),
    ("0 0 30 2 *", "never comes: no such day is in that month"),
    ("* * 30 2 *", "never comes: no such day is in that month"),
    ("0 0 31 4,6 *", "never comes: no such day is in that month"),
    ("60 * * * *", "field 1, minute: 60"),
    ("0 0 15W * *", "field 3, day of the month: 15W"),
    ("0 0 * * 5#6", "field 5, day of the week: 5#6"),
    ("0 0 * FEBR *", "field 4, month: FEBR"),
    ("* * * * * * *", "has 7 fields: write five"),
    ("@reboot", "there is no such name; there are @hourly"),
    ("* * * *", "has 4 fields: write five"),
    ("", "has 0 fields"),
    ("@every 5m", "there is no such name; there are @hourly"),
    ("0 " * 200, "is 400 characters long"),
    (5, "takes a string such as '0 3 * * *', not a int"),
]


@pytest.mark.parametrize(("value", "said"), WRONG)
def test_b50_an_expression_that_is_refused(value: object, said: str) -> None:
    with pytest.raises(InvalidOption) as raised:
        check_cron("cron", value)
    assert said in str(raised.value) and str(raised.value).startswith("cron") and "\n" not in str(raised.value)


def test_short_names_and_spaces() -> None:
    assert check_cron("cron", " @Daily ") == "0 0 * * *"
    assert check_cron("cron", "  */5  *  * * mon ") == "*/5 * * * mon"
    for odd in (
        "30 0 3 * * *",
        "0 0 L * *",
        "0 0 LW * *",
        "0 0 * * 5L",
        "0 0 * * 5#2",
        "0 0 29 2 *",
        "0 0 * feb mon-fri",
    ):
        assert check_cron("cron", odd) == odd


@pytest.mark.parametrize(
    "name", ["Europe/Berln", "Mars/Olympus", "../UTC", "/etc/passwd", "", " UTC", "x" * 300, "Eu\0rope"]
)
def test_b50_a_zone_that_is_refused(name: str) -> None:
    with pytest.raises(InvalidOption, match="pip install tzdata"):
        check_zone("tz", name)
    assert check_zone("tz", ZoneInfo("Asia/Tokyo")) == "Asia/Tokyo" and check_zone("tz", None) == "UTC"


@settings(max_examples=150, deadline=None)
@given(some.text("0123456789*,-/#LW aSUN?@\t.", max_size=30))
def test_whatever_is_written_is_read_or_refused(text: str) -> None:
    try:
        cron = check_cron("cron", text)
    except InvalidOption:
        return
    assert len(cron.split()) in (len(FIELDS) - 1, len(FIELDS))
    after = datetime(2026, 3, 1, tzinfo=UTC)
    following = When(cron=cron, tz="Africa/Cairo").following(after)
    assert following is None or following > after
