"""Jobs that are claimed and not yet given to a child: in the order in which they start, and since when none has left.

Sync jobs and those that are to run alone share one part. Each async task with a limit of its own has a lane, and the others share
one: so a job that waits for its task's turn is in nobody's way.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from pgqueue.job import Claimed
from pgqueue.worker.supervisor.child_handle import Run


@dataclass(slots=True, eq=False)
class Lane:
    """Async jobs of one task with a limit, or of all others."""

    jobs: deque[Claimed] = field(default_factory=deque)
    since: float = 0.0
    """Since when no job has left it (monotonic); 0: there is none."""

    @property
    def head(self) -> tuple[int, int]:
        """The place of its first job in the queue."""
        return -self.jobs[0].priority, self.jobs[0].seq

    def take(self, *, at_most: int, before: "Lane | None") -> list[Claimed]:
        """Take out the first jobs, as long as they come before those of another lane."""
        jobs = [self.jobs.popleft()]
        while self.jobs and len(jobs) < at_most and (before is None or self.head < before.head):
            jobs.append(self.jobs.popleft())
        return jobs

    def moved(self, before: int, now: float) -> None:
        """It had `before` jobs, and some may have left."""
        self.since = since(self.since, before, len(self.jobs), now)

    def clear(self) -> list[Claimed]:
        """Take out all jobs."""
        jobs = list(self.jobs)
        self.jobs.clear()
        self.since = 0.0
        return jobs


@dataclass(slots=True)
class Buffer:
    """Jobs claimed and not yet given to a child."""

    isolated: deque[Claimed] = field(default_factory=deque)
    sync_jobs: deque[Claimed] = field(default_factory=deque)
    sync_since: float = 0.0
    """As of a lane, for both of these."""
    unlimited: Lane = field(default_factory=Lane)
    limited: dict[str, Lane] = field(default_factory=dict)
    """By task."""
    lanes: list[Lane] = field(default_factory=list)
    """All of them."""

    def __post_init__(self) -> None:
        self.lanes.append(self.unlimited)

    def add_lane(self, task: str) -> None:
        """For a task with a limit, unless there is one."""
        if task not in self.limited:
            self.limited[task] = Lane()
            self.lanes.append(self.limited[task])

    def __len__(self) -> int:
        return self.sync_count + sum(len(lane.jobs) for lane in self.lanes)

    def __iter__(self) -> Iterator[Claimed]:
        yield from (*self.isolated, *self.sync_jobs)
        for lane in self.lanes:
            yield from lane.jobs

    @property
    def sync_count(self) -> int:
        """How many sync jobs, those to run alone included."""
        return len(self.isolated) + len(self.sync_jobs)

    def lane(self, task: str) -> Lane:
        """Of an async task."""
        return self.limited.get(task, self.unlimited)

    def take_back(self, run: Run) -> None:
        """A job that a child gave back comes first again."""
        part = self.isolated if run.job.crashes else self.lane(run.job.task).jobs if run.is_async else self.sync_jobs
        part.appendleft(run.job)

    def take_out(self, gates: frozenset[str]) -> list[Claimed]:
        """Take out the jobs that have to pass one of these gates."""
        out: list[Claimed] = []
        for part in self.isolated, self.sync_jobs, *(lane.jobs for lane in self.lanes):
            if found := [job for job in part if job.gates and not gates.isdisjoint(job.gates)]:
                out += found
                left = [job for job in part if not job.gates or gates.isdisjoint(job.gates)]
                part.clear()
                part.extend(left)
        return out

    def clear_sync(self) -> list[Claimed]:
        """Take out all sync jobs, those to run alone included."""
        jobs = [*self.isolated, *self.sync_jobs]
        self.isolated.clear()
        self.sync_jobs.clear()
        self.sync_since = 0.0
        return jobs

    def clear(self) -> list[Claimed]:
        """Take out all jobs."""
        return [*self.clear_sync(), *(job for lane in self.lanes for job in lane.clear())]

    def clear_stuck(self, then: float) -> list[Claimed]:
        """Take out what no job has left since then: while one part flows another may be stuck."""
        jobs = self.clear_sync() if 0 < self.sync_since < then else []
        for lane in self.lanes:
            if 0 < lane.since < then:
                jobs += lane.clear()
        return jobs


def since(since: float, before: int, left: int, now: float) -> float:
    """Since when no job has left a part that had `before` jobs and has `left` now; 0: there is none."""
    if not left:
        return 0.0
    return now if left < before or not since else since
