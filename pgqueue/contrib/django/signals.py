"""Around each job of a Django task, in the worker's child: its context, and Django's signals task_started and task_finished."""

from collections.abc import AsyncGenerator, Generator
from contextvars import ContextVar
from typing import Any, Protocol

from asgiref.sync import sync_to_async
from django.db import InterfaceError, OperationalError, connections
from django.dispatch import Signal
from django.utils import timezone

from pgqueue.codec.calls import decode_plain
from pgqueue.context import CurrentJob
from pgqueue.contrib.django.api import (
    Task,
    TaskResult,
    TaskResultDoesNotExist,
    TaskResultStatus,
    task_finished,
    task_started,
)
from pgqueue.contrib.django.results import UNKNOWN, cancelled, change, failure
from pgqueue.errors import ConfigError, DatabaseUnavailable
from pgqueue.job import Outcome, Verdict
from pgqueue.middleware import Middleware

running: ContextVar[TaskResult] = ContextVar("pgqueue_django_result")
"""The result of the job that runs, as its TaskContext shows it."""

COMES_TO = {
    Verdict.SUCCEEDED: TaskResultStatus.SUCCESSFUL,
    Verdict.DEAD: TaskResultStatus.FAILED,
    Verdict.CANCELLED: TaskResultStatus.FAILED,
    Verdict.RETRY: TaskResultStatus.READY,
    Verdict.SNOOZE: TaskResultStatus.READY,
}
"""What an attempt comes to. The end of any other is not for this process to tell: another worker has the job, or gets it."""


class Source(Protocol):
    """The backend of a task."""

    database: str

    def get_result(self, result_id: str) -> TaskResult: ...


def around(task: Task, *, is_async: bool) -> Middleware:
    """The middleware of one task. Of an async one the database and the receivers are for Django's own thread."""

    def sync_job(job: CurrentJob) -> Generator[None, Outcome, None]:
        result = _start(task, job)
        running.set(result)
        outcome = yield
        _finish(task, result, job, outcome)

    async def async_job(job: CurrentJob) -> AsyncGenerator[None, Outcome]:
        result = await sync_to_async(_start)(task, job)
        running.set(result)
        outcome = yield
        await sync_to_async(_finish)(task, result, job, outcome)

    return async_job if is_async else sync_job


def _start(task: Task, job: CurrentJob) -> TaskResult:
    backend: Any = task.get_backend()
    try:
        result = _read(backend, job.id)
    except TaskResultDoesNotExist:
        raise ConfigError(
            f"job {job.id} ({job.task}) is not in '{backend.database}', the database of TASKS: run the worker on that one"
        ) from None
    if result.status is not TaskResultStatus.RUNNING:  # it runs in the process that reads it, as in a test
        change(result, status=TaskResultStatus.RUNNING, last_attempted_at=timezone.now())
        result.worker_ids.append(UNKNOWN)
    _send(task_started, backend, result)
    return result


def _read(backend: Source, job_id: str) -> TaskResult:
    """Once more where the session had been cut since the last job: nothing is lost by it."""
    try:
        return backend.get_result(job_id)
    except (OperationalError, InterfaceError, DatabaseUnavailable):
        connection = connections[backend.database]
        if connection.in_atomic_block:
            raise
        connection.close()
    return backend.get_result(job_id)


def _finish(task: Task, result: TaskResult, job: CurrentJob, outcome: Outcome) -> None:
    """Tell what the attempt has come to. It is written down after this, so the result is made of the outcome."""
    status = COMES_TO.get(Verdict(outcome.verdict))
    if status is None:
        return
    if outcome.cause is not None:
        result.errors.append(failure(cause=outcome.cause, error=outcome.error, traceback=outcome.traceback))
    if status is TaskResultStatus.READY and job.cancel_requested:  # that ends the job, whatever the attempt came to
        status = TaskResultStatus.FAILED
        result.errors.append(cancelled("cancelled while running"))
    elif outcome.verdict == Verdict.CANCELLED:
        result.errors.append(cancelled(outcome.error))
    change(result, status=status)
    if status is not TaskResultStatus.READY:
        change(result, finished_at=timezone.now())
    if status is TaskResultStatus.SUCCESSFUL:
        change(result, _return_value=decode_plain(outcome.result))
    _send_finished(task.get_backend(), result, job.exception)


def _send_finished(backend: Any, result: TaskResult, error: BaseException | None) -> None:
    """Receivers find the exception in sys.exc_info(), as those of Django's own backends do; Django's logs it from there."""
    if error is None:
        _send(task_finished, backend, result)
        return
    trace = error.__traceback__
    try:
        raise error
    except BaseException:
        _send(task_finished, backend, result)
    finally:
        error.__traceback__ = trace


def _send(signal: Signal, backend: Any, result: TaskResult) -> None:
    """A receiver that fails is logged by Django, and fails no job."""
    signal.send_robust(type(backend), task_result=result)
