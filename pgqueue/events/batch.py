"""What the job of a lane does to it: reads a batch, moves the lane past it, or notes what failed. Steps for both colours.

A lane has one job at a time, whose header names it. The job reads the events itself, and the transaction that ends it moves the
lane, fenced by the attempt and by the place where it read: what dies in between has done neither.

The events of a batch that fails are suspects: the next batch is half of them, and then half of those that are left, until the
event that fails is alone. Then the lane moves past it, and the job becomes the job of this event: it is tried again as its task
says, and may be dead. The lane waits for its end; with on_poison="stop" it does not continue after a dead one. So what happens to
an event that fails is what happens to any job, and `pgqueue retry` tries it again.

Events that a task skips become dead jobs, and are left out when the batch is read again. A process that died has failed at its
batch: the next attempt finds the crash in its row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pgqueue.events.scroll import Fetched, Halt, LogPosition, Scroll
from pgqueue.events.stored import as_batch_args
from pgqueue.queries import Queries, Steps, ask
from pgqueue.queries.events import Fence, Logged

LANE = "pgqueue.lane"
"""The header of a job that works on a lane, or on an event of one that is alone: [subscription, lane]."""


class LaneName(NamedTuple):
    """Which lane."""

    subscription: str
    lane: int

    @classmethod
    def read(cls, header: Any) -> "LaneName | None":
        """From a job's headers; a row that was written by hand may hold anything."""
        match header:
            case [str(subscription), int(lane)]:
                return cls(subscription, lane)
        return None


@dataclass(frozen=True, slots=True)
class Batch:
    """Events of a lane, in order, as they were read. rows: without those that are put aside already."""

    fence: Fence
    rows: Sequence[Logged]
    passed: int
    """Events up to its end, with those."""
    end: LogPosition
    suspects: int | None
    """This many events, from its first one on, were in a batch that failed."""
    skipped: Sequence[int]
    """Those beyond its end that are put aside already."""

    @property
    def args(self) -> str:
        """As arguments of its job."""
        return as_batch_args(self.rows)

    @property
    def _suspects_after(self) -> int | None:
        return max(0, (self.suspects or 0) - self.passed) or None

    def done(self, queries: Queries) -> Steps[bool]:
        """Move the lane past it, in the transaction that ends the job; False: it was no longer there."""
        moved = yield from ask(
            queries.batch_done(
                self.fence, self.end, events=self.passed, suspects=self._suspects_after, skipped=self.skipped
            )
        )
        return bool(moved)

    def failed(self, queries: Queries, error: str | None) -> Steps[bool]:
        """Note that one of its events fails; False as of done."""
        return bool((yield from ask(queries.batch_failed(self.fence, suspects=self.passed, error=error))))

    def alone(self, queries: Queries, error: str | None, *, ended: bool) -> Steps[bool]:
        """Make its job that of its one event. ended: this is its last attempt."""
        row = self.rows[0]
        told = f"event {row.id} ({row.type}) is alone in job {self.fence.id}{f': {error}' if error else ''}"
        moved = yield from ask(
            queries.batch_alone(
                self.fence, self.end, events=self.passed, args=self.args, ended=ended, error=told,
                suspects=self._suspects_after, skipped=self.skipped,
            )
        )  # fmt: skip
        return bool(moved)

    def skip(self, queries: Queries, events: Sequence[Any], error: str) -> Steps[list[str]]:
        """Put these of its events aside; the ids of the dead jobs that keep them. None of them is one of it: none."""
        ids = {getattr(event, "id", None) for event in events}
        rows = [row for row in self.rows if row.id in ids]
        if not rows:
            return []
        found = yield from ask(
            queries.batch_skip(
                self.fence, seqs=[row.seq for row in rows], args=[as_batch_args([row]) for row in rows], error=error
            )
        )
        return [job for (job,) in found]


def read_batch(queries: Queries, lane: LaneName, *, job: str, token: int, worker: str) -> Steps[Batch | None]:
    """The next events of a lane; None: it has none to give any more, as its subscription is paused, dropped or another."""
    found = yield from ask(queries.batch_place(*lane))
    if not found or not found[0].due:
        return None
    (there,) = found
    batch, suspects = there.batch or 1, there.suspects
    wanted = batch if suspects is None else min(batch, (suspects + 1) // 2)
    scroll = Scroll(there.place)
    while (yield from scroll.fetch(queries, wanted)) is Halt.UNTICKED:
        # In a transaction of its own that ends before anybody reads, as the lock lasts to its end.
        yield queries.transaction_begin()
        yield queries.lock_ticks()
        yield queries.make_tick(after=scroll.tick)
        yield queries.transaction_commit()
    fetched: list[Fetched] = scroll.give(wanted)
    fence = Fence(*lane, there.tick, there.seq, job, token, worker)
    rows = [each.row for each in fetched if each.row.seq not in there.skipped]
    passed = {each.row.seq for each in fetched}
    beyond = [seq for seq in there.skipped if seq not in passed]
    return Batch(fence, rows, len(fetched), scroll.position, suspects, beyond)
