"""Make the jobs of schedules that are due: one transaction, by whichever worker comes first.

The rows stay locked to its end, which also moves them on: so a due time has one job, or none yet, whatever dies in between. Other
workers skip what is locked. That a due time is answered once for all is kept by the primary key of `fired`: clocks may go back, a
row may be edited, and a schedule may be removed and declared again.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from pgqueue.client.enqueue import Call, GatedCall, enqueue_one
from pgqueue.config import Notify
from pgqueue.context import DUE_AT
from pgqueue.errors import DuplicateJob
from pgqueue.gates.limit import TURN, Rule, turn_of
from pgqueue.job import new_id
from pgqueue.queries import Queries, Steps, ask
from pgqueue.queries.schedules import DueSchedule, UnendedJob
from pgqueue.schedules.schedule import options_of, overlap_of
from pgqueue.schedules.times import When

ROUND = 100  # schedules in one transaction
MISSED_S = 60.0  # a run that is later is a missed one
SCHEDULE = "pgqueue.schedule"
"""Header of its jobs: which schedule made them."""
MISSED = "missed: no worker was there"


class Firing(NamedTuple):
    """What a round came to. due_s: seconds until the next is due. unable: whose times this process cannot tell, and why."""

    jobs: int
    more: bool
    due_s: float | None
    unable: dict[str, str]


@dataclass(slots=True)
class DueAnswers:
    """What becomes of the due times of one schedule: `run` make a job, each of `skipped` is a note with its reason."""

    row: DueSchedule
    run: list[datetime]
    skipped: list[tuple[datetime, str]]
    following: datetime | None
    jobs: dict[datetime, str] = field(default_factory=dict)


def when_of(row: Any) -> When:
    """The times of a schedule's row."""
    return When(cron=row.cron, every_s=row.every_s, anchor_at=row.anchor_at, tz=row.tz)


def plan(row: DueSchedule) -> DueAnswers:
    """Decide by its rule for what was missed. Raises what When.following does."""
    when = when_of(row)
    times = when.between(row.due_at, row.now, most=row.missed_most)
    if row.missed == "all":
        run = times
    else:
        last = times[-1] if len(times) < row.missed_most else when.latest(times[-1], row.now)
        late = row.missed == "skip" and (row.now - last).total_seconds() > MISSED_S
        run = [] if late else [last]
    return DueAnswers(row, run, [(time, MISSED) for time in times if time not in run], when.following(row.now))


def fire_round(
    queries: Queries,
    *,
    ring: Notify,
    unable: Sequence[str] = (),
    now: datetime | None = None,
    most: int | None = None,
    taken: list[str] | None = None,
    jitter: bool = True,
) -> Steps[Firing]:
    """Answer what is due, in a transaction that the caller sees to.

    now: the default is the database's clock. taken: gets the names, for the caller that must know which one failed. jitter:
    False for jobs that start at once.
    """
    most = ROUND if most is None else most
    rows = yield from ask(queries.due_schedules(unable=unable, most=most, now=now))
    if taken is not None:
        taken += [row.name for row in rows]
    plans: list[DueAnswers] = []
    failed: dict[str, str] = {}
    for row in rows:
        try:
            options_of(row.options)
            plans.append(plan(row if jitter else row._replace(jitter_s=0.0)))
        except (ValueError, KeyError, OSError, OverflowError) as error:  # another worker may have the zone
            failed[row.name] = str(error) or type(error).__name__
    jobs = (yield from _answer(queries, plans, ring=ring)) if plans else 0
    (due_s,) = yield from ask(queries.soonest_schedule(unable=[*unable, *failed], now=now))
    return Firing(jobs, len(rows) == most, due_s, failed)


def fail_one(queries: Queries, name: str, *, error: str) -> Steps[None]:
    """Pass over the due time of a schedule whose job the server refuses."""
    for row in (yield from ask(queries.schedules(name))):
        yield queries.fail_schedule(name, error=error, next_run_at=when_of(row).following(row.now))


