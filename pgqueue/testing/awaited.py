"""What a drained job learns when it waits for another's result: a drain runs one after the other, so waiting would have no end."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pgqueue.app import App
from pgqueue.context import CurrentJob, running_job
from pgqueue.errors import PgQueueError
from pgqueue.queries import Statement

_REAL_RESULTS = App.result, App.result_async
_open = 0


@dataclass(slots=True, eq=False)
class DrainedJob(CurrentJob):
    """As the running task sees it. look, look_async: run a statement where the drain does, from a task of either colour."""

    look: Callable[[Statement[Any]], list[Any]] | None = None
    look_async: Callable[[Statement[Any]], Awaitable[list[Any]]] | None = None


@contextmanager
def nobody_waits() -> Iterator[None]:
    """Within the block a drained job is given the result of a job that has ended, in the test's transaction too, or an error."""
    global _open
    if not _open:
        setattr(App, "result", _result)  # noqa: B010  # in the place of the method
        setattr(App, "result_async", _result_async)  # noqa: B010
    _open += 1
    try:
        yield
    finally:
        _open -= 1
        if not _open:
            setattr(App, "result", _REAL_RESULTS[0])  # noqa: B010
            setattr(App, "result_async", _REAL_RESULTS[1])  # noqa: B010


def _result(app: App, job_id: str, *, timeout_s: float | None = None) -> object:
    current = running_job()
    if not isinstance(current, DrainedJob) or current.look is None:
        return _REAL_RESULTS[0](app, job_id, timeout_s=timeout_s)
    return _told(app, current, job_id, current.look(app.queries.ends([job_id])))


async def _result_async(app: App, job_id: str, *, timeout_s: float | None = None) -> object:
    current = running_job()
    if not isinstance(current, DrainedJob) or current.look_async is None:
        return await _REAL_RESULTS[1](app, job_id, timeout_s=timeout_s)
    return _told(app, current, job_id, await current.look_async(app.queries.ends([job_id])))


def _told(app: App, current: DrainedJob, job_id: str, ends: list[Any]) -> object:
    if ends and ends[0].state is None:
        raise PgQueueError(
            f"task {current.task} waits for job {job_id}, which has not run: a drain runs one job after the other. Run that one "
            "before, or test this with a real worker"
        )
    return app._value(job_id, ends[0] if ends else None)
