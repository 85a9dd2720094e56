"""What a drain did: one value for each attempt, in the order in which they were made."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from pgqueue.client.handle import Job
from pgqueue.job import Outcome, State, Verdict
from pgqueue.retry import Retry
from pgqueue.task import AnyTask


@dataclass(frozen=True, kw_only=True)
class Ran:
    """One attempt at one job, and what became of the job."""

    id: str
    task: str
    """The task's name."""
    attempt: int
    """From 1."""
    state: State | None
    """The job's after it. None: the job was gone, or was no longer this attempt's, when it ended."""
    outcome: Outcome
    """As a worker's child sends it: verdict, delay_s, and cause, error and traceback as text."""
    result: Any = None
    """What the task returned, through JSON and back."""
    error: BaseException | None = None
    """What it raised, Snooze, Retry and Cancel among it."""
    progress: list[tuple[float | None, str | None]] = field(default_factory=list, repr=False)
    """What it reported: (fraction, note)."""

    @property
    def failed(self) -> bool:
        """Whether the attempt failed, other than by raising Retry for another one."""
        retried = isinstance(self.error, Retry) and self.outcome.verdict == Verdict.RETRY
        return self.outcome.cause is not None and not retried

    def told(self) -> str:
        """One line for a traceback."""
        then = f"again in {self.outcome.delay_s:g} s" if self.state == State.SCHEDULED else f"{self.state}"
        return f"raised by job {self.id} ({self.task}), attempt {self.attempt}, drained by pgqueue.testing; the job is {then}"


class Drained(list[Ran]):
    """The attempts of one drain. `unknown`: names of tasks that the app does not have, whose jobs stay queued."""

    def __init__(self, attempts: Iterable[Ran] = (), *, unknown: Iterable[str] = ()) -> None:
        super().__init__(attempts)
        self.unknown = frozenset(unknown)

    def of(self, what: Job[Any] | AnyTask) -> "Drained":
        """Those of one job, or of one task."""
        if isinstance(what, Job):
            return Drained(each for each in self if each.id == what.id)
        return Drained(each for each in self if each.task == what.name)

    @property
    def failed(self) -> "Drained":
        """Those that failed."""
        return Drained(each for each in self if each.failed)


Until = Job[Any] | Callable[[Ran], bool] | None


def is_over(until: Until, ran: Ran) -> bool:
    """Whether a drain ends with this attempt."""
    if isinstance(until, Job):
        return ran.id == until.id and (ran.state is None or ran.state.ended)
    return until is not None and until(ran)
