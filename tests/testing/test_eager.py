"""eager() runs a job where it is deferred, and is as strict as a worker."""

import asyncio
from datetime import datetime
from typing import Any

import pytest

from pgqueue import (
    App,
    ConfigError,
    InvalidResult,
    JobCancelled,
    JobDead,
    PgQueueError,
    Retry,
    Snooze,
    State,
    current_job,
)
from pgqueue.testing import captured, eager
from tests.testing import tasks

shop = App("postgresql://nobody@nowhere.invalid/nothing")
seen: list[Any] = []


@shop.task
def keep(value: Any) -> Any:
    seen.append(value)
    return value


@shop.task
async def keep_later(when: datetime) -> datetime:
    await keep.defer_async("inner")
    return when


@shop.task
def returns_what_cannot_be_stored() -> Any:
    return object()


@shop.task(max_attempts=3)
def fails() -> None:
    seen.append(current_job().attempt)
    raise ValueError("not this time")


@shop.task
def waits(for_what: str, times: int) -> int:
    seen.append(current_job().attempt)
    if len(seen) < times:
        raise {"snooze": Snooze(60), "retry": Retry("once more")}[for_what]
    return len(seen)


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    seen.clear()


def test_the_result_is_there_at_once() -> None:
    with eager():
        job = keep.defer((1, 2))
        assert job.result() == [1, 2] == seen[0] and job.state == State.SUCCEEDED  # JSON knows no tuples
        assert [job.result() for job in keep.defer_many([(3,), (4,)])] == [3, 4]
    assert seen == [[1, 2], 3, 4]


def test_in_asyncio_too() -> None:
    moment = datetime(2030, 1, 1)

    async def test() -> None:
        assert await (await keep_later.defer_async(moment)).result_async() == moment
        with pytest.raises(ConfigError, match=r"await keep_later\.defer_async\(\)"):
            keep_later.defer(moment)

    with eager():
        assert keep_later.defer(moment).result() == moment
        asyncio.run(test())
    assert seen == ["inner", "inner"]


def test_what_the_task_raises_comes_out() -> None:
    with eager():
        with pytest.raises(ValueError, match="not this time") as caught:
            fails.defer()
        with pytest.raises(InvalidResult):
            returns_what_cannot_be_stored.defer()
    assert seen == [1] and "attempt 1" in caught.value.__notes__[0]


def test_or_is_tried_again_to_the_end() -> None:
    with eager(raises=False):
        job = fails.defer()
    assert seen == [1, 2, 3] and job.state == State.DEAD
    with pytest.raises(JobDead, match="not this time") as caught:
        job.result()
    assert isinstance(caught.value.__cause__, ValueError)


def test_waiting_takes_no_time() -> None:
    with eager():
        assert waits.defer("snooze", 3).result() == 3 and seen == [1, 1, 1]
        seen.clear()
        assert waits.defer("retry", 3).result() == 3 and seen == [1, 2, 3]
        seen.clear()
        with pytest.raises(PgQueueError, match="has run 1000 times for one job"):
            waits.defer("snooze", 10_000)


def test_a_cancelled_job() -> None:
    with eager():
        job = tasks.give_up.defer("cancel")
    with pytest.raises(JobCancelled, match="not wanted"):
        job.result()


def test_what_needs_a_row() -> None:
    with eager():
        with pytest.raises(ConfigError, match="write is atomic"):
            tasks.write.defer("x")
        with pytest.raises(ConfigError, match=r"no task named 'not\.imported'"):
            shop.enqueue("not.imported")
        job = keep.defer(1)
        with pytest.raises(ConfigError, match="has no row"):
            job.snapshot()
        assert not job.cancel()


def test_it_nests_with_captured() -> None:
    with captured() as jobs, eager():
        assert keep.defer(1).result() == 1
    assert seen == [1] and [call.args for call in jobs] == [[1]]
    with eager(), captured():
        keep.defer(2)
    assert seen == [1]
