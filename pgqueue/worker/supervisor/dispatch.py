"""Buffered jobs, and which child gets which of them when.

Buffered jobs are claimed but not started. A child gets one sync job per thread at a time, unless the task was measured to
be short: then a frame carries many. Whatever does not start within 100 ms behind a slow job is taken back. Async jobs start
at once, as many as a child may run and as many as the task's own limit allows: a child is given no more than it starts, and what
waits for its task's turn lets others pass. A job that crashed before runs alone in its child, so that no neighbour is
blamed; one that crashed twice gets a fresh process, so that no predecessor is to blame either.

Full. The slots of a kind, sync or async, are full when there is none and none was taken for 100 ms: long jobs hold them.
What is claimed of that kind would only be given back, and be the first to be claimed again. So nothing is claimed ahead then,
and where only the other kind has slots the tasks of this one are left alone.

Closed. A task with a limit of its own is left alone once as many of its jobs are here as can start soon. While it is open no claim
is larger than what brings that many, judged by the task's share of the latest claims.
"""

import math
import time
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

from pgqueue.job import Claimed
from pgqueue.worker.settings import CLAIM_MAX, CRASH_CAP, FAST_S, FRAME_BYTES, FRAME_JOBS, FRAME_S, STUCK_S, TICK_S
from pgqueue.worker.supervisor.buffer import Buffer, Lane, since
from pgqueue.worker.supervisor.child_handle import ChildHandle, Phase, Run
from pgqueue.worker.supervisor.demand import AHEAD_S

SMOOTH = 0.1  # weight of a new measurement of a task's run time
SAMPLES = 10  # before that many, a task counts as slow
SHARE_WEIGHT = 0.3  # of the latest claim, in the share that a task or a kind had of late
LEAST_SHARE = 0.001


