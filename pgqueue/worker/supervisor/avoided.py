"""The tasks whose jobs this worker leaves alone at the moment: unknown ones, those that gave way, those without a slot."""

import asyncio
import time

from pgqueue.worker.supervisor.cursors import Cursors, Pair
from pgqueue.worker.supervisor.wakeups import DUE_NOISE_S, Wakeups

GIVE_WAY_S = (
    2.0  # for others to take a job that falls due; a worker that is busy for longer gets it when it falls due again
)


class AvoidedTasks:
    """Their names. The doorbell is rung when a task that gave way may be claimed again."""

    def __init__(self, cursors: Cursors, wakeups: Wakeups) -> None:
        self._cursors = cursors
        self._wakeups = wakeups
        self._unknown: set[str] = set()
        self._until: dict[str, float] = {}  # monotonic, by task
        self._before_full: dict[Pair, int] = {}  # the cursors when these became full

    def names(self) -> list[str]:
        """All of them."""
        return sorted(self._unknown | self._wakeups.left_alone)

    def unknown(self) -> list[str]:
        """Those that are left to other workers; the others only wait for a slot here."""
        return sorted(self._unknown)

    def add_unknown(self, task: str) -> bool:
        """The app has no such task. True: that is new."""
        new = task not in self._unknown
        self._unknown.add(task)
        return new

    def set_full(self, full: frozenset[str]) -> None:
        """Leave tasks alone that have no slot, as long as others have some; then go back to those that were passed by."""
        if full != self._wakeups.left_alone:
            self._cursors.rewind_to(self._before_full)
            self._wakeups.left_alone, self._before_full = full, self._cursors.snapshot() if full else {}

    def give_way(self, task: str, due_s: float) -> None:
        """Leave it alone for a moment, once its job falls due."""
        asyncio.get_running_loop().call_later(max(0.0, due_s - DUE_NOISE_S), self._leave_alone, task)

    def _leave_alone(self, task: str) -> None:
        self._unknown.add(task)
        self._until[task] = time.monotonic() + GIVE_WAY_S
        asyncio.get_running_loop().call_later(GIVE_WAY_S, self._take_again, task)

    def _take_again(self, task: str) -> None:
        if time.monotonic() >= self._until[task] - DUE_NOISE_S:  # it was not left alone once more in the meantime
            self._unknown.discard(task)
            self._wakeups.doorbell.set()
