"""Bring the rows of schedules into line with what the code of live workers declares.

During a deploy two versions of the code run. Of what live workers declare under a name, that counts which was first seen last: an
old worker that starts again takes nothing back, and after a real rollback the old code counts as soon as the last new worker is
gone.
What a person has changed stays. Who gets here first does it for all, under a lock: "lock, then look".
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pgqueue.queries import Queries, Steps, ask
from pgqueue.queries.schedules import ScheduleRow
from pgqueue.schedules.fire import when_of
from pgqueue.schedules.schedule import Schedule


def declare(queries: Queries, schedules: Sequence[Schedule]) -> Steps[dict[str, str]]:
    """What a worker does at its start, once its row names their fingerprints; in a transaction that the caller sees to."""
    yield queries.lock_schedules()
    if schedules:
        yield queries.saw_schedules(
            [{"name": each.name, "fingerprint": each.fingerprint, "spec": each.spec} for each in schedules]
        )
    return (yield from _reconcile(queries))


def reconcile(queries: Queries) -> Steps[dict[str, str]]:
    """As `declare`, of a worker that has started. Returns the schedules whose rows this process cannot make, with the reason."""
    yield queries.lock_schedules()
    return (yield from _reconcile(queries))


def _reconcile(queries: Queries) -> Steps[dict[str, str]]:
    winners = yield from ask(queries.schedule_winners())
    rows = {row.name: row for row in (yield from ask(queries.schedules()))}
    if not (winners or rows):
        return {}
    (now,) = yield from ask(queries.schedules_now())
    unable: dict[str, str] = {}
    for winner in winners:
        row = rows.get(winner.name)
        if row is not None and row.fingerprint == winner.fingerprint:
            continue
        if row is not None and row.source == "person":
            yield queries.schedule_differs(winner.name, fingerprint=winner.fingerprint)
            continue
        try:
            values = put_values(schedule_of(winner.spec), row, now=now, fingerprint=winner.fingerprint)
        except (ValueError, KeyError, OSError) as error:  # a zone that this machine lacks, and another has
            unable[winner.name] = str(error)
            continue
        yield queries.put_schedule(values)
    yield queries.follow_code([winner.name for winner in winners])
    return unable


def schedule_of(spec: str) -> Schedule:
    """As a worker declared it. A newer version may say more than this one knows."""
    said = json.loads(spec)
    return Schedule(**{name: said[name] for name in Schedule.__dataclass_fields__ if name in said})


def put_values(
    wanted: Schedule, row: ScheduleRow | None, *, now: datetime, fingerprint: str | None, source: str = "code"
) -> dict[str, Any]:
    """The row that a schedule becomes. Where its times change it is next due after now: it never runs for the past."""
    moved = row is None or (row.cron, row.every_s, row.tz) != (wanted.cron, wanted.every_s, wanted.tz)
    anchor_at = now if row is None or moved else row.anchor_at
    after = now if row is None or row.resume_at is None else max(now, row.resume_at)
    return {
        **wanted.as_json(), "anchor_at": anchor_at, "next_run_at": wanted.when(anchor_at).following(after), "moved": moved,
        "source": source, "fingerprint": fingerprint,
    }  # fmt: skip


def wanted_of(row: ScheduleRow) -> Schedule:
    """The schedule that a row is."""
    return Schedule(**{name: getattr(row, name) for name in Schedule.__dataclass_fields__})


def following(row: ScheduleRow, after: datetime) -> datetime | None:
    """When it is due after this."""
    return when_of(row).following(after)
