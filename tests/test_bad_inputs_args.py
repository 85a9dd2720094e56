"""Arguments that PostgreSQL or JSON cannot hold are refused before anything is written; the others come back the same."""

import dataclasses
import enum
import functools
import logging
import math
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pgqueue import App, InvalidArguments, Task
from tests.tables import own_tables
from tests.untyped import untyped

ECHO = "canary-that-no-message-repeats"


def send(to: Any, subject: str = "hi") -> None:
    """The task of these tests; nobody runs it."""


@pytest.fixture
def task(app: App) -> Task[Any, Any, Any]:
    return app.task(name="shop.send")(send)


def cyclic() -> list[Any]:
    value: list[Any] = [ECHO]
    value.append({"again": value})
    return value


def deep(levels: int) -> Any:
    return functools.reduce(lambda inner, _: [inner], range(levels), untyped(ECHO))


REFUSED = [
    pytest.param({"name": f"{ECHO}\0"}, "argument to.name contains NUL", id="b1-nul-in-a-string"),
    pytest.param({"\0": ECHO}, "argument to has a key that contains NUL", id="b2-nul-in-a-key"),
    pytest.param([math.nan], "argument to[0] is NaN or infinite", id="b5-nan"),
    pytest.param({"a": -math.inf}, "argument to.a is NaN or infinite", id="b5-infinity"),
    pytest.param([10**4300], "argument to[0] is an int of more than 4,300 digits", id="b9-huge-int"),
    pytest.param(deep(5_000), "nested more than 100 levels deep", id="b12-nested-5000"),
    pytest.param(deep(100_000), "nested more than 100 levels deep", id="b13-nested-100000"),
    pytest.param([f"{ECHO}\ud800"], "argument to[0] contains a lone surrogate", id="b14-surrogate"),
    pytest.param({"a": [object()]}, "argument to.a[0] is an object, which JSON cannot hold", id="b18-object"),
    pytest.param([1, 1j], "argument to[1] is a complex", id="b18-complex"),
    pytest.param({1: ECHO, "1": ECHO}, "argument to has an int as a key", id="b20-int-keys"),
    pytest.param(cyclic(), "nested more than 100 levels deep, or contains itself", id="b22-cycle"),
    pytest.param(ECHO * 40_000, "bytes of JSON are more than the limit of 1,000,000", id="b23-1-mb"),
    pytest.param(ECHO * 3_400_000, "bytes of JSON are more than the limit of 1,000,000", id="b23-100-mb"),
]


@pytest.mark.parametrize(("value", "told"), REFUSED)
def test_it_is_refused_by_path_and_the_callers_transaction_goes_on(
    task: Task[Any, Any, Any], dsn: str, conn: psycopg.Connection, value: Any, told: str
) -> None:
    with psycopg.connect(dsn) as caller:
        caller.execute("create schema shop")
        for way in (
            task.options(conn=caller).defer,
            lambda to: task.options(conn=caller).defer_many([("fine",), (to,)]),
            lambda to: task.app.enqueue("shop.send", kwargs={"to": to}, conn=caller),
        ):
            with pytest.raises(InvalidArguments) as refused:
                way(value)
            text = str(refused.value)
            assert text.startswith("shop.send: ") and "\n" not in text and len(text) < 400 and ECHO not in text
        assert told in _refusal(task, value)
        task.options(conn=caller).defer("after it")
    assert conn.execute("select args from pgqueue.job").fetchall() == [('["after it"]',)]
    assert conn.execute("select 1 from pg_namespace where nspname = 'shop'").fetchone()


def charge(order: int, at: datetime | None = None) -> None:
    """Another task that nobody runs."""


def test_another_type_than_declared_is_refused_before_anything_is_written(
    app: App, dsn: str, conn: psycopg.Connection
) -> None:
    task = app.task(name="shop.charge")(charge)
    told = "shop.charge: argument order is None, but int is declared"
    with pytest.raises(InvalidArguments, match=told):
        task.defer(untyped(None))
    with pytest.raises(InvalidArguments, match=told):
        task.defer_many([(1,), {"order": None}])
    with pytest.raises(InvalidArguments, match="argument at is a str, but datetime is declared"):
        task.options(unique=True).defer(1, at=untyped("2030-01-01"))
    assert conn.execute("select count(*) from pgqueue.jobs").fetchone() == (0,)
    app.enqueue("shop.charge", [None])  # by name nothing is known
    lenient = App(dsn, check_types=False)
    lenient.task(name="shop.charge")(charge).defer(untyped(None))
    lenient.close()
    assert conn.execute("select args from pgqueue.jobs").fetchall() == [("[null]",)] * 2


def _refusal(task: Task[Any, Any, Any], value: Any) -> str:
    with pytest.raises(InvalidArguments) as refused:
        task.encode((value,), {})
    return str(refused.value)


@pytest.fixture
def there_and_back(conn: psycopg.Connection, app: App) -> Iterator[Any]:
    """Defer a value, read the row that is in the table, and decode it as a worker would."""

    def travel(value: Any, function: Any = send) -> Any:
        task = app.task(name=f"shop.{uuid.uuid4().hex}")(function)
        job = task.defer(value)
        row = conn.execute("select args, kwargs from pgqueue.job where id = %s", [job.id]).fetchone()
        assert row is not None
        ((back,), _) = task.codec.decode(*row)
        return back

    yield travel


class Size(enum.Enum):
    SMALL = "s"


