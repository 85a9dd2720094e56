"""Schedules of other schedulers as ours: Celery beat's, APScheduler's, and those of RQ and rq-scheduler.

They are read by their shape, so none of these packages is needed here. What has no counterpart is refused by name, with the reason:
nothing is guessed.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

from pgqueue.client.enqueue import Call
from pgqueue.client.options import Options
from pgqueue.codec.calls import encode_plain
from pgqueue.errors import ConfigError, InvalidOption, PgQueueError
from pgqueue.schedules.app_schedules import MAX_CALL_BYTES
from pgqueue.schedules.cron import check_cron
from pgqueue.schedules.schedule import Schedule

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")  # as APScheduler counts them, from 0
POSITIONS = {"1st": "#1", "2nd": "#2", "3rd": "#3", "4th": "#4", "5th": "#5", "last": "L"}


class Imported(NamedTuple):
    """What was found: schedules of ours, and by name why the others cannot be any."""

    schedules: list[Schedule]
    refused: dict[str, str]


class FoundEntry(NamedTuple):
    """One entry of another scheduler, in common terms; timing has the keywords of App.schedule."""

    task: str
    timing: dict[str, Any]
    args: Iterable[Any] = ()
    kwargs: Mapping[str, Any] = {}
    options: Mapping[str, Any] = {}


def imported(source: Any, *, tz: str | None = None) -> Imported:
    """What a Celery app or its beat_schedule, a scheduler of APScheduler 3 or rq-scheduler, or a list of RQ's cron jobs holds.

    tz: the zone of those that say none. Raises ConfigError for anything else.
    """
    schedules: dict[str, Schedule] = {}
    refused: dict[str, str] = {}
    for name, entry, read in _entries(source, tz):
        try:
            if name in schedules:
                raise InvalidOption("another one has this name")
            found = read(entry)
            options = Options.make(f"schedule {name}", **found.options)
            schedules[name] = Schedule.make(name, task=found.task, call=_call(found), options=options, **found.timing)
        except (PgQueueError, TypeError) as error:
            refused[name] = str(error).removeprefix(f"schedule {name}: ")
    return Imported([*schedules.values()], refused)


Read = Callable[[Any], FoundEntry]


def _entries(source: Any, tz: str | None) -> Iterator[tuple[str, Any, Read]]:
    """The names, what is there, and what reads that."""
    if (beat := getattr(getattr(source, "conf", None), "beat_schedule", None)) is not None:
        zone = str(source.conf.timezone or "UTC")
        yield from ((str(name), entry, partial(_of_celery, zone=zone)) for name, entry in beat.items())
    elif isinstance(source, Mapping):
        yield from ((str(name), entry, partial(_of_celery, zone=tz or "UTC")) for name, entry in source.items())
    elif (jobs := _jobs_of(source)) is not None:
        for job in jobs:
            name = str(getattr(job, "id", None) or job.name)
            yield name, job, _of_apscheduler if hasattr(job, "trigger") else partial(_of_rq, tz=tz)
    else:
        raise ConfigError(
            f"a {type(source).__name__} holds no schedule that is known: name a Celery app or its beat_schedule, a scheduler of "
            "APScheduler 3 or rq-scheduler, or a list of RQ's cron jobs"
        )


def _jobs_of(source: Any) -> list[Any] | None:
    if hasattr(source, "get_jobs"):
        return list(source.get_jobs())
    return [*source] if isinstance(source, list | tuple) and all(hasattr(job, "func_name") for job in source) else None


def _call(found: FoundEntry) -> Call:
    return (
        encode_plain(list(found.args), path=f"{found.task}: args", max_bytes=MAX_CALL_BYTES),
        encode_plain(dict(found.kwargs), path=f"{found.task}: kwargs", max_bytes=MAX_CALL_BYTES),
    )


# -- Celery beat --


def _of_celery(entry: Mapping[str, Any], *, zone: str) -> FoundEntry:
    said = dict(entry.get("options") or {})
    options: dict[str, Any] = {name: said.pop(name) for name in ("queue", "expires") if name in said}
    if said:
        raise InvalidOption(f"options {', '.join(sorted(map(str, said)))} have no counterpart")
    return FoundEntry(
        str(entry["task"]),
        _celery_times(entry["schedule"], zone),
        entry.get("args") or (),
        entry.get("kwargs") or {},
        options,
    )


def _celery_times(when: Any, zone: str) -> dict[str, Any]:
    kind = type(when).__name__
    if isinstance(when, timedelta | int | float):
        return {"every": when}
    if kind == "crontab":
        return {"cron": _celery_cron(when), "tz": zone}
    if kind == "schedule" and isinstance(when.run_every, timedelta):
        return {"every": when.run_every}
    if kind == "solar":
        raise InvalidOption("solar: its times follow the sun, and cron's do not")
    raise InvalidOption(f"{kind}: its times are code, which only Celery can run")


def _celery_cron(when: Any) -> str:
    names = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
    fields = [_field(getattr(when, f"_orig_{name}")) for name in names]
    if fields[2] != "*" and fields[4] != "*":
        raise InvalidOption(
            "crontab: day_of_month and day_of_week are both given: Celery means days that are both, and cron those that are either"
        )
    return " ".join(
        field if _is_cron(field, place) else _field(getattr(when, name))
        for place, (field, name) in enumerate(zip(fields, names, strict=True))
    )


def _field(value: Any) -> str:
    """As Celery was given it: a text, a number, or several of them."""
    if isinstance(value, str | int):
        return str(value).replace(" ", "")
    return ",".join(str(each) for each in sorted(value))


def _is_cron(field: str, place: int) -> bool:
    """Else it is named value by value: Celery takes more, such as `friday` and `fri-mon`."""
    try:
        check_cron("cron", " ".join(["*"] * place + [field] + ["*"] * (4 - place)))
    except InvalidOption:
        return False
    return True


# -- APScheduler 3 --


def _of_apscheduler(job: Any) -> FoundEntry:
    timing = _apscheduler_times(job.trigger)
    if getattr(job.trigger, "jitter", None):
        timing["jitter"] = job.trigger.jitter
    if getattr(job, "max_instances", 1) > 1:
        timing["overlap"] = "allow"
    return FoundEntry(str(job.func_ref).replace(":", "."), timing, job.args, job.kwargs)


def _apscheduler_times(trigger: Any) -> dict[str, Any]:
    kind = type(trigger).__name__
    if kind not in ("CronTrigger", "IntervalTrigger"):
        why = "it runs once: use options(at=...).defer()" if kind == "DateTrigger" else "it has no counterpart"
        raise InvalidOption(f"{kind}: {why}")
    if getattr(trigger, "end_date", None) is not None:
        raise InvalidOption(f"{kind}: it ends at {trigger.end_date}, and a schedule here does not")
    if kind == "IntervalTrigger":
        return {"every": trigger.interval}
    fields = {field.name: str(field) for field in trigger.fields}
    for name in ("year", "week"):
        if fields[name] != "*":
            raise InvalidOption(f"CronTrigger: {name}={fields[name]} has no counterpart in cron")
    day, weekday = _apscheduler_days(fields["day"], fields["day_of_week"])
    cron = [fields["second"], fields["minute"], fields["hour"], day, fields["month"], weekday]
    return {"cron": " ".join(cron[1:] if cron[0] == "0" else cron), "tz": str(trigger.timezone)}


def _apscheduler_days(day: str, weekday: str) -> tuple[str, str]:
    if day != "*" and weekday != "*":
        raise InvalidOption(
            "CronTrigger: day and day_of_week are both given: APScheduler means days that are both, and cron those that are either"
        )
    if day == "last":
        return "L", "*"
    position, _, name = day.partition(" ")
    if position in POSITIONS and name in WEEKDAYS:  # as in "2nd fri"
        return "*", f"{_cron_day(WEEKDAYS.index(name))}{POSITIONS[position]}"
    return day, weekday if weekday == "*" else ",".join(_weekdays(weekday))


def _weekdays(text: str) -> Iterator[str]:
    """By name or by number, of which Monday is 0 there and 1 in cron."""
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        if span == "*":
            begin, end = 0, 6
        else:
            begin = _weekday(first)
            end = _weekday(last) if last else 6 if step else begin
        for day in range(begin, end + 1, int(step or 1)):
            yield str(_cron_day(day))


def _weekday(text: str) -> int:
    return WEEKDAYS.index(text) if text in WEEKDAYS else int(text)


def _cron_day(day: int) -> int:
    return (day + 1) % 7


# -- RQ and rq-scheduler --


def _of_rq(job: Any, *, tz: str | None) -> FoundEntry:
    """A job of rq-scheduler, which keeps its times in meta, or one of RQ's own cron jobs, whose clocks are the machine's."""
    meta = getattr(job, "meta", None) or {}
    cron, interval = (
        meta.get("cron_string", getattr(job, "cron", None)),
        meta.get("interval", getattr(job, "interval", None)),
    )
    if not cron and not interval:
        raise InvalidOption("it runs once: use options(at=...).defer()")
    if meta.get("repeat") is not None:
        raise InvalidOption(f"it ends after {meta['repeat']} runs, and a schedule here does not")
    local = meta.get("use_local_timezone", "cron_string" not in meta)
    if cron and local and tz is None:
        raise InvalidOption(
            f"cron {cron!r} goes by the clocks of the machine that runs it: say which, by --tz Europe/Berlin"
        )
    queue = getattr(job, "origin", None) or getattr(job, "queue_name", None)
    timing = {"cron": cron, "tz": tz if local else "UTC"} if cron else {"every": interval}
    return FoundEntry(str(job.func_name), timing, job.args or (), job.kwargs or {}, {"queue": queue})


def as_code(schedule: Schedule) -> str:
    """The line that declares it: `app.schedule(...)`."""
    said = json.loads(schedule.options)
    said = {{"timeout_s": "timeout", "expires_s": "expires"}.get(name, name): value for name, value in said.items()}
    parts = {
        "args": json.loads(schedule.args) or None, "kwargs": json.loads(schedule.kwargs) or None, "cron": schedule.cron,
        "tz": schedule.tz if schedule.cron and schedule.tz != "UTC" else None, "every": schedule.every_s,
        "jitter": schedule.jitter_s or None, "overlap": schedule.overlap if schedule.overlap != "skip" else None, **said,
    }  # fmt: skip
    words = "".join(f", {name}={value!r}" for name, value in parts.items() if value is not None)
    return f"app.schedule({schedule.name!r}, {schedule.task!r}{words})"
