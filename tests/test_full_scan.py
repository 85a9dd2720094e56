"""Looks for what no cursor leads to: on the line while they are cheap, else on a connection that holds nothing up."""

import asyncio
import functools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
import pytest

from benchmarks.filling import Filling
from pgqueue import App
from pgqueue.job import Claimed
from pgqueue.queries import Queries
from pgqueue.worker.supervisor import full_scan
from pgqueue.worker.supervisor.avoided import AvoidedTasks
from pgqueue.worker.supervisor.connection import TroubleLog, WorkConnection
from pgqueue.worker.supervisor.cursors import MOST_EMPTY, Cursors, Position
from pgqueue.worker.supervisor.full_scan import FullScan, pause_s
from pgqueue.worker.supervisor.identity import Identity
from pgqueue.worker.supervisor.queue_order import QueueOrder
from pgqueue.worker.supervisor.wakeups import Wakeups
from tests import tasks
from tests.conftest import Worker, eventually

ALL_DEAD = 300_000  # entries before a head; a look took 18 ms
HOURS = (3600.0, 7200.0, 10_800.0, 14_400.0)  # after each, cursors move on

# -- cursors --


def at(*positions: Position) -> Cursors:
    """Cursors that a look has set just before these jobs."""
    cursors = Cursors()
    cursors.rewind(positions, since={})
    return cursors


def job(queue: str, seq: int) -> Claimed:
    """One that was claimed there."""
    return Claimed("", 1, "t", "[]", "{}", 1, None, 0, queue, 0, seq, None, None, 0.0, None)


def test_the_best_pair_comes_first() -> None:
    cursors = at(("a", 0, 5), ("b", 0, 3), ("c", 2, 9))
    assert cursors.positions() == [("c", 2, 8), ("b", 0, 2), ("a", 0, 4)]


def test_a_look_leads_back_to_what_lay_below_and_to_nothing_else() -> None:
    cursors = at(("a", 0, 10), ("b", 0, 10), ("c", 0, 10))
    before = cursors.snapshot()
    # While the look is under way a claim takes what it will find in b; a late commit in c lies below.
    sent = cursors.positions()
    for hour in HOURS[:3]:
        cursors.advance([job("b", 20)], sent=sent, now_s=hour)
    cursors.rewind([("b", 0, 15), ("c", 0, 4), ("new", 3, 7)], since=before)
    assert cursors.snapshot() == {("a", 0): 9, ("b", 0): 20, ("c", 0): 3, ("new", 3): 6}


def test_cursors_go_back_to_where_they_stood_then() -> None:
    """Some tasks were left alone meanwhile: what was passed by lies beyond, also where the cursor only trails as yet."""
    cursors = at(("a", 0, 10), ("b", 0, 10))
    before = cursors.snapshot()
    sent = cursors.positions()
    for hour in HOURS[:3]:
        cursors.advance([job("a", 20)], sent=sent, now_s=hour)
    cursors.advance([job("b", 20)], sent=sent, now_s=HOURS[2])
    cursors.rewind([("new", 0, 5)], since=cursors.snapshot())
    cursors.rewind_to(before)
    for hour in HOURS[2:]:
        cursors.advance([], sent=(), now_s=hour)
    assert cursors.snapshot() == {("a", 0): 9, ("b", 0): 9, ("new", 0): 4}


def test_a_cursor_trails_behind_what_was_taken() -> None:
    """So a job that commits only now, though its seq is lower, is claimed next."""
    cursors = at(("a", 0, 10))
    seen = []
    for seq, hour in zip((20, 30, 40, 50), HOURS, strict=True):
        cursors.advance([job("a", seq)], sent=cursors.positions(), now_s=hour)
        seen.append(cursors.snapshot()["a", 0])
    assert seen == [9, 9, 20, 30]


