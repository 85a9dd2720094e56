"""Schedules under faults: the worker that fires is killed at the tick, none runs for a while, the session ends, clocks are set.

That each due time is right over the nights in which clocks move is in tests/schedules/test_oracle.py.
"""

import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from benchmarks.chaos.clock import Clock, libfaketime
from benchmarks.chaos.cluster import Cluster
from pgqueue import App
from tests.answers import one_value
from tests.conftest import Worker, eventually
from tests.faults.conftest import Figure
from tests.schedules.shelf import Shelf

Start = Callable[..., Worker]
LIBRARY = libfaketime()
FAKETIME = pytest.mark.skipif(LIBRARY is None, reason="needs libfaketime (Debian: apt-get install libfaketime)")
EDGE_S = 0.05  # a worker is killed this long before or after a tick, at most


@pytest.fixture
def shelf(app: App, conn: psycopg.Connection) -> Shelf:
    return Shelf(app, conn)


def jobs_by_time(conn: psycopg.Connection) -> dict[datetime, int]:
    """How many jobs each due time has."""
    made = "select (headers::json ->> 'pgqueue.due_at')::timestamptz, count(*)::int from pgqueue.jobs group by 1"
    return {at.astimezone(UTC): count for at, count in conn.execute(made) if at is not None}


@pytest.mark.parametrize("kills", [5, pytest.param(200, marks=pytest.mark.slow)])
def test_f54_a_worker_is_killed_at_the_tick(
    kills: int, shelf: Shelf, conn: psycopg.Connection, start_worker: Start, figure: Figure
) -> None:
    """Two workers live, of which one is killed around each tick: no time has two jobs, and none is missing."""
    begin = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
    shelf.put(cron="* * * * * *", next_run_at=begin, missed="all", missed_most=1000, overlap="allow")
    workers = [start_worker("-c", "1", "-Q", "nothing").ready() for _ in range(2)]
    some = random.Random(54)
    for kill in range(kills):
        tick = one_value(
            conn, "select 1 - extract(epoch from clock_timestamp() - date_trunc('second', clock_timestamp()))::float8"
        )
        time.sleep(max(0.0, float(tick) + some.uniform(-EDGE_S, EDGE_S)))
        workers[kill % 2].process.kill()
        workers[kill % 2].wait()
        workers[kill % 2] = start_worker("-c", "1", "-Q", "nothing").ready()
    end = datetime.now(UTC).replace(microsecond=0)
    eventually(lambda: jobs_by_time(conn).get(end), what="the last tick has its job")
    jobs = jobs_by_time(conn)
    wanted = {begin + timedelta(seconds=n) for n in range(int((end - begin).total_seconds()) + 1)}
    figure("doubled", sum(count - 1 for count in jobs.values()), f"of {len(wanted)}", at_most=0)
    figure("missed", len(wanted - jobs.keys()), f"of {len(wanted)}", at_most=0)


@pytest.mark.parametrize(("missed", "expected"), [("skip", 0), ("once", 1), ("all", 10)])
def test_f55_no_worker_runs_over_ten_ticks(
    missed: str, expected: int, shelf: Shelf, conn: psycopg.Connection, start_worker: Start
) -> None:
    """What then happens is as the schedule says. The last one is more than a minute late, or it would not be a missed one."""
    first = datetime.now(UTC) - timedelta(seconds=9 * 200 + 90)
    times = [first + timedelta(seconds=200 * n) for n in range(10)]
    shelf.put(cron=None, every_s=200, anchor_at=first, next_run_at=first, missed=missed, overlap="allow")
    start_worker("-c", "1", "-Q", "nothing").ready()
    eventually(lambda: one_value(conn, "select count(*) from pgqueue.fired") == 10, what="all ten times are answered")
    assert jobs_by_time(conn) == dict.fromkeys(times[10 - expected :], 1)
    assert one_value(conn, "select next_run_at > now() from pgqueue.schedule")


