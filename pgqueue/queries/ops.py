"""Statements of people who look at a queue or give it orders."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any, NamedTuple

from pgqueue.job import Snapshot, State
from pgqueue.queries.statement import Row, Statement, Texts, sql_file
from pgqueue.queries.worker import GATE_CLASS


class FailedAttempt(NamedTuple):
    """What is kept of an attempt that failed."""

    attempt: int
    started_at: datetime | None
    failed_at: datetime
    worker: str | None
    cause: str
    error: str
    traceback: str | None


class Deed(NamedTuple):
    """What a person did to a job, and the state it was in."""

    at: datetime
    who: str
    action: str
    state: str | None


class Seen(NamedTuple):
    """A job of a window, whether it is wanted, and its position."""

    job: Snapshot
    wanted: bool
    place: int

    @classmethod
    def of(cls, row: Row) -> "Seen":
        """From the columns of a Snapshot and the other two."""
        return cls(Snapshot._make(row[:-2]), row[-2], row[-1])


class SeenInState(NamedTuple):
    """A job of a live state, if any is wanted, and how many were looked at."""

    job: Snapshot | None
    seen: int

    @classmethod
    def of(cls, row: Row) -> "SeenInState":
        """From the columns of a Snapshot, null if there is none, and the count."""
        return cls(None if row[0] is None else Snapshot._make(row[:-1]), row[-1])


class Purgeable(NamedTuple):
    """A job that may be deleted; the last one of a window, wanted or not, tells where to continue."""

    id: str
    wanted: bool
    finished_at: datetime | None


class Whole(NamedTuple):
    """The clock, sizes and counts of the whole."""

    now: datetime
    ever_used: bool
    job_pages: int
    ended_pages: int
    scheduled: int
    running: int
    ended: int
    dead: int
    subscribed: bool


class Throughput(NamedTuple):
    """What all workers counted in ten seconds."""

    at: datetime
    succeeded: int
    failed: int
    dead: int
    cancelled: int


class Sampled(NamedTuple):
    """Live jobs of one state and queue on some of the table's pages."""

    state: str
    queue: str
    jobs: int


class QueueRow(NamedTuple):
    """One queue; capped: it was counted no further."""

    queue: str
    counted: int
    capped: bool
    oldest_age_s: float | None
    running: int
    paused: bool
    resume_s: float | None
    served: bool


class LeftRow(NamedTuple):
    """How many jobs of a queue are due, and run, counted up to a limit; and whether it is paused."""

    due: int
    running: int
    paused: bool


class WorkerRow(NamedTuple):
    """One worker that is shown; in_all: how many there are."""

    id: str
    name: str
    state: str
    uptime_s: float
    heartbeat_age_s: float
    concurrency: int
    claimed: int
    lasting: int
    queues: list[str] | None
    app: str
    version: str
    in_all: int


class RunningJob(NamedTuple):
    """A job in a worker's hands; progress is a fraction from 0 to 1."""

    id: str
    task: str
    queue: str
    attempt: int
    running_s: float | None
    progress: float | None
    note: str | None


class JobOfWorker(NamedTuple):
    """A running job, and the id of the worker that runs it."""

    worker: str
    job: RunningJob

    @classmethod
    def of(cls, row: Row) -> "JobOfWorker":
        """From the worker and the columns of a RunningJob."""
        return cls(row[0], RunningJob._make(row[1:]))


class UpcomingJob(NamedTuple):
    """A scheduled job, or the next one of a schedule, which has no id and no queue yet.

    due_in_s is negative while it is overdue. `attempt` counts those made: above 0 it is a retry.
    """

    id: str | None
    task: str
    queue: str | None
    run_at: datetime
    due_in_s: float
    attempt: int
    max_attempts: int | None
    schedule: str | None = None
    """The name of the schedule."""


class Failure(NamedTuple):
    """One of the latest failed attempts; its error is whole here, and one line in Stats."""

    job_id: str
    task: str
    queue: str
    failed_at: datetime
    age_s: float
    attempt: int
    worker: str | None
    cause: str
    error: str


class FullWorker(NamedTuple):
    """A worker without a free slot, its most frequent task, and for how long it has begun no job; in the order of why.sql."""

    name: str
    places: int
    jobs: int
    tasks: int
    task: str
    held_s: float


@dataclass(frozen=True, slots=True)
class AtGate:
    """The gate at which a job waits. known: somebody has said how many may be past it; slots None: any number."""

    gate: str
    known: bool
    slots: int | None
    every_s: float | None
    past: int
    holders: list[str] | None
    earlier: int
    closed_s: float | None
    closed_for_s: float | None
    closed_by: str | None
    closed_why: str | None
    half_open: bool
    trial: str | None
    fair: bool = False


