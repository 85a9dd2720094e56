"""The processes of an app's relays, one for each lane: started, started again after their death, and stopped with the worker.

The lanes are held by leases, so that each is relayed by one process however many workers there are; the others wait for it.
"""

import asyncio
import logging
from typing import Any

from pgqueue.events.subscription import Subscription
from pgqueue.worker.link.greeting import RelaySetup
from pgqueue.worker.settings import BACK_OFF_MAX_S, EXIT_S, Settings
from pgqueue.worker.supervisor.child_process import ChildProcess

logger = logging.getLogger("pgqueue.worker")

RELAY_RESTART_S = 1.0  # after the first death; twice as long after each of those that follow soon
STEADY_S = 60.0  # a process that lived so long did not die at its start


class Relays:
    """Nothing at all where the app has no relay. A burst has none: it ends, and they would not."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._running: set[ChildProcess] = set()
        self._stopping = False

    async def run(self, dsn: str, config: dict[str, Any], subscriptions: list[dict[str, Any]]) -> None:
        """Keep a process for each lane, until cancelled."""
        setups = [
            RelaySetup(
                dsn=dsn, config=config, relay=row, lane=lane, log_level=self._settings.log_level,
                log_format=self._settings.log_format,
            )
            for row in ([] if self._settings.burst else subscriptions)
            if Subscription(**row).mode == "relay"
            for lane in range(row["lanes"])
        ]  # fmt: skip
        async with asyncio.TaskGroup() as group:
            for setup in setups:
                group.create_task(self._keep(setup))
            await asyncio.get_running_loop().create_future()

    async def _keep(self, setup: RelaySetup) -> None:
        failures = 0
        while not self._stopping:
            began = asyncio.get_running_loop().time()
            told = await self._one(setup)
            if self._stopping:
                return
            failures = 1 if asyncio.get_running_loop().time() - began > STEADY_S else failures + 1
            pause_s = min(BACK_OFF_MAX_S, RELAY_RESTART_S * 2.0 ** (failures - 1))
            logger.error(
                "relay %s, lane %d: %s; starting it again in %g s", setup.relay["name"], setup.lane, told, pause_s
            )
            await asyncio.sleep(pause_s)

    async def _one(self, setup: RelaySetup) -> str:
        """Run one process to its end; what became of it."""
        told: list[str] = []
        process = ChildProcess(
            threads=1, heard=lambda message: told.extend(message[1:]), hung_up=lambda: None, program="relay"
        )
        try:
            await process.launch(setup)
        except OSError as error:
            return f"its process cannot be started ({error.strerror})"
        self._running.add(process)
        try:
            await process.ended()
        finally:
            if not self._stopping:
                process.kill()
            self._running.discard(process)
            process.close()
        return told[0] if told else f"its process {process.death()}"

    async def stop(self) -> None:
        """Let each process end what it is sending, and leave its lane to another worker."""
        self._stopping = True
        running = list(self._running)
        for process in running:
            process.send("stop")
        try:
            async with asyncio.timeout(EXIT_S):
                await asyncio.gather(*(process.ended() for process in running))
        except TimeoutError:
            for process in running:
                process.kill()
