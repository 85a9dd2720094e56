"""Notices when an async task blocks the event loop that it shares with others, and says which and where."""

import asyncio
import logging
import sys
import threading
import time
import traceback
from types import FrameType

from pgqueue.worker.child.executor import Attempt
from pgqueue.worker.settings import BLOCKED_S

logger = logging.getLogger("pgqueue.worker")


class BlockedLoopWatch:
    """Watches the loop of one child from a thread of its own, which sleeps while no async job runs."""

    def __init__(self, loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
        self._loop = loop
        self._thread = thread
        self._jobs = 0
        self._busy = threading.Event()
        self._told: set[str] = set()

    def started(self) -> None:
        """One more job runs on the loop."""
        self._jobs += 1
        self._busy.set()

    def ended(self) -> None:
        """One less."""
        self._jobs -= 1

    def run(self) -> None:
        """Watch as long as the process lives."""
        while True:
            self._busy.wait()
            turned = threading.Event()
            self._loop.call_soon_threadsafe(turned.set)
            if not turned.wait(BLOCKED_S):
                self._warn(sys._current_frames().get(self._thread.ident or 0))
                turned.wait()
            time.sleep(BLOCKED_S)
            if not self._jobs:
                self._busy.clear()
                if self._jobs:  # it came between the two lines above
                    self._busy.set()

    def _warn(self, frame: FrameType | None) -> None:
        """Once per task: one that blocks does so at every job."""
        stack = list(traceback.walk_stack(frame)) if frame is not None else []
        attempts = (each.f_locals.get("self") for each, _ in stack)
        attempt = next((each for each in attempts if isinstance(each, Attempt)), None)
        if attempt is None or attempt.task.name in self._told:
            return
        self._told.add(attempt.task.name)
        blocking, line = stack[0]
        logger.warning(
            "async task %s has blocked the event loop for more than %g s, in %s line %d: no other async job makes progress. Await "
            "what takes long, use asyncio.to_thread, or make it a sync task.",
            attempt.task.name, BLOCKED_S, blocking.f_code.co_filename, line,
        )  # fmt: skip
