"""What the server stands on gives way: the disk fills up, flushes slowly, loses a library, or a counter comes to its end."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from benchmarks.chaos import disk
from benchmarks.chaos.cluster import Cluster
from benchmarks.chaos.disk import Disk
from pgqueue import App, DatabaseUnavailable, Job
from pgqueue.embedded import binaries
from pgqueue.worker.settings import CLAIM_MAX
from tests import tasks
from tests.answers import one_row, one_value
from tests.conftest import Worker, eventually
from tests.faults.conftest import Figure

Start = Callable[..., Worker]

pytestmark = pytest.mark.usefixtures("task_app")


@pytest.fixture
def mountable(tmp_path: Path) -> None:
    """Skips, with the reason, where no small file system can be had."""
    if reason := disk.why_not(tmp_path):
        pytest.skip(reason)


@pytest.fixture
def data_disk(mountable: None, cluster: Cluster, dsn: str) -> Iterator[Disk]:
    """The database lies on it."""
    with Disk(cluster, cluster.home / "small", megabytes=24) as small:
        with cluster.connect() as conn:
            conn.execute(f"create tablespace small location '{small.path}'")
            conn.execute("alter database shop set tablespace small")
        yield small


@pytest.fixture
def wal_disk(mountable: None, cluster: Cluster, dsn: str) -> Iterator[Disk]:
    """The write-ahead log lies on it, in segments of a megabyte."""
    cluster.stop()
    with Disk(cluster, cluster.data / "pg_wal", megabytes=12) as small:
        for folder in ("archive_status", "summaries"):
            (small.path / folder).mkdir()
            cluster.account.own(small.path / folder)
        cluster.reset_wal("--force", "--wal-segsize=1")
        cluster.start()
        yield small


def large() -> str:
    """A text that cannot be compressed."""
    return os.urandom(25_000).hex()


def defer_until(*errors: type[Exception]) -> list[Job[str]]:
    """Defer large jobs until there is no room; those that were accepted."""
    accepted: list[Job[str]] = []
    with pytest.raises(errors, match=r"No space left on device|went away|no connection|server closed the connection"):
        while True:
            accepted.append(tasks.echo.defer(large()))
    return accepted


def test_f30_a_full_disk_stops_jobs_and_loses_none(
    data_disk: Disk, start_worker: Start, tmp_path: Path, figure: Figure
) -> None:
    worker = start_worker("-c", "1").ready()
    running = tasks.report.defer(str(tmp_path / "go"))
    eventually(lambda: running.snapshot().progress, what="it runs")
    accepted = [tasks.echo.defer("before")]
    data_disk.fill()
    accepted += defer_until(psycopg.errors.DiskFull)
    (tmp_path / "go").touch()
    worker.said("recording results: could not extend file")
    data_disk.empty()
    emptied_at = time.monotonic()
    assert running.result(30) == "done"
    figure("its end is recorded", time.monotonic() - emptied_at, "s after there is room", at_most=5)
    assert tasks.echo.defer("after").result(30) == "after"
    figure("jobs flow", time.monotonic() - emptied_at, "s after there is room", at_most=5)
    for job in (running, *accepted):
        job.result(30)
        assert (job.snapshot().attempt, job.snapshot().crashes) == (1, 0)
    assert worker.stop() == 0


def test_f31_a_full_log_stops_the_server_and_loses_nothing(
    wal_disk: Disk, cluster: Cluster, start_worker: Start, figure: Figure
) -> None:
    worker = start_worker("-c", "1").ready()
    accepted = defer_until(psycopg.errors.DiskFull, DatabaseUnavailable)
    eventually(lambda: cluster.postmaster is None, what="the server goes down")
    assert "No space left on device" in cluster.log
    wal_disk.grow(200)
    cluster.start()
    started_at = time.monotonic()
    after: list[Job[str]] = []
    while not after:
        with contextlib.suppress(
            DatabaseUnavailable
        ):  # this process may know that the server was down, and not ask it yet
            after.append(tasks.echo.defer("after"))
    assert after[0].result(30) == "after"
    figure("jobs flow", time.monotonic() - started_at, "s after the server is back", at_most=3)
    ids = [job.id for job in accepted]
    with cluster.connect("shop") as conn:
        kept = one_value(conn, "select count(*) from pgqueue.jobs where id = any (%s::uuid[])", [ids])
    figure("lost", len(ids) - kept, f"of {len(ids)}", at_most=0)
    assert {len(job.result(30)) for job in accepted} == {50_000}
    assert worker.stop() == 0


@pytest.mark.slow
def test_f32_slow_flushes_cost_little_and_no_worker_its_life(
    cluster: Cluster, dsn: str, start_worker: Start, figure: Figure
) -> None:
    flush_s, jobs = 0.05, 60_000
    # The server's own delay before each flush, which all commits share that come meanwhile.
    cluster.settings |= {"commit_delay": f"{flush_s * 1e6:.0f}", "commit_siblings": "0"}
    cluster.restart()
    workers = [start_worker("-c", "1").ready() for _ in range(2)]
    tasks.echo.defer_many((n,) for n in range(100))[-1].result(60)
    done = tasks.echo.defer_many((n,) for n in range(jobs))
    began = time.monotonic()
    done[-1].result(60)
    rate = jobs / (time.monotonic() - began)
    # One claim and one finish at a time, each waiting for its flush.
    bound = len(workers) * CLAIM_MAX / (2 * flush_s)
    figure("throughput", rate / bound, f"of {bound:.0f} jobs/s", at_least=0.5)
    # And now and then it stands still for half a second.
    done = tasks.sleep.defer_many([(0.005,)] * 1500)
    for _ in range(5):
        time.sleep(0.7)
        cluster.freeze()
        time.sleep(0.5)
        cluster.thaw()
    done[-1].result(60)
    with cluster.connect("shop") as conn:
        eventually(lambda: one_value(conn, "select not exists (select from pgqueue.job)"), what="all are done")
        assert conn.execute("select count(*), sum(crashes) from pgqueue.history").fetchone() == (jobs + 1600, 0)
    dead = sum("dead" in worker.output for worker in workers)
    figure("false deaths", dead, f"of {len(workers)} workers", at_most=0)
    assert not any("lease lost" in worker.output for worker in workers)
    assert [worker.stop() for worker in workers] == [0, 0]


def scratch_binaries(folder: Path) -> Path:
    """A copy of the server's programs and libraries; the folder with `postgres` in it."""
    found = binaries.find()
    root = found.package or found.folder.parent
    for source in (root, root.with_name(f"{root.name}.libs")):
        if source.exists():
            shutil.copytree(
                source, folder / source.name, symlinks=True, ignore=shutil.ignore_patterns("*.py", "include")
            )
    return folder / root.name / found.folder.relative_to(root)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that the server's account may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="pgqueue-scratch-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.slow
