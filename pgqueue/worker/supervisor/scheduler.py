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
from pgqueue.queries import Queries
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
        self._unable: dict[str, str] = {}
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
            due_at = self._wakeups.schedule_due_at
            await wait(
                self._wakeups.scheduled,
                max(0.0, min(self._reconcile_at, math.inf if due_at is None else due_at) - time.monotonic()),
            )
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
        due_at = self._wakeups.schedule_due_at
        if due_at is not None and now >= due_at:
            await self._fire()

    async def _fire(self) -> None:
        try:
            done = await self._round()
        except db.DatabaseError as error:
            if not db.is_of_values(error):
                raise
            done = await self._one_by_one()
        self._tell(done.unable)
        if done.more:
            return  # at once again: it is still due
        due_s = done.due_s if done.due_s is None or done.due_s > 0 else TAKEN_LOOK_S
        self._wakeups.schedule_due_at = None if due_s is None else time.monotonic() + due_s

    async def _round(self, *, most: int | None = None, taken: list[str] | None = None) -> Firing:
        steps = fire_round(self._queries, ring=self._ring, unable=list(self._unable), most=most, taken=taken)
        done: Firing = await self._connection.run(steps, transaction=True)
        return done

    async def _one_by_one(self) -> Firing:
        """The server refuses what one of them says: it must not hold up the others."""
        while True:
            taken: list[str] = []
            try:
                done = await self._round(most=1, taken=taken)
            except db.DatabaseError as error:
                if not (taken and db.is_of_values(error)):
                    raise
                why = (str(error).splitlines() or [type(error).__name__])[0]
                await self._connection.run(fail_one(self._queries, taken[0], error=why), transaction=True)
                logger.error("schedule %s: its job cannot be made: %s", taken[0], why)
                continue
            if not done.more:
                return done

    def _tell(self, unable: dict[str, str]) -> None:
        """Log once what this machine cannot tell the times of: another worker may."""
        for name, why in unable.items():
            if self._unable.get(name) != why:
                logger.error("schedule %s is left to other workers: %s", name, why)
        self._unable |= unable
