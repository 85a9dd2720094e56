"""What Django calls a task result, made of a job's row and its failed attempts."""

import builtins
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pgqueue import errors, retry
from pgqueue.codec.calls import decode_plain
from pgqueue.contrib.django.api import InvalidTask, Task, TaskError, TaskResult, TaskResultStatus
from pgqueue.job import State
from pgqueue.queries.django import TaskRow

STATUS = {
    State.WAITING: TaskResultStatus.READY,
    State.SCHEDULED: TaskResultStatus.READY,
    State.QUEUED: TaskResultStatus.READY,
    State.RUNNING: TaskResultStatus.RUNNING,
    State.SUCCEEDED: TaskResultStatus.SUCCESSFUL,
    State.DEAD: TaskResultStatus.FAILED,
    State.CANCELLED: TaskResultStatus.FAILED,
}
UNKNOWN = "unknown"  # a worker that was declared dead: others have noted the loss
SHOWN = 200  # characters of an error by which its line is found in the traceback


def result_of(row: TaskRow, *, task: Task, job_id: str, backend: str) -> TaskResult:
    """The result of a job of this task as its row tells it."""
    state = State(row.state)
    result: TaskResult = TaskResult(
        task=_as_enqueued(task, row), id=job_id, status=STATUS[state], backend=backend,
        args=_array(row.args), kwargs=_object(row.kwargs),
        enqueued_at=row.created_at, finished_at=row.finished_at, last_attempted_at=row.started_at,
        started_at=next((start for start in row.starts if start is not None), row.started_at),
        errors=list(_errors(row, state)),
        worker_ids=[*(worker or UNKNOWN for worker in row.workers), *_present_worker(row, state)],
    )  # fmt: skip
    if state is State.SUCCEEDED:
        change(result, _return_value=decode_plain(row.result))
    return result


def change(result: TaskResult, **values: Any) -> None:
    """Set what Django's own backends set so too: the class is frozen for all others."""
    for name, value in values.items():
        object.__setattr__(result, name, value)


def failure(*, cause: str | None, error: str | None, traceback: str | None) -> TaskError:
    """One failed attempt."""
    return TaskError(
        exception_class_path=class_path(cause or "", error or "", traceback or ""), traceback=traceback or error or ""
    )


def cancelled(reason: str | None) -> TaskError:
    """Django knows no state for a job that somebody has cancelled: it failed, with the reason."""
    return TaskError(exception_class_path=_path(errors.JobCancelled), traceback=reason or "cancelled")


def class_path(cause: str, error: str, traceback: str) -> str:
    """module.qualname of the exception that an attempt failed with.

    The stored error begins with the qualname alone, as people read it. The module is in the traceback, where Python has written
    the same line with it; of a chain of exceptions the last one counts. What has no traceback was raised by pgqueue, or is the
    end of a process.
    """
    if cause in _NO_EXCEPTION:
        return _path(_NO_EXCEPTION[cause])
    name = error.split(":", 1)[0]
    for line in (error.split("\n", 1)[0][:SHOWN], name):
        end = "(?=:|$)" if line == name else ""
        # Below a line of a frame, as notes that somebody has added are not.
        found = re.findall(rf"^[ |]*  .*\n[ |]*((?:\w+\.)+){re.escape(line)}{end}", traceback, re.M)
        if found:
            return f"{found[-1]}{name}"
    for home in (builtins, errors, retry):
        kind = getattr(home, name, None)
        if isinstance(kind, type) and issubclass(kind, BaseException):
            return _path(kind)
    return _path(errors.JobError)


def _path(kind: type[BaseException]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


_NO_EXCEPTION: dict[str, type[BaseException]] = {
    "crash": errors.JobError, "worker lost": errors.LeaseLost, "time limit": errors.TimeLimitExceeded,
}  # fmt: skip


def _errors(row: TaskRow, state: State) -> Iterator[TaskError]:
    for cause, error, traceback in zip(row.causes, row.errors, row.tracebacks, strict=True):
        yield failure(cause=cause, error=error, traceback=traceback)
    if state is State.CANCELLED:
        yield cancelled(row.error)
    elif state is State.DEAD and not row.causes:  # purged, or recorded by other means
        yield TaskError(exception_class_path=_path(errors.JobDead), traceback=row.error or "")


def _present_worker(row: TaskRow, state: State) -> list[str]:
    """The worker of an attempt that has not failed; a job that ended otherwise has none that is not among the others."""
    return [row.worker or UNKNOWN] if state in (State.RUNNING, State.SUCCEEDED) else []


def _array(text: str) -> list[Any]:
    value = decode_plain(text)
    return value if isinstance(value, list) else []


def _object(text: str) -> dict[str, Any]:
    value = decode_plain(text)
    return value if isinstance(value, dict) else {}


def _as_enqueued(task: Task, row: TaskRow) -> Task:
    """The task with the options of this job. A job that came another way may have some that Django does not allow."""
    run_after = row.run_at if row.run_at > row.created_at else None
    if (task.priority, task.queue_name, task.run_after) == (row.priority, row.queue, run_after):
        return task
    try:
        return replace(task, priority=row.priority, queue_name=row.queue, run_after=run_after)
    except InvalidTask:
        return task
