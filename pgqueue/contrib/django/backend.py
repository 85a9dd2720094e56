"""Django's Tasks on pgqueue: TASKS = {"default": {"BACKEND": "pgqueue.contrib.django.Backend"}}."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cached_property
from typing import Any

from django.core.checks import CheckMessage, Error
from django.utils import timezone

import pgqueue
from pgqueue.client.options import Options
from pgqueue.contrib.django.api import (
    BaseTaskBackend,
    InvalidTaskBackend,
    Task,
    TaskResult,
    TaskResultDoesNotExist,
    TaskResultStatus,
    normalize_json,
    task_enqueued,
)
from pgqueue.contrib.django.checks import backend_warnings
from pgqueue.contrib.django.known import DjangoTask, changed_options, know, known
from pgqueue.contrib.django.options import option_errors, task_options
from pgqueue.contrib.django.project import PROJECT
from pgqueue.contrib.django.results import result_of
from pgqueue.job import ID


class Backend(BaseTaskBackend):
    """Jobs of Django's Tasks. `enqueue` is one INSERT in the transaction of its caller, on the database of PGQUEUE or of
    OPTIONS["DATABASE"]: the job exists exactly if that commits.
    """

    task_class = DjangoTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    @property
    def database(self) -> str:
        """Which of DATABASES holds the jobs: that of OPTIONS, of PGQUEUE, or the default. Raises ConfigError."""
        return PROJECT.said.alias

    @property
    def connection(self) -> Any:
        """This thread's connection to it."""
        return PROJECT.connection

    @cached_property
    def errors(self) -> list[Error]:
        """What is wrong with the settings of this backend."""
        return list(option_errors(self.alias, self.options, queues=self.queues))

    def validate_task(self, task: Task) -> None:
        """As Django's own; a task that is valid is known to the workers of this process from now on."""
        super().validate_task(task)
        know(task, **({} if self.errors else task_options(self.options)))

    def enqueue(self, task: Task, args: Iterable[Any], kwargs: Mapping[str, Any]) -> TaskResult:  # type: ignore[override]
        """Insert a job. Raises TypeError for a call that the function would refuse or that is not JSON, and
        pgqueue.InvalidArguments for what cannot be stored, all before anything is written.
        """
        if self.errors:
            raise InvalidTaskBackend(self.errors[0].msg)
        self.validate_task(task)
        native = pgqueue.app.tasks[task.module_path]
        plain_args, plain_kwargs = _plain(task, args, kwargs)
        options = self._options(task).over(native.defaults)
        call = native.encode(tuple(plain_args), plain_kwargs, options=options)
        job = pgqueue.app.insert(native.name, call, options=options)
        result: TaskResult = TaskResult(
            task=task, id=job.id, status=TaskResultStatus.READY, enqueued_at=timezone.now(), started_at=None, finished_at=None,
            last_attempted_at=None, args=plain_args, kwargs=plain_kwargs, backend=self.alias, errors=[], worker_ids=[],
        )  # fmt: skip
        task_enqueued.send_robust(type(self), task_result=result)
        return result

    def _options(self, task: Task) -> Options:
        return Options.make(
            task.module_path, conn=self.connection, queue=task.queue_name, priority=task.priority, at=_aware(task.run_after),
            **changed_options(task),
        )  # fmt: skip

    def get_result(self, result_id: str) -> TaskResult:
        """What has become of a job. Raises TaskResultDoesNotExist, also for a job that is not of a Django task."""
        job_id = str(result_id)
        if not ID.fullmatch(job_id):
            raise TaskResultDoesNotExist(result_id)
        look = pgqueue.app.queries.task_result(job_id)
        with pgqueue.app.using(self.connection):
            rows = pgqueue.app.run(look) or pgqueue.app.run(look)  # twice: see retention.py
        task = known(rows[0].task) if rows else None
        if task is None:
            raise TaskResultDoesNotExist(result_id)
        return result_of(rows[0], task=task, job_id=job_id.lower(), backend=self.alias)

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        """What `manage.py check` says: see checks.py and options.py."""
        return [*self.errors] or [*backend_warnings(self.alias)]


def _plain(task: Task, args: Iterable[Any], kwargs: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The call in JSON's own types, by Django's rules."""
    return (
        [_one(task, f"argument {place}", value) for place, value in enumerate(args, 1)],
        {name: _one(task, f"argument '{name}'", value) for name, value in kwargs.items()},
    )


def _one(task: Task, which: str, value: Any) -> Any:
    try:
        return normalize_json(value)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"{task.module_path}: {which} is not JSON ({error}): pass text or an id in its place"
        ) from None


def _aware(moment: datetime | None) -> datetime | None:
    """Without USE_TZ Django's times are those of TIME_ZONE."""
    return timezone.make_aware(moment) if moment is not None and timezone.is_naive(moment) else moment
