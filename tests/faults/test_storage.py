"""What the server stands on gives way: the disk fills up, flushes slowly, loses a library, or a counter comes to its end."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from benchmarks.chaos import disk
from benchmarks.chaos.cluster import Cluster
from benchmarks.chaos.disk import Disk
from pgqueue import DatabaseUnavailable, Job
from tests import tasks
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
    with pytest.raises(errors, match=r"No space left on device|went away"):
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
    assert tasks.echo.defer("after").result(30) == "after"
    figure("jobs flow", time.monotonic() - started_at, "s after the server is back", at_most=3)
    ids = [job.id for job in accepted]
    with cluster.connect("shop") as conn:
        kept = conn.execute("select count(*) from pgqueue.jobs where id = any (%s::uuid[])", [ids]).fetchone()[0]
    figure("lost", len(ids) - kept, f"of {len(ids)}", at_most=0)
    assert {len(job.result(30)) for job in accepted} == {50_000}
    assert worker.stop() == 0
