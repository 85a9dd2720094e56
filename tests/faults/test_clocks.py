"""Clocks that are wrong or are set: a worker's own, which nothing may depend on, and the database's, on which leases rest.

F54 to F56 of the matrix are about schedules: see test_schedules.py.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from benchmarks.chaos.clock import Clock, libfaketime
from benchmarks.chaos.cluster import Cluster
from pgqueue.worker.settings import LEASE_S
from tests import tasks
from tests.conftest import Worker, eventually
from tests.faults.conftest import Figure

Start = Callable[..., Worker]
HOUR_S = 3600
YEAR_S = 365 * 24 * HOUR_S
LIBRARY = libfaketime()
FAKETIME = pytest.mark.skipif(LIBRARY is None, reason="needs libfaketime (Debian: apt-get install libfaketime)")

pytestmark = pytest.mark.usefixtures("task_app")


@pytest.fixture
def clock(library: Path | None) -> Iterator[Clock]:
    """A clock that can be set."""
    with Clock(library) as made:
        yield made


@pytest.mark.parametrize(
    "library",
    [pytest.param(None, id="python"), pytest.param(LIBRARY, id="libfaketime", marks=[FAKETIME, pytest.mark.slow])],
)
def test_f52_a_workers_own_clock_means_nothing(
    clock: Clock, start_worker: Start, conn: psycopg.Connection, figure: Figure
) -> None:
    judge = start_worker("-c", "1", "-Q", "other").ready()
    worker = start_worker("-c", "2", "-Q", "default", env=clock.environment).ready()
    late_s = 0.0
    for offset_s in (HOUR_S, -HOUR_S, 10 * YEAR_S, -10 * YEAR_S):
        clock.set(offset_s)
        assert tasks.now.defer().result(30) == pytest.approx(time.time() + offset_s, abs=60)
        delayed = tasks.echo.options(delay=0.5, expires=60).defer("due")
        retried, passed = tasks.fail_until.defer(3), tasks.pass_on.defer("passed on")
        assert retried.result(30) == 3 and delayed.result(30) == "due"
        assert task_result(conn, passed.result(30)) == '"passed on"'
        ((late,),) = conn.execute(
            "select extract(epoch from started_at - run_at)::float8 from pgqueue.history where id = %s", [delayed.id]
        ).fetchall()
        assert late >= 0
        late_s = max(late_s, late)
        ((left, fresh),) = conn.execute(
            "select extract(epoch from lease_until - now())::float8, now() - heartbeat_at < interval '5 seconds' "
            "from pgqueue.worker where queues = '{default}'"
        ).fetchall()
        assert 0 < left <= LEASE_S and fresh
    figure("a job was late by", late_s, "s", at_most=0.5)
    took = "extract(epoch from max(finished_at - created_at))::float8"
    ((slowest,),) = conn.execute(f"select {took} from pgqueue.history where task like '%fail_until'").fetchall()
    figure("two retries took", slowest, "s", at_most=2)
    assert conn.execute(
        "select count(*) from pgqueue.history where state <> 'succeeded' or crashes > 0"
    ).fetchone() == (0,)
    assert (worker.stop(), judge.stop()) == (0, 0)
    assert "dead" not in worker.output + judge.output


def task_result(conn: psycopg.Connection, job_id: str) -> str:
    """Of a job whose id was made by another clock."""
    result = "select result::text from pgqueue.history where id = %s and state = 'succeeded'"
    (text,) = eventually(lambda: conn.execute(result, [job_id]).fetchone(), what="the job that was passed on is done")
    return str(text)


class Stepped:
    """A server whose clock is set, two workers, and on the first of them a job that waits and an atomic one."""

    def __init__(self, start_worker: Start, folder: Path) -> None:
        self.go = folder / "go"
        self.first = start_worker("-c", "2").ready()
        self.plain = tasks.report.defer(str(self.go))
        self.atomic = tasks.pay_slowly.defer(5, str(folder / "running"), str(self.go))
        eventually(lambda: self.plain.snapshot().progress and (folder / "running").exists(), what="both run")
        self.second = start_worker("-c", "2").ready()

    def end(self, conn: psycopg.Connection) -> None:
        """Whatever happened: each job succeeded once, and the atomic one's effect is there once."""
        self.go.touch()
        assert (self.plain.result(60), self.atomic.result(60)) == ("done", 5)
        assert conn.execute("select job::text, amount from shop.paid").fetchall() == [(self.atomic.id, 5)]
        succeeded = "select count(*), bool_and(state = 'succeeded') from pgqueue.history"
        assert conn.execute(succeeded).fetchone() == (3, True)
        assert conn.execute("select count(*) from pgqueue.job").fetchone() == (0,)


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A server; one that lives by the test's clock, if it has a server's."""
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


@pytest.fixture
def shop(conn: psycopg.Connection) -> None:
    conn.execute("create schema shop")
    conn.execute("create table shop.paid (job uuid, amount int)")


@FAKETIME
@pytest.mark.slow
@pytest.mark.usefixtures("shop")
def test_f53_a_database_clock_set_forward_costs_nobody_his_jobs(
    server_clock: Clock, start_worker: Start, conn: psycopg.Connection, figure: Figure, tmp_path: Path
) -> None:
    both = Stepped(start_worker, tmp_path)
    ((before,),) = conn.execute("select now()").fetchall()
    server_clock.set(HOUR_S)
    began = time.monotonic()
    assert conn.execute("select extract(epoch from now() - %s) >= 3600", [before]).fetchone() == (True,)
    assert tasks.echo.defer(1).result(60) == 1
    figure("jobs flow after +1 h", time.monotonic() - began, "s", at_most=30)
    heard = "select count(*) from pgqueue.worker where heartbeat_at > %s + interval '1 hour 3 seconds'"
    eventually(lambda: conn.execute(heard, [before]).fetchone() == (2,), what="both have judged by the new time")
    both.end(conn)
    figure("declared dead", sum(worker.output.count("is dead") for worker in (both.first, both.second)), "", at_most=1)
    assert both.first.stop() == 0 and both.second.stop() == 0


@FAKETIME
@pytest.mark.slow
@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(("how", "at_most"), [("killed", 8), ("frozen", 30)])
def test_f53_a_database_clock_set_back_keeps_no_job(
    server_clock: Clock, start_worker: Start, conn: psycopg.Connection, figure: Figure, tmp_path: Path, how: str,
    at_most: float,
) -> None:  # fmt: skip
    both = Stepped(start_worker, tmp_path)
    group = both.first.process.pid
    os.killpg(group, signal.SIGKILL if how == "killed" else signal.SIGSTOP)
    server_clock.set(-HOUR_S)  # the lease that it took last runs for an hour and 15 s
    began = time.monotonic()
    assert tasks.echo.defer(1).result(60) == 1
    both.second.said("rescued 2 jobs")
    figure("re-claimed after -1 h", time.monotonic() - began, "s", at_most=at_most)
    both.go.touch()
    both.end(conn)
    if how == "frozen":
        os.killpg(group, signal.SIGCONT)
        both.first.said("declared dead")
        assert both.first.stop() == 0
    assert both.second.stop() == 0
    assert conn.execute("select distinct cause, count(*) from pgqueue.attempt group by cause").fetchall() == [
        ("worker lost", 2)
    ]
