"""The job as the running task sees it: `current_job()`."""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pgqueue.codec.numeric import as_float
from pgqueue.errors import ConfigError, TimeLimitExceeded
from pgqueue.retry import Cancel

OWN = "pgqueue."
"""What the names of headers begin with that are ours, and that no task sees."""
DUE_AT = "pgqueue.due_at"
"""Of the job of a schedule: for which time it was made."""


def parted(headers: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those that a task sees, and our own."""
    own = {name: headers.pop(name) for name in [*headers] if name.startswith(OWN)}
    return headers, own


@dataclass(slots=True, eq=False)
class CurrentJob:
    """One attempt at one job, from the inside. `id` is a stable idempotency key, `token` a fencing token that only grows."""

    id: str
    token: int
    task: str
    queue: str
    attempt: int
    """From 1; snoozes, releases and crashes do not count."""
    headers: dict[str, Any] = field(repr=False)
    own_headers: dict[str, Any] = field(default_factory=dict, repr=False, kw_only=True)
    args: Sequence[Any] = field(default=(), repr=False, init=False)
    """The arguments as the task gets them; empty if they could not be read."""
    kwargs: dict[str, Any] = field(default_factory=dict, repr=False, init=False)
    exception: BaseException | None = field(default=None, repr=False, init=False)
    """For middleware, after its yield: what this attempt ended by, if it was an exception."""
    report: Callable[[float | None, str | None], None] = field(repr=False)
    cancel_requested: bool = False
    """Whether somebody asked for this job to be cancelled; a long loop looks at it and returns or raises Cancel."""
    time_over: bool = field(default=False, repr=False)
    connection: Any = field(default=None, repr=False)
    waits: Callable[["CurrentJob", str], None] = field(default=lambda *_: None, repr=False)
    give_up: Callable[["CurrentJob", str], None] = field(default=lambda *_: None, repr=False)

    @property
    def due_at(self) -> datetime | None:
        """For which time of a schedule this job was made, in UTC; None: for none. It may have started later."""
        text = self.own_headers.get(DUE_AT)
        try:
            return datetime.fromisoformat(text) if isinstance(text, str) else None
        except ValueError:  # written by hand
            return None

    @property
    def conn(self) -> Any:
        """The psycopg connection of an atomic task: what is written through it commits together with the job's end."""
        if self.connection is None:
            raise ConfigError(f"task {self.task} has no connection: declare it @task(atomic=True)")
        return self.connection

    def progress(self, fraction: float | None = None, note: str | None = None) -> None:
        """Tell how far the task has come: a fraction from 0 to 1 and a short note, seen in stats and `pgqueue show`.

        Costs no round trip. A safe point: see `check`.
        """
        self.report(None if fraction is None else _fraction(fraction), note)
        self.check()

    def replace_process(self, reason: str = "was declared unusable by a task") -> None:
        """Have the process that runs this job replaced when the job has ended: it holds what it should not, or fails at everything.

        It takes no more jobs; those that run next to this one may end, and where they fail no attempt is charged. See also
        `spoils=` of App and task. The reason goes into the log.
        """
        self.give_up(self, str(reason))

    def check(self) -> None:
        """A safe point of a sync task: raises TimeLimitExceeded or Cancel if the time is over or a cancel was asked for."""
        if self.time_over:
            raise TimeLimitExceeded("the task's timeout is over")
        if self.cancel_requested:
            raise Cancel("cancelled while running, at a safe point")


def _fraction(value: object) -> float:
    """As a float, whatever kind of number it came as."""
    number = as_float(value)
    if number is None or not 0 <= number <= 1:
        raise ValueError(f"progress takes a fraction from 0 to 1, not {value!r:.100}")
    return number


_current: ContextVar[CurrentJob | None] = ContextVar("pgqueue_current_job", default=None)


def running_job() -> CurrentJob | None:
    """As `current_job`, but None outside of one."""
    return _current.get()


def current_job() -> CurrentJob:
    """The job that is being run; raises ConfigError outside of one."""
    job = _current.get()
    if job is None:
        raise ConfigError("current_job() works only inside a task that a worker runs")
    return job
