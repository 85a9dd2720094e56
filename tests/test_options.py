"""Every wrong option is refused by name, with its cure in one line, before anything is written."""

import enum
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy
import psycopg
import pytest

from pgqueue import App, ConfigError, InvalidArguments, InvalidOption, Task

AnyTask = Task[Any, Any, Any]

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"queue": ""}, "queue must not be empty"),
    ({"queue": " mail"}, "begin or end with a space"),
    ({"queue": "mail\n"}, "begin or end with a space"),
    ({"queue": "a\0b"}, "queue contains a control character"),
    ({"queue": "a\x1b[31mb"}, "queue contains a control character"),
    ({"queue": "a\u202eb"}, "queue contains a control character"),
    ({"queue": "a\ud800b"}, "queue contains a control character"),
    ({"queue": "x" * 129}, "queue is 129 characters long; at most 128"),
    ({"queue": "x" * 10_000}, "queue is 10000 characters long; at most 128"),
    ({"queue": 5}, "queue takes a string, not a int"),
    ({"queue": b"mail"}, "queue takes a string, not a bytes"),
    ({"priority": 32_768}, "priority=32768 is out of range: -32768 to 32767"),
    ({"priority": -32_769}, "out of range"),
    ({"priority": 10**400}, "out of range"),
    ({"priority": True}, "priority takes a whole number, not a bool"),
    ({"priority": 1.0}, "priority takes a whole number, not a float"),
    ({"priority": "high"}, "priority takes a whole number, not a str"),
    ({"max_attempts": 0}, "max_attempts=0 is out of range: 1 to"),
    ({"max_attempts": -1}, "out of range"),
    ({"max_attempts": 2**31}, "out of range"),
    ({"max_attempts": math.inf}, "max_attempts takes a whole number"),
    ({"max_attempts": False}, "max_attempts takes a whole number"),
    ({"delay": math.nan}, "delay=nan is not a valid duration"),
    ({"delay": math.inf}, "not a valid duration"),
    ({"delay": 1e15}, "not a valid duration: give seconds between 0 and ten years"),
    ({"delay": 10**400}, "not a valid duration"),
    ({"delay": timedelta.max}, "not a valid duration"),
    ({"delay": True}, "delay takes seconds or a timedelta, not a bool"),
    ({"delay": "5m"}, "not a str"),
    ({"delay": Decimal("inf")}, "not a valid duration"),
    ({"delay": datetime(2030, 1, 1, tzinfo=UTC)}, "an absolute time goes into at="),
    ({"at": datetime(2030, 1, 1)}, "has no time zone: add one"),
    ({"at": datetime.max}, "has no time zone"),
    ({"at": datetime.max.replace(tzinfo=UTC)}, "outside the years 1970 to 2200"),
    ({"at": datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))}, "outside the years"),
    ({"at": "2030-01-01T00:00Z"}, "at takes an aware datetime, not a str"),
    ({"at": 1_900_000_000}, "at takes an aware datetime, not a int"),
    ({"delay": 1, "at": datetime(2030, 1, 1, tzinfo=UTC)}, "give delay= or at=, not both"),
    ({"timeout": 0}, "timeout must be"),
    ({"timeout": -1}, "negative"),
    ({"timeout": 1e-300}, "timeout must be"),
    ({"timeout": math.nan}, "timeout=nan"),
    ({"timeout": 1e15}, "timeout=1000000000000000.0"),
    ({"timeout": True}, "timeout takes seconds"),
    ({"expires": -1}, "expires=-1 is negative"),
    ({"expires": datetime(2030, 1, 1)}, "expires=2030-01-01T00:00:00 has no time zone"),
    ({"expires": math.nan}, "expires=nan"),
    ({"expires": datetime.max.replace(tzinfo=UTC)}, "outside the years"),
    ({"unique": ""}, "unique must not be empty"),
    ({"unique": "a\0"}, "unique contains a control character"),
    ({"unique": 7}, "unique takes a string or True, not a int"),
    ({"unique": ["a"]}, "unique takes a string or True, not a list"),
    ({"unique": "a", "on_duplicate": "skip"}, "on_duplicate must be one of ignore, replace, raise, not 'skip'"),
    ({"unique": "a", "on_duplicate": []}, "on_duplicate must be one of"),
    ({"on_duplicate": "raise"}, "on_duplicate= needs unique="),
    ({"unique": False, "on_duplicate": "raise"}, "on_duplicate= needs unique="),
    ({"debounce": -1}, "debounce=-1 is negative"),
    ({"debounce": "soon"}, "debounce='soon' is not a span of time: write seconds, a timedelta, or as in 90s"),
    ({"debounce": "999999999w"}, "is not a span of time"),
    ({"debounce": math.nan}, "debounce=nan is not a valid duration"),
    ({"debounce": True}, "debounce takes seconds or a timedelta, not a bool"),
    ({"debounce": 5, "debounce_max": 3}, "debounce_max=3 is less than debounce=5"),
    ({"debounce": "5m", "debounce_max": "90s"}, "debounce_max=90s is less than debounce=5m"),
    ({"debounce_max": 60}, "debounce_max= needs debounce="),
    ({"debounce": 5, "delay": 3}, "debounce= says when the job is due: leave delay= and at= out"),
    ({"debounce": 5, "at": datetime(2030, 1, 1, tzinfo=UTC)}, "leave delay= and at= out"),
    ({"debounce": 5, "unique": "a", "on_duplicate": "raise"}, "leave on_duplicate= out"),
    ({"once_per": 0}, "once_per must be at least 0.001 seconds"),
    ({"once_per": -3600}, "once_per=-3600 is negative"),
    ({"once_per": "hourly"}, "once_per='hourly' is not a span of time"),
    ({"once_per": "1h", "unique": "a"}, "give once_per= or unique=, not both: once_key= says which calls are the same"),
    ({"once_per": "1h", "unique": True}, "give once_per= or unique=, not both"),
    ({"once_per": "1h", "debounce": 5}, "give once_per= or debounce=, not both"),
    ({"once_per": "1h", "on_duplicate": "raise"}, "on_duplicate= needs unique="),
    ({"once_key": "a"}, "once_key= needs once_per="),
    ({"aligned": True}, "aligned= needs once_per="),
    ({"once_per": "1h", "once_key": ""}, "once_key must not be empty"),
    ({"once_per": "1h", "aligned": "UTC"}, "aligned must be true or false, not 'UTC'"),
    ({"headers": "trace"}, "headers takes a dict, not a str"),
    ({"que": "mail"}, "no option 'que'; did you mean 'queue'?"),
    ({"zzz": 5}, "no option 'zzz'; there are aligned, at, conn, debounce, debounce_max, delay"),
]


