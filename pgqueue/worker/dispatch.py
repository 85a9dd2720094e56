"""Jobs in hand, and which child gets which of them when.

Jobs in hand are claimed but not started. A child gets one sync job per thread at a time, unless the task was measured to
be short: then a frame carries many. Whatever does not start within 100 ms behind a slow job is taken back. Async jobs start
at once, up to a limit per child. A job that crashed before runs with no other job beside it, so that no neighbour is
blamed; one that crashed twice gets a fresh process, so that no predecessor is to blame either.

Full. The places of a kind, sync or async, are full when there is none and none was taken for 100 ms: long jobs hold them.
What is claimed of that kind would only be given back, and be the first to be claimed again. So nothing is claimed ahead then,
and where only the other kind has places the tasks of this one are left alone.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from pgqueue.job import Claimed
from pgqueue.worker.children import Child, Run
from pgqueue.worker.settings import ASYNC_JOBS, CRASH_CAP, FAST_S, FRAME_BYTES, FRAME_JOBS, FRAME_S, STUCK_S, TICK_S

SMOOTH = 0.1  # weight of a new measurement of a task's run time
SAMPLES = 10  # before that many, a task counts as slow


@dataclass(slots=True)
class Pace:
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
class Hand:
    """Jobs claimed and not yet given to a child."""

    sync: deque[Claimed] = field(default_factory=deque)
    later: deque[Claimed] = field(default_factory=deque)
    alone: deque[Claimed] = field(default_factory=deque)
    # Since when no job has left it, by kind: while one kind flows the other may be stuck. 0: there is none.
    sync_since: float = 0.0
    later_since: float = 0.0

    def __len__(self) -> int:
        return len(self.sync) + len(self.later) + len(self.alone)

    def __iter__(self) -> Iterator[Claimed]:
        yield from (*self.alone, *self.sync, *self.later)

    def take_back(self, run: Run) -> None:
        """A job that a child gave back comes first again."""
        part = self.alone if run.job.crashes else self.later if run.is_async else self.sync
        part.appendleft(run.job)

    def clear(self, *, sync: bool = True, later: bool = True) -> list[Claimed]:
        """Take out all jobs, or those of one kind."""
        jobs: list[Claimed] = []
        for part in (self.alone, self.sync) * sync + (self.later,) * later:
            jobs += part
            part.clear()
        self.sync_since *= not sync
        self.later_since *= not later
        return jobs


class Dispatcher:
    """Gives jobs to children. `children` is the crew's own list; `retire` sends one away."""

    def __init__(self, children: list[Child], *, retire: Callable[[Child], None]) -> None:
        self._children = children
        self._retire = retire
        self.hand = Hand()
        self.tasks: dict[str, Pace] = {}
        self._async_share = 0.0  # of the jobs claimed lately: how many of the next ones are likely to be async
        self._kinds: tuple[frozenset[str], frozenset[str]] = frozenset(), frozenset()  # sync tasks, async ones

    def learn(self, tasks: dict[str, Pace]) -> None:
        """The tasks that a child reported."""
        if not self.tasks:
            self._async_share = sum(pace.is_async for pace in tasks.values()) / max(1, len(tasks))
        self.tasks = tasks | self.tasks
        later = frozenset(name for name, pace in self.tasks.items() if pace.is_async)
        self._kinds = frozenset(self.tasks) - later, later

    def take(self, jobs: Iterable[Claimed]) -> None:
        """Jobs just claimed: begin with as many as may start."""
        jobs = list(jobs)
        if jobs:
            share = sum(self.tasks[job.task].is_async for job in jobs) / len(jobs)
            self._async_share += (share - self._async_share) * 0.3
        for job in jobs:
            if job.crashes:
                self.hand.alone.append(job)
            elif self.tasks[job.task].is_async:
                self.hand.later.append(job)
            else:
                self.hand.sync.append(job)
        self.dispatch()

    def room(self) -> int:
        """How many more jobs could start at once: free threads, and free places for async jobs by their share of late."""
        usable = [child for child in self._children if child.usable]
        threads = sum(max(0, child.threads - len(child.sync)) for child in usable)
        places = sum(ASYNC_JOBS - len(child.later) for child in usable)
        share = self._async_share if threads or not self.full() else 1.0
        later = int(places * share) - len(self.hand.later)
        return max(0, threads - len(self.hand.sync) - len(self.hand.alone)) + max(0, later)

    def full(self) -> frozenset[str]:
        """The tasks of the one kind whose places are full; none if there is but one kind."""
        sync, later = self._kinds
        if not (sync and later):
            return frozenset()
        usable, old = [child for child in self._children if child.usable], time.monotonic() - STUCK_S
        if all(len(child.sync) >= child.threads and child.moved_at < old for child in usable):
            return sync
        return (
            later if all(len(child.later) >= ASYNC_JOBS and child.filled_at < old for child in usable) else frozenset()
        )

    def flowing(self) -> int:
        """How many children took a job just now: only those will soon take another."""
        recent = time.monotonic() - STUCK_S
        return sum(child.moved_at > recent or child.filled_at > recent for child in self._children)

    def dispatch(self) -> None:
        """Give as much of the hand to children as may start."""
        sync, later = len(self.hand.sync) + len(self.hand.alone), len(self.hand.later)
        while self.hand.alone and self._give_alone(self.hand.alone[0]):
            self.hand.alone.popleft()
        while self.hand.later and (child := self._most_idle()):
            free = ASYNC_JOBS - len(child.later)
            self._give(child, [self.hand.later.popleft() for _ in range(min(free, len(self.hand.later), FRAME_JOBS))])
        while self.hand.sync and (child := self._place_for(self.tasks[self.hand.sync[0].task])):
            self._give(child, self._frame())
        hand, now = self.hand, time.monotonic()
        left = len(hand.sync) + len(hand.alone)
        hand.sync_since = 0.0 if not left else now if left < sync or not hand.sync_since else hand.sync_since
        left = len(hand.later)
        hand.later_since = 0.0 if not left else now if left < later or not hand.later_since else hand.later_since

    def _give_alone(self, job: Claimed) -> bool:
        for child in self._children:
            if child.usable and child.empty and not self._must_be_fresh(job, child):
                child.alone = job.id
                self._give(child, [job])
                return True
        return False

    def _must_be_fresh(self, job: Claimed, child: Child) -> bool:
        """A used child is sent away for a fresh one if this may be the job's last try."""
        if job.crashes < CRASH_CAP - 1 or child.done_count == 0:
            return False
        if not any(other.done_count == 0 or not other.ready for other in self._children):
            self._retire(child)
        return True

    def _most_idle(self) -> Child | None:
        free = [child for child in self._children if child.usable and len(child.later) < ASYNC_JOBS]
        return min(free, key=lambda child: len(child.later), default=None)

    def _place_for(self, pace: Pace) -> Child | None:
        """The first child with a free thread; for a short task also one that works through a frame of short ones."""
        for child in self._children:
            if child.usable and len(child.sync) < child.threads:
                return child
        if pace.fast:
            recent = time.monotonic() - TICK_S
            for child in self._children:
                if child.usable and len(child.sync) <= FRAME_JOBS and child.moved_at > recent:
                    return child
        return None

    def _frame(self) -> list[Claimed]:
        """The next job, and those behind it as long as all are short and together within the budget of a frame."""
        jobs, budget_s = [self.hand.sync.popleft()], FRAME_S
        budget_bytes = FRAME_BYTES - len(jobs[0].args)
        pace = self.tasks[jobs[0].task]
        while pace.fast and self.hand.sync and len(jobs) < FRAME_JOBS:
            budget_s -= pace.mean_s
            pace = self.tasks[self.hand.sync[0].task]
            budget_bytes -= len(self.hand.sync[0].args)
            if not pace.fast or budget_s < pace.mean_s or budget_bytes < 0:
                break
            jobs.append(self.hand.sync.popleft())
        return jobs

    def _give(self, child: Child, jobs: list[Claimed]) -> None:
        now = time.monotonic()
        runs = []
        for job in jobs:
            pace = self.tasks[job.task]
            timeout_s = job.timeout_s or pace.timeout_s
            runs.append(Run(job, pace.is_async, timeout_s, now, now if pace.is_async else None))
        child.give(runs)

    def stale(self) -> list[Claimed]:
        """Take out the jobs in hand that no child will take soon: another worker may have room."""
        if self._some_place_soon():
            return []
        old = time.monotonic() - STUCK_S
        return self.hand.clear(sync=0 < self.hand.sync_since < old, later=0 < self.hand.later_since < old)

    def _some_place_soon(self) -> bool:
        """A child that is starting will take the hand; one that leaves is about to be replaced."""
        return any(child.coming or child.leaving for child in self._children)
