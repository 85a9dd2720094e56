"""Statements on the path of a job through a worker."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from pgqueue.job import Claimed
from pgqueue.queries.statement import LOCK_CLASS, Row, Statement, Texts, array, texts

# Of arguments, after which a claim takes no further job: a thousand large ones would be a gigabyte.
CLAIM_BYTES = 4_000_000

GATE_CLASS = LOCK_CLASS + 1  # the first key of the locks of gates; LOCK_CLASS has those of workers
# The lists of declare_gates.sql, and what each holds of a rule.
GATE_COLUMNS = {
    "names": "name", "slots": "slots", "every_s": "every_s", "bursts": "burst", "keeps": "keeps", "halts": "halts",
    "keyed": "keyed", "shares": "shares",
    "break_shares": "break_share", "break_ofs": "break_of", "break_pers": "break_per_s",
    "break_rests": "break_rest_s",
}  # fmt: skip
SWEEP = 1000  # gates that one sweep looks at
RECALL = 1000  # jobs that one statement takes back to a gate that has closed
EXPIRE = 20_000  # waiting jobs of which one sweep looks whether they have expired

Finished = tuple[
    str, int, str | None
]  # id, bells, the mark of the transaction: by position, as a batch holds a thousand


class Heads(NamedTuple):
    """The first jobs of all queues and priorities as three lists, and the seconds that the server took to find them."""

    queues: list[str]
    priorities: list[int]
    seqs: list[int]
    took_s: float
    fresh: list[str]
    """Gates at which jobs wait that nobody has looked at."""
    rules: list[str]
    """Those that all jobs of a task or of a queue are under."""


class LockedGates(NamedTuple):
    """The gates whose locks are ours, and the same as the transaction notes them."""

    gates: list[str]
    noted: str


class PassedGates(NamedTuple):
    """How many jobs may be claimed now, at which gates others wait next, and when time lets the next one through."""

    queued: int
    onward: list[str]
    again: list[str]
    paced: list[str]
    due_ms: list[int]
    bells: int
    reopened: list[str]
    """Those that a trial of their breaker has opened, and below those that it has closed again."""
    reclosed: list[str]
    tripped: list[str]
    """Those that their breaker has closed, and below those of them past which jobs wait for a worker."""
    recall: list[str]


class Recalled(NamedTuple):
    """How many jobs wait again at a gate, and where that makes room."""

    jobs: int
    gates: list[str]


class Tripped(NamedTuple):
    """A gate that its breaker has closed, how long, and why."""

    gate: str
    rest_s: float
    why: str


class Swept(NamedTuple):
    """Gates at which jobs wait though there is room; whether any wait at all; where to continue, null at the end.

    old: a worker lives that frees places and lets nobody through, as its version does not know of gates.
    """

    gates: list[str]
    waiting: bool
    place: int | None
    after: str | None
    old: bool


class Expired(NamedTuple):
    """How many waiting jobs were ended, gates at which that makes room, and the position to continue from."""

    ended: int
    gates: list[str]
    place: int
    after: str
    priority: int
    seq: int
    bells: int


class Settled(NamedTuple):
    """A job whose attempt did not succeed, and what has become of it."""

    id: str
    state: str
    task: str
    bells: int


class Promoted(NamedTuple):
    """How many jobs fell due, the seconds until the next one does, and the gates at which some of them wait."""

    promoted: int
    next_due_s: float | None
    bells: int
    gates: list[str]


class HandedBack(NamedTuple):
    """The task of a job that waits for other code, and for how long at least."""

    task: str
    delay_s: float


class RecordedEnd(NamedTuple):
    """How an attempt ended that is in history already."""

    id: str
    state: str


class HeldJob(NamedTuple):
    """A job that the database counts as running at this worker."""

    id: str
    claim_token: int


class AskedCancel(NamedTuple):
    """A running job that was asked to stop; kill: and is killed if it does not."""

    id: str
    kill: bool


def columns_of(cursors: Sequence[tuple[str, int, int]]) -> dict[str, list[Any]]:
    """The parameters of claim.sql and set_aside.sql: one list per column."""
    queues, priorities, seqs = zip(*cursors, strict=True) if cursors else ((), (), ())
    return {"queues": list(queues), "priorities": list(priorities), "cursors": list(seqs)}


class WorkerQueries(Texts):
    """What a worker says about jobs: the files of sql/worker."""

    def heads(self, *, queues: Sequence[str] | None, unknown: Sequence[str]) -> Statement[Heads]:
        return self._say("worker/heads", Heads, queues=queues, unknown=unknown)

    def claim(
        self, *, worker: str, cursors: Sequence[tuple[str, int, int]], unknown: Sequence[str], limit: int
    ) -> Statement[Claimed]:
        """cursors: (queue, priority, seq), the best first."""
        return self._say(
            "worker/claim",
            Claimed,
            worker=worker,
            unknown=unknown,
            limit=limit,
            most_bytes=CLAIM_BYTES,
            **columns_of(cursors),
        )

    def set_aside(
        self, *, worker: str, worker_name: str, cursors: Sequence[tuple[str, int, int]], unknown: Sequence[str],
        cause: str, error: str,
    ) -> Statement[str]:  # fmt: skip
        """The ids of the jobs that are dead now."""
        return self._values(
            "worker/set_aside", worker=worker, worker_name=worker_name, unknown=unknown, cause=cause, error=error,
            **columns_of(cursors),
        )  # fmt: skip

    def finish(
        self, *, worker: str, ids: Sequence[str], tokens: Sequence[int], results: Sequence[str | None]
    ) -> Statement[Finished]:
        return self._say("worker/finish", worker=worker, ids=array(ids), tokens=array(tokens), results=texts(results))

    def atomic_begin(self, *, attempt: str) -> Statement[Row]:
        return self._say("worker/atomic_begin", attempt=attempt)

    def recorded(
        self, *, worker: str, ids: Sequence[str], tokens: Sequence[int], kept: Sequence[bool]
    ) -> Statement[RecordedEnd]:
        return self._say("worker/recorded", RecordedEnd, worker=worker, ids=ids, tokens=tokens, kept=kept)

    def settle(self, *, worker: str, worker_name: str, columns: Mapping[str, Sequence[Any]]) -> Statement[Settled]:
        return self._say("worker/settle", Settled, worker=worker, worker_name=worker_name, **columns)

    def promote(self, *, worker: str, now: datetime | None = None) -> Statement[Promoted]:
        return self._say("worker/promote", Promoted, worker=worker, now=now)

    def declare_gates(self, rules: Sequence[Mapping[str, Any]]) -> Statement[Row]:
        """rules: as `Rule.as_json` gives them."""
        columns = {column: [rule[name] for rule in rules] for column, name in GATE_COLUMNS.items()}
        return self._say("worker/declare_gates", **columns)

    def begin_gates(self) -> Statement[Row]:
        return self._say("worker/begin_gates")

    def lock_gates(self, gates: Sequence[str]) -> Statement[LockedGates]:
        return self._say("worker/lock_gates", LockedGates, gates=gates, lock_class=GATE_CLASS)

    def admit(self, *, worker: str, most: int, spare: int = 0, flow: float = 0.0) -> Statement[PassedGates]:
        """After `lock_gates`, in its transaction: through the gates that it got. spare: jobs that this worker starts at once.

        flow: of jobs with a fair share, how many of one key this worker ends in the time that its window lasts.
        """
        return self._say("worker/admit", PassedGates, worker=worker, most=most, spare=spare, flow=flow)

    def recall(self, *, limit: int = RECALL) -> Statement[Recalled]:
        """After `lock_gates`, in its transaction: to the gates that it got."""
        return self._say("worker/recall", Recalled, limit=limit)

    def count_runs(
        self, *, worker: str, gates: Sequence[str], runs: Sequence[int], failures: Sequence[int]
    ) -> Statement[Row]:
        """Of each gate how many runs of its task have ended, and failed."""
        return self._say("worker/count_runs", worker=worker, gates=gates, runs=runs, failures=failures)

    def trip(self, gates: Sequence[str]) -> Statement[Tripped]:
        """After `count_runs`, with a snapshot of its own."""
        return self._say("worker/trip", Tripped, gates=gates)

    def sweep(self, *, place: int, after: str, urgent: bool) -> Statement[Swept]:
        return self._say("worker/sweep", Swept, place=place, after=after, urgent=urgent, limit=SWEEP)

    def expire(
        self, *, place: int, after: str, priority: int, seq: int, error: str, limit: int = EXPIRE
    ) -> Statement[Expired]:
        return self._say(
            "worker/expire", Expired, place=place, after=after, priority=priority, seq=seq, error=error, limit=limit
        )

    def progress(
        self,
        *,
        worker: str,
        ids: Sequence[str],
        tokens: Sequence[int],
        fractions: Sequence[float | None],
        notes: Sequence[str | None],
    ) -> Statement[Row]:
        return self._say("worker/progress", worker=worker, ids=ids, tokens=tokens, fractions=fractions, notes=notes)

    def revoke(self, *, worker: str, job_id: str, token: int) -> Statement[int]:
        """The new token."""
        return self._values("worker/revoke", worker=worker, id=job_id, token=token)

    def hand_back(self, *, worker: str, job_id: str, token: int) -> Statement[HandedBack]:
        return self._say("worker/hand_back", HandedBack, worker=worker, id=job_id, token=token)

    def held(self, *, worker: str) -> Statement[HeldJob]:
        return self._say("worker/held", HeldJob, worker=worker)

    def cancels(self, ids: Sequence[str]) -> Statement[AskedCancel]:
        return self._say("worker/cancels", AskedCancel, ids=ids)

    def drained(self, *, queues: Sequence[str] | None, unknown: Sequence[str]) -> Statement[bool]:
        return self._values("worker/drained", queues=queues, unknown=unknown)

    def steady_plans(self) -> Statement[Row]:
        return self._say("worker/steady_plans")

    def lock_patience(self) -> Statement[Row]:
        return self._say("worker/lock_patience")
