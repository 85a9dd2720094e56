"""One call of a task as it was deferred: arguments as the job will get them, and the options in effect."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pgqueue.app import App
from pgqueue.client.enqueue import Call, key_of
from pgqueue.client.options import Options
from pgqueue.codec.calls import decode_plain
from pgqueue.errors import InvalidArguments
from pgqueue.queries.testing import DeferredRow


@dataclass(frozen=True, kw_only=True)
class Deferred:
    """What one `defer` put in, or would have. `args` and `kwargs` have been through JSON and back, by the task's annotations."""

    id: str
    task: str
    """The task's name."""
    args: list[Any]
    kwargs: dict[str, Any]
    queue: str
    priority: int
    delay: float | None
    """Seconds; None: due at once, or at `at`."""
    at: datetime | None
    unique: str | None
    """The key as it is stored."""
    max_attempts: int | None
    timeout: float | None
    expires: float | datetime | None
    headers: dict[str, Any] | None
    call: Call = field(repr=False)
    """(args, kwargs) as JSON text."""

    def __str__(self) -> str:
        return f"{self.task}{told(self.args, self.kwargs)}"


def told(args: list[Any], kwargs: Mapping[str, Any]) -> str:
    """Arguments as in a call."""
    shown = [short(value) for value in args] + [f"{name}={short(value)}" for name, value in kwargs.items()]
    return f"({', '.join(shown)})"


def short(value: object) -> str:
    """A value in one line of a message."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def by_options(app: App, job_id: str, task: str, call: Call, options: Options) -> Deferred:
    """What `App.insert` was called with."""
    columns = options.columns(where=task)
    return Deferred(
        id=job_id, task=task, queue=columns["queue"], priority=columns["priority"], delay=columns["delay_s"],
        at=options.at, unique=key_of(options, task=task, call=call), max_attempts=options.max_attempts,
        timeout=columns["timeout_s"], expires=columns["expires_at"] or columns["expires_s"],
        headers=None if options.headers is None else dict(options.headers), call=call, **_arguments(app, task, call),
    )  # fmt: skip


def by_row(app: App, row: DeferredRow) -> Deferred:
    """What the database holds of a job, alive or ended."""
    call = row.args, row.kwargs
    headers = json.loads(row.headers) if row.headers else {}
    own = {name: value for name, value in headers.items() if not name.startswith("pgqueue.")}
    return Deferred(
        id=row.id, task=row.task, queue=row.queue, priority=row.priority, delay=row.delay_s, at=datetime.fromisoformat(row.run_at),
        unique=row.unique_key, max_attempts=row.max_attempts, timeout=row.timeout_s, expires=row.expires_s,
        headers=own or None, call=call, **_arguments(app, row.task, call),
    )  # fmt: skip


def _arguments(app: App, task: str, call: Call) -> dict[str, Any]:
    known = app.tasks.get(task)
    if known is not None:
        try:
            args, kwargs = known.codec.decode(*call)
            return {"args": args, "kwargs": kwargs}
        except InvalidArguments:  # enqueued by name: nothing has checked it
            pass
    return {"args": decode_plain(call[0]), "kwargs": decode_plain(call[1])}
