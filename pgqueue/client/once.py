"""The first call of a key in a period makes a job, and the others find it, also when it has ended long ago.

A key's row outlives the job, as a unique key does not. It is taken in the statement that inserts the job, so both are there after
the caller's commit, or neither is. Two callers of one key wait for each other's end, as with unique keys.
"""

from typing import Any, NamedTuple

from pgqueue.config import Notify
from pgqueue.queries import Queries, Steps, ask


class Period(NamedTuple):
    """How long one job is enough."""

    key: str
    every_s: float
    aligned: bool
    """It ends when the clock says so, in UTC; else it begins with its first call."""


def once(queries: Queries, row: dict[str, Any], period: Period, *, ring: Notify) -> Steps[str]:
    """Insert the row if its period is free; returns the id of the period's job.

    The period may end between the insert that met it and the look for its job. Then the insert is tried again.
    """
    while True:
        if made := (yield from ask(queries.insert_once(row, **period._asdict(), ring=ring))):
            return made[0].id
        if held := (yield from ask(queries.period(period.key))):
            return held[0]
