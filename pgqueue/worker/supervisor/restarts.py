"""When a child may be started after one that failed to start, and how long its start may take."""

import asyncio
import contextlib
import time

from pgqueue.worker.settings import BACK_OFF_MAX_S, FIRST_START_S, START_FACTOR, START_GAP_S, START_S


class RestartPacing:
    """The pace of one worker's starts, of all its children together."""

    def __init__(self) -> None:
        self.limit_s = FIRST_START_S
        self._slowest_s = 0.0
        self._next_at = 0.0
        self._better = asyncio.Event()
        self._over = asyncio.Event()

    def started(self, took_s: float) -> None:
        """A child has started: whatever kept others from it is gone, so no start waits any longer."""
        self._slowest_s = max(self._slowest_s, took_s)
        self.limit_s = max(START_S, START_FACTOR * self._slowest_s)
        self._next_at = 0.0
        self._better.set()

    async def back_off(self, failures: int) -> None:
        """Wait before another try: longer each time, and so that all children together try no more than once a second."""
        now = time.monotonic()
        pause_s = min(BACK_OFF_MAX_S, 2.0 ** (failures - 1))
        self._next_at = max(self._next_at + START_GAP_S, now + pause_s)
        self._better.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._better.wait(), self._next_at - now)

    async def rest(self, spoiled: int) -> None:
        """Wait before a child takes the place of one that was spoiled and had done nothing, the `spoiled`th in a row there.

        All of them started, so a start elsewhere is no reason to try again.
        """
        if spoiled > 1:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), min(BACK_OFF_MAX_S, 2.0 ** (spoiled - 2)))

    def hurry(self) -> None:
        """What waits here sees at once that all is over."""
        self._better.set()
        self._over.set()
