"""F45: a transaction pooler before the server. Workers hold a lease only and poll; callers notice nothing."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from benchmarks.chaos import pooler
from benchmarks.chaos.cluster import Cluster
from benchmarks.chaos.pooler import Pooler
from tests import tasks
from tests.answers import one_value
from tests.conftest import Worker, eventually
from tests.faults import effects
from tests.faults.conftest import Figure

Start = Callable[..., Worker]

pytestmark = [
    pytest.mark.usefixtures("task_app"),
    pytest.mark.skipif(pooler.find() is None, reason="pgbouncer is not installed (Debian: apt-get install pgbouncer)"),
]


@pytest.fixture
def dsn(cluster: Cluster, dsn: str) -> Iterator[str]:
    """Through a pooler; it serves all clients from two sessions, so that each meets what another left behind."""
    with Pooler(cluster, sessions=2) as made:
        yield cluster.dsn("shop", port=made.port)


@pytest.fixture
def conn(cluster: Cluster, dsn: str) -> Iterator[psycopg.Connection]:
    """Past the pooler."""
    with cluster.connect("shop") as direct:
        yield direct


def left_in_sessions(conn: psycopg.Connection, dsn: str) -> list[str]:
    """Session locks that somebody holds, and channels on which a session that others use was left listening."""
    left = [str(row) for row in conn.execute("select * from pg_locks where locktype = 'advisory'")]
    with (
        psycopg.connect(dsn) as one,
        psycopg.connect(dsn) as other,
    ):  # each within a transaction: both sessions there are
        left += [name for session in (one, other) for (name,) in session.execute("select pg_listening_channels()")]
    return left


def test_f45_a_pooler_is_noticed_and_jobs_start_by_polling(
    start_worker: Start, conn: psycopg.Connection, dsn: str, figure: Figure
) -> None:
    worker = start_worker("-c", "1").ready()
    assert "polling" in worker.output
    eventually(lambda: one_value(conn, "select sleeping from pgqueue.worker"), what="it is idle")
    began = time.monotonic()
    assert tasks.echo.defer(1).result(30) == 1
    figure("defer to result", time.monotonic() - began, "s", at_most=2)
    assert left_in_sessions(conn, dsn) == []
    assert worker.output.count("a connection pooler sits in front of the database") == 1
    assert worker.stop() == 0


def test_f45_callers_notice_no_pooler(start_worker: Start, conn: psycopg.Connection, dsn: str) -> None:
    start_worker("-c", "1").ready()
    jobs = [tasks.echo.defer(n) for n in range(20)]
    assert [job.result(30) for job in jobs] == list(range(20))
    many = tasks.echo.defer_many((n,) for n in range(300))
    assert [job.result(30) for job in many[:3]] == [0, 1, 2]
    unique = [tasks.echo.options(unique=f"key {n % 7}").defer(n) for n in range(20)]
    assert len({job.id for job in unique}) >= 7

    async def from_asyncio() -> list[int]:
        later = await asyncio.gather(*(tasks.echo.defer_async(n) for n in range(50)))
        return [await job.result_async(30) for job in later]

    assert asyncio.run(from_asyncio()) == list(range(50))
    assert left_in_sessions(conn, dsn) == []


def test_f45_an_atomic_task_behind_a_pooler(start_worker: Start, conn: psycopg.Connection, dsn: str) -> None:
    conn.execute("create schema shop")
    conn.execute("create table shop.paid (job uuid, amount int)")
    start_worker("-c", "2").ready()  # two children and the worker meet in two sessions
    jobs = [*tasks.pay.defer_many((n,) for n in range(100)), *tasks.pay_async.defer_many((n,) for n in range(100))]
    assert [job.result(60) for job in jobs] == [*range(100), *range(100)]
    assert conn.execute("select count(*), count(distinct job) from shop.paid").fetchone() == (200, 200)
    assert conn.execute("select count(*) from pgqueue.attempt").fetchone() == (0,)
    assert left_in_sessions(conn, dsn) == []


@pytest.mark.slow  # the lease of 30 s must run out
def test_f45_nothing_runs_twice_and_a_killed_worker_is_replaced(
    start_worker: Start, conn: psycopg.Connection, dsn: str, tmp_path: Path, figure: Figure
) -> None:
    jobs = 4000
    first, second = (start_worker("-c", "2", app="tests.faults.effects").ready() for _ in range(2))
    done = effects.note.defer_many((str(tmp_path / "noted"), n) for n in range(jobs))
    assert [job.result(120) for job in done] == list(range(jobs))
    times = effects.noted(tmp_path / "noted")
    figure("run twice", sum(times.values()) - jobs, f"of {jobs}", at_most=0)
    assert times == Counter(range(jobs))
    assert "lease lost" not in first.output + second.output

    held = effects.hold.defer(str(tmp_path / "held"))
    pid = int(eventually(lambda: (tmp_path / "held").exists() and (tmp_path / "held").read_text(), what="it runs"))
    assert pid in (first.process.pid, second.process.pid)
    killed_at = time.monotonic()
    os.killpg(pid, signal.SIGKILL)
    assert held.result(60) > 1
    figure("re-claimed", time.monotonic() - killed_at, "s", at_most=35)
    assert conn.execute("select max(crashes), count(*) from pgqueue.history where crashes > 0").fetchone() == (1, 1)
    assert left_in_sessions(conn, dsn) == []
