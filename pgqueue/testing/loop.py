"""Where async jobs run that a sync test drains: in one event loop for the whole process, as in a child of a worker.

What an app keeps for its loop, as an engine with its pool, lives from one drain to the next.
"""

import asyncio
import atexit
import threading
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

from pgqueue.errors import ConfigError
from pgqueue.job import Outcome
from pgqueue.testing.witness import Witness

T = TypeVar("T")


class JobLoop:
    """The loop of this process; made when the first async job comes."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        self._turn = threading.Lock()

    def run(self, work: Coroutine[Any, Any, T], *, context: Context) -> T:
        """Run a job to its end, one at a time."""
        with self._turn:
            if self._runner is None:
                self._runner = asyncio.Runner()
                atexit.register(self.close)
            return self._runner.run(work, context=context)

    def close(self) -> None:
        """End it, with the pools that were opened for it."""
        with self._turn:
            runner, self._runner = self._runner, None
            if runner is not None:
                runner.close()


job_loop = JobLoop()


def refuse_inside_a_loop(instead: str) -> None:
    """Raises ConfigError where an event loop runs in this thread: its jobs could not."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise ConfigError(f"an event loop is running in this thread: {instead}")


async def execute_in_time(attempt: Witness, connection: Callable[[], Any]) -> Outcome:
    """Run an async job in the asyncio task that calls, which is cancelled when the job's timeout is over, as in a worker."""
    running = asyncio.current_task()
    inside = attempt.execute_inside_async if attempt.task.middleware else attempt.execute_async

    def interrupt() -> None:
        assert running is not None
        attempt.current.time_over = True
        running.cancel()

    if attempt.timeout_s is None:
        return await inside(connection)
    alarm = asyncio.get_running_loop().call_later(attempt.timeout_s, interrupt)
    try:
        return await inside(connection)
    finally:
        alarm.cancel()


def execute_sync(attempt: Witness, connection: Callable[[], Any]) -> Outcome:
    """Run a sync job in this thread. Past its timeout it ends at its next safe point; nothing kills it, as a worker would."""
    inside = attempt.execute_inside if attempt.task.middleware else attempt.execute
    if attempt.timeout_s is None:
        return inside(connection)

    def interrupt() -> None:
        attempt.current.time_over = True

    alarm = threading.Timer(attempt.timeout_s, interrupt)
    alarm.daemon = True
    alarm.start()
    try:
        return inside(connection)
    finally:
        alarm.cancel()
