"""One worker's life: its children are started, then the parts that talk to the database, and all are seen to their end.

Signals only set a flag and wake the loop. The first TERM, INT or HUP (the terminal was closed) stops claiming, gives back
what has not started with its attempt refunded, and lets running jobs finish until the shutdown timeout; a second one, or
QUIT, ends everything at once. Either way every job this worker holds is written back before it signs out.
"""

import asyncio
import gc
import logging
import signal
import time
import uuid
from collections.abc import Callable
from typing import Any

from pgqueue import db
from pgqueue.errors import PgQueueError
from pgqueue.worker.link.greeting import AppFacts, ChildSetup
from pgqueue.worker.settings import Settings
from pgqueue.worker.supervisor.children import Children
from pgqueue.worker.supervisor.connection import TRANSIENT, RetryPacing
from pgqueue.worker.supervisor.helper import Helper
from pgqueue.worker.supervisor.identity import Identity
from pgqueue.worker.supervisor.outcome_queue import OutcomeQueue
from pgqueue.worker.supervisor.parts import Banner, WorkerParts
from pgqueue.worker.supervisor.preflight import check_descriptors
from pgqueue.worker.supervisor.reaper import Reaper, adopts
from pgqueue.worker.supervisor.wakeups import Wakeups

logger = logging.getLogger("pgqueue.worker")

SHUTDOWN_POLL_S = 0.01  # how often a shutdown looks whether it is through
CALLED_OFF_S = 1.0  # a server that is there calls a statement off in a millisecond
COLLECT_AFTER = 10_000  # objects more than were freed, until the collector looks for circles among them
LAST_WORDS_S = 5.0  # for writing outcomes back at the end; what is not written is rescued by others


class Supervisor:
    """Starts the children and, once one of them has sent the app's settings, the other parts.

    `greet` gets the banner when the worker is ready.
    """

    def __init__(self, settings: Settings, *, greet: Callable[[Banner], None]) -> None:
        self._settings = settings
        self._greet = greet
        self._signals = 0
        self._left: str | None = None  # what could not be recorded
        self._signalled = asyncio.Event()
        self._wakeups = Wakeups(Identity(str(uuid.uuid4())))
        self._outcome_queue = OutcomeQueue()
        self._children = Children(settings, self._outcome_queue, self._wakeups)
        self._helper = Helper(settings)

    async def run(self) -> None:
        """Work until a signal or the end of a burst; raises ConfigError, DatabaseUnavailable or SchemaError if it cannot start.

        A burst raises PgQueueError if the end of some job could not be recorded.
        """
        check_descriptors(self._settings)
        self._heed_signals()
        self._children.start(_child_setup(self._settings, self._wakeups.identity))
        parts: WorkerParts | None = None
        try:
            if await self._unless_signalled(hello := self._children.hello):
                parts = WorkerParts(self._settings, self._children, hello.result(), self._outcome_queue, self._wakeups)
                if await self._signed_in(parts) and await self._helped(hello.result()):
                    self._greet(parts.banner())
                    await self._serve(parts)
                    self._account()
        finally:
            await self._children.stop()
            await self._helper.stop()
            if parts is not None:
                await parts.close()

    def _account(self) -> None:
        """Log what was done and could not be recorded; a burst fails with it."""
        if self._left is not None:
            if self._settings.burst:
                raise PgQueueError(self._left)
            logger.error("%s", self._left)

    async def _signed_in(self, parts: WorkerParts) -> bool:
        """Sign in, however long the database is still away: workers and servers of one deployment start together.

        False: a signal came first. Raises what waiting cannot cure, such as a wrong password.
        """
        pacing = RetryPacing(parts.troubles)
        while True:
            try:
                await parts.open()
                return True
            except TRANSIENT as error:
                if not db.may_pass(error):
                    raise
                if not await self._unless_signalled(asyncio.ensure_future(pacing.wait("starting", error))):
                    return False

    async def _helped(self, facts: AppFacts) -> bool:
        """Have the helper call what is to be called before the first job; False: a signal came first."""
        starting = asyncio.create_task(self._helper.start(facts))
        if await self._unless_signalled(starting):
            starting.result()
            return True
        starting.cancel()
        return False

    async def _serve(self, parts: WorkerParts) -> None:
        """Run all parts until it is time to stop; an exception in one of them is a bug and ends the worker."""
        _collect_seldom()
        own = [self._children.tick(), *([Reaper().run()] if adopts() else [])]
        claiming, *others = tasks = [asyncio.create_task(part) for part in (*parts.loops(), *own)]
        stopping = asyncio.create_task(self._signalled.wait())
        try:
            await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
            await self._shut_down(parts, claiming)
        finally:
            stopping.cancel()
            # What a chore was just asking is called off at the server, before its connection is closed under it. If it
            # fails at that moment for a reason of its own (no lock in time), psycopg warns of a connection that is closed
            # anyway; nobody can act on that.
            logging.getLogger("psycopg").setLevel(logging.ERROR)
            for task in (claiming, *others):
                task.cancel()
            await asyncio.wait([claiming, *others], timeout=CALLED_OFF_S)

    async def _shut_down(self, parts: WorkerParts, claiming: "asyncio.Task[None]") -> None:
        """Stop claiming, give back what waits, let the rest finish within the timeout, then release it."""
        self._wakeups.drain()
        await asyncio.wait([claiming], timeout=LAST_WORDS_S)
        running = len(self._children.running())
        if running and self._signals == 1:
            patience_s = self._settings.shutdown_timeout_s
            logger.info("stopping: %d jobs may finish within %g s; a second signal ends them now", running, patience_s)
        self._children.recall()
        await _until(lambda: self._children.idle or self._signals > 1, self._settings.shutdown_timeout_s)
        await self._children.stop()
        await parts.relays.stop()
        # A burst is in no hurry: its exit code is relied on.
        patient = self._settings.burst and not self._signals
        await _until(lambda: parts.finisher.idle, self._settings.shutdown_timeout_s if patient else LAST_WORDS_S)
        self._left = parts.finisher.unrecorded

    def _heed_signals(self) -> None:
        heed = asyncio.get_running_loop().add_signal_handler
        heed(signal.SIGINT, self._on_signal, 1)
        heed(signal.SIGTERM, self._on_signal, 1)
        heed(signal.SIGQUIT, self._on_signal, 2)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
            heed(signal.SIGHUP, self._on_signal, 1)

    def _on_signal(self, weight: int) -> None:
        """One asks to end, two demand it."""
        self._signals += weight
        self._signalled.set()

    async def _unless_signalled(self, future: "asyncio.Future[Any]") -> bool:
        """Wait for a future or a signal; False: the signal."""
        signalled = asyncio.create_task(self._signalled.wait())
        await asyncio.wait([future, signalled], return_when=asyncio.FIRST_COMPLETED)
        signalled.cancel()
        return future.done()


def _child_setup(settings: Settings, identity: Identity) -> ChildSetup:
    return ChildSetup(
        app=settings.app, threads=settings.threads, async_jobs=settings.async_jobs,
        weigh=settings.max_memory_per_child_mb is not None, log_level=settings.log_level,
        log_format=settings.log_format, **identity.for_children(),
    )  # fmt: skip


def _collect_seldom() -> None:
    """What is here now stays to the end, and what a job makes is freed without a collector, which took a twentieth of our time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)


async def _until(condition: Callable[[], bool], limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while not condition() and time.monotonic() < deadline:  # noqa: ASYNC110 (it looks at three parts, once per shutdown)
        await asyncio.sleep(SHUTDOWN_POLL_S)
