"""How much Python a job takes on its way, counted in calls: the same number each time, whatever else the machine does."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from pgqueue import App
from pgqueue.bench import floor
from pgqueue.context import CurrentJob
from pgqueue.job import Claimed, Verdict, new_id
from pgqueue.worker.executor import Attempt

WARM = 20  # psycopg prepares a statement after five


def noop() -> int:
    return 1


def calls(act: Callable[[], Any]) -> int:
    """Of functions, those written in C included."""
    count = 0

    def see(_: FrameType, event: str, __: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(see)
    try:
        act()
    finally:
        sys.setprofile(None)
    return count


def test_a_defer_takes_two_and_a_half_times_the_calls_of_its_bare_insert(app: App) -> None:
    task = app.task(name=floor.TASK)(noop)
    with floor.inserting(app) as insert:
        for _ in range(WARM):
            task.defer()
            insert(new_id())
        ours, bare = calls(task.defer), calls(lambda: insert(new_id()))
    assert ours < 2.5 * bare, f"{ours} calls, {bare} of them psycopg's"  # 179 and 79 when this was written, 212 before


def test_an_attempt_takes_few_calls(app: App) -> None:
    task = app.task(name="noop")(noop)
    job = Claimed(new_id(), 1, "noop", "[]", "{}", 1, None, 0, "default", 0, 1, None, None, 0.1, None)

    def attempt() -> str:
        current = CurrentJob(job.id, job.token, job.task, job.queue, job.attempt, {}, lambda *_: None)
        return Attempt(job, task, current, worker="w").execute(lambda: None).verdict  # type: ignore[arg-type, return-value]

    assert attempt() == Verdict.SUCCEEDED
    assert calls(attempt) < 50  # 39 when this was written; 54 with two events and a context manager for each
