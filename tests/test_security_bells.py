"""LISTEN, NOTIFY and advisory locks know no rights: whoever may connect may ring our bell and take our locks."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from pgqueue import App, PgQueueError
from pgqueue.queries import LOCK_CLASS
from tests import hostile_tasks as tasks
from tests.conftest import Worker, eventually
from tests.hands import Hands

Start = Callable[..., Worker]


@pytest.fixture
def start(start_worker: Start) -> Start:
    """A worker that knows the hostile tasks."""
    return lambda *options, **settings: start_worker(*options, **{"app": "tests.hostile_tasks", **settings})


def cpu_s(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def spoofing(dsn: str, channel: str) -> Iterator[list[int]]:
    """Ring ten thousand times a second, ten to a transaction; yields the number of transactions so far."""
    over, sent = threading.Event(), [0]

    def ring() -> None:
        with psycopg.connect(dsn, autocommit=True, prepare_threshold=1) as stranger:
            began = time.monotonic()
            while not over.wait(max(0.0, began + sent[0] / 1000 - time.monotonic())):
                stranger.execute("select pg_notify(%s, g::text) from generate_series(1, 10) g", [channel])
                sent[0] += 1

    thread = threading.Thread(target=ring)
    thread.start()
    try:
        yield sent
    finally:
        over.set()
        thread.join()


def scans(conn: psycopg.Connection) -> int:
    """How often the table of jobs was looked into so far, as far as its readers have reported (once a second)."""
    sql = "select seq_scan + coalesce(idx_scan, 0) from pg_stat_user_tables where relid = 'pgqueue.job'::regclass"
    ((count,),) = conn.execute(sql).fetchall()
    return int(count)


def test_bells_for_jobs_due_in_a_moment_are_no_false_alarms(start: Start, task_app: App) -> None:
    worker = start("-c", "1").ready()
    jobs = [tasks.echo.options(delay=2).defer(n) for n in range(100)]  # far more than 20 a second
    assert [job.result(30) for job in jobs] == list(range(100))
    assert worker.stop() == 0
    assert "needless notifications" not in worker.output


def test_s5_a_flood_of_spoofed_bells_costs_next_to_nothing(
    start: Start, app: App, task_app: App, dsn: str, conn: psycopg.Connection
) -> None:
    worker = start("-c", "1").ready()
    assert tasks.echo.defer(1).result(30) == 1
    with spoofing(dsn, app.config.jobs_channel) as sent:
        worker.said("needless notifications per second")
        began, used_s, before, sent_before = time.monotonic(), cpu_s(worker.process.pid), scans(conn), sent[0]
        while time.monotonic() - began < 6:
            job = tasks.echo.defer("still served")
            waited = time.monotonic()
            assert job.result(30) == "still served" and time.monotonic() - waited < 5
            time.sleep(1)
        took_s = time.monotonic() - began
        used_s, looks = cpu_s(worker.process.pid) - used_s, scans(conn) - before
        rate = (sent[0] - sent_before) * 10 / took_s
    assert rate > 1_000  # on a quiet machine ten thousand
    assert used_s / took_s < 0.05
    # A poll is up to three statements with some scans each; the heartbeat, the jobs and their waiter come on top.
    assert looks / took_s < 100
    assert worker.stop() == 0


def test_s5_a_flood_of_spoofed_ends_costs_waiters_little(app: App, conn: psycopg.Connection, dsn: str) -> None:
    job = app.enqueue("nobody.runs.it")
    waiter = threading.Thread(target=lambda: contextlib.suppress(PgQueueError).__enter__() or job.result(60))
    waiter.start()
    with spoofing(dsn, app.config.results_channel) as sent:
        eventually(lambda: sent[0] > 1_000, what="the flood runs")
        before, began = scans(conn), time.monotonic()
        eventually(lambda: time.monotonic() - began > 4, what="four seconds of it")
        looks = (scans(conn) - before) / (time.monotonic() - began)
    Hands(conn, app.queries).run_all("1")
    waiter.join(30)
    assert not waiter.is_alive() and looks < 250  # without a limit: as many as bells


def test_s5_a_stranger_with_a_workers_lock_stops_neither_it_nor_its_lease(
    start: Start, conn: psycopg.Connection, task_app: App, dsn: str
) -> None:
    worker = start("-c", "1").ready()
    ((key, backend),) = conn.execute("select lock_key, backend_pid from pgqueue.worker").fetchall()
    with psycopg.connect(dsn, autocommit=True) as stranger:
        taken = threading.Thread(target=stranger.execute, args=["select pg_advisory_lock(%s, %s)", [LOCK_CLASS, key]])
        taken.start()
        eventually(
            lambda: conn.execute("select 1 from pg_locks where locktype = 'advisory' and not granted").fetchone(),
            what="the stranger waits for the lock",
        )
        conn.execute("select pg_terminate_backend(%s)", [backend])
        taken.join(30)
        worker.said("another session holds this worker's session lock")
        assert tasks.echo.defer(1).result(30) == 1
        seen = "select count(*) from pgqueue.worker where state = 'alive' and heartbeat_at > %s"
        ((now,),) = conn.execute("select now() + interval '4 seconds'").fetchall()
        eventually(lambda: conn.execute(seen, [now]).fetchone() == (1,), what="its heart beats on")
    held = "select count(*) from pg_locks where locktype = 'advisory' and objid = %s and pid <> pg_backend_pid() and granted"
    eventually(lambda: conn.execute(held, [key]).fetchone() == (1,), what="it has its lock back")
    assert conn.execute("select count(*) from pgqueue.worker").fetchone() == (1,)
    assert worker.stop() == 0


def test_s5_a_stranger_with_a_dead_workers_lock_cannot_keep_its_jobs(
    start: Start, conn: psycopg.Connection, task_app: App, dsn: str, tmp_path: Path
) -> None:
    dying = start("-c", "1").ready()
    job = tasks.wait_for.defer(str(tmp_path / "go"))
    eventually((tmp_path / "go.running").exists, what="the job runs")
    ((key,),) = conn.execute("select lock_key from pgqueue.worker").fetchall()
    (tmp_path / "go").touch()
    with psycopg.connect(dsn, autocommit=True) as stranger:
        taken = threading.Thread(target=stranger.execute, args=["select pg_advisory_lock(%s, %s)", [LOCK_CLASS, key]])
        taken.start()
        dying.process.kill()
        taken.join(30)
        start("-c", "1").ready()
        assert job.result(60) == "done"  # by the lease alone, which runs out after 15 s
