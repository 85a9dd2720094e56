"""Buffered jobs, and which child gets which of them when.

Buffered jobs are claimed but not started. A child gets one sync job per thread at a time, unless the task was measured to
be short: then a frame carries many. Whatever does not start within 100 ms behind a slow job is taken back. Async jobs start
at once, up to a limit per child. A job that crashed before runs alone in its child, so that no neighbour is
blamed; one that crashed twice gets a fresh process, so that no predecessor is to blame either.

Full. The slots of a kind, sync or async, are full when there is none and none was taken for 100 ms: long jobs hold them.
What is claimed of that kind would only be given back, and be the first to be claimed again. So nothing is claimed ahead then,
and where only the other kind has slots the tasks of this one are left alone.
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pgqueue.job import Claimed
from pgqueue.worker.settings import CRASH_CAP, FAST_S, FRAME_BYTES, FRAME_JOBS, FRAME_S, STUCK_S, TICK_S
from pgqueue.worker.supervisor.child_handle import ChildHandle, Phase, Run

SMOOTH = 0.1  # weight of a new measurement of a task's run time
SAMPLES = 10  # before that many, a task counts as slow


@dataclass(slots=True)
class TaskProfile:
    """What is known of a task: from the child's hello, and its run time as measured."""

    is_async: bool
    timeout_s: float | None
    mean_s: float = 1.0
    samples: int = 0

    @property
    def fast(self) -> bool:
        return self.samples >= SAMPLES and self.mean_s <= FAST_S

    def measured(self, seconds: float) -> None:
        """One more run; the first ones count fully, so that the start value is forgotten."""
        self.samples += 1
        self.mean_s += (seconds - self.mean_s) * max(SMOOTH, 1 / self.samples)


@dataclass(slots=True)
class Buffer:
    """Jobs claimed and not yet given to a child."""

    sync_jobs: deque[Claimed] = field(default_factory=deque)
    async_jobs: deque[Claimed] = field(default_factory=deque)
    isolated: deque[Claimed] = field(default_factory=deque)
    # Since when no job has left it, by kind: while one kind flows the other may be stuck. 0: there is none.
    sync_since: float = 0.0
    async_since: float = 0.0

    def __len__(self) -> int:
        return len(self.sync_jobs) + len(self.async_jobs) + len(self.isolated)

    def __iter__(self) -> Iterator[Claimed]:
        yield from (*self.isolated, *self.sync_jobs, *self.async_jobs)

    def take_back(self, run: Run) -> None:
        """A job that a child gave back comes first again."""
        part = self.isolated if run.job.crashes else self.async_jobs if run.is_async else self.sync_jobs
        part.appendleft(run.job)

    def clear(self, *, sync: bool = True, async_: bool = True) -> list[Claimed]:
        """Take out all jobs, or those of one kind."""
        jobs: list[Claimed] = []
        for part in (self.isolated, self.sync_jobs) * sync + (self.async_jobs,) * async_:
            jobs += part
            part.clear()
        self.sync_since *= not sync
        self.async_since *= not async_
        return jobs


