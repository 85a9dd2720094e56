"""Where a new subscription begins: now, at the beginning of the log, from a time on, or from an event on."""

import uuid
from datetime import UTC, datetime, timedelta

from pgqueue.client.options import check_aware
from pgqueue.errors import InvalidOption
from pgqueue.queries import Queries, Steps, ask
from pgqueue.queries.events import Begin

StartAt = str | datetime
"""`now`, `begin`, an aware datetime, or the id of an event: it is the first one, as what was published at the time is."""

FIRST_TICK = 0  # sees nothing; others are numbered from 1 on
CLOCKS = timedelta(days=1)  # so far the clock of a publisher, which is in the id, may be from that of the database


def check_start(value: object) -> StartAt:
    """Raise InvalidOption for what is no start."""
    if isinstance(value, datetime):
        check_aware("start", value)
        return value.astimezone(UTC)
    if value in ("now", "begin"):
        return str(value)
    try:
        return str(uuid.UUID(str(value)))
    except ValueError:
        raise InvalidOption(
            f"start={value!r} is not understood: take 'now', 'begin', an aware datetime or the id of an event"
        ) from None


def find_start(queries: Queries, start: StartAt) -> Steps[Begin]:
    """The place of a start, among the ticks that are locked. Raises InvalidOption where there is no such event."""
    if start == "now":
        return Begin()
    yield queries.first_tick()
    if start == "begin":
        return Begin(FIRST_TICK)
    if isinstance(start, datetime):
        ((tick,),) = yield from ask(queries.tick_before(start))
        return Begin(tick, 0, start)
    made_at = _time_of(uuid.UUID(start))
    found = yield from ask(queries.tick_of_event(start, low=made_at - CLOCKS, high=made_at + CLOCKS))
    if not found:
        raise InvalidOption(f"start={start} is the id of no event in the log: its retention may be over")
    ((tick, seq),) = found
    return Begin(tick, max(seq - 1, 0))  # with the event itself


def _time_of(event: uuid.UUID) -> datetime:
    return datetime.fromtimestamp((event.int >> 80) / 1000, UTC)