def test_f43_a_library_that_cannot_be_loaded_any_more_stops_nothing(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch, start_worker: Start, tmp_path: Path
) -> None:
    bin_folder = scratch_binaries(open_folder)
    monkeypatch.setenv("PGQUEUE_PG_BIN", str(bin_folder))
    with Cluster() as cluster:
        app = App(cluster.dsn())
        app.migrate()
        dying = start_worker("-c", "1", dsn=cluster.dsn()).ready()
        # A minor upgrade replaces the files under the running server; the new library wants the new server.
        (library,) = bin_folder.parent.rglob("plpgsql.so")
        library.rename(library.with_suffix(".new"))
        with cluster.connect() as conn, pytest.raises(psycopg.errors.UndefinedFile):
            conn.execute("do $$ begin end $$")
        app.close()  # all that follows is in sessions begun since
        held = app.enqueue("tests.tasks.report", [str(tmp_path / "go")])
        eventually(lambda: held.snapshot().progress, what="it runs")
        dying.process.kill()
        worker = start_worker("-c", "1", dsn=cluster.dsn()).ready()
        worker.said("rescued 1 jobs")
        (tmp_path / "go").touch()
        assert held.result(30) == "done"
        assert app.enqueue("tests.tasks.fail_until", [2], delay=0.1, unique=True).result(30) == 2
        assert [app.enqueue("tests.tasks.echo", [n]).result(30) for n in range(10)] == list(range(10))
        later = app.enqueue("tests.tasks.echo", [1], delay=3600)
        assert later.cancel() and later.retry() and later.result(30) == 1
        with cluster.connect() as conn:
            by_sql = one_value(conn, "select pgqueue.enqueue('tests.tasks.echo', '[2]')")
        assert app.job(str(by_sql)).result(30) == 2
        assert app.migrate() == []
        app.close()
        assert worker.stop() == 0


