"""What a task says of the jobs that a trigger makes for it."""

import inspect
import typing
from collections.abc import Mapping
from dataclasses import replace

from pgqueue.client.options import MAX_HEADERS_BYTES
from pgqueue.codec.calls import encode_plain
from pgqueue.codec.redact import MARKS
from pgqueue.errors import ConfigError
from pgqueue.task import AnyTask
from pgqueue.triggers.declared import DeclaredTrigger


def with_task(wanted: DeclaredTrigger, tasks: Mapping[str, AnyTask]) -> DeclaredTrigger:
    """With the task's queue, priority and limits. Raises ConfigError if there is no such task."""
    if wanted.kind != "task":
        return wanted
    task = tasks.get(wanted.target)
    if task is None:
        raise ConfigError(
            f"trigger {wanted.name}: the app has no task '{wanted.target}'; it has {', '.join(sorted(tasks)) or 'none'}"
        )
    columns = task.defaults.columns(where=task.name)
    headers = encode_plain({MARKS: task.marks}, path=task.name, max_bytes=MAX_HEADERS_BYTES) if task.marks else None
    return replace(
        wanted, queue=columns["queue"], priority=columns["priority"], timeout_s=columns["timeout_s"],
        expires_s=columns["expires_s"], headers=headers, bulk=takes_list(task) if wanted.bulk is None else wanted.bulk,
    )  # fmt: skip


def takes_list(task: AnyTask) -> bool:
    """Whether the second argument, after the name of the event, is declared as a list."""
    places = [*inspect.signature(task.function).parameters]
    try:
        hints = typing.get_type_hints(task.function)
    except Exception:  # a name that only a type checker knows
        return False
    kind = hints.get(places[1]) if len(places) > 1 else None
    return kind is list or typing.get_origin(kind) is list
