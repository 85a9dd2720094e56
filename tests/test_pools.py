"""Async jobs and the pools of connections that they share: none fails for want of one where their number is bounded."""

from collections.abc import Callable

import psycopg
import pytest

from pgqueue import App
from tests.conftest import Worker

Start = Callable[..., Worker]
JOBS = 200


def ends(conn: psycopg.Connection) -> dict[str, int]:
    return dict(conn.execute("select state::text, count(*) from pgqueue.history group by state").fetchall())


@pytest.mark.parametrize("options", [["--async", "15"], []])
def test_a_pool_of_fifteen_serves_fifteen_jobs_at_once_and_not_a_hundred(
    app: App, start_worker: Start, conn: psycopg.Connection, options: list[str]
) -> None:
    for _ in range(JOBS):
        app.enqueue("query")
    worker = start_worker("-c", "2", "--burst", *options, app="tests.pool_tasks")
    assert worker.wait() == 0, worker.output
    if options:
        assert ends(conn) == {"succeeded": JOBS}
    else:  # this is what it is for
        assert ends(conn)["dead"] > 0


def test_the_error_of_an_exhausted_pool_says_what_bounds_the_jobs(
    app: App, start_worker: Start, conn: psycopg.Connection
) -> None:
    tasks = "sqlalchemy", "psycopg", "asyncpg", "asyncpg without end", "alone", "other", "late"
    jobs = {task: app.enqueue(task).id for task in tasks}
    worker = start_worker("-c", "1", "--async", "7", "--burst", app="tests.pool_tasks")
    assert worker.wait() == 0, worker.output
    errors = {task: app.snapshot(job).error or "" for task, job in jobs.items()}
    assert all("\n" not in error.partition("; this child")[2] for error in errors.values())
    told = {task: error.partition("; this child runs up to ")[2] for task, error in errors.items()}
    rest = (
        "async jobs at once, which share the pool: lower that with --async or @task(async_limit=), or enlarge the pool"
    )
    assert told == {
        "sqlalchemy": f"7 {rest}", "psycopg": f"3 {rest}", "asyncpg": f"7 {rest}", "asyncpg without end": f"7 {rest}",
        "alone": "", "other": "", "late": "",
    }  # fmt: skip
    assert errors["sqlalchemy"].startswith("TimeoutError: QueuePool limit of size 1 overflow 0 reached")
    assert errors["psycopg"].startswith("OSError: as a program might say it;")
    assert errors["alone"].startswith("TimeoutError") and errors["asyncpg without end"].startswith(
        "TimeLimitExceeded: "
    )


def test_a_worker_without_async_tasks_speaks_of_threads_alone(start_worker: Start) -> None:
    worker = start_worker("-c", "2", "--async", "15", app="examples.corpus.tasks").ready()
    assert worker.said("  children").split(maxsplit=1)[1] == "2 x 1 thread"