def _answer(queries: Queries, plans: Sequence[DueAnswers], *, ring: Notify) -> Steps[int]:
    yield from _mind_overlaps(queries, plans)
    notes = [
        {"schedule": each.row.name, "due_at": due_at, "job_id": job_id, "skipped": skipped}
        for each in plans
        for due_at, job_id, skipped in _notes(each)
    ]
    new = {(note.schedule, note.due_at) for note in (yield from ask(queries.answer(notes)))}
    made = 0
    moved: list[dict[str, Any]] = []
    for each in plans:
        job_id = None
        for due_at in each.run:
            if (each.row.name, due_at) in new:
                job_id = yield from make_job(queries, each.row, due_at, job_id=each.jobs[due_at], ring=ring)
                made += 1
        moved.append(
            {
                "name": each.row.name,
                "next_run_at": each.following,
                "last_run_at": job_id and each.row.now,
                "last_job": job_id,
            }
        )
    yield queries.move_schedules(moved)
    return made


def _mind_overlaps(queries: Queries, plans: Sequence[DueAnswers]) -> Steps[None]:
    """Where runs must not overlap, one job at a time is alive: the last one, or the first of these. Or one more waits."""
    minded = [each for each in plans if each.run and _overlap(each.row) != "allow"]
    lasts = [each.row.last_job for each in minded if each.row.last_job]
    alive = {last.id: last for last in (yield from ask(queries.unended(lasts)))} if lasts else {}
    for each in minded:
        allowed, reason = _allowed(_overlap(each.row), alive.get(each.row.last_job or ""))
        each.skipped += [(due_at, reason) for due_at in each.run[allowed:]]
        del each.run[allowed:]


def _overlap(row: Any) -> str:
    return overlap_of(row.overlap, row.options)


def _allowed(overlap: str, last: UnendedJob | None) -> tuple[int, str]:
    """How many jobs are made now, and why no more. Where they queue, one waits behind the one that has its turn, at most."""
    if overlap == "skip":
        return (
            (1, "the job of an earlier time had not ended")
            if last is None
            else (0, f"its last job, {last.id}, had not ended")
        )
    if last is None or not last.waits:
        return (2 if last is None else 1), "the job of an earlier time waits already"
    return 0, f"its last job, {last.id}, waits already"


def _notes(each: DueAnswers) -> list[tuple[datetime, str | None, str | None]]:
    each.jobs = {due_at: new_id() for due_at in each.run}
    return [
        *((due_at, None, reason) for due_at, reason in each.skipped),
        *((due_at, job_id, None) for due_at, job_id in each.jobs.items()),
    ]


def make_job(queries: Queries, row: Any, due_at: datetime, *, job_id: str, ring: Notify) -> Steps[str]:
    """The job of one due time, or that which has its unique key; by the ordinary INSERT. row: of a schedule, with `now`."""
    options = options_of(row.options)
    headers = {**(options.headers or {}), SCHEDULE: row.name, DUE_AT: due_at.isoformat()}
    start = due_at + timedelta(seconds=jitter_s(row.name, due_at, row.jitter_s))
    options = replace(options, headers=headers, at=start if start > row.now else None)
    call: Call = (row.args, row.kwargs)
    if _overlap(row) == "queue":
        # No worker's code declares this rule, and without it nobody would be let through.
        yield queries.declare_gates([Rule(TURN, 1, keyed=True, keeps=True).as_json()])
        call = GatedCall.of(call, [turn_of(row.name)])
    try:
        job = yield from enqueue_one(queries, row.task, call, job_id=job_id, options=options, ring=ring)
    except DuplicateJob as error:
        yield queries.correct(row.name, due_at, job_id=error.job_id, skipped="a live job has its unique key")
        return str(error.job_id)
    if not job.created:
        yield queries.correct(row.name, due_at, job_id=job.id, skipped="a live job has its unique key")
    return job.id


def jitter_s(name: str, due_at: datetime, most_s: float) -> float:
    """How much later than it is due: the same by every worker, and another each time."""
    return zlib.crc32(f"{name} {due_at.isoformat()}".encode()) / 2**32 * most_s