def test_f54_the_session_that_fires_is_ended(
    shelf: Shelf, cluster: Cluster, conn: psycopg.Connection, start_worker: Start
) -> None:
    """Again and again: the worker opens another, and no tick is lost."""
    begin = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
    shelf.put(cron="* * * * * *", next_run_at=begin, missed="all", overlap="allow")
    worker = start_worker("-c", "1", "-Q", "nothing").ready()
    side = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name like 'pgqueue:%'"
    with cluster.connect("shop") as admin:
        for _ in range(4):
            before = len(jobs_by_time(conn))
            eventually(lambda: len(jobs_by_time(conn)) > before, what="a tick")  # noqa: B023
            assert one_value(admin, side) >= 2
    eventually(lambda: len(jobs_by_time(conn)) > before + 1, what="ticks go on")
    jobs = jobs_by_time(conn)
    assert set(jobs.values()) == {1}
    assert len(jobs) == int((max(jobs) - begin).total_seconds()) + 1
    assert worker.stop() == 0


def test_f54_a_caller_holds_the_unique_key_of_one_schedule(
    shelf: Shelf, app: App, conn: psycopg.Connection, start_worker: Start
) -> None:
    """In a transaction that stays open: the others are on time, and that one is answered when it has ended."""
    begin = datetime.now(UTC).replace(microsecond=0)
    shelf.put("held", cron="0 0 1 1 *", next_run_at=begin, options='{"unique": "one"}', overlap="allow")
    shelf.put("unknown", next_run_at=begin, tz="Mars/Olympus")
    shelf.put("free", cron="* * * * * *", next_run_at=begin, overlap="allow", options='{"headers": {"free": 1}}')
    with psycopg.connect(app.dsn) as caller:
        app.enqueue("tests.tasks.echo", [1], unique="one", conn=caller)
        worker = start_worker("-c", "1", "-Q", "nothing").ready()
        worker.said("schedule held cannot be run now")
        worker.said("schedule unknown cannot be run now")
        count = len(shelf.fired("free"))
        eventually(lambda: len(shelf.fired("free")) > count + 3, what="the other one is fired")
        assert shelf.fired("held") == []
    eventually(lambda: shelf.fired("held"), what="the held one is answered")
    assert [why for _, why in shelf.fired("held")] == ["a live job has its unique key"]
    conn.execute("update pgqueue.schedule set tz = 'UTC' where name = 'unknown'")  # a person corrects it
    eventually(lambda: shelf.fired("unknown"), what="the corrected one is fired")


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A server; one that lives by the test's clock, if it has one."""
    made = Cluster()
    if "server_clock" in request.fixturenames:
        made.environment = request.getfixturevalue("server_clock").environment
    with made:
        yield made


@pytest.fixture
def server_clock() -> Iterator[Clock]:
    """The database's clock."""
    with Clock(LIBRARY) as made:
        yield made


@FAKETIME
@pytest.mark.slow
def test_f56_the_databases_clock_is_set(
    server_clock: Clock, shelf: Shelf, conn: psycopg.Connection, start_worker: Start
) -> None:
    """Forward: the rule for what was missed. Back: what was answered is not answered again."""
    ((now,),) = conn.execute("select date_trunc('second', now()) + interval '1 second'").fetchall()
    shelf.put(cron="* * * * * *", next_run_at=now, overlap="allow", missed_most=3)
    start_worker("-c", "1", "-Q", "nothing").ready()
    eventually(lambda: jobs_by_time(conn), what="the first tick")
    server_clock.set(3600)
    eventually(lambda: max(jobs_by_time(conn)) > now + timedelta(seconds=3590), what="ticks of the new time")
    server_clock.set(0)
    count = len(jobs_by_time(conn))
    shelf.conn.execute("update pgqueue.schedule set next_run_at = %s", [now])  # the worst: it begins again
    eventually(lambda: len(jobs_by_time(conn)) > count + 2, what="ticks of what was not answered")
    assert set(jobs_by_time(conn).values()) == {1}
