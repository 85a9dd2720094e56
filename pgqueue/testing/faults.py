"""What a WorkerProcess may suffer, so that a test proves that a task does the right thing when it runs again, or only once."""

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Self

from pgqueue.client.options import check_integer


class Harm(StrEnum):
    """What happens."""

    CHILD_KILLED = "child killed"
    CONNECTION_LOST = "connection lost"
    ANSWER_LOST = "answer lost"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to each job, `times` times. Made by the functions below."""

    harm: Harm
    times: int
    after: str | None = None

    def text(self) -> str:
        """For another process."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> Self:
        given = json.loads(text)
        return cls(harm=Harm(given["harm"]), times=given["times"], after=given["after"])


def child_killed(*, after: str | None = None, times: int = 1) -> Fault:
    """The process that runs the job is killed; the job runs again at once, and no attempt is charged.

    after: a function by its dotted name, as "shop.charge_card": when it returns; it is replaced in that module. Without: when the
    task has returned and nobody knows yet, the worst moment there is. A job that kills three processes is dead: times=3.
    """
    return Fault(harm=Harm.CHILD_KILLED, times=check_integer("times", times, low=1, high=100), after=after)


def connection_lost(*, times: int = 1) -> Fault:
    """The connection is lost just before the job's end is recorded.

    Of an atomic task that is its COMMIT: its writes are rolled back, and it runs again as its retry policy says. The end of any
    other task is recorded on a new connection: it runs once.
    """
    return Fault(harm=Harm.CONNECTION_LOST, times=check_integer("times", times, low=1, high=100))


def answer_lost(*, times: int = 1) -> Fault:
    """The job's end is recorded, but the answer of the database is lost: the worker asks, and the job does not run again."""
    return Fault(harm=Harm.ANSWER_LOST, times=check_integer("times", times, low=1, high=100))
