"""What people do with schedules: pause and resume, change and reset, run one now, remove one. Each in one transaction."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Any

from pgqueue.config import Notify
from pgqueue.errors import ConfigError
from pgqueue.job import new_id
from pgqueue.queries import Queries, Steps, ask
from pgqueue.queries.schedules import ScheduleRow, Winner
from pgqueue.schedules.declare import following, put_values, schedule_of, wanted_of
from pgqueue.schedules.fire import make_job
from pgqueue.schedules.schedule import Schedule, options_of, overlap_of, read, stored, with_overlap


def pause(queries: Queries, name: str, *, span: timedelta | None = None) -> Steps[ScheduleRow]:
    """Until resumed, or for so long; nothing that falls into it is made up for. Raises ConfigError if there is none."""
    row = yield from _locked(queries, name)
    resume_at = None if span is None else row.now + span
    next_run_at = None if resume_at is None else following(row, resume_at)
    yield queries.pause_schedule(name, resume_at=resume_at, next_run_at=next_run_at)
    return (yield from _row(queries, name))


def resume(queries: Queries, name: str) -> Steps[bool]:
    """It is next due after now. False: it was not paused. Raises ConfigError if there is none."""
    row = yield from _locked(queries, name)
    if row.paused_at is None:
        return False
    yield queries.resume_schedule(name, next_run_at=following(row, row.now))
    return True


def run_now(queries: Queries, name: str, *, ring: Notify) -> Steps[str]:
    """Make a job of it now; its next time stays. Returns the job's id. Raises ConfigError if there is none."""
    row = yield from _locked(queries, name)
    job_id, due_at = new_id(), row.now.astimezone(UTC)
    yield queries.answer([{"schedule": name, "due_at": due_at, "job_id": job_id, "skipped": None}])
    made = yield from make_job(queries, row._replace(jitter_s=0.0), due_at, job_id=job_id, ring=ring)
    yield queries.schedule_ran(name, job_id=made)
    return made


def change(queries: Queries, name: str, changes: Mapping[str, Any], *, task: str | None = None) -> Steps[ScheduleRow]:
    """Change a schedule as a person: deploys leave it alone from then on. With a task: make it, if there is none.

    changes: the keywords of App.schedule for when, args and kwargs (as JSON text), and queue. Raises ConfigError.
    """
    yield queries.lock_schedules()
    rows = yield from ask(queries.schedules(name))
    if not rows and task is None:
        raise (yield from _none(queries, name))
    row = rows[0] if rows else None
    wanted = wanted_of(row) if row else Schedule(name=name, task=str(task))
    wanted = changed(wanted, changes, task=task)
    (now,) = yield from ask(queries.schedules_now())
    fingerprint = row.fingerprint if row else None
    yield queries.put_schedule(put_values(wanted, row, now=now, fingerprint=fingerprint, source="person"))
    return (yield from _row(queries, name))


def changed(wanted: Schedule, changes: Mapping[str, Any], *, task: str | None) -> Schedule:
    """With these changes, checked. Raises InvalidOption."""
    said: dict[str, Any] = read(changes)
    if "every_s" in said and "cron" not in said:
        said |= {"cron": None, "tz": "UTC"}
    elif "cron" in said and "every_s" not in said:
        said["every_s"] = None
    said |= {name: changes[name] for name in ("args", "kwargs") if changes.get(name) is not None}
    if task is not None:
        said["task"] = task
    options, overlap = wanted.options, overlap_of(wanted.overlap, wanted.options)
    if changes.get("queue") is not None:
        options = stored(replace(options_of(options), queue=changes["queue"]))
    made = replace(wanted, **with_overlap({"overlap": overlap, **said}, options))
    made.check()
    return made


def reset(queries: Queries, name: str) -> Steps[bool]:
    """Undo what people changed: it is as the code declares it. False: it was. Raises ConfigError where no code does."""
    row = yield from _locked(queries, name)
    winner = yield from _winner(queries, name)
    if winner is None:
        raise ConfigError(
            f"no live worker's code declares the schedule '{name}': start one that does, or `pgqueue cron remove {name}`"
        )
    if row.source == "code" and row.fingerprint == winner.fingerprint:
        return False
    yield queries.put_schedule(put_values(schedule_of(winner.spec), row, now=row.now, fingerprint=winner.fingerprint))
    return True


def remove(queries: Queries, name: str) -> Steps[None]:
    """Forget it; its jobs stay. Raises ConfigError where code declares it, as the next worker would make it again."""
    yield from _locked(queries, name)
    if (yield from _winner(queries, name)) is not None:
        raise ConfigError(
            f"the code of live workers declares the schedule '{name}': remove it there, or `pgqueue cron pause {name}`"
        )
    yield queries.remove_schedule(name)


def add(queries: Queries, schedules: Iterable[Schedule]) -> Steps[None]:
    """Make these as a person does, all or none. Raises ConfigError where there is one of the name."""
    yield queries.lock_schedules()
    (now,) = yield from ask(queries.schedules_now())
    for schedule in schedules:
        if (yield from ask(queries.schedules(schedule.name))):
            raise ConfigError(
                f"there is a schedule '{schedule.name}' already: `pgqueue cron set {schedule.name}` changes it"
            )
        yield queries.put_schedule(put_values(schedule, None, now=now, fingerprint=None, source="person"))


def _winner(queries: Queries, name: str) -> Steps[Winner | None]:
    return next((winner for winner in (yield from ask(queries.schedule_winners())) if winner.name == name), None)


def _locked(queries: Queries, name: str) -> Steps[ScheduleRow]:
    yield queries.lock_schedules()
    return (yield from _row(queries, name))


def _row(queries: Queries, name: str) -> Steps[ScheduleRow]:
    rows = yield from ask(queries.schedules(name))
    if not rows:
        raise (yield from _none(queries, name))
    return rows[0]


def _none(queries: Queries, name: str) -> Steps[ConfigError]:
    names = [row.name for row in (yield from ask(queries.schedules()))]
    close = get_close_matches(name, names, n=1)
    hint = (
        f"did you mean '{close[0]}'?"
        if close
        else f"there are {', '.join(names[:20])}"
        if names
        else "there is none at all"
    )
    return ConfigError(f"no schedule has the name '{name}'; {hint}")


def times_from(row: ScheduleRow, count: int) -> list[datetime]:
    """The next times after now."""
    found: list[datetime] = []
    after = row.now
    while len(found) < count and (moment := following(row, after)) is not None:
        found.append(moment)
        after = moment
    return found