class LimitSet(NamedTuple):
    """What a gate's row says now, and what it said before, if it was there."""

    slots: int | None
    source: str
    was: int | None
    known: bool


class PastGate(NamedTuple):
    """A gate past which there are jobs, and whether those are more than may be."""

    gate: str
    surplus: bool


class TakenBack(NamedTuple):
    """How many jobs that were let through wait again."""

    taken: int
    bells: int


class LimitRow(NamedTuple):
    """One gate: its limits (slots None: any number; every_s None: no rate), and how many jobs are past it and wait there.

    past, waiting: None for a role that may not read that.
    """

    gate: str
    slots: int | None
    every_s: float | None
    burst: int | None
    keyed: bool
    source: str | None
    past: int | None
    waiting: int | None
    closed_by: str | None
    closed_for_s: float | None
    closed: bool
    fair: bool
    """Whether keys take turns here, each with `weight` shares."""
    weight: int | None
    closed_why: str | None
    half_open: bool
    """Its breaker tries one job at a time, `trial` just now."""
    trial: str | None


class Facts(NamedTuple):
    """One row of why.sql, in its order. Times are seconds: until `due_s`, `expires_s`, `resume_s`, `lease_s`, since all others."""

    state: str
    queue: str
    task: str
    priority: int
    attempt: int
    crashes: int
    due_s: float
    expires_s: float | None
    running_s: float | None
    cancel_requested: bool
    progress: float | None
    progress_note: str | None
    paused_s: float | None
    paused_by: str | None
    resume_s: float | None
    workers: int
    serving: int
    knowing: int
    claiming: int
    places: int
    larger: int
    earlier: int
    holder: str | None
    holder_state: str | None
    lease_s: float | None
    cause: str | None
    error: str | None
    failed_s: float | None
    full: list[FullWorker] | None
    handed_back_s: float | None
    """Since its first release, if its last attempt has not failed."""
    at_gate: AtGate | None

    @classmethod
    def of(cls, row: Row) -> "Facts":
        """From the columns; `full` and `at_gate` come as JSON, which each driver would read in its own way."""
        facts = cls._make(row)
        full: Any = facts.full
        at_gate: Any = facts.at_gate
        return facts._replace(
            full=None if full is None else [FullWorker._make(each) for each in json.loads(full)],
            at_gate=None if at_gate is None else AtGate(*json.loads(at_gate)),
        )


def listed(states: Iterable[State]) -> str:
    """States as SQL writes them, for a text of which each choice has a plan of its own."""
    return ", ".join(f"'{state}'" for state in states)


