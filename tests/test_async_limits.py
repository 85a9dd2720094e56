"""How many async jobs a child runs at once: `--async N`, the setting `async_jobs`, and `@task(async_limit=N)`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgqueue import App, InvalidOption
from tests.conftest import Worker, eventually
from tests.untyped import untyped

Start = Callable[..., Worker]


class Held:
    """Jobs of tests/async_tasks.py that run until `let_go`."""

    def __init__(self, app: App, folder: Path) -> None:
        self.app = app
        self.folder = folder

    def defer(self, task: str, count: int, *, marker: str = "go", **options: Any) -> list[str]:
        return [self.app.enqueue(task, [str(self.folder / marker)], **options).id for _ in range(count)]

    def begun(self, task: str = "") -> list[str]:
        """The process of each job that has begun."""
        return [file.read_text() for file in self.folder.glob(f"{task or '*'}-*")]

    def let_go(self, marker: str = "go") -> None:
        (self.folder / marker).touch()

    def at_once(self, jobs: list[str]) -> tuple[int, int]:
        """How many ran at most in one process, of the task and of all, once all these have succeeded."""
        results: list[Any] = [self.app.result(job, timeout_s=60) for job in jobs]
        return max(of_task for of_task, _ in results), max(of_all for _, of_all in results)


def claims(conn: psycopg.Connection, task: str, *, table: str = "job") -> int:
    """How often its jobs were claimed."""
    found = conn.execute(f"select sum(claim_token) from pgqueue.{table} where task = %s", [task]).fetchone()
    return int(found[0]) if found else 0


def running(conn: psycopg.Connection, task: str) -> int:
    """How many of its jobs some worker has."""
    found = conn.execute("select count(*) from pgqueue.job where task = %s and state = 'running'", [task]).fetchone()
    return int(found[0]) if found else 0


async def later() -> None: ...


def at_once() -> None: ...


@pytest.fixture
def held(app: App, tmp_path: Path) -> Held:
    return Held(app, tmp_path)


@pytest.fixture
def start(start_worker: Start) -> Start:
    return lambda *options, **settings: start_worker(*options, app="tests.async_tasks", **settings).ready()


@pytest.mark.parametrize(
    ("options", "environment", "told"),
    [
        pytest.param([], "3", "2 x (1 thread and 3 async jobs)", id="setting"),
        pytest.param(["--async", "3", "--threads", "2"], "7", "2 x (2 threads and 3 async jobs)", id="option"),
    ],
)
def test_a_child_runs_so_many_async_jobs_at_once_and_no_more(
    held: Held, start: Start, options: list[str], environment: str, told: str
) -> None:
    jobs = held.defer("hold", 20)
    worker = start("-c", "2", *options, env={"PGQUEUE_ASYNC_JOBS": environment})
    assert worker.said("  children").split(maxsplit=1)[1] == told
    eventually(lambda: len(held.begun()) == 6, what="each child runs three")
    held.let_go()
    assert held.at_once(jobs) == (3, 3)


def test_a_sync_job_does_not_wait_for_them(held: Held, start: Start) -> None:
    held.defer("hold", 20, priority=1)
    start("-c", "1", "--async", "1")
    eventually(held.begun, what="the one place is taken")
    assert held.app.enqueue("add", [1, 2]).result(timeout=60) == 3


def test_a_job_that_waits_for_a_place_is_given_back_at_the_end(
    held: Held, start: Start, conn: psycopg.Connection
) -> None:
    jobs = held.defer("hold", 8)
    worker = start("-c", "1", "--async", "2", "--shutdown-timeout", "60")
    eventually(lambda: len(held.begun()) == 2, what="two run")
    worker.process.terminate()
    worker.said("stopping: 2 jobs may finish")
    held.let_go()
    assert worker.wait() == 0
    found = conn.execute("select state::text, count(*), max(attempt) from pgqueue.jobs group by state").fetchall()
    assert sorted(found) == [("queued", 6, 0), ("succeeded", 2, 1)]
    start("-c", "1", "--async", "2")
    assert held.at_once(jobs)[0] <= 2


# -- of one task --


def test_a_task_with_a_limit_runs_so_many_and_is_in_nobodys_way(held: Held, start: Start) -> None:
    """More of its jobs than a child may have, and in front of all others."""
    limited = held.defer("hold two", 150, priority=1)
    free = held.defer("hold", 30)
    start("-c", "2", "--threads", "2")
    eventually(lambda: len(held.begun("hold two")) == 4, what="each child runs two")
    eventually(lambda: len(held.begun("hold")) == 30, what="all others have begun")
    assert [held.app.enqueue(task, args).result(timeout=60) for task, args in (("add", [1, 2]), ("other", [4]))] == [
        3,
        4,
    ]
    assert len(held.begun()) == 34
    held.let_go()
    assert held.at_once(limited)[0] == 2
    assert held.at_once(free)[1] > 2


def test_short_jobs_flow_at_the_limit(held: Held, start: Start, conn: psycopg.Connection) -> None:
    jobs = held.defer("brief", 300)
    start("-c", "2", "--burst")
    assert held.at_once(jobs) == (2, 2)
    assert claims(conn, "brief", table="history") < 400  # few were claimed in vain


def test_while_long_jobs_hold_its_places_no_other_is_claimed(
    held: Held, start: Start, conn: psycopg.Connection
) -> None:
    """And one place that becomes free takes one job, though all others wait in front."""
    (first,) = held.defer("hold two", 1, marker="first")
    held.defer("hold two", 50)
    start("-c", "1")
    eventually(lambda: len(held.begun()) == 2, what="both places are taken")
    eventually(lambda: running(conn, "hold two") == 2, what="what was claimed beyond is given back")
    before = claims(conn, "hold two")
    done = [held.app.enqueue(task, args) for _ in range(100) for task, args in (("add", [1, 2]), ("other", [4]))]
    assert [job.result(timeout=60) for job in done] == [3, 4] * 100
    assert running(conn, "hold two") == 2 and claims(conn, "hold two") == before
    held.let_go("first")
    assert held.at_once([first]) == (1, 1)
    eventually(lambda: len(held.begun()) == 3, what="the next one begins")
    assert held.app.enqueue("other", [4]).result(timeout=60) == 4
    assert running(conn, "hold two") == 2 and claims(conn, "hold two") == before  # less one that ended, and one more


def test_no_time_limit_runs_while_a_job_waits_for_its_turn(held: Held, start: Start, conn: psycopg.Connection) -> None:
    """Nor is it charged for having waited when the worker ends."""
    first = held.defer("hold two", 2)
    waiting = held.defer("hold two", 3, timeout=0.5)
    worker = start("-c", "1", "--shutdown-timeout", "60")
    eventually(lambda: len(held.begun()) == 2, what="both places are taken")
    assert held.app.enqueue("other", [4], delay=1.0).result(timeout=60) == 4  # twice that time has passed
    worker.process.terminate()
    worker.said("stopping: 2 jobs may finish")
    held.let_go()
    assert worker.wait() == 0 and held.at_once(first) == (2, 2)
    states = conn.execute(
        "select state::text, attempt from pgqueue.job where id = any (%s::uuid[])", [waiting]
    ).fetchall()
    assert states == [("queued", 0)] * 3
    start("-c", "1")
    assert held.at_once(waiting)[0] <= 2
    tried = conn.execute("select attempt from pgqueue.history where id = any (%s::uuid[])", [waiting]).fetchall()
    assert tried == [(1,)] * 3


@pytest.mark.parametrize("at_fault", ["task", "child"])
def test_a_limit_is_a_number(at_fault: str) -> None:
    for wrong in (0, -1, True, "5", 1.5):
        if at_fault == "child":
            with pytest.raises(InvalidOption, match=r"async_jobs must be a whole number of at least 1, not"):
                _ = App(async_jobs=wrong).config
            continue
        with pytest.raises(
            InvalidOption, match=r"@task \S+: async_limit must be a whole number of at least 1, not"
        ) as caught:
            App().task(async_limit=untyped(wrong))(later)
        assert "\n" not in str(caught.value)


def test_a_sync_task_has_no_such_limit() -> None:
    with pytest.raises(InvalidOption, match="plain def: `pgqueue worker --threads` says how many") as caught:
        App().task(async_limit=5)(at_once)
    assert "\n" not in str(caught.value)
    assert App().task(async_limit=5)(later).async_limit == 5 and App().task(later).async_limit is None