def work(x: int) -> None:
    """The task of these tests; nobody runs it."""


@pytest.fixture
def task(app: App) -> AnyTask:
    return app.task(name="shop.work")(work)


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_b27_b29_b31_b32_b33_a_wrong_option_is_named_with_its_cure(
    task: AnyTask, conn: psycopg.Connection, options: dict[str, Any], message: str
) -> None:
    ways: list[Callable[[], object]] = [
        lambda: task.options(**options).defer(1),
        lambda: task.options(**options).defer_many([(1,)]),
        lambda: task.app.enqueue("shop.work", [1], **options),
    ]
    for way in ways:
        with pytest.raises(InvalidOption) as caught:
            way()
        text = str(caught.value)
        assert message in text and text.startswith("shop.work: ") and "\n" not in text and len(text) < 400
        assert isinstance(caught.value, ValueError) and isinstance(caught.value, ConfigError)
    assert conn.execute("select count(*) from pgqueue.job").fetchone() == (0,)


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"a": {"b": ["\0"]}}, r"shop\.work: headers\.a\.b\[0\] contains NUL"),
        ({"a": object()}, r"shop\.work: headers\.a is an object"),
        ({1: 2}, r"shop\.work: headers has an int as a key"),
        ({"a": math.nan}, r"shop\.work: headers\.a is NaN"),
        ({"a": "x" * 64_000}, r"shop\.work: headers: 64,008 bytes of JSON are more than the limit of 64,000"),
    ],
)
def test_headers_that_cannot_be_stored(
    task: AnyTask, conn: psycopg.Connection, headers: dict[Any, Any], message: str
) -> None:
    for way in (task.options(headers=headers).defer, lambda x: task.options(headers=headers).defer_many([(x,)])):
        with pytest.raises(InvalidArguments, match=message):
            way(1)
    assert conn.execute("select count(*) from pgqueue.job").fetchone() == (0,)