class OpsQueries(Texts):
    """Questions and orders: the files of sql/ops."""

    def cancel(self, job_id: str, *, reason: str, kill: bool = False) -> Statement[Row]:
        return Statement(self._poking("ops/cancel"), {"id": job_id, "reason": reason, "kill": kill})

    def _poking(self, file: str) -> str:
        """The text of a statement that has gates looked at."""
        return self.text(file, poked=sql_file("ops/poked.sql").rstrip())

    def retry(self, job_id: str) -> Statement[Row]:
        return self._say("ops/retry", id=job_id)

    def find(self, ending: str) -> Statement[str]:
        """Ids, two at most."""
        return self._values("ops/find", ending=ending)

    def attempts(self, job_id: str) -> Statement[FailedAttempt]:
        return self._say("ops/attempts", FailedAttempt, id=job_id)

    def audit(self, job_id: str) -> Statement[Deed]:
        return self._say("ops/audit", Deed, id=job_id)

    def why(self, job_id: str, *, count_limit: int) -> Statement[Facts]:
        return Statement(self.text("ops/why"), {"id": job_id, "count_limit": count_limit}, row=Facts.of)

    def jobs_window(self, states: Sequence[State], **wanted: Any) -> Statement[Seen]:
        """states: those whose jobs lie in the tables that are looked through."""
        live = str(any(not state.ended for state in states)).lower()
        text = self.text("ops/jobs/window", live=live, states=listed(states))
        return Statement(text, wanted, row=Seen.of)

    def jobs_of_state(self, index: str, **wanted: Any) -> Statement[SeenInState]:
        """index: the file that walks along it."""
        return Statement(
            self.text("ops/jobs/of_state", source=sql_file(f"ops/jobs/{index}.sql")), wanted, row=SeenInState.of
        )

    def ago(self, seconds: float) -> Statement[datetime]:
        return self._values("ops/jobs/ago", seconds=seconds)

    def in_index_order(self) -> Statement[Row]:
        return self._say("ops/jobs/in_index_order")

    def limit(self, name: str, *, slots: int | None, source: str) -> Statement[LimitSet]:
        return self._say("ops/limit", LimitSet, name=name, slots=slots, source=source)

    def limits(self, *, limit: int, count_limit: int) -> Statement[LimitRow]:
        return self._say("ops/limits", LimitRow, limit=limit, count_limit=count_limit)

    def limits_told(self, *, limit: int) -> Statement[LimitRow]:
        return self._say("ops/limits_told", LimitRow, limit=limit)

    def sees_gates(self) -> Statement[bool]:
        return self._values("ops/sees_gates")

    def poke(self, name: str) -> Statement[Row]:
        return Statement(self._poking("ops/poke"), {"name": name})

    def surplus(self, name: str, *, after: str, limit: int) -> Statement[PastGate]:
        """Of a gate, or of the keys of a rule; after: the last one of those before, or an empty text."""
        return self._say("ops/surplus", PastGate, name=name, after=after, limit=limit)

    def looking(self) -> Statement[str]:
        return self._values("ops/looking", lock_class=GATE_CLASS)

    def take_back(self) -> Statement[TakenBack]:
        """After `lock_gates`, in its transaction: at the gates that it got."""
        return Statement(self._poking("ops/take_back"), row=TakenBack._make)

    def weigh(self, name: str, *, weight: int) -> Statement[Row]:
        return self._say("ops/weigh", name=name, weight=weight)

    def close_gate(self, name: str, *, for_s: float | None, why: str | None) -> Statement[Row]:
        return self._say("ops/close_gate", name=name, for_s=for_s, why=why)

    def open_gate(self, name: str) -> Statement[Row]:
        return self._say("ops/open_gate", name=name)

    def pause(self, queue: str, *, for_s: float | None) -> Statement[Row]:
        """for_s: seconds; None: until it is resumed."""
        return self._say("ops/pause", queue=queue, for_s=for_s)

    def left(self, queue: str, *, count_limit: int) -> Statement[LeftRow]:
        return self._say("ops/left", LeftRow, queue=queue, count_limit=count_limit)

    def resume(self, queue: str) -> Statement[Row]:
        return self._say("ops/resume", queue=queue)

    def purge_window(self, state: State, states: Sequence[State], **wanted: Any) -> Statement[Purgeable]:
        """states: as in jobs_window."""
        table, finished_at = ("history", "finished_at") if state.ended else ("job", "null::timestamptz")
        text = self.text("ops/jobs/purge_window", table=table, finished_at=finished_at, states=listed(states))
        return Statement(text, {"state": state, **wanted}, row=Purgeable._make)

    def purge(self, ids: Sequence[str], **wanted: Any) -> Statement[str]:
        """The ids of those that were deleted."""
        return Statement(self._poking("ops/purge"), {"ids": list(ids), **wanted}, row=itemgetter(0))

    def purge_history(self, ids: Sequence[str], times: Sequence[datetime], **wanted: Any) -> Statement[str]:
        """As `purge`. times: when they ended."""
        return self._values("ops/purge_history", ids=list(ids), times=list(times), **wanted)

    def stats_totals(self, *, count_limit: int) -> Statement[Whole]:
        return self._say("ops/stats_totals", Whole, count_limit=count_limit)

    def stats_throughput(self) -> Statement[Throughput]:
        return self._say("ops/stats_throughput", Throughput)

    def stats_queues(self, *, queue_limit: int, count_limit: int) -> Statement[QueueRow]:
        return self._say("ops/stats_queues", QueueRow, queue_limit=queue_limit, count_limit=count_limit)

    def stats_sample(self, *, percent: float) -> Statement[Sampled]:
        return self._say("ops/stats_sample", Sampled, percent=percent)

    def stats_sample_dead(self, *, percent: float) -> Statement[int]:
        return self._values("ops/stats_sample_dead", percent=percent)

    def stats_workers(self, *, limit: int, count_limit: int) -> Statement[WorkerRow]:
        return self._say("ops/stats_workers", WorkerRow, limit=limit, count_limit=count_limit)

    def stats_current(self, workers: Sequence[str], *, limit: int) -> Statement[JobOfWorker]:
        return Statement(self.text("ops/stats_current"), {"workers": workers, "limit": limit}, row=JobOfWorker.of)

    def stats_upcoming(self, *, limit: int) -> Statement[UpcomingJob]:
        return self._say("ops/stats_upcoming", UpcomingJob, limit=limit)

    def stats_failures(self, *, limit: int) -> Statement[Failure]:
        return self._say("ops/stats_failures", Failure, limit=limit)
