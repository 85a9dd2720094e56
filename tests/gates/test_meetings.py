"""Where limits meet what else there is: drains, pauses, SQL, and jobs that are moved from one key to another."""

import asyncio
import unicodedata
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pgqueue import App, InvalidOption, Limit, Task, db, testing
from pgqueue.gates.limit import Rule, stored
from pgqueue.queries import Queries
from tests.doors.callers import ASYNC, SYNC
from tests.gates.doorkeeper import Doorkeeper
from tests.hands import Hands


@pytest.fixture
def line(dsn: str) -> Iterator[psycopg.Connection]:
    with db.connect(dsn) as made:
        yield made


@pytest.fixture
def hands(line: psycopg.Connection, queries: Queries) -> Hands:
    return Hands(line, queries)


@pytest.fixture
def keeper(line: psycopg.Connection, queries: Queries, hands: Hands) -> Doorkeeper:
    return Doorkeeper(line, queries, worker=hands.id)


@pytest.fixture
def each(app: App, conn: psycopg.Connection, queries: Queries) -> Task[Any, Any, Any]:
    """A task of which one job of each tenant may be under way."""
    db.run(conn, queries.declare_gates([Rule("tenant", 1, keyed=True).as_json()]))
    return app.task(name="t", limit=Limit(1, key="tenant", name="tenant"))(lambda tenant, *_: None)


def test_a_drain_waits_for_what_waits_at_a_gate(
    app: App, each: Task[Any, Any, Any], keeper: Doorkeeper, hands: Hands
) -> None:
    """Also where nobody has looked at it yet, or another queue's job has the place."""
    each.options(queue="drained").defer("a")
    assert app.drain("drained", timeout=0.001) == 1
    each.options(queue="other", priority=1).defer("a")
    keeper.look()
    assert len(hands.claim()) == 1
    assert app.drain("drained", timeout=0.001) == 1
    app.pause("tenant=a")
    assert app.drain("drained", timeout=5) == 0  # who closed it wants it to wait


def test_a_burst_knows_a_key_with_a_limit_of_its_own(app: App, each: Task[Any, Any, Any]) -> None:
    def drained() -> bool:
        (answer,) = app.run(app.queries.drained(queues=None, unknown=[]))
        return bool(answer)

    app.limit("tenant", 0)
    each.defer("a")
    assert drained()
    app.limit("tenant=a", 1)
    assert not drained()
    app.limit("tenant", 1)
    app.limit("tenant=a", 0)
    assert drained()


def test_a_pause_after_one_that_is_over_begins_anew(app: App, conn: psycopg.Connection) -> None:
    app.pause("tenant=a", for_=60)
    over = "update pgqueue.gate set closed_at = now() - interval '1 day', closed_until = now() - interval '1 hour'"
    conn.execute(over)
    app.pause("tenant=a", for_=60)
    assert conn.execute("select closed_at > now() - interval '1 hour' from pgqueue.gate").fetchone() == (True,)


def test_a_pause_may_come_before_the_limit_is_declared(
    app: App, keeper: Doorkeeper, conn: psycopg.Connection, queries: Queries
) -> None:
    """Then its row says nothing of a limit, until a worker completes it; a pause of a task without limits leaves the same."""
    task = app.task(name="t", limit=[Limit(1, key="tenant", name="tenant"), 3])(lambda tenant: None)
    for gate in ("task:t", "tenant=a"):
        app.pause(gate)
    jobs = [task.defer(key) for key in "aab"]
    assert keeper.look() == 0
    app.resume("tenant=a")
    assert app.why(jobs[0].id).reasons[0] == (
        "it waits at the gate tenant=a, which is open: the next look of a worker lets it through"
    )
    db.run(conn, queries.declare_gates([rule.as_json() for rule in app.rules()]))
    keeper.admit(keeper.sweep())
    app.resume("task:t")
    assert keeper.look() == 2  # one of each tenant
    told = "select name, slots, keyed, source from pgqueue.gate order by 1"
    assert conn.execute(told).fetchall() == [
        ("task:t", 3, False, "code"), ("tenant", 1, True, "code"), ("tenant=a", None, False, "code")
    ]  # fmt: skip


def test_a_long_key_in_sql_is_that_of_the_library(each: Task[Any, Any, Any], conn: psycopg.Connection) -> None:
    key = "é" * 5_000
    each.defer(key)
    conn.execute("select pgqueue.enqueue('t', key => 'tenant=' || %s)", [key])
    assert conn.execute("select count(distinct gates), count(*) from pgqueue.job").fetchone() == (1, 2)


def test_any_key_in_sql_is_that_of_the_library(each: Task[Any, Any, Any], conn: psycopg.Connection) -> None:
    """Up to characters that are not assigned: of these each version of Python knows others."""
    shown = [chr(code).isprintable() for code in range(0x110000)]
    edges = {code + beside for code in range(1, 0x110000) if shown[code] != shown[code - 1] for beside in (-1, 0)}
    keys = ["", " ", "a b", "a=b", "x" * 200, "é" * 201, *(chr(code) for code in sorted(edges - {0}) if assigned(code))]
    assert len(keys) > 100
    conn.execute("select pgqueue.enqueue('t', key => 'tenant=' || key) from unnest(%s::text[]) as key", [keys])
    made = conn.execute("select gates[1] from pgqueue.job order by seq").fetchall()
    assert [gate for (gate,) in made] == [f"tenant={stored(key)}" for key in keys]


