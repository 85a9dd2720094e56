"""One child as its supervisor sees it: the phase of its life, the jobs it has, and why it ends.

phase     begins with                       is given jobs  what it has          ends with
--------  --------------------------------  -------------  -------------------  -----------------------------
STARTING  the start of its process          no             nothing              its hello, or its end
READY     its hello                         yes            runs                 a reason to replace it, or our stop
LEAVING   the same                          no             is finished or       its end
                                                           given back
GONE      the end of its connection, which  no             is settled by        the end of its process
          the kernel may tell before the                   children.py
          end of the process

A phase follows an earlier one and never comes back. A child is told to stop when it leaves and has nothing left.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from itertools import islice
from typing import Any

from pgqueue.job import Claimed
from pgqueue.worker.settings import STARTING_S
from pgqueue.worker.supervisor.child_process import ChildProcess


class Phase(IntEnum):
    """Of a child's life, in order."""

    STARTING = 0
    READY = 1
    LEAVING = 2
    GONE = 3


@dataclass(slots=True, eq=False)
class Run:
    """A job given to a child. started_at is monotonic; None while it may still wait behind another."""

    job: Claimed
    is_async: bool
    timeout_s: float | None
    given_at: float
    started_at: float | None = None
    soft_at: float | None = None
    cancelled_at: float | None = None  # monotonic, when it was asked to stop
    kill: bool = False  # to be killed, should it not


class AsyncRuns(dict[str, Run]):
    """The async jobs of one child, by id, and how many those are of each task."""

    __slots__ = ("of_task",)

    def __init__(self) -> None:
        super().__init__()
        self.of_task: Counter[str] = Counter()

    def add(self, run: Run) -> None:
        """One more."""
        self[run.job.id] = run
        self.of_task[run.job.task] += 1

    def remove(self, job_id: str) -> Run | None:
        """One less, if it is here."""
        run = self.pop(job_id, None)
        if run is not None:
            self.of_task[run.job.task] -= 1
        return run


@dataclass(slots=True)
class Ending:
    """What is known of a child's end besides its exit code: who is to blame, and whether the next one will fare better."""

    timed_out: str | None = None
    """The job for whose time limit it is being killed; what else it has is not to blame."""
    by_force: bool = False
    """It is being killed for a job that was cancelled by force; nothing that it has is to blame."""
    reason: str | None = None
    """Why it could not start."""
    unrecoverable: bool = False
    """Another start would fail likewise."""
    fruitless: bool = False
    """It was spoiled before any job succeeded in it."""


class ChildHandle:
    """One child and its jobs. `heard` takes what it says."""

    def __init__(self, number: int, *, threads: int, heard: Callable[["ChildHandle", list[Any]], None]) -> None:
        self.number = number
        self.threads = threads
        self.process = ChildProcess(
            threads=threads, heard=partial(heard, self), hung_up=partial(self.enter, Phase.GONE)
        )
        self.phase = Phase.STARTING
        self.born_at = time.monotonic()
        self.ready_at: float | None = None
        self.ending = Ending()
        self.sync_runs: dict[str, Run] = {}  # in the order given, which is the order of starting
        self.async_runs = AsyncRuns()
        self.isolated: str | None = None
        self.done_count = 0
        # When a sync job last began, and when an async one was last given. Both kinds talk, so what was heard tells neither.
        self.moved_at = self.filled_at = 0.0
        self.busy_since = 0.0
        self.asked_back = False  # what has not started, and it has not answered yet

    # -- its life --

    def enter(self, phase: Phase) -> None:
        """Begin a phase, unless a later one has begun."""
        if phase is Phase.READY and self.ready_at is None:
            self.ready_at = time.monotonic()
        self.phase = max(self.phase, phase)

    @property
    def started(self) -> bool:
        """It said its hello."""
        return self.ready_at is not None

    @property
    def starting(self) -> bool:
        """It was started just now, and will soon take jobs."""
        return self.phase is Phase.STARTING and time.monotonic() - self.born_at < STARTING_S

    @property
    def answers(self) -> bool:
        """It can be asked something, though it may get no more jobs."""
        return self.phase in (Phase.READY, Phase.LEAVING)

    @property
    def usable(self) -> bool:
        """It may be given jobs."""
        return self.phase is Phase.READY and self.isolated is None

    async def ended(self, *, start_s: float) -> None:
        """Wait until the process has ended and everything it still said was heard. It has start_s seconds to start."""
        starting = asyncio.get_running_loop().call_later(start_s, self._give_up_starting, start_s)
        await self.process.ended()
        starting.cancel()

    def _give_up_starting(self, start_s: float) -> None:
        if not self.started:
            self.ending.reason = f"it did not finish importing the app, on_child_start included, within {start_s:.0f} s"
            self.ending.unrecoverable = True
            self.process.kill()

    def send(self, *message: Any) -> None:
        """One message, see link/frames.py."""
        self.process.send(*message)

    def ask_back(self) -> None:
        """Ask for what has not started."""
        self.asked_back = True
        self.send("return_unstarted")

    def leave(self) -> None:
        """Give it no more. It ends when it has nothing left: what has not started goes to others."""
        self.enter(Phase.LEAVING)
        if self.empty:
            self.send("stop")
        else:
            self.ask_back()

    def end_if_done(self) -> None:
        """Tell it to stop if it leaves and has finished what it had."""
        if self.phase is Phase.LEAVING and self.empty:
            self.send("stop")

    # -- its jobs --

    @property
    def runs(self) -> Iterable[Run]:
        yield from self.sync_runs.values()
        yield from self.async_runs.values()

    @property
    def empty(self) -> bool:
        return not self.sync_runs and not self.async_runs

    def was_running(self, run: Run) -> bool:
        """Whether this job ran when the process died. Of async jobs any may have been the one that was at it."""
        running = self.process.running()
        return run.is_async or running is None or run.job.id in running

    def give(self, runs: list[Run]) -> None:
        """Hand over jobs in one frame."""
        if self.empty:
            self.busy_since = time.monotonic()
        for run in runs:
            if run.is_async:
                self.async_runs.add(run)
            else:
                self.sync_runs[run.job.id] = run
        if runs[0].is_async:
            self.filled_at = runs[0].given_at
        self.mark_started()
        self.send("run", [run.job for run in runs])

    def take_busy_s(self) -> float:
        """How long it had jobs, up to now, since it was last asked."""
        now = time.monotonic()
        busy_s, self.busy_since = now - self.busy_since, now
        return busy_s

    def mark_started(self) -> None:
        """Sync jobs start in order, as many as there are threads; async ones at once."""
        now = time.monotonic()
        for run in islice(self.sync_runs.values(), self.threads):
            if run.started_at is None:
                run.started_at = self.moved_at = now

    def pop(self, job_id: str) -> Run | None:
        run = self.sync_runs.pop(job_id, None) or self.async_runs.remove(job_id)
        if self.isolated == job_id:
            self.isolated = None
        return run

    def forget(self) -> None:
        """Its jobs are no longer ours."""
        self.sync_runs.clear()
        self.async_runs = AsyncRuns()
