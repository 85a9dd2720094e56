"""An event loop in a thread of its own, for clients that know asyncio alone.

It turns between two calls too: a server closes a connection whose heartbeats nobody answers.
"""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
FAREWELL_S = 1.0  # what a client may take to say farewell to a server that may be frozen

ROUNDS = 5


class LoopThread:
    """Started by the first `run`, and again by one after `close`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, work: Coroutine[Any, Any, T], *, within_s: float) -> T:
        """What the coroutine returns or raises. Raises TimeoutError after that time; the coroutine is cancelled then."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name=f"pgqueue {self._name}", daemon=True)
            self._thread.start()
        future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, within_s), self._loop)
        try:
            # A client may not let itself be cancelled; it is left to `close` then.
            return future.result(within_s + FAREWELL_S)
        except BaseException:  # also a signal's, while this thread waits
            future.cancel()
            raise

    def close(self) -> None:
        """End what is still under way, then the thread."""
        loop, self._loop = self._loop, None
        if loop is None or self._thread is None:
            return
        asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join()
        loop.close()


async def _cancel_all() -> None:
    """Until none is left: what is cancelled may begin its own farewell, and wait for that."""
    for _ in range(ROUNDS):
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if not others:
            break
        for task in others:
            task.cancel()
        await asyncio.wait(others, timeout=FAREWELL_S / ROUNDS)
    await asyncio.sleep(0)  # transports that were closed close their sockets in the next turn
    await asyncio.get_running_loop().shutdown_asyncgens()
