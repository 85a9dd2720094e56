"""The scheduler: makes the jobs of schedules that are due, on the side connection, so that no claim and no finish waits for it.

There is no leader: every worker of the schema knows when the next one is due, as its heartbeat asks, and who comes first makes the
jobs. Where there are no schedules there is no statement.
"""

import logging
import math
import time
from collections.abc import Sequence

from pgqueue import db
from pgqueue.config import Notify
from pgqueue.queries import Queries, Steps
from pgqueue.schedules.declare import declare, reconcile
from pgqueue.schedules.fire import Firing, fail_one, fire_round
from pgqueue.schedules.schedule import Schedule
from pgqueue.worker.supervisor.connection import TRANSIENT, RetryPacing
from pgqueue.worker.supervisor.idle import wait
from pgqueue.worker.supervisor.side_connection import SideConnection
from pgqueue.worker.supervisor.wakeups import Wakeups

logger = logging.getLogger("pgqueue.worker")

RECONCILE_S = 60.0  # how soon a rollback counts after the last new worker is gone
TAKEN_LOOK_S = 0.5  # until the next look at a schedule that another worker has taken
ASIDE_S = 10.0  # until the next look at one that cannot be answered


class Scheduler:
    """Fires the schedules of one schema, and keeps them in line with what code declares. `declared`: by that of this worker."""

    def __init__(
        self,
        connection: SideConnection,
        queries: Queries,
        wakeups: Wakeups,
        declared: Sequence[Schedule],
        *,
        ring: Notify,
    ) -> None:
        self._connection = connection
        self._queries = queries
        self._wakeups = wakeups
        self._declared = declared
        self._ring: Notify = ring
        self._aside: dict[str, float] = {}  # names, and until when (monotonic)
        self._others_due_at = math.inf
        self._told: dict[str, str] = {}
        self._reconcile_at = math.inf

    @property
    def fingerprints(self) -> list[str]:
        """For this worker's row: of what its code declares."""
        return [schedule.fingerprint for schedule in self._declared]

    async def declare(self) -> None:
        """Say what the code declares; once the worker has signed in."""
        if self._declared:
            unable = await self._connection.run(declare(self._queries, self._declared), transaction=True)
            self._tell(unable)
            self._reconcile_at = time.monotonic() + RECONCILE_S
            self._wakeups.schedule_due_in(0.0)  # to learn when the first is due

    async def run(self) -> None:
        """Fire, again and again."""
        pacing = RetryPacing(self._connection.troubles)
        while True:
            until = min(self._reconcile_at, self._due_at())
            await wait(self._wakeups.scheduled, max(0.0, until - time.monotonic()))
            self._wakeups.scheduled.clear()
            try:
                await self._step()
                pacing.passed()
            except TRANSIENT as error:
                await pacing.wait("making jobs of schedules", error)

    async def _step(self) -> None:
        now = time.monotonic()
        if self._reconcile_at == math.inf:
            self._reconcile_at = now + RECONCILE_S  # others' schedules
        elif now >= self._reconcile_at:
            self._tell(await self._connection.run(reconcile(self._queries), transaction=True))
            self._reconcile_at = time.monotonic() + RECONCILE_S
        if time.monotonic() >= self._due_at():
            await self._fire()

    def _due_at(self) -> float:
        """When the next one is due; while some are set aside, the heartbeat would name these again and again."""
        now = time.monotonic()
        self._aside = {name: until for name, until in self._aside.items() if until > now}
        if self._aside:
            return min(self._others_due_at, *self._aside.values())
        return math.inf if self._wakeups.schedule_due_at is None else self._wakeups.schedule_due_at

    async def _fire(self) -> None:
        try:
            done = await self._round()
        except db.DatabaseError as error:
            if not _is_of_one(error):
                raise
            done = await self._one_by_one()
        self._set_aside(done.unable)
        if done.more:
            return  # at once again: it is still due
        due_s = done.due_s if done.due_s is None or done.due_s > 0 else TAKEN_LOOK_S
        self._wakeups.schedule_due_at = None if due_s is None else time.monotonic() + due_s
        self._others_due_at = self._wakeups.schedule_due_at or math.inf

    async def _round(self, *, most: int | None = None, taken: list[str] | None = None) -> Firing:
        done: Firing = await self._connection.run(self._patiently(most, taken), transaction=True)
        return done

    def _patiently(self, most: int | None, taken: list[str] | None) -> Steps[Firing]:
        yield self._queries.schedule_patience()
        return (yield from fire_round(self._queries, ring=self._ring, unable=list(self._aside), most=most, taken=taken))

    async def _one_by_one(self) -> Firing:
        """One of them cannot be answered, as the server refuses its job or a caller's transaction holds its unique key: it must not
        hold up the others.
        """
        while True:
            taken: list[str] = []
            try:
                done = await self._round(most=1, taken=taken)
            except db.DatabaseError as error:
                if not (taken and _is_of_one(error)):
                    raise
                await self._pass_over(taken[0], error)
                continue
            self._set_aside(done.unable)
            if not done.more:
                return done

    async def _pass_over(self, name: str, error: db.DatabaseError) -> None:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        if db.is_of_values(error):
            await self._connection.run(fail_one(self._queries, name, error=why), transaction=True)
            logger.error("schedule %s: its job cannot be made: %s", name, why)
        else:
            self._set_aside({name: why})

    def _set_aside(self, unable: dict[str, str]) -> None:
        """Look at these later, and let other workers do it."""
        self._aside |= dict.fromkeys(unable, time.monotonic() + ASIDE_S)
        self._tell(unable)

    def _tell(self, unable: dict[str, str]) -> None:
        """Log once why one is left to others."""
        for name, why in unable.items():
            if self._told.get(name) != why:
                logger.error(
                    "schedule %s cannot be run now: %s; it is tried again, here and by other workers", name, why
                )
        self._told |= unable


def _is_of_one(error: db.DatabaseError) -> bool:
    """Whether one schedule may be the reason."""
    return db.is_of_values(error) or db.is_refusal(error) or db.gave_way(error)
