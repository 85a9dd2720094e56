"""Schedules while a test lets time pass: what falls due in that span is fired, one due time after the other, as a worker would.

Their due times are those of the clock on the wall, so they are not moved as jobs are: the time that has passed is added to the
database's, and that is the time at which they are fired.
"""

from datetime import datetime, timedelta

from pgqueue.app import App
from pgqueue.errors import PgQueueError
from pgqueue.queries import Steps, ask
from pgqueue.schedules.declare import put_values
from pgqueue.schedules.fire import fire_round

MOST_TICKS = 10_000  # in one span: a schedule of every second would fill a year with 31 million jobs


def fire_schedules(app: App, *, begin_s: float, end_s: float) -> Steps[None]:
    """Those of the app, and others in the database, between two spans after now."""
    queries = app.queries
    declared = app.schedules.made()
    rows = {row.name: row for row in (yield from ask(queries.schedules()))}
    if not (declared or rows):
        return
    (now,) = yield from ask(queries.schedules_now())
    begin, end = (now + timedelta(seconds=span_s) for span_s in (begin_s, end_s))
    for schedule in declared:
        if schedule.name not in rows:
            yield queries.put_schedule(put_values(schedule, None, now=begin, fingerprint=schedule.fingerprint))
    for _ in range(MOST_TICKS):
        due_at = yield from _next(app, end)
        if due_at is None:
            return
        done = yield from fire_round(queries, ring="idle", now=due_at, jitter=False)
        for name, why in done.unable.items():
            raise PgQueueError(f"schedule {name}: {why}")
    raise PgQueueError(
        f"more than {MOST_TICKS:,} due times of schedules fall into this span: let less time pass at once"
    )


def _next(app: App, end: datetime) -> Steps[datetime | None]:
    """The first due time up to the end."""
    rows = yield from ask(app.queries.schedules())
    due = [row.next_run_at for row in rows if row.next_run_at is not None and row.stopped_at is None]
    return min((at for at in due if at <= end), default=None)
