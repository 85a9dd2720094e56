"""Bells that pile up because somebody does not listen, and bells that never arrive."""

import os
import random
import signal
import statistics
import time
from collections.abc import Callable

import psycopg
import pytest

from benchmarks.chaos.cluster import Cluster
from benchmarks.chaos.proxy import NOTIFICATION, Proxy
from pgqueue.worker.settings import POLL_S
from pgqueue.worker.supervisor.maintenance import BELLS_S
from tests import tasks
from tests.answers import one_value
from tests.conftest import Worker, eventually
from tests.faults.conftest import Figure

Start = Callable[..., Worker]

pytestmark = pytest.mark.usefixtures("task_app")


@pytest.fixture
def small_queue(cluster: Cluster, dsn: str) -> str:
    """A notify queue that can be filled: half a megabyte instead of 8 GB. Before PostgreSQL 17 its size is fixed."""
    with cluster.connect() as conn:
        if conn.info.server_version < 170000:
            pytest.skip(
                "PostgreSQL before 17 has no max_notify_queue_pages: 8 GB of notifications would have to be sent"
            )
    cluster.settings["max_notify_queue_pages"] = "64"
    cluster.restart()
    return dsn


def usage(conn: psycopg.Connection) -> float:
    """How full the notify queue is, from 0 to 1."""
    return float(one_value(conn, "select pg_notification_queue_usage()"))


def flood(conn: psycopg.Connection, *, until: Callable[[], bool]) -> None:
    """Ring for nothing, each time with 20 kB: a twenty-fifth of the queue."""
    while not until():
        conn.execute("select pg_notify('pgqueue_jobs', n || repeat('x', 5000)) from generate_series(1, 4) as n")


@pytest.mark.slow  # a worker looks every 30 s
def test_f41_a_listener_in_a_transaction_is_told_of_and_stops_no_job(
    small_queue: str, cluster: Cluster, start_worker: Start, figure: Figure
) -> None:
    worker = start_worker("-c", "1").ready()
    with cluster.connect("shop") as conn, psycopg.connect(small_queue, application_name="a dashboard") as listener:
        listener.execute("listen pgqueue_jobs")
        listener.commit()
        listener.execute("select 1")  # and it stays within this transaction
        flood(conn, until=lambda: usage(conn) > 0.1)
        filled_at, share = time.monotonic(), usage(conn)
        told = worker.said("the notify queue is")
        assert "a dashboard" in told
        figure("told of", time.monotonic() - filled_at, f"s after the queue was {share:.0%} full", at_most=BELLS_S + 5)
        with pytest.raises(psycopg.errors.ProgramLimitExceeded):
            flood(conn, until=lambda: False)
        # Now it is full. Nothing of ours may fail for that: deferring, in three ways, finishing, failing, cancelling.
        with psycopg.connect(small_queue) as caller:
            own = tasks.echo.options(conn=caller).defer("in the caller's transaction")
        jobs = [tasks.echo.defer(n) for n in range(20)]
        jobs += tasks.echo.defer_many((n,) for n in range(20, 40))
        began = time.monotonic()
        assert own.result(30) and [job.result(30) for job in jobs] == list(range(40))
        figure("polled in", time.monotonic() - began, "s", at_most=POLL_S + 1.5)
        assert tasks.fail_until.defer(2).result(30) == 2
        later = tasks.echo.options(delay=3600).defer(1)
        assert later.cancel() and later.retry()
        with cluster.connect("shop") as other:
            by_sql = one_value(other, "select pgqueue.enqueue('tests.tasks.echo', '[7]')")
        assert tasks.echo.app.job(str(by_sql)).result(30) == 7
    assert worker.stop() == 0


@pytest.mark.slow  # it takes TCP 5 s to see that nothing is read, and others some more to believe that the worker is gone
def test_f41_a_frozen_worker_is_ended_and_its_bells_are_forgotten(
    small_queue: str, cluster: Cluster, start_worker: Start, figure: Figure
) -> None:
    frozen, other = (start_worker("-c", "1").ready() for _ in range(2))
    group = [frozen.process.pid, *frozen.children()]
    with cluster.connect("shop") as conn:
        ((name,),) = conn.execute(
            "select 'pgqueue:' || id from pgqueue.worker order by pid <> %s", [group[0]]
        ).fetchmany(1)
        asleep = "select count(*) = 2 from pgqueue.worker where sleeping"  # so each has its second session by now
        eventually(lambda: one_value(conn, asleep), what="both have looked for jobs")
        for pid in group:
            os.kill(pid, signal.SIGSTOP)
        frozen_at = time.monotonic()
        # Its socket takes some megabytes before its session must wait for it.
        flood(conn, until=lambda: usage(conn) > 0.2)
        # One of two, or both: the one that listens does not read what it is sent, for which TCP may have ended it already.
        other.said("of its sessions were ended")
        left = "select count(*) from pg_stat_activity where application_name = %s"
        eventually(lambda: conn.execute(left, [name]).fetchone() == (0,), what="no session of it is left")
        eventually(lambda: usage(conn) == 0, what="the bells are forgotten")
        figure("usage is back to 0", time.monotonic() - frozen_at, "s after the freeze", at_most=25)
    for pid in group:
        os.kill(pid, signal.SIGCONT)
    frozen.said("declared dead")
    assert tasks.echo.defer(1).result(30) == 1


@pytest.mark.slow  # each job waits for a poll
def test_f42_without_notifications_polling_alone_drains(
    cluster: Cluster, proxy: Proxy, start_worker: Start, conn: psycopg.Connection, figure: Figure
) -> None:
    jobs, chance = 60, random.Random(42)
    heard = 0

    def deaf(kind: bytes, _: bytes) -> bool:
        nonlocal heard
        heard += kind == NOTIFICATION
        return kind != NOTIFICATION

    proxy.reply = deaf
    worker = start_worker("-c", "1", dsn=cluster.dsn("shop", port=proxy.port)).ready()
    for n in range(jobs):
        tasks.echo.defer(n)
        time.sleep(chance.uniform(0, 0.6))  # the load, not a wait: jobs come at any moment of the poll's period
    eventually(lambda: one_value(conn, "select not exists (select from pgqueue.job)"), what="all are done")
    delays = [
        float(delay)
        for (delay,) in conn.execute("select extract(epoch from started_at - created_at) from pgqueue.history")
    ]
    assert len(delays) == jobs and heard
    figure("p99 of start delays", statistics.quantiles(delays, n=100)[-1], "s", at_most=POLL_S + 0.5)
    assert worker.stop() == 0
