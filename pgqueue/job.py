"""What a job is: its states, its row as it travels to a child or is looked at, and the outcome that comes back."""

import os
import re
import time
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

EXPIRED = "expired before it could start"  # the reason of a job that is cancelled for it


class State(StrEnum):
    """The state of a job. Live: waiting, scheduled, queued, running. Ended: succeeded, dead, cancelled.

    scheduled ──due──▶ queued ──claim──▶ running ──▶ succeeded
        ▲                 ▲                │ │ └────▶ dead        attempts used up, or the task says so
        │                 └──── release ───┘ │
        └──── retry with backoff, snooze ────┘        any live state ──cancel──▶ cancelled
    """

    WAITING = "waiting"
    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """True when nothing more will happen to the job by itself."""
        return self in (State.SUCCEEDED, State.DEAD, State.CANCELLED)


class Verdict(StrEnum):
    """What becomes of a job after one attempt; the finisher turns each into rows."""

    SUCCEEDED = "succeeded"
    RETRY = "retry"  # the attempt failed, another follows after delay_s
    SNOOZE = "snooze"  # the task asked to run later; costs no attempt
    RELEASE = "release"  # given back unstarted; costs nothing
    CRASH = "crash"  # its process died; costs no attempt but counts as a crash
    QUARANTINE = "quarantine"  # its process died once too often: dead, never to be retried by itself
    DEAD = "dead"
    CANCELLED = "cancelled"
    COMMITTED = "committed"  # an atomic task finished itself in its own transaction; nothing left to write
    LOST = "lost"  # another worker has the job now, and settles it; nothing is ours to write
    PARK = "park"  # it came past a gate that it has not passed: it waits there; costs nothing
    MISFIT = "misfit"  # this worker's code does not take the arguments: another's may, else the attempt failed
    UNSURE = "unsure"  # the COMMIT of an atomic task got no answer; the database must be asked


class Outcome(NamedTuple):
    """The end of one attempt, fenced by (job_id, token). Travels as a JSON list, so every field is plain.

    otherwise: the verdict by the task's policy, where it is for the database to say whether the attempt failed at all.
    gates: of one that is parked, those it has to pass; none: those of its row.
    """

    job_id: str
    token: int
    verdict: str
    result: str | None = None
    delay_s: float = 0.0
    cause: str | None = None
    error: str | None = None
    traceback: str | None = None
    otherwise: str | None = None
    gates: list[str] | None = None

    @property
    def keeps(self) -> bool:
        """Whether the end of the job leaves a row in history."""
        return self.verdict not in (Verdict.SUCCEEDED, Verdict.UNSURE) or self.result is not None


class Claimed(NamedTuple):
    """A job in this worker's hands, in the column order of claim.sql. args, kwargs and headers are JSON text, unparsed."""

    id: str
    token: int
    task: str
    args: str
    kwargs: str
    attempt: int
    max_attempts: int | None
    crashes: int
    queue: str
    priority: int
    seq: int
    timeout_s: float | None
    headers: str | None
    age_s: float
    expired: bool | None
    gates: list[str] | None = None
    astray: bool | None = None
    """It has not passed all of its gates: a worker that knows nothing of them has put it into the queue."""

    def __repr__(self) -> str:
        """Without the arguments: what is logged must not hold somebody's secrets."""
        return f"<Claimed {self.id} {self.task}>"


class Snapshot(NamedTuple):
    """One look at a job's row, in the column order of job.sql. Times are aware; args, result and headers are JSON text."""

    id: str
    state: str
    queue: str
    priority: int
    task: str
    args: str
    kwargs: str
    attempt: int
    max_attempts: int | None
    crashes: int
    created_at: datetime
    run_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    worker: str | None
    unique_key: str | None
    headers: str | None
    progress: float | None
    progress_note: str | None
    cancel_requested: bool
    result: str | None
    error: str | None

    def __repr__(self) -> str:
        """Without arguments and result: what is logged must not hold somebody's secrets."""
        return f"<Snapshot {self.id} {self.state} {self.task}>"


def id_bytes(job_id: str) -> bytes:
    """The 16 bytes of an id."""
    return bytes.fromhex(job_id.replace("-", ""))


def first_id(moment: datetime) -> str:
    """The smallest id that can have been made at a moment, by the clock of the machine that made it."""
    milliseconds = f"{max(0, int(moment.timestamp() * 1000)):012x}"
    return f"{milliseconds[:8]}-{milliseconds[8:]}-0000-0000-000000000000"


def new_id() -> str:
    """A UUID version 7 (RFC 9562), made before the insert: 48 bits of Unix milliseconds, then random bits."""
    return new_ids(1)[0]


def new_ids(count: int) -> list[str]:
    """Many ids of one moment. Cut out of one string of random digits: half the time of making each from its number."""
    moment = f"{time.time_ns() // 1_000_000:012x}"
    head = f"{moment[:8]}-{moment[8:]}-7"
    digits = os.urandom(10 * count).hex()
    return [
        f"{head}{digits[at : at + 3]}-{_VARIANT[digits[at + 3]]}{digits[at + 4 : at + 7]}-{digits[at + 7 : at + 19]}"
        for at in range(0, 20 * count, 20)
    ]


_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
