"""How much Python a job takes on its way, counted in calls: the same number each time, whatever else the machine does."""

import sys
from collections.abc import Callable
from datetime import date
from types import FrameType
from typing import Any

import pytest

from pgqueue import App
from pgqueue.bench import floor
from pgqueue.codec.calls import Codec
from pgqueue.context import CurrentJob
from pgqueue.job import Claimed, Verdict, new_id
from pgqueue.worker.child.executor import Attempt

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


def test_arguments_of_built_in_types_are_proven_by_type_alone() -> None:
    def one(order: int) -> None: ...

    def two(to: str, subject: str | None) -> None: ...

    def many(ids: list[int]) -> None: ...

    def wait(seconds: float) -> None: ...

    def nested(by_day: dict[str, tuple[date, ...]]) -> None: ...

    def taken(function: Callable[..., None], *args: Any) -> int:
        codec = Codec(function, name="shop.take")
        codec.encode(args, {}, max_bytes=10**6)
        return calls(lambda: codec.encode(args, {}, max_bytes=10**6))

    # 13, 13 and 34 when this was written; 20, 20 and 328 before there were any proofs
    assert taken(one, 5) <= 20 and taken(two, "a", None) <= 20 and taken(many, [1] * 100) <= 60
    assert taken(wait, 5) <= 20 and taken(wait, 5.5) <= 20
    assert taken(many, [1] * 100) == taken(many, [1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pgqueue.codec.calls.prove", None)  # nothing is read back
        assert taken(nested, {"a": (date(2024, 1, 2),)})


def test_an_attempt_takes_few_calls(app: App) -> None:
    task = app.task(name="noop")(noop)
    job = Claimed(new_id(), 1, "noop", "[]", "{}", 1, None, 0, "default", 0, 1, None, None, 0.1, None)

    def no_connection() -> Any: ...

    def attempt() -> str | None:
        current = CurrentJob(job.id, job.token, job.task, job.queue, job.attempt, {}, lambda *_: None)
        return Attempt(job, task, current, worker="w").execute(no_connection).verdict

    assert attempt() == Verdict.SUCCEEDED
    assert calls(attempt) < 50  # 39 when this was written; 54 with two events and a context manager for each