@dataclasses.dataclass
class Order:
    id: uuid.UUID
    when: datetime
    price: Decimal
    sizes: set[Size]
    data: bytes


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(1e22, id="b6-a-large-float-stays-a-float"),
        pytest.param(1.797e308, id="b6-the-largest-float"),
        pytest.param(-0.0, id="b7-minus-zero"),
        pytest.param(2**63 + 1, id="b8-beyond-64-bits"),
        pytest.param(-(10**400), id="b8-400-digits"),
        pytest.param("é e\u0301 😀 \u05e9\u05dc\u05d5\u05dd \U0010ffff", id="b15-every-kind-of-text"),
    ],
)
def test_it_comes_back_the_same(there_and_back: Any, value: Any) -> None:
    back = there_and_back(value)
    assert repr(back) == repr(value) and type(back) is type(value)


def test_b18_typed_values_come_back_as_declared(there_and_back: Any) -> None:
    def take(to: Order) -> None: ...

    order = Order(uuid.uuid4(), datetime(2030, 1, 1, tzinfo=UTC), Decimal("1.10"), {Size.SMALL}, b"\0\xff")
    assert there_and_back(order, take) == order


def test_b19_a_tuple_is_a_list_unless_declared(there_and_back: Any) -> None:
    def take(to: tuple[int, date]) -> None: ...

    assert there_and_back((1, date(2030, 1, 1))) == [1, "2030-01-01"]
    assert there_and_back((1, date(2030, 1, 1)), take) == (1, date(2030, 1, 1))


def test_b3_nul_in_names_and_keys(task: Task[Any, Any, Any], conn: psycopg.Connection) -> None:
    given: list[dict[str, Any]] = [{"queue": "a\0"}, {"unique": "a\0"}]
    for options in given:
        with pytest.raises(ValueError, match=r"shop\.send: (queue|unique) contains a control character such as NUL"):
            task.options(**options).defer(1)
    with pytest.raises(ValueError, match="task contains a control character such as NUL"):
        task.app.enqueue("a\0")
    assert conn.execute("select count(*) from pgqueue.job").fetchone() == (0,)


def test_b4_no_column_is_json(conn: psycopg.Connection) -> None:
    # json would store \u0000 and fail at the first look inside; jsonb would make an int of 1e22.
    ours = own_tables()
    found = conn.execute(
        "select table_name, column_name from information_schema.columns"
        " where table_schema = 'pgqueue' and data_type in ('json', 'jsonb') and table_name = any (%s)", [list(ours)],
    ).fetchall()  # fmt: skip
    assert {"job", "event", "webhook"} <= ours
    assert found == []


def test_b13_what_sql_nests_too_deeply_is_refused_by_the_server(conn: psycopg.Connection) -> None:
    with pytest.raises(psycopg.Error):
        conn.execute("select pgqueue.enqueue('t', %s::jsonb)", ["[" * 100_000 + "]" * 100_000])
    assert conn.execute("select count(*) from pgqueue.job").fetchone() == (0,)


@pytest.mark.parametrize("source", ["environment", "dsn"])
def test_b16_the_encoding_is_utf8_whatever_is_asked_for(dsn: str, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if source == "environment":
        monkeypatch.setenv("PGCLIENTENCODING", "latin1")
    app = App(dsn if source == "environment" else make_conninfo(dsn, client_encoding="latin1"))
    app.enqueue("t", ["中😀"], queue="中")
    ((job,), shown) = app.jobs(), app.run(app.queries.stats_upcoming(limit=1))
    app.close()
    assert (job.args, job.queue, shown) == ('["中😀"]', "中", [])


def test_b17_bytes_that_are_no_utf8_are_refused_by_the_server(conn: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.CharacterNotInRepertoire):
        conn.execute("select pgqueue.enqueue(convert_from('\\xff'::bytea, 'UTF8'))")


def test_b21_of_equal_keys_in_sql_the_last_counts(task: Task[Any, Any, Any], conn: psycopg.Connection) -> None:
    conn.execute("select pgqueue.enqueue('shop.send', %s::jsonb)", ['[{"a": 1, "a": 2}]'])
    ((args,),) = conn.execute("select args from pgqueue.job").fetchall()
    assert task.codec.decode(args, "{}")[0] == [{"a": 2}]


def test_b23_large_arguments_are_warned_of_once(
    task: Task[Any, Any, Any], conn: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="pgqueue"):
        task.defer("x" * 60_000)
        assert not caplog.records
        task.defer("x" * 70_000)
        task.defer_many([("x" * 80_000,), ("x" * 90_000,)])
    (record,) = caplog.records
    assert record.getMessage().startswith("shop.send: arguments of 70006 bytes") and "xxx" not in record.getMessage()
    assert conn.execute("select count(*) from pgqueue.job").fetchone() == (4,)


def test_b23_the_limit_can_be_raised(dsn: str, conn: psycopg.Connection) -> None:
    app = App(dsn, max_payload_bytes=3_000_000, warn_payload_bytes=3_000_000)
    app.task(name="shop.send")(send).defer("x" * 2_000_000)
    app.close()
    assert conn.execute("select length(args) from pgqueue.job").fetchone() == (2_000_004,)


def test_b18_a_timedelta_beyond_a_float_is_exact(there_and_back: Any) -> None:
    def take(to: timedelta) -> None: ...

    assert there_and_back(timedelta.max, take) == timedelta.max
