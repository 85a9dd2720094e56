"""When a defer rings: at most once per transaction and queue, and only where somebody may have to wake up."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from pgqueue import App
from tests.hands import Hands

Rang = Callable[[], list[str]]


def note(*what: object) -> None:
    """The task of these tests; nobody runs it."""


@pytest.fixture
def rang(dsn: str) -> Iterator[Rang]:
    """The payloads that arrived since the last look; they come in the order of commits, so a mark ends each look."""
    with psycopg.connect(dsn, autocommit=True) as listener, psycopg.connect(dsn, autocommit=True) as marker:
        listener.execute('listen "pgqueue_jobs"')

        def look() -> list[str]:
            marker.execute("select pg_notify('pgqueue_jobs', '(mark)')")
            heard: list[str] = []
            for note in listener.notifies(timeout=60):
                if note.payload == "(mark)":
                    return heard
                heard.append(note.payload)
            raise AssertionError("the mark never came")

        yield look


@pytest.fixture
def always(dsn: str) -> Iterator[App]:
    made = App(dsn, notify="always")
    yield made
    made.close()


@pytest.fixture
def worker(conn: psycopg.Connection, app: App) -> Hands:
    return Hands(conn, app.queries)


def test_once_per_transaction_and_queue(app: App, dsn: str, rang: Rang) -> None:
    with psycopg.connect(dsn) as caller:
        for n in range(5):
            app.enqueue("t", [n], conn=caller, queue="a")
            app.enqueue("t", [n], conn=caller, queue="b", unique=True)
            app.task(name="t")(note).options(conn=caller, queue="c").defer_many([(n,)])
        with caller.transaction():
            app.enqueue("t", conn=caller, queue="a")
        assert rang() == []  # not before the commit
        caller.commit()
        assert sorted(rang()) == ["a", "b", "c"]


def test_rolled_back_is_silent(app: App, dsn: str, rang: Rang) -> None:
    with psycopg.connect(dsn) as caller:
        app.enqueue("t", conn=caller)
        caller.rollback()
        with caller.transaction():
            app.enqueue("t", conn=caller, queue="kept")
            with caller.transaction(force_rollback=True):
                app.enqueue("t", conn=caller, queue="undone")
    assert rang() == ["kept"]


@pytest.mark.parametrize("how", ["one", "many", "unique", "conn", "async"])
def test_idle_rings_only_for_a_sleeper_that_serves_the_queue(
    app: App, worker: Hands, conn: psycopg.Connection, rang: Rang, how: str
) -> None:
    task = app.task(name="t")(note)

    def defer(queue: str) -> list[str]:
        bound = task.options(queue=queue, conn=conn if how == "conn" else None, unique=how == "unique" or None)
        if how == "async":
            asyncio.run(bound.defer_async())
        elif how in ("many", "unique"):
            bound.defer_many([(), (queue,)])
        else:
            bound.defer()
        return rang()

    assert defer("mail") == []  # a worker, but awake
    worker.sleep()
    assert defer("fax") == ["fax"]  # it serves every queue
    conn.execute("update pgqueue.worker set queues = array['mail', 'sms']")
    assert defer("fax2") == [] and defer("sms") == ["sms"]
    conn.execute("update pgqueue.worker set state = 'draining'")
    assert defer("sms3") == []
    conn.execute("update pgqueue.worker set state = 'alive'")
    worker.sleep(False)
    assert defer("sms4") == []


def test_inside_a_transaction_it_rings_always(app: App, conn: psycopg.Connection, dsn: str, rang: Rang) -> None:
    with psycopg.connect(dsn) as caller:
        app.enqueue("t", conn=caller)
    assert rang() == ["default"]
    with conn.transaction():
        app.enqueue("t", conn=conn)
        app.enqueue("t", conn=conn)
    assert rang() == ["default"]
    with psycopg.connect(dsn) as caller, app.using(caller):
        app.enqueue("t")
    assert rang() == ["default"]

    async def scenario() -> None:
        async with await psycopg.AsyncConnection.connect(dsn) as caller:
            await app.enqueue_async("t", conn=caller)

    asyncio.run(scenario())
    assert rang() == ["default"]


def test_always_and_never(app: App, always: App, worker: Hands, dsn: str, rang: Rang) -> None:
    always.enqueue("t")
    always.task(name="t")(note).options(queue="many").defer_many([(1,), (2,)])
    assert rang() == ["default", "many"]
    worker.sleep()
    never = App(dsn, notify="never")
    never.enqueue("t")
    never.task(name="t")(note).defer_many([(1,)])
    with psycopg.connect(dsn) as caller:
        never.enqueue("t", conn=caller, unique="x")
    never.close()
    assert rang() == []


@pytest.mark.parametrize("how", ["one", "many", "unique"])
@pytest.mark.parametrize(
    ("options", "rings"),
    [
        ({"delay": 5}, True),
        ({"delay": timedelta(seconds=20)}, False),
        ({"at": datetime(2001, 1, 1, tzinfo=UTC)}, True),
        ({"at": datetime(2190, 1, 1, tzinfo=UTC)}, False),
    ],
)
def test_a_job_due_before_the_longest_poll_rings(
    always: App, rang: Rang, how: str, options: dict[str, Any], rings: bool
) -> None:
    bound = always.task(name="t")(note).options(**options, unique=True if how == "unique" else None)
    bound.defer(1) if how == "one" else bound.defer_many([(1,), (2,)])
    assert rang() == (["default"] if rings else [])


def test_nothing_inserted_is_silent(always: App, rang: Rang) -> None:
    always.task(name="t")(note).defer_many([])
    assert rang() == []
    always.enqueue("t", unique="key")
    assert rang() == ["default"]
    assert not always.enqueue("t", unique="key").created
    assert rang() == []


def test_retry_and_resume_ring(app: App, worker: Hands, rang: Rang) -> None:
    ended, later = app.enqueue("t"), app.enqueue("t", delay=3600)
    worker.run_all()
    assert rang() == []
    for job in (ended, later):
        assert job.retry() and rang() == ["default"]
    app.pause("default")
    assert rang() == []
    assert app.resume("default") and rang() == ["default"]
    assert not app.resume("default") and rang() == []


def test_b25_the_longest_queue_name_fits_a_notification(always: App, rang: Rang) -> None:
    always.enqueue("t", queue="🐘" * 128)
    assert rang() == ["🐘" * 128]
