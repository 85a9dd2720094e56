"""What the rooms are handed in these tests: claimed jobs, a child that only notes what it is told, a clock that leaps."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

from pgqueue.job import Claimed
from pgqueue.worker.supervisor.child_handle import ChildHandle, Phase
from tests.untyped import untyped

T = TypeVar("T")


def claimed(job_id: str = "j1", task: str = "t", **columns: Any) -> Claimed:
    """A job as claim.sql returns it."""
    row = Claimed(
        id=job_id, token=1, task=task, args="[]", kwargs="{}", attempt=1, max_attempts=None, crashes=0, queue="default",
        priority=0, seq=1, timeout_s=None, headers=None, age_s=0.0, expired=None,
    )  # fmt: skip
    return row._replace(**columns)


class NotingChild(ChildHandle):
    """The real handle without a process behind it: `told` holds what would have gone over the wire."""

    def __init__(self, number: int, *, threads: int) -> None:
        super().__init__(number, threads=threads, heard=lambda child, message: None)
        self.told: list[tuple[Any, ...]] = []

    def send(self, *message: Any) -> None:
        self.told.append(message)

    @property
    def given(self) -> list[list[str]]:
        """The ids of the jobs that it was given, frame by frame."""
        return [[job.id for job in message[1]] for message in self.told if message[0] == "run"]


def child(number: int = 1, *, threads: int = 1, phase: Phase = Phase.READY) -> NotingChild:
    """A child in some phase of its life, READY unless it is said otherwise."""

    async def made() -> NotingChild:
        return NotingChild(number, threads=threads)

    handle = asyncio.run(made())
    handle.enter(phase)
    return handle


class LeapingClock(selectors.DefaultSelector):
    """Time that passes only while an event loop waits for it, and then at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "the loop waits for something that never comes"
        self.now_s += max(0.0, timeout)
        return super().select(0)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run on a loop that lives by this clock."""
        loop = asyncio.SelectorEventLoop(self)
        untyped(loop).time = self.monotonic
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            return runner.run(work)
