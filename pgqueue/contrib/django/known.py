"""The Django tasks of this process, and the task of pgqueue that each is to a worker."""

import inspect
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from django.utils.module_loading import autodiscover_modules

import pgqueue
from pgqueue.contrib.django.api import Task, TaskContext, normalize_json
from pgqueue.contrib.django.signals import around, running
from pgqueue.task import AnyTask

_known: dict[str, Task] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class DjangoTask(Task):
    """What Django's @task makes of a function for this backend. Since Django 6.1, and with django-tasks, @task takes the options
    below as well; `using` does with every version.
    """

    max_attempts: int | None = None
    """How often it may run until its job is given up; else MAX_ATTEMPTS of the backend."""
    timeout: float | timedelta | None = None
    """Seconds one attempt may take; else TIMEOUT of the backend."""

    def using(
        self, *, max_attempts: int | None = None, timeout: float | timedelta | None = None, **changes: Any
    ) -> "DjangoTask":
        """The same task with other options for what is enqueued by it."""
        changed: Any = Task.using(self, **changes)  # no super(): slots=True has made another class of this one
        given = {"max_attempts": max_attempts, "timeout": timeout}
        own: Any = {name: value for name, value in given.items() if value is not None}
        made: DjangoTask = replace(changed, **own)
        return made


def know(task: Task, **options: Any) -> AnyTask:
    """The task of pgqueue's default App that workers run for this one. Of the copies that `using` makes the first counts.

    options: max_attempts and timeout, where the task says nothing. Raises ConfigError for what cannot work.
    """
    name = task.module_path
    first = _known.get(name)
    if first is None or first.func is not task.func:
        is_async = inspect.iscoroutinefunction(task.func)
        decorate: Any = pgqueue.app.task(
            name=name,
            queue=task.queue_name,
            priority=task.priority,
            middleware=[around(task, is_async=is_async)],
            **(options | own_options(task)),
        )
        decorate(_body(task, is_async=is_async))
        _known[name] = task
    return pgqueue.app.tasks[name]


def own_options(task: Task) -> dict[str, Any]:
    """What a task says of those options itself; it need not be of our class, if `using` has brought it to this backend."""
    given = {name: getattr(task, name, None) for name in ("max_attempts", "timeout")}
    return {name: value for name, value in given.items() if value is not None}


def changed_options(task: Task) -> dict[str, Any]:
    """Where it says something else than the first of its name: a deploy changes all others for jobs that are queued already."""
    first = own_options(_known[task.module_path])
    return {name: value for name, value in own_options(task).items() if value != first.get(name)}


def known(name: str) -> Task | None:
    """The Django task of this name; where none is known yet, once the apps' modules `tasks` are imported, as a worker does."""
    if name not in _known:
        autodiscover_modules("tasks")
    return _known.get(name)


def _body(task: Task, *, is_async: bool) -> Any:
    """What a worker calls: arguments and result stay plain JSON, as Django says, whatever the function's annotations."""
    function, takes_context = task.func, task.takes_context

    def context() -> tuple[Any, ...]:
        return (TaskContext(task_result=running.get()),) if takes_context else ()

    def body(*args: Any, **kwargs: Any) -> Any:
        return normalize_json(function(*context(), *args, **kwargs))

    async def async_body(*args: Any, **kwargs: Any) -> Any:
        return normalize_json(await function(*context(), *args, **kwargs))

    made: Any = async_body if is_async else body
    signature = inspect.signature(function)
    made.__signature__ = signature.replace(parameters=list(signature.parameters.values())[takes_context:])
    for attribute in ("__module__", "__name__", "__qualname__", "__doc__"):
        setattr(made, attribute, getattr(function, attribute))
    return made
