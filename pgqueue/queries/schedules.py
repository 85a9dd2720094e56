"""Statements of schedules: who fires them, what code declares of them, and what people do with them."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from pgqueue.queries.statement import LOCK_CLASS, Row, Statement, Texts, texts


class DueSchedule(NamedTuple):
    """A schedule that this transaction has taken, as it is due. Times are aware; args, kwargs and options are JSON text."""

    name: str
    cron: str | None
    every_s: float | None
    anchor_at: datetime
    tz: str
    task: str
    args: str
    kwargs: str
    options: str
    missed: str
    missed_most: int
    overlap: str
    jitter_s: float
    due_at: datetime
    now: datetime
    last_job: str | None


class ScheduleRow(NamedTuple):
    """All that is known of one. `now` is the database's."""

    name: str
    cron: str | None
    every_s: float | None
    anchor_at: datetime
    tz: str
    task: str
    args: str
    kwargs: str
    options: str
    missed: str
    missed_most: int
    overlap: str
    jitter_s: float
    paused_at: datetime | None
    resume_at: datetime | None
    source: str
    fingerprint: str | None
    undeclared_at: datetime | None
    stopped_at: datetime | None
    next_run_at: datetime | None
    last_run_at: datetime | None
    last_job: str | None
    error: str | None
    now: datetime


class ListedSchedule(NamedTuple):
    """One, for people. skipped: why its last due time made no job. last_state: None where its last job is forgotten.

    overlap: "allow" where jobs queue too; the options tell, which readers may not see.
    """

    name: str
    cron: str | None
    every_s: float | None
    tz: str
    task: str
    missed: str
    overlap: str
    jitter_s: float
    source: str
    fingerprint: str | None
    paused_at: datetime | None
    resume_at: datetime | None
    undeclared_at: datetime | None
    stopped_at: datetime | None
    next_run_at: datetime | None
    last_run_at: datetime | None
    last_job: str | None
    last_state: str | None
    error: str | None
    skipped: str | None


class Winner(NamedTuple):
    """What code declares under a name, where several versions of it run: that which counts."""

    name: str
    fingerprint: str
    spec: str


class UnendedJob(NamedTuple):
    """A job of a schedule. waits: until another of the same schedule has ended."""

    id: str
    waits: bool


class Answered(NamedTuple):
    """A due time that nobody had answered before."""

    schedule: str
    due_at: datetime


class ScheduleQueries(Texts):
    """The files of sql/schedules."""

    def schedule_patience(self) -> Statement[Row]:
        return self._say("schedules/patience")

    def due_schedules(self, *, unable: Sequence[str], most: int, now: datetime | None) -> Statement[DueSchedule]:
        """unable: names of those whose times this process cannot tell."""
        return self._say("schedules/due", DueSchedule, unable=texts(unable), most=most, now=now)

    def soonest_schedule(self, *, unable: Sequence[str], now: datetime | None) -> Statement[float | None]:
        return self._values("schedules/soonest", unable=texts(unable), now=now)

    def unended(self, ids: Sequence[str]) -> Statement[UnendedJob]:
        return self._say("schedules/unended", UnendedJob, ids=ids)

    def answer(self, rows: Sequence[Mapping[str, Any]]) -> Statement[Answered]:
        return self._say("schedules/answer", Answered, rows=_json(rows))

    def correct(self, schedule: str, due_at: datetime, *, job_id: str | None, skipped: str) -> Statement[Row]:
        return self._say("schedules/correct", schedule=schedule, due_at=due_at, job_id=job_id, skipped=skipped)

    def move_schedules(self, rows: Sequence[Mapping[str, Any]]) -> Statement[Row]:
        return self._say("schedules/move", rows=_json(rows))

    def fail_schedule(self, name: str, *, error: str, next_run_at: datetime | None) -> Statement[Row]:
        """If it is still due."""
        return self._say("schedules/fail", name=name, error=error, next_run_at=next_run_at)

    def lock_schedules(self) -> Statement[bool]:
        return self._values("schedules/lock", lock_class=LOCK_CLASS)

    def saw_schedules(self, rows: Sequence[Mapping[str, Any]]) -> Statement[Row]:
        return self._say("schedules/saw", rows=_json(rows))

    def schedule_winners(self) -> Statement[Winner]:
        return self._say("schedules/winners", Winner)

    def schedules(self, name: str | None = None) -> Statement[ScheduleRow]:
        """Of this name, or all."""
        return self._say("schedules/rows", ScheduleRow, name=name)

    def schedules_now(self) -> Statement[datetime]:
        return self._values("schedules/now")

    def listed_schedules(self) -> Statement[ListedSchedule]:
        return self._say("schedules/list", ListedSchedule)

    def put_schedule(self, row: Mapping[str, Any]) -> Statement[Row]:
        """moved: its times have changed."""
        return self._say("schedules/put", **row)

    def follow_code(self, names: Sequence[str]) -> Statement[Row]:
        """names: of all that live workers declare."""
        return self._say("schedules/follow_code", names=texts(names))

    def schedule_differs(self, name: str, *, fingerprint: str) -> Statement[Row]:
        return self._say("schedules/differ", name=name, fingerprint=fingerprint)

    def forget_schedules(self) -> Statement[Row]:
        return self._say("schedules/forget")

    def pause_schedule(self, name: str, *, resume_at: datetime | None, next_run_at: datetime | None) -> Statement[Row]:
        return self._say("schedules/pause", name=name, resume_at=resume_at, next_run_at=next_run_at)

    def resume_schedule(self, name: str, *, next_run_at: datetime | None) -> Statement[Row]:
        return self._say("schedules/resume", name=name, next_run_at=next_run_at)

    def schedule_ran(self, name: str, *, job_id: str) -> Statement[Row]:
        return self._say("schedules/ran", name=name, job_id=job_id)

    def remove_schedule(self, name: str) -> Statement[Row]:
        return self._say("schedules/remove", name=name)


def _json(rows: Sequence[Mapping[str, Any]]) -> str:
    """Letters as they are: an escape can be read in a database of UTF8 alone."""
    return json.dumps(rows, default=_text, ensure_ascii=False)


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
