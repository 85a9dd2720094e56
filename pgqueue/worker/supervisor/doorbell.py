"""The doorbell: hears on the control connection that jobs came, and wakes the claimer.

A notification is a hint, and anybody who may connect can send one. In a flood of needless ones polling is cheaper than
listening, and as sure: so the doorbell unlistens for a while, and listens again afterwards.
"""

import asyncio
import logging
import time

from pgqueue.db.spurious import SpuriousWakeups
from pgqueue.queries import Queries
from pgqueue.worker.settings import FALSE_ALARMS, UNLISTENED_POLL_S, UNLISTENED_S
from pgqueue.worker.supervisor.control_connection import ControlConnection
from pgqueue.worker.supervisor.wakeups import Wakeups

logger = logging.getLogger("pgqueue.worker")


class Doorbell:
    """Listens between two heartbeats. Wakes the claimer when a notification came, or may have; `alarms` counts needless rings."""

    def __init__(
        self,
        control: ControlConnection,
        queries: Queries,
        *,
        wanted: bool,
        alarms: SpuriousWakeups,
        wakeups: Wakeups,
    ) -> None:
        self._control = control
        self._queries = queries
        self._wanted = wanted
        self._alarms = alarms
        self._wakeups = wakeups
        self._silent_until: float | None = None  # monotonic, while unlistened

    @property
    def listens(self) -> bool:
        """Whether notifications can reach us at all: none do behind a pooler."""
        return self._wanted and not self._control.pooled

    async def open(self) -> None:
        """Listen on a connection that is new."""
        self._wakeups.listens = self.listens
        if self.listens:
            self._silent_until = None
            await self._control.run(self._queries.listen_jobs)

    async def wait(self, pause_s: float) -> None:
        """Wait for a ring, at most for so long."""
        if not self.listens:
            await asyncio.sleep(pause_s)
            return
        await self._heed_a_flood()
        if self._silent_until is not None:
            await asyncio.sleep(min(pause_s, UNLISTENED_POLL_S))
            self._wakeups.ring()
        elif await self._control.hear(pause_s):
            self._wakeups.ring()

    async def _heed_a_flood(self) -> None:
        if self._silent_until is None:
            if self._alarms.too_many():
                await self._unlisten()
        elif time.monotonic() >= self._silent_until:
            await self._listen_again()

    async def _unlisten(self) -> None:
        logger.warning(
            "more than %d needless notifications per second: polling instead of LISTEN for %.0f s",
            FALSE_ALARMS,
            UNLISTENED_S,
        )
        self._silent_until = time.monotonic() + UNLISTENED_S
        await self._control.run(self._queries.unlisten)

    async def _listen_again(self) -> None:
        self._silent_until = None
        await self._control.run(self._queries.listen_jobs)
        self._wakeups.ring()  # notifications may have been missed: look once
