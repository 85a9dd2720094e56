"""What the parts of a worker tell each other, as values instead of calls: no part has to know which one reads."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from pgqueue.worker.supervisor.identity import Identity

DUE_NOISE_S = 0.01  # two looks at one due time differ by a round trip


@dataclass(slots=True)
class Wakeups:
    """Each value names its writers, then its reader."""

    identity: Identity
    """Lease to all."""
    doorbell: asyncio.Event = field(default_factory=asyncio.Event)
    """Doorbell, lease and rescue to claimer: the queue is worth a look."""
    capacity: asyncio.Event = field(default_factory=asyncio.Event)
    """Children and finisher to claimer: there may be room."""
    unanswered: bool = False
    """Doorbell to claimer: of what rang it is not yet known whether it was needless."""
    next_due_at: float | None = None
    """Lease and finisher to claimer: when a job falls due (monotonic)."""
    listens: bool = False
    """Doorbell to claimer: notifications reach this worker."""
    left_alone: frozenset[str] = frozenset()
    """Claimer to children: tasks that are not claimed, as their slots are full. The doorbell rings when others are."""
    sleeping: bool = False
    """Claimer to lease: this worker's row says that it has to be woken."""
    subscribed: asyncio.Event = field(default_factory=asyncio.Event)
    """Dispatcher and maintenance to dispatcher: there are subscriptions."""
    gates: set[str] = field(default_factory=set)
    """Full scan, claimer, finisher and rescue to admission: gates that somebody is to look at."""
    rules: frozenset[str] = frozenset()
    """Full scan to admission: gates that all jobs of a task or of a queue have to pass."""
    shut: frozenset[str] = frozenset()
    """Admission to claimer and children: gates that a breaker has closed, at which jobs wait again that have not started."""
    sweep: bool = False
    """Rescue to admission: a worker may have died owing a look at some gate."""
    gates_wait: asyncio.Event = field(default_factory=asyncio.Event)
    """The same to admission: there is one of these."""
    schedule_due_at: float | None = None
    """Lease and scheduler to scheduler: when a schedule is due (monotonic)."""
    scheduled: asyncio.Event = field(default_factory=asyncio.Event)
    """Lease to scheduler: there are schedules, or one is due earlier than was known."""
    draining: bool = False
    """Supervisor to claimer and lease: no more jobs are claimed."""

    def ring(self) -> None:
        """A notification came, or may have."""
        self.unanswered = True
        self.doorbell.set()
        self.capacity.set()

    def look_at(self, gates: Iterable[str]) -> None:
        """There may be room at these gates, or somebody new."""
        self.gates.update(gates)
        if self.gates:
            self.gates_wait.set()

    def sweep_soon(self) -> None:
        """There may be room at any gate."""
        self.sweep = True
        self.gates_wait.set()

    def drain(self) -> None:
        """Claim no more, and say so."""
        self.draining = True
        self.doorbell.set()
        self.capacity.set()

    def due_in(self, seconds: float | None) -> None:
        """A job falls due after this many seconds: one just put back, or the next one as the heartbeat saw it."""
        if seconds is None:
            return
        at = time.monotonic() + max(0.0, seconds)
        if self.next_due_at is None or at < self.next_due_at - DUE_NOISE_S:
            self.next_due_at = at
            self.doorbell.set()  # a sleeping claimer must wake up earlier

    def schedule_due_in(self, seconds: float | None) -> None:
        """A schedule is due after this many seconds, as the heartbeat saw it."""
        if seconds is None:
            return
        at = time.monotonic() + max(0.0, seconds)
        if self.schedule_due_at is None or at < self.schedule_due_at - DUE_NOISE_S:
            self.schedule_due_at = at
            self.scheduled.set()