class Dispatcher:
    """Gives jobs to children. `children` is the list that Children keeps."""

    def __init__(self, children: list[ChildHandle]) -> None:
        self._children = children
        self.buffer = Buffer()
        self.tasks: dict[str, TaskProfile] = {}
        self.async_jobs = 1
        """How many async jobs a child runs at once; what the first child says of the app decides."""
        self._async_share = 0.0  # of the jobs claimed lately: how many of the next ones are likely to be async
        self._kinds: tuple[frozenset[str], frozenset[str]] = frozenset(), frozenset()  # sync tasks, async ones

    def learn(self, tasks: dict[str, TaskProfile]) -> None:
        """The tasks that a child reported."""
        if not self.tasks:
            self._async_share = sum(profile.is_async for profile in tasks.values()) / max(1, len(tasks))
        self.tasks = tasks | self.tasks
        async_ = frozenset(name for name, profile in self.tasks.items() if profile.is_async)
        self._kinds = frozenset(self.tasks) - async_, async_

    def take(self, jobs: Iterable[Claimed]) -> None:
        """Jobs just claimed: begin with as many as may start."""
        jobs = list(jobs)
        if jobs:
            share = sum(self.tasks[job.task].is_async for job in jobs) / len(jobs)
            self._async_share += (share - self._async_share) * 0.3
        for job in jobs:
            if job.crashes:
                self.buffer.isolated.append(job)
            elif self.tasks[job.task].is_async:
                self.buffer.async_jobs.append(job)
            else:
                self.buffer.sync_jobs.append(job)
        self.dispatch()

    def room(self) -> int:
        """How many more jobs could start at once: free threads, and free slots for async jobs by their share of late."""
        usable = [child for child in self._children if child.usable]
        threads = sum(max(0, child.threads - len(child.sync_runs)) for child in usable)
        slots = sum(self.async_jobs - len(child.async_runs) for child in usable)
        share = self._async_share if threads or not self.full() else 1.0
        async_ = int(slots * share) - len(self.buffer.async_jobs)
        return max(0, threads - len(self.buffer.sync_jobs) - len(self.buffer.isolated)) + max(0, async_)

    def full(self) -> frozenset[str]:
        """The tasks of the one kind whose slots are full; none if there is but one kind."""
        sync, async_ = self._kinds
        if not (sync and async_):
            return frozenset()
        usable, old = [child for child in self._children if child.usable], time.monotonic() - STUCK_S
        if all(len(child.sync_runs) >= child.threads and child.moved_at < old for child in usable):
            return sync
        return (
            async_
            if all(len(child.async_runs) >= self.async_jobs and child.filled_at < old for child in usable)
            else frozenset()
        )

    def flowing(self) -> int:
        """How many children took a job just now: only those will soon take another."""
        recent = time.monotonic() - STUCK_S
        return sum(child.moved_at > recent or child.filled_at > recent for child in self._children)

    def dispatch(self) -> None:
        """Give as many buffered jobs to children as may start."""
        sync, async_ = len(self.buffer.sync_jobs) + len(self.buffer.isolated), len(self.buffer.async_jobs)
        while self.buffer.isolated and self._give_alone(self.buffer.isolated[0]):
            self.buffer.isolated.popleft()
        while self.buffer.async_jobs and (child := self._most_idle()):
            free = self.async_jobs - len(child.async_runs)
            self._give(
                child,
                [self.buffer.async_jobs.popleft() for _ in range(min(free, len(self.buffer.async_jobs), FRAME_JOBS))],
            )
        while self.buffer.sync_jobs and (child := self._slot_for(self.tasks[self.buffer.sync_jobs[0].task])):
            self._give(child, self._frame())
        buffer, now = self.buffer, time.monotonic()
        left = len(buffer.sync_jobs) + len(buffer.isolated)
        buffer.sync_since = 0.0 if not left else now if left < sync or not buffer.sync_since else buffer.sync_since
        left = len(buffer.async_jobs)
        buffer.async_since = 0.0 if not left else now if left < async_ or not buffer.async_since else buffer.async_since

    def _give_alone(self, job: Claimed) -> bool:
        for child in self._children:
            if child.usable and child.empty and not self._must_be_fresh(job, child):
                child.isolated = job.id
                self._give(child, [job])
                return True
        return False

    def _must_be_fresh(self, job: Claimed, child: ChildHandle) -> bool:
        """A used child is sent away for a fresh one if this may be the job's last try."""
        if job.crashes < CRASH_CAP - 1 or child.done_count == 0:
            return False
        if not any(other.done_count == 0 or not other.answers for other in self._children):
            child.leave()
        return True

    def _most_idle(self) -> ChildHandle | None:
        free = [child for child in self._children if child.usable and len(child.async_runs) < self.async_jobs]
        return min(free, key=lambda child: len(child.async_runs), default=None)

    def _slot_for(self, profile: TaskProfile) -> ChildHandle | None:
        """The first child with a free thread; for a short task also one that works through a frame of short ones."""
        for child in self._children:
            if child.usable and len(child.sync_runs) < child.threads:
                return child
        if profile.fast:
            recent = time.monotonic() - TICK_S
            for child in self._children:
                if child.usable and len(child.sync_runs) <= FRAME_JOBS and child.moved_at > recent:
                    return child
        return None

    def _frame(self) -> list[Claimed]:
        """The next job, and those behind it as long as all are short and together within the budget of a frame."""
        jobs, budget_s = [self.buffer.sync_jobs.popleft()], FRAME_S
        budget_bytes = FRAME_BYTES - len(jobs[0].args)
        profile = self.tasks[jobs[0].task]
        while profile.fast and self.buffer.sync_jobs and len(jobs) < FRAME_JOBS:
            budget_s -= profile.mean_s
            profile = self.tasks[self.buffer.sync_jobs[0].task]
            budget_bytes -= len(self.buffer.sync_jobs[0].args)
            if not profile.fast or budget_s < profile.mean_s or budget_bytes < 0:
                break
            jobs.append(self.buffer.sync_jobs.popleft())
        return jobs

    def _give(self, child: ChildHandle, jobs: list[Claimed]) -> None:
        now = time.monotonic()
        runs = []
        for job in jobs:
            profile = self.tasks[job.task]
            timeout_s = job.timeout_s or profile.timeout_s
            runs.append(Run(job, profile.is_async, timeout_s, now, now if profile.is_async else None))
        child.give(runs)

    def stale(self) -> list[Claimed]:
        """Take out the buffered jobs that no child will take soon: another worker may have room."""
        if self._some_slot_soon():
            return []
        old = time.monotonic() - STUCK_S
        return self.buffer.clear(sync=0 < self.buffer.sync_since < old, async_=0 < self.buffer.async_since < old)

    def _some_slot_soon(self) -> bool:
        """A child that is starting will take the buffer; one that leaves is about to be replaced."""
        return any(child.starting or child.phase is Phase.LEAVING for child in self._children)