@dataclass(slots=True)
class TaskProfile:
    """What is known of a task: from the child's hello, and its run time as measured."""

    is_async: bool
    timeout_s: float | None
    async_limit: int | None = None
    """How many of its jobs a child runs at once; None: no limit of its own."""
    mean_s: float = 1.0
    samples: int = 0
    share: float = 1.0
    """Of the jobs claimed lately, how many were its; kept where it has a limit, and at first as large as can be."""
    given_at: float = 0.0
    """When one was last given (monotonic); kept where it has a limit."""

    @property
    def fast(self) -> bool:
        return self.samples >= SAMPLES and self.mean_s <= FAST_S

    def measured(self, seconds: float) -> None:
        """One more run; the first ones count fully, so that the start value is forgotten."""
        self.samples += 1
        self.mean_s += (seconds - self.mean_s) * max(SMOOTH, 1 / self.samples)

    def claimed(self, share: float) -> None:
        """Its share of one more claim. A larger one counts at once: what was claimed and cannot start has to be given back."""
        self.share = max(share, self.share + (share - self.share) * SHARE_WEIGHT)


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
        for name, profile in self.tasks.items():
            if profile.async_limit is not None:
                self.buffer.add_lane(name)

    # -- how many more --

    def take(self, jobs: Iterable[Claimed], *, left_alone: Container[str] = ()) -> None:
        """Jobs just claimed: begin with as many as may start. left_alone: the tasks of which none could be among them."""
        jobs = list(jobs)
        if jobs:
            share = sum(self.tasks[job.task].is_async for job in jobs) / len(jobs)
            self._async_share += (share - self._async_share) * SHARE_WEIGHT
            if self.buffer.limited:
                self._learn_shares(jobs, left_alone)
        for job in jobs:
            if job.crashes:
                self.buffer.isolated.append(job)
            elif self.tasks[job.task].is_async:
                self.buffer.lane(job.task).jobs.append(job)
            else:
                self.buffer.sync_jobs.append(job)
        self.dispatch()

    def _learn_shares(self, jobs: Sequence[Claimed], left_alone: Container[str]) -> None:
        """Of the tasks with a limit, in one claim."""
        counts = Counter(job.task for job in jobs)
        for task in self.buffer.limited:
            if task not in left_alone:
                self.tasks[task].claimed(counts[task] / len(jobs))

    def room(self) -> int:
        """How many more jobs could start at once: free threads, and free slots for async jobs by their share of late."""
        usable, buffer = [child for child in self._children if child.usable], self.buffer
        threads = sum(max(0, child.threads - len(child.sync_runs)) for child in usable)
        slots = sum(self.async_jobs - len(child.async_runs) for child in usable)
        share = self._async_share if threads or not self._full_kind() else 1.0
        async_ = int(slots * share) - len(buffer.unlimited.jobs)
        if buffer.limited and len(buffer.limited) == len(self._kinds[1]):  # there are no others
            async_ = min(async_, sum(max(0, self._startable(task)) for task in buffer.limited))
        return max(0, threads - buffer.sync_count) + max(0, async_)

    def most(self) -> int:
        """The largest claim that brings no more jobs of a task with a limit than can start soon."""
        limited = self.buffer.limited
        if not limited:
            return CLAIM_MAX
        full = self.full()
        if full.issuperset(self.tasks):
            return 0
        wanted = ((self._wanted(task), self.tasks[task].share) for task in limited if task not in full)
        return min((math.ceil(count / max(LEAST_SHARE, share)) for count, share in wanted), default=CLAIM_MAX)

    def full(self) -> frozenset[str]:
        """The tasks that are better not claimed now: those of the kind whose slots are full, and the closed ones."""
        closed = [task for task in self.buffer.limited if self._wanted(task) <= 0]
        return self._full_kind().union(closed)

    def _startable(self, task: str) -> int:
        """How many more jobs of a task with a limit could start at once, if there were no others."""
        limit = self.tasks[task].async_limit or 0
        free = sum(max(0, limit - child.async_runs.of_task[task]) for child in self._children if child.usable)
        return free - len(self.buffer.limited[task].jobs)

    def _wanted(self, task: str) -> int:
        """Those, and what will start before the jobs of a claim are here: nothing, where none has started lately.

        Nothing either where they take long: all may have started at once, and what waits for their end is given back before it.
        """
        profile, ahead = self.tasks[task], 0.0
        if profile.mean_s < STUCK_S and profile.given_at > time.monotonic() - STUCK_S:
            slots = (profile.async_limit or 0) * sum(child.usable for child in self._children)
            ahead = min(CLAIM_MAX, AHEAD_S * slots / max(profile.mean_s, 1e-6))
        return self._startable(task) + int(ahead)

    def _full_kind(self) -> frozenset[str]:
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

    # -- giving --

    def dispatch(self) -> None:
        """Give as many buffered jobs to children as may start."""
        buffer, now = self.buffer, time.monotonic()
        sync = len(buffer.sync_jobs) + len(buffer.isolated)
        while buffer.isolated and self._give_alone(buffer.isolated[0]):
            buffer.isolated.popleft()
        if waiting := [lane for lane in buffer.lanes if lane.jobs]:
            self._give_async(waiting, now)
        while buffer.sync_jobs and (child := self._slot_for(self.tasks[buffer.sync_jobs[0].task])):
            self._give(child, self._frame())
        buffer.sync_since = since(buffer.sync_since, sync, len(buffer.sync_jobs) + len(buffer.isolated), now)

    def _give_async(self, waiting: list[Lane], now: float) -> None:
        """In the order of the queue, but a lane without a slot lets the others pass."""
        lanes, before = [*waiting], [len(lane.jobs) for lane in waiting]
        while lanes:
            lane, *others = sorted(lanes, key=lambda lane: lane.head)
            task = lane.jobs[0].task
            free = {child: slots for child in self._children if (slots := self._slots(child, task)) > 0}
            if free:
                child = min(free, key=lambda child: len(child.async_runs))
                at_most = min(free[child], FRAME_JOBS)
                self._give(child, lane.take(at_most=at_most, before=others[0] if others else None))
            if not (free and lane.jobs):
                lanes.remove(lane)
        for lane, count in zip(waiting, before, strict=True):
            lane.moved(count, now)

    def _slots(self, child: ChildHandle, task: str) -> int:
        """How many more jobs of an async task a child may begin."""
        if not child.usable:
            return 0
        free, limit = self.async_jobs - len(child.async_runs), self.tasks[task].async_limit
        return free if limit is None else min(free, limit - child.async_runs.of_task[task])

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
            if profile.async_limit is not None:
                profile.given_at = now
            timeout_s = job.timeout_s or profile.timeout_s
            runs.append(Run(job, profile.is_async, timeout_s, now, now if profile.is_async else None))
        child.give(runs)

    def stale(self) -> list[Claimed]:
        """Take out the buffered jobs that no child will take soon: another worker may have room."""
        if self._some_slot_soon():
            return []
        return self.buffer.clear_stuck(time.monotonic() - STUCK_S)

    def _some_slot_soon(self) -> bool:
        """A child that is starting will take the buffer; one that leaves is about to be replaced."""
        return any(child.starting or child.phase is Phase.LEAVING for child in self._children)
