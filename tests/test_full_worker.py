"""A worker all of whose places are held by long jobs leaves the others to those who have room, and does not touch them again."""

import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from pgqueue.task import AnyTask
from pgqueue.worker.settings import POLL_ALONE_S, POLL_S
from tests import tasks
from tests.conftest import Worker, eventually

pytestmark = pytest.mark.usefixtures("task_app")

Start = Callable[..., Worker]
SETTLED_S = 2.0  # after the last place was taken
POLLS = 2.5  # of those that a worker makes for want of anything else, while it is watched


def count(conn: psycopg.Connection, what: str) -> int:
    ((number,),) = conn.execute(f"select count(*) from pgqueue.job where {what}").fetchall()
    return int(number)


def claims(conn: psycopg.Connection) -> int:
    ((number,),) = conn.execute("select sum(claim_token) from pgqueue.job").fetchall()
    return int(number)


LONG = 120.0
WORKERS: dict[str, tuple[list[str], list[AnyTask], AnyTask, int]] = {
    "sync": (["-c", "2"], [tasks.brief], tasks.sleep, 2),
    "threads": (["-c", "1", "--threads", "4", "--no-listen"], [tasks.brief], tasks.sleep, 4),
    "async": (["-c", "1", "--no-listen"], [tasks.brief_later], tasks.sleep_later, 100),
    "mixed": (["-c", "2", "--no-listen"], [tasks.brief, tasks.brief_later], tasks.sleep, 2),
}


@pytest.mark.parametrize("kind", WORKERS)
def test_a_full_worker_claims_nothing_more(start_worker: Start, conn: psycopg.Connection, kind: str) -> None:
    """The short jobs still flow when the long ones come, so it has seen a high rate and has many of them in hand."""
    options, brief, long, places = WORKERS[kind]
    for first in range(0, 20_000, 100):
        brief[first // 100 % len(brief)].defer_many((number,) for number in range(first, first + 100))
    start_worker(*options).ready()
    eventually(lambda: count(conn, "queue = 'brief'") < 19_500, what="they flow")
    for _ in range(places):
        long.options(priority=5).defer(LONG)
    eventually(lambda: count(conn, "queue = 'default' and state = 'running'") == places, what="all places are taken")
    if kind == "mixed":
        eventually(
            lambda: not count(conn, "task like '%later'"), what="async jobs pass the sync ones that have no place"
        )
    time.sleep(SETTLED_S)
    before = claims(conn)
    deadline = time.monotonic() + POLLS * (POLL_ALONE_S if "--no-listen" in options else POLL_S)
    while time.monotonic() < deadline:
        assert count(conn, "state = 'running'") == places
        time.sleep(0.1)
    assert count(conn, "queue = 'brief'") > 1000, "too few to tell"
    assert claims(conn) - before <= 2


def test_what_waits_behind_a_long_job_goes_to_whoever_has_room(
    start_worker: Start, conn: psycopg.Connection, tmp_path: Path
) -> None:
    """Also short jobs that came in one frame with one that turned out long, and beside async ones that keep talking."""
    tasks.block_some.defer_many((number, 5_000, str(tmp_path / "go")) for number in range(1, 20_000))
    tasks.chatter.defer(str(tmp_path / "go"))
    busy = start_worker("-c", "1").ready()
    eventually(lambda: count(conn, "state = 'queued'") < 15_000, what="a job in a frame blocks")
    eventually(lambda: count(conn, "state = 'running'") == 2, what="those behind it are given back")
    start_worker("-c", "4", "-Q", "default").ready()
    eventually(lambda: count(conn, "queue = 'default'") == 4, what="all are done but the chatter and three that block")
    assert busy.process.poll() is None
    (tmp_path / "go").touch()
    eventually(lambda: not count(conn, "true"), what="all is done")