def assigned(code: int) -> bool:
    return unicodedata.category(chr(code)) not in ("Cn", "Cs")


@pytest.mark.parametrize("key", ["", "=", "=a", " t=a", "t =a", "t\nu=a", "t\n", "x" * 139])
def test_a_key_in_sql_that_names_no_limit(conn: psycopg.Connection, key: str) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue) as caught:
        conn.execute("select pgqueue.enqueue('t', key => %s)", [key])
    assert caught.value.diag.message_primary == (
        "enqueue: this key names no limit: write the limit and the key, as in tenant=42"
    )
    assert conn.execute("select count(*) from pgqueue.job").fetchone() == (0,)


def test_a_name_that_would_be_taken_for_a_key(app: App) -> None:
    with pytest.raises(InvalidOption, match="the task 'a=b' cannot have a limit"):
        app.task(name="a=b", limit=1)(lambda: None)
    with pytest.raises(InvalidOption, match="the queue 'a=b' cannot have a limit"):
        app.queue("a=b", limit=1)
    app.task(name="b=c", limit=Limit(1, name="fine"))(lambda: None)
    for change in (lambda: app.limit("queue:a=b", 3), lambda: app.pause("queue:a=b")):
        with pytest.raises(InvalidOption, match="the queue 'a=b' cannot have a limit"):
            change()
    assert app.limits() == []


def test_a_limit_of_a_long_key_is_of_the_key_as_it_is_stored(
    app: App, each: Task[Any, Any, Any], keeper: Doorkeeper, conn: psycopg.Connection
) -> None:
    key = "é" * 201
    app.limit(f"tenant={key}", 2)
    each.defer_many([(key,)] * 3)
    assert keeper.look() == 2
    app.pause(f"tenant={key}")
    assert app.resume(f"tenant={key}")
    assert app.limit(f"tenant={key}", 1, now=True) == 1
    made = app.task(name="n" * 128, limit=1)(lambda: None)
    app.limit(f"task:{made.name}", 2)
    assert conn.execute("select count(*) from pgqueue.gate").fetchone() == (3,)


def test_while_an_old_worker_lives_the_sweep_is_soon(
    each: Task[Any, Any, Any], keeper: Doorkeeper, hands: Hands, conn: psycopg.Connection, queries: Queries
) -> None:
    """Its finish frees a place, and lets nobody through."""
    each.defer_many([("a",), ("a",)])
    keeper.look()

    def swept(ago: str) -> list[list[str]]:
        conn.execute("update pgqueue.pace set tat = now() - %s::interval where gate = ''", [ago])
        return [found.gates for found in db.run(conn, queries.sweep(place=1, after="", urgent=False))]

    hands.finish(hands.claim())
    assert swept("1 hour") == [["tenant=a"]]
    assert swept("0.5 s") == [] and swept("2 s") == [["tenant=a"]]
    conn.execute("update pgqueue.worker set schedules = '{}'")
    assert swept("14 s") == [] and swept("16 s") == [["tenant=a"]]


def test_a_drain_of_the_kit_begins_where_another_ended(app: App, each: Task[Any, Any, Any]) -> None:
    """That one looked at them while the gate was full, and so did a run of one job."""
    jobs = [each.defer("a") for _ in range(4)]
    assert len(testing.drain(app=app, limit=1)) == 1
    assert len(testing.drain(app=app, limit=1)) == 1
    testing.run(jobs[2], app=app)
    assert len(testing.drain(app=app)) == 1


WAYS: list[dict[str, Any]] = [
    {},
    {"unique": "a", "debounce": 60},
    {"once_per": "1h"},
    {"unique": "b", "on_duplicate": "replace"},
]


@pytest.mark.parametrize("kind", SYNC)
def test_limited_jobs_through_every_door(
    each: Task[Any, Any, Any], conn: psycopg.Connection, dsn: str, kind: str
) -> None:
    with SYNC[kind](dsn) as caller:
        for way in WAYS:
            for _ in range(2):
                each.options(conn=caller.conn, **way).defer("a")
        each.options(conn=caller.conn).defer_many([("a",)] * 2)
        caller.commit()
    assert conn.execute("select gates, count(*) from pgqueue.job group by 1").fetchall() == [(["tenant=a"], 7)]


@pytest.mark.parametrize("kind", ASYNC)
def test_limited_jobs_through_every_async_door(
    each: Task[Any, Any, Any], conn: psycopg.Connection, dsn: str, kind: str
) -> None:
    async def test() -> None:
        async with ASYNC[kind](dsn) as caller:
            for way in WAYS:
                for _ in range(2):
                    await each.options(conn=caller.conn, **way).defer_async("a")
            await each.options(conn=caller.conn).defer_many_async([("a",)] * 2)
            await caller.commit()

    asyncio.run(test())
    assert conn.execute("select gates, count(*) from pgqueue.job group by 1").fetchall() == [(["tenant=a"], 7)]
