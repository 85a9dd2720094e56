"""drain() makes jobs of events, as the dispatcher of a worker does; in the transaction of a test too."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from pgqueue import App, State
from pgqueue.testing import Clock, drain, drain_async
from pgqueue.testing.subject import under_test
from tests import event_tasks
from tests.answers import one_row, one_value
from tests.conftest import Worker
from tests.doors.callers import ASYNC, SYNC
from tests.testing.test_transactions import opened, opened_async, quick_ones

# Of the argument all but the event's id and time, which are of each publish.
ROWS = """
select task, args::json -> 0 ->> 'type', args::json -> 0 ->> 'key', args::json -> 0 ->> 'payload', args::json -> 0 ->> 'headers',
  kwargs, state::text, queue, priority, attempt, max_attempts, timeout_s, headers
from pgqueue.jobs
order by id
"""


@pytest.fixture
def app(dsn: str) -> Iterator[App]:
    with under_test(event_tasks.app, dsn):
        yield event_tasks.app


def publish(app: App, **more: Any) -> None:
    app.publish("user.created", {"id": 1}, key="user:1", headers={"trace": "x"}, **more)
    app.publish("order.paid", 5, **more)
    app.publish("user.changed", **more)
    app.publish("chain", 2, **more)


def results(ran: Any) -> list[Any]:
    """Of the handlers, in the order in which they ran; the audit's are ids."""
    return [(each.task.removeprefix("tests.event_tasks."), each.result) for each in ran if "audit" not in each.task]


WANTED = [
    ("index_user", ["user.created", "user:1", {"id": 1}]),
    ("publish_next", 2),
    ("publish_next", 1),
    ("publish_next", 0),
]


def test_the_rows_are_those_of_a_worker(
    app: App, conn: psycopg.Connection, start_worker: Callable[..., Worker]
) -> None:
    assert drain() == []  # there is nothing yet: it makes the subscriptions
    publish(app)
    ran = drain()
    assert results(ran) == WANTED and len(ran) == 6
    by_drain, places = conn.execute(ROWS).fetchall(), one_value(conn, "select count(distinct tick) from pgqueue.place")
    assert places == 1 and one_value(conn, "select count(*) from pgqueue.event_reader") == 0
    conn.execute("truncate pgqueue.job, pgqueue.history")
    publish(app)
    assert start_worker("-c", "1", "--burst", app="tests.event_tasks").wait() == 0
    assert sorted(conn.execute(ROWS).fetchall(), key=repr) == sorted(by_drain, key=repr)
    assert drain() == []


def test_what_was_published_before_the_first_drain_counts(app: App) -> None:
    publish(app)
    assert results(drain(queues=["default"])) == WANTED
    assert [ran.task for ran in drain()] == ["tests.event_tasks.audit"] * 2


def test_a_failed_one_is_tried_again_when_its_time_has_come(app: App) -> None:
    app.publish("user.created", key="k")
    app.publish("chain", "no number")
    first, *others = drain(raises=False)
    assert {ran.state for ran in (first, *others)} == {State.SUCCEEDED, State.SCHEDULED}
    assert drain() == []
    Clock().advance(3600)
    (again,) = drain(raises=False)
    assert again.attempt == 2


@pytest.mark.parametrize("library", quick_ones(SYNC))
def test_in_the_transaction_of_a_test(app: App, dsn: str, conn: psycopg.Connection, library: str) -> None:
    app.publish("chain", 9)  # of another test, which has left it
    with opened(library, dsn) as caller:
        with app.using(caller.conn):
            for _ in range(2):
                publish(app)
                ran = drain()
                assert results(ran) == WANTED and len(ran) == 6
            assert drain() == []
        caller.rollback()
    counted = "select (select count(*) from pgqueue.jobs), (select count(*) from pgqueue.subscription)"
    assert one_row(conn, counted) == (0, 0)


def test_a_debugger_may_halt_a_test_in_its_transaction(app: App, dsn: str) -> None:
    """Where nobody else's transaction may be, the server ends a session that stands still."""
    with psycopg.connect(dsn) as caller, app.using(caller):
        publish(app)
        assert len(drain()) == 6
        assert one_value(caller, "show idle_in_transaction_session_timeout") == "0"


@pytest.mark.parametrize("library", quick_ones(ASYNC))
def test_in_the_transaction_of_an_async_one(app: App, dsn: str, conn: psycopg.Connection, library: str) -> None:
    async def test() -> None:
        async with opened_async(library, dsn) as caller:
            with app.using(caller.conn):
                for payload in (1, 2):
                    await app.publish_async("user.created", {"id": payload})
                    ran = await drain_async()
                    assert results(ran) == [("index_user", ["user.created", None, {"id": payload}])]
            await caller.rollback()

    asyncio.run(test())
    assert one_value(conn, "select count(*) from pgqueue.jobs") == 0


def test_in_an_event_loop(app: App) -> None:
    async def test() -> None:
        await app.publish_async("user.created", 1)
        assert results(await drain_async()) == [("index_user", ["user.created", None, 1])]

    asyncio.run(test())


def test_an_app_without_handlers_looks_for_none(app: App, conn: psycopg.Connection) -> None:
    plain = App(app.dsn)
    plain.publish("user.created")
    assert drain(app=plain) == []
    assert one_value(conn, "select count(*) from pgqueue.subscription") == 0
    plain.close()
