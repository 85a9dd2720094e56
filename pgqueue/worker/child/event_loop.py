"""The event loop of one child, on which its async jobs run, with the threads that turn and watch it."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from pgqueue.worker.child.blocked_loop import BlockedLoopWatch
from pgqueue.worker.child.copies import Copies

T = TypeVar("T")


class EventLoop:
    """Started by the first that needs it; after that by nobody."""

    def __init__(self, copies: Copies) -> None:
        self._copies = copies
        self._loop: asyncio.AbstractEventLoop | None = None
        self.watch: BlockedLoopWatch
        """Once it is started."""

    def get(self) -> asyncio.AbstractEventLoop:
        """The loop, which turns."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            thread = threading.Thread(target=self._loop.run_forever, name="pgqueue async", daemon=True)
            self.watch = BlockedLoopWatch(self._loop, thread)
            self._copies.keep_loop_from(self._loop, thread)
            thread.start()
            threading.Thread(target=self.watch.run, name="pgqueue watch", daemon=True).start()
        return self._loop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to the end what a thread waits for."""
        return asyncio.run_coroutine_threadsafe(work, self.get()).result()
