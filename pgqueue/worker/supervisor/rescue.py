"""What a worker does for the others: note whose session is gone, declare the dead dead, take their jobs back.

The heartbeat's statement finds them, as it looks at all workers while it renews our own lease. Being wrong costs time and no
job: every write is fenced, so that a worker which was declared dead and lives can change nothing.
"""

import logging
from collections.abc import Sequence

from pgqueue import db
from pgqueue.queries import Queries
from pgqueue.worker.settings import CRASH_CAP, GRACE_S
from pgqueue.worker.supervisor.connection import TroubleLog
from pgqueue.worker.supervisor.control_connection import ControlConnection
from pgqueue.worker.supervisor.wakeups import Wakeups

logger = logging.getLogger("pgqueue.worker")


class Rescue:
    """Looks after the other workers. Rings when jobs were put back into the queue."""

    def __init__(self, control: ControlConnection, queries: Queries, *, troubles: TroubleLog, wakeups: Wakeups) -> None:
        self._control = control
        self._queries = queries
        self._troubles = troubles
        self._wakeups = wakeups

    async def look_after(self, expired: Sequence[str], sessionless: Sequence[str], orphaning: Sequence[str]) -> None:
        """Workers whose lease expired, whose session lock is free, and dead ones that still hold jobs."""
        if sessionless:
            await self._control.run(self._queries.suspect(sessionless))
        if expired:
            await self._declare_dead(expired)
        if gone := sorted({*expired, *orphaning}):
            try:
                await self._take_back(gone)
            except db.DatabaseError as error:
                if db.is_of_the_moment(error) and not isinstance(error, db.Blocked):
                    raise
                # The next heartbeat that asks the jobs finds them again; until then this worker keeps its lease.
                self._troubles.log("rescuing the jobs of dead workers", error)

    async def _declare_dead(self, expired: Sequence[str]) -> None:
        for dead in await self._control.run(self._queries.bury(expired, grace_s=GRACE_S)):
            logger.warning("worker %s (%s) is dead; %d of its sessions were ended", dead.name, dead.id, dead.sessions)

    async def _take_back(self, workers: Sequence[str]) -> None:
        while True:
            (rescued,) = await self._control.run(self._queries.rescue(workers, crash_cap=CRASH_CAP))
            if not rescued.returned and not rescued.ended:
                self._wakeups.sweep_soon()  # they may have owed a look at a gate
                return
            logger.warning(
                "rescued %d jobs from dead workers; %d more are quarantined or cancelled",
                rescued.returned,
                rescued.ended,
            )
            self._wakeups.look_at(rescued.gates)
            self._wakeups.ring()