def test_a_claim_that_a_look_overtook_does_not_lead_on() -> None:
    cursors = at(("a", 0, 10))
    sent = at(("a", 0, 100)).positions()
    for hour in HOURS[:3]:
        cursors.advance([job("a", 150)], sent=sent, now_s=hour)
    assert cursors.snapshot() == {("a", 0): 9}


def test_of_very_many_pairs_the_empty_ones_are_forgotten() -> None:
    cursors = at(*((f"q{n}", 0, 1) for n in range(MOST_EMPTY)))
    cursors.rewind([("live", 0, 9)], since=cursors.snapshot())
    assert cursors.positions() == [("live", 0, 8)]


@pytest.mark.parametrize("cost_s", [0.0005, 0.005, 0.05, 0.5, 5.0])
def test_looks_take_a_tenth_of_the_time_at_most_and_none_waits_longer_than_that_asks(cost_s: float) -> None:
    """Up to what 80 million dead entries would take, going by the 24 ms of 400,000."""
    pause = pause_s(cost_s)
    assert 10 * cost_s <= pause <= max(1.0, 10 * cost_s)


# -- aside --


def awaited(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """A test that runs in an event loop."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def whole() -> None:
            await test(*args, **kwargs)

        asyncio.run(whole())

    return run


class Claims:
    """The place of the claimer: a full scan's cursors, and whether it called."""

    def __init__(self, dsn: str, aside: str, queries: Queries) -> None:
        self.cursors = Cursors()
        self.wakeups = Wakeups(Identity(str(uuid.uuid4())))
        troubles = TroubleLog()
        self.line = WorkConnection(dsn, queries, name="line", troubles=troubles)
        self.aside = WorkConnection(aside, queries, name="aside", troubles=troubles)
        self.full_scan = FullScan(
            self.line,
            self.aside,
            queries,
            self.cursors,
            QueueOrder(),
            AvoidedTasks(self.cursors, self.wakeups),
            self.wakeups,
            queues=None,
        )

    async def back(self) -> None:
        """Wait until a look made aside has told of its end."""
        async with asyncio.timeout(60):
            await self.wakeups.doorbell.wait()
        self.wakeups.doorbell.clear()


@asynccontextmanager
async def scanning(dsn: str, queries: Queries, *, aside: str | None = None) -> AsyncIterator[Claims]:
    """A full scan at work, which has looked as often as it takes to know what that costs."""
    claims = Claims(dsn, aside or dsn, queries)
    running = asyncio.create_task(claims.full_scan.run())
    try:
        for _ in range(2):
            assert not claims.full_scan.slow
            await claims.full_scan.scan()
        yield claims
        assert not running.done()
    finally:
        running.cancel()
        await claims.line.close()
        await claims.aside.close()


@pytest.fixture
def costly(monkeypatch: pytest.MonkeyPatch) -> None:
    """As behind many dead entries."""
    monkeypatch.setattr(full_scan, "SLOW_S", 0.0)


def names(conn: psycopg.Connection) -> set[str]:
    """Those of the sessions here."""
    rows = conn.execute(
        "select application_name from pg_stat_activity where datname = current_database() and application_name in ('line', 'aside')"
    )
    return {name for (name,) in rows}


def waiting(conn: psycopg.Connection) -> bool:
    """Whether somebody here waits for a lock."""
    return conn.execute("select exists (select from pg_locks where not granted)").fetchone() == (True,)


async def due(scan: FullScan) -> None:
    """Until the next look would be made."""
    await asyncio.sleep(scan.due_in_s)


@pytest.mark.usefixtures("costly")
@awaited
async def test_what_lies_below_is_found_aside(app: App, dsn: str, conn: psycopg.Connection) -> None:
    with psycopg.connect(dsn) as late:
        app.enqueue("t", conn=late)  # has its place and is not there yet
        app.enqueue("t")
        async with scanning(dsn, app.queries) as claims:
            (begin,) = claims.cursors.positions()
            await due(claims.full_scan)
            late.commit()
            assert await claims.full_scan.scan() is False  # it has been sent for
            await claims.back()
            assert claims.cursors.positions() == [("default", 0, begin[2] - 1)]
            assert names(conn) == {"line", "aside"}


@pytest.mark.usefixtures("costly")
@awaited
async def test_whoever_asks_during_a_look_is_called_at_its_end(app: App, dsn: str, conn: psycopg.Connection) -> None:
    """It may have begun before his job was there."""
    async with scanning(dsn, app.queries) as claims:
        await due(claims.full_scan)
        conn.execute("begin; lock table pgqueue.job")
        assert await claims.full_scan.scan() is False and not claims.full_scan.pending
        assert await claims.full_scan.scan() is False and claims.full_scan.pending
        conn.execute("commit")
        await claims.back()
        assert not claims.cursors and claims.full_scan.due_in_s < 60


@pytest.mark.usefixtures("costly")
@awaited
async def test_the_third_connection_goes_when_looks_are_cheap_again(
    app: App, dsn: str, conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.enqueue("t")
    async with scanning(dsn, app.queries) as claims:
        await due(claims.full_scan)
        conn.execute("begin; lock table pgqueue.job")
        await claims.full_scan.scan()
        await asyncio.to_thread(eventually, lambda: waiting(conn), what="a look under way")
        assert names(conn) == {"line", "aside"}
        monkeypatch.setattr(full_scan, "SLOW_S", 60.0)
        conn.execute("commit")
        await claims.back()
        await asyncio.to_thread(eventually, lambda: names(conn) == {"line"}, what="no third connection")
        app.enqueue("t", queue="new")
        assert await claims.full_scan.scan() is True and ("new", 0) in claims.cursors.snapshot()


@pytest.mark.usefixtures("costly")
@awaited
async def test_without_a_third_connection_looks_are_made_on_the_line(
    app: App, dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = psycopg.conninfo.make_conninfo(dsn, dbname="nowhere")
    async with scanning(dsn, app.queries, aside=nowhere) as claims:
        await due(claims.full_scan)
        app.enqueue("t")
        assert await claims.full_scan.scan() is False
        await claims.back()
        assert not claims.cursors and 'database "nowhere" does not exist' in caplog.text
        assert await claims.full_scan.scan() is True and claims.cursors


# -- in a worker --


@contextmanager
def old_snapshot(dsn: str, conn: psycopg.Connection, *, dead: int) -> Iterator[None]:
    """Somebody's, that keeps so many entries of ended jobs."""
    with psycopg.connect(dsn) as old:
        old.execute("set transaction isolation level repeatable read")
        old.execute("select from pgqueue.job")
        Filling(conn, "pgqueue").queue(dead)
        conn.execute("delete from pgqueue.job")
        yield
    conn.execute("vacuum pgqueue.job")


def test_a_worker_finds_everything_behind_an_old_snapshot(
    dsn: str, conn: psycopg.Connection, task_app: App, start_worker: Callable[..., Worker]
) -> None:
    """What committed late, came to a new queue or was deferred while it slept; then it ends its third session."""
    worker = start_worker("-c", "1").ready()
    with old_snapshot(dsn, conn, dead=ALL_DEAD):
        with psycopg.connect(dsn) as late:
            below = tasks.echo.options(conn=late).defer(1)
            assert tasks.echo.defer(2).result(timeout=60) == 2
            eventually(lambda: sessions(conn) == 3, what="a third session")
            late.commit()
        assert below.result(timeout=60) == 1
        assert tasks.elsewhere.defer(3).result(timeout=60) == 3
        assert tasks.echo.defer(4).result(timeout=60) == 4
        assert sessions(conn) == 3
    eventually(lambda: sessions(conn) == 2, what="no third session")
    assert worker.stop() == 0


def sessions(conn: psycopg.Connection) -> int:
    """Those of the only worker; its child has none."""
    count = "select count(*) from pg_stat_activity join pgqueue.worker on application_name = 'pgqueue:' || worker.id"
    ((found,),) = conn.execute(count).fetchall()
    return int(found)