@pytest.mark.parametrize("last", [2**31, 2**63 - 1])
def test_f44_numbers_beyond_32_bits_go_all_the_way(start_worker: Start, conn: psycopg.Connection, last: int) -> None:
    conn.execute("create schema shop")
    conn.execute("create table shop.paid (job uuid, amount int)")
    conn.execute(f"alter sequence pgqueue.job_seq restart with {last - 20}")
    jobs = [tasks.echo.defer(n) for n in range(8)]
    jobs += tasks.pay.defer_many((n,) for n in range(8, 16))
    conn.execute("update pgqueue.job set claim_token = %s", [last - 20])
    start_worker("-c", "1").ready()
    assert [job.result(30) for job in jobs] == list(range(16))
    assert tasks.fail_until.defer(2).result(30) == 2
    (token, attempts) = one_row(conn, "select max(claim_token), max(attempt) from pgqueue.history")
    assert (token, attempts) == (last - 19, 2)


def test_f44_the_end_of_the_sequence_is_a_clear_error(start_worker: Start, conn: psycopg.Connection) -> None:
    worker = start_worker("-c", "1").ready()
    conn.execute(f"alter sequence pgqueue.job_seq restart with {2**63 - 2}")
    jobs = [tasks.echo.defer(n) for n in range(2)]
    with pytest.raises(psycopg.errors.SequenceGeneratorLimitExceeded, match='maximum value of sequence "job_seq"'):
        tasks.echo.defer(2)
    with pytest.raises(psycopg.errors.SequenceGeneratorLimitExceeded):
        tasks.echo.defer_many([(2,), (3,)])
    assert [job.result(30) for job in jobs] == [0, 1]
    conn.execute("alter sequence pgqueue.job_seq restart with 1")
    assert tasks.echo.defer(4).result(30) == 4
    assert worker.stop() == 0


# The server refuses new transactions so many before their ids would meet the oldest one.
XID_RESERVE = 3_000_000
XIDS_PER_PAGE = 32_768  # of the commit log; at the start of a page the server makes the page itself


@pytest.mark.slow
def test_f44_transaction_ids_run_out_and_come_back(
    cluster: Cluster, dsn: str, start_worker: Start, tmp_path: Path, figure: Figure
) -> None:
    cluster.settings |= {"wal_level": "logical", "autovacuum_naptime": "1s"}
    cluster.restart()
    worker = start_worker("-c", "1").ready()
    running = tasks.report.defer(str(tmp_path / "go"))
    eventually(lambda: running.snapshot().progress, what="it runs")
    with cluster.connect("shop") as conn:
        # The usual reason: a slot that somebody forgot keeps vacuum from forgetting old transactions.
        conn.execute("select pg_create_logical_replication_slot('forgotten', 'pgoutput')")
        oldest = one_value(conn, "select min(datfrozenxid::text::bigint) from pg_database")
    cluster.stop()
    stop_at = oldest + 2**31 - 1 - XID_RESERVE
    cluster.reset_wal("--force", f"--next-transaction-id={(stop_at // XIDS_PER_PAGE + 1) * XIDS_PER_PAGE}")
    cluster.start()
    with pytest.raises(psycopg.errors.ProgramLimitExceeded, match="not accepting commands that assign new transaction"):
        tasks.echo.defer(1)
    worker.said("heartbeat: database is not accepting commands")
    (tmp_path / "go").touch()
    worker.said("recording results: database is not accepting commands")
    with cluster.connect("shop") as conn:
        conn.execute("select pg_drop_replication_slot('forgotten')")

    def defers() -> object:
        try:
            return tasks.echo.defer(2)
        except psycopg.errors.ProgramLimitExceeded:
            return None

    job = eventually(defers, what="vacuum has made room")
    room_at = time.monotonic()
    assert job.result(30) == 2 and running.result(30) == "done"
    figure("jobs flow", time.monotonic() - room_at, "s after there are ids again", at_most=5)
    assert (running.snapshot().attempt, running.snapshot().crashes) == (1, 0)
    assert worker.stop() == 0
