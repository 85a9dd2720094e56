"""How many async jobs a child runs at once: `--async N`, the setting `async_jobs`, and `@task(async_limit=N)`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgqueue import App
from tests.conftest import Worker, eventually

Start = Callable[..., Worker]


class Held:
    """Jobs of tests/async_tasks.py that run until `let_go`."""

    def __init__(self, app: App, folder: Path) -> None:
        self.app = app
        self.folder = folder
        self.marker = str(folder / "go")

    def defer(self, task: str, count: int, **options: Any) -> list[str]:
        return [self.app.enqueue(task, [self.marker], **options).id for _ in range(count)]

    def begun(self, task: str = "") -> list[str]:
        """The process of each job that has begun."""
        return [file.read_text() for file in self.folder.glob(f"{task or '*'}-*")]

    def let_go(self) -> None:
        (self.folder / "go").touch()

    def at_once(self, jobs: list[str]) -> tuple[int, int]:
        """How many ran at most in one process, of the task and of all, once all these have succeeded."""
        results: list[Any] = [self.app.result(job, timeout_s=60) for job in jobs]
        return max(of_task for of_task, _ in results), max(of_all for _, of_all in results)


@pytest.fixture
def held(app: App, tmp_path: Path) -> Held:
    return Held(app, tmp_path)


@pytest.fixture
def start(start_worker: Start) -> Start:
    return lambda *options, **settings: start_worker(*options, app="tests.async_tasks", **settings).ready()


@pytest.mark.parametrize("said", ["option", "environment", "option goes before"])
def test_a_child_runs_so_many_async_jobs_at_once_and_no_more(held: Held, start: Start, said: str) -> None:
    jobs = held.defer("hold", 20)
    options = {"option": ["--async", "3"], "option goes before": ["--async", "3"]}.get(said, [])
    env = {"environment": {"PGQUEUE_ASYNC_JOBS": "3"}, "option goes before": {"PGQUEUE_ASYNC_JOBS": "7"}}.get(said, {})
    start("-c", "2", *options, env=env)
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