@pytest.mark.parametrize(
    "options",
    [
        {"queue": "x" * 128, "priority": 32_767, "max_attempts": 100_000, "delay": 10 * 365 * 86_400},
        {"queue": "'; drop table job; -- %s {schema} $1", "priority": -32_768, "max_attempts": 1},
        {"queue": "ü 🐘 中", "at": datetime(2200, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)},
        {"timeout": 0.001, "expires": 0, "delay": -0.5},
        {"timeout": timedelta(days=365), "expires": timedelta(days=3650), "headers": {}},
        {"at": datetime(1970, 1, 1, tzinfo=timezone(-timedelta(hours=23, minutes=59))), "unique": True},
        {"expires": datetime(2030, 1, 1, tzinfo=timezone(timedelta(hours=23, minutes=59)))},
        {"unique": None, "queue": None, "priority": None, "delay": None, "headers": None, "conn": None},
    ],
)
def test_the_edges_of_what_is_allowed(task: AnyTask, conn: psycopg.Connection, options: dict[str, Any]) -> None:
    task.options(**options).defer(1)
    task.options(**options).defer_many([(2,), (3,)])
    rows = conn.execute("select queue, priority from pgqueue.job").fetchall()
    assert rows == [(options.get("queue") or "default", options.get("priority") or 0)] * 3


def test_enum_members_are_their_values(app: App, task: AnyTask, conn: psycopg.Connection) -> None:
    class Queue(str, enum.Enum):  # noqa: UP042  # the old way, whose str() is not its value
        MAIL = "mail"

    class Priority(enum.IntEnum):
        HIGH = 9

    task.options(queue=Queue.MAIL, priority=Priority.HIGH).defer(1)
    task.options(queue=Queue.MAIL, priority=Priority.HIGH).defer_many([(2,)])
    task.options(queue=Queue.MAIL, priority=Priority.HIGH, unique=True).defer_many([(3,)])
    assert conn.execute("select distinct queue, priority from pgqueue.job").fetchall() == [("mail", 9)]
    app.pause(Queue.MAIL)
    assert conn.execute("select name from pgqueue.queue").fetchall() == [("mail",)]


def test_numbers_of_every_kind_are_taken(task: AnyTask, conn: psycopg.Connection) -> None:
    odd: dict[str, Any] = {"delay": Decimal("60.5"), "timeout": numpy.float32(2.5), "expires": Fraction(7201, 2)}
    odd |= {"priority": numpy.int64(7), "max_attempts": numpy.int16(3)}
    task.options(**odd).defer(1)
    task.options(**odd).defer_many([(2,)])
    found = (
        "select distinct priority, max_attempts, timeout_s, extract(epoch from expires_at - run_at)::float8 "
        "from pgqueue.job"
    )
    assert conn.execute(found).fetchall() == [(7, 3, 2.5, 3540.0)]


@pytest.mark.parametrize("queue", ["", "a\0b", " a", "x" * 129, None, 5])
def test_pause_and_resume_check_the_name(app: App, queue: Any) -> None:
    for call in (app.pause, app.resume):
        with pytest.raises(InvalidOption, match=r"^queue "):
            call(queue)
