"""One worker: children that run user code, and around them the claimer, the finisher, the lease and the chores.

Signals only set a flag and wake the loop. The first TERM, INT or HUP (the terminal was closed) stops claiming, gives back
what has not started with its attempt refunded, and lets running jobs finish until the shutdown timeout; a second one, or
QUIT, ends everything at once. Either way every job this worker holds is written back before it signs out.
"""

import asyncio
import logging
import os
import signal
import socket
import time
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

import pgqueue
from pgqueue import db, schema
from pgqueue.app import App
from pgqueue.db.spurious import SpuriousWakeups
from pgqueue.errors import PgQueueError
from pgqueue.job import Outcome
from pgqueue.worker.settings import FALSE_ALARMS, Settings
from pgqueue.worker.supervisor.children import Children
from pgqueue.worker.supervisor.claimer import Claimer
from pgqueue.worker.supervisor.connection import Patience, Trouble, Troubles, WorkConnection
from pgqueue.worker.supervisor.control_connection import ControlConnection
from pgqueue.worker.supervisor.doorbell import Doorbell
from pgqueue.worker.supervisor.finisher import Finisher
from pgqueue.worker.supervisor.identity import Identity, session_name
from pgqueue.worker.supervisor.lease import Lease
from pgqueue.worker.supervisor.maintenance import Maintenance
from pgqueue.worker.supervisor.preflight import advice, check_descriptors
from pgqueue.worker.supervisor.reaper import Reaper, adopts
from pgqueue.worker.supervisor.rescue import Rescue
from pgqueue.worker.supervisor.wakeups import Wakeups

logger = logging.getLogger("pgqueue.worker")

SHUTDOWN_POLL_S = 0.01  # how often a shutdown looks whether it is through
CALLED_OFF_S = 1.0  # a server that is there calls a statement off in a millisecond
LAST_WORDS_S = 5.0  # for writing outcomes back at the end; what is not written is rescued by others

Facts = dict[str, Any]


class Supervisor:
    """RestartPacing the children and, once one of them has told the app's settings, the Station; sees both to their end.

    `greet` gets the facts of the banner when the worker is ready.
    """

    def __init__(self, settings: Settings, *, greet: Callable[[Facts], None]) -> None:
        self._settings = settings
        self._greet = greet
        self._signals = 0
        self._left: str | None = None  # what could not be recorded
        self._signalled = asyncio.Event()
        self._station: Station | None = None
        self._children = Children(settings, deliver=self._deliver, report=self._report, stirred=self._stirred)

    async def run(self) -> None:
        """Work until a signal or the end of a burst; raises ConfigError, DatabaseUnavailable or SchemaError if it cannot start.

        A burst raises PgQueueError if the end of some job could not be recorded.
        """
        check_descriptors(self._settings)
        self._heed_signals()
        worker = str(uuid.uuid4())
        self._children.start(_child_setup(self._settings) | identity(worker))
        try:
            if await self._unless_signalled(self._children.hello):
                self._station = Station(self._settings, self._children, self._children.hello.result(), worker=worker)
                if await self._signed_in(self._station):
                    self._greet(self._station.facts())
                    await self._serve(self._station)
                    self._account()
        finally:
            await self._children.stop()
            if self._station is not None:
                await self._station.close()

    def _account(self) -> None:
        """Tell what was done and could not be recorded, by the exit code too where somebody waits for it."""
        if self._left is not None:
            if self._settings.burst:
                raise PgQueueError(self._left)
            logger.error("%s", self._left)

    async def _signed_in(self, station: "Station") -> bool:
        """Sign in, however long the database is still away: workers and servers of one deployment start together.

        False: a signal came first. Raises what waiting cannot cure, such as a wrong password.
        """
        patience = Patience(station.line.troubles)
        while True:
            try:
                await station.open()
                return True
            except Trouble as error:
                if not db.may_pass(error):
                    raise
                if not await self._unless_signalled(asyncio.ensure_future(patience.wait("starting", error))):
                    return False

    async def _serve(self, station: "Station") -> None:
        """Run all parts until it is time to stop; an exception in one of them is a bug and ends the worker."""
        own = [self._children.tick(), *([Reaper().run()] if adopts() else [])]
        claiming, *others = tasks = [asyncio.create_task(part) for part in (*station.parts(), *own)]
        stopping = asyncio.create_task(self._signalled.wait())
        try:
            await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
            await self._shut_down(station, claiming)
        finally:
            stopping.cancel()
            for task in (claiming, *others):
                task.cancel()
            # What a chore was just asking is called off at the server, before its connection is closed under it.
            await asyncio.wait([claiming, *others], timeout=CALLED_OFF_S)

    async def _shut_down(self, station: "Station", claiming: "asyncio.Task[None]") -> None:
        """Stop claiming, give back what waits, let the rest finish within the timeout, then release it."""
        station.drain()
        await asyncio.wait([claiming], timeout=LAST_WORDS_S)
        running = len(self._children.running())
        if running and self._signals == 1:
            patience_s = self._settings.shutdown_timeout_s
            logger.info("stopping: %d jobs may finish within %g s; a second signal ends them now", running, patience_s)
        self._children.recall()
        await _until(lambda: self._children.idle or self._signals > 1, self._settings.shutdown_timeout_s)
        await self._children.stop()
        # A burst is in no hurry: whoever started it relies on its exit code.
        patient = self._settings.burst and not self._signals
        await _until(lambda: station.finisher.idle, self._settings.shutdown_timeout_s if patient else LAST_WORDS_S)
        self._left = station.finisher.unrecorded

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

    # -- what the children says before there is a station counts for nothing --

    def _deliver(self, outcomes: list[Outcome]) -> None:
        if self._station is not None:
            self._station.finisher.deliver(outcomes)

    def _report(self, job_id: str, token: int, fraction: float | None, note: str | None) -> None:
        if self._station is not None:
            self._station.finisher.report(job_id, token, fraction, note)

    def _stirred(self) -> None:
        if self._station is not None:
            self._station.claimer.stir()


class Station:
    """The parts of a worker that talk to the database, wired to each other and to the children."""

    def __init__(self, settings: Settings, children: Children, hello: dict[str, Any], *, worker: str) -> None:
        self._settings = settings
        self._children = children
        self._hello = hello
        self._app = App(hello["dsn"], **hello["config"])
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        dsn, queries = self._app.dsn, self._app.queries
        troubles = Troubles()
        self.line, self._aside = (
            WorkConnection(dsn, queries, name=session_name(worker), troubles=troubles) for _ in range(2)
        )
        self._alarms = SpuriousWakeups(at_most=FALSE_ALARMS)
        control = ControlConnection(dsn)
        self._identity = Identity(worker)
        wakeups = Wakeups(self._identity)
        self.finisher = Finisher(
            self.line, queries, wakeups, worker_name=self._name,
            give_way=lambda task, seconds: self.claimer.give_way(task, seconds),
        )  # fmt: skip
        self._doorbell = Doorbell(control, queries, wanted=settings.listen, alarms=self._alarms, wakeups=wakeups)
        self.lease = Lease(
            control, queries, wakeups, doorbell=self._doorbell,
            rescue=Rescue(control, queries, troubles=troubles, wakeups=wakeups),
            row=self._row(), counts=self.finisher.counts, on_lost=self._start_over, on_broken=self._renew,
            on_back=self._cut, troubles=troubles,
        )  # fmt: skip
        self.claimer = Claimer(
            self.line, self._aside, queries, children, settings, wakeups,
            may_claim=self._may_claim, listens=lambda: self._doorbell.listens,
            deliver=self.finisher.deliver, name=self._name, alarms=self._alarms,
        )  # fmt: skip
        self.chores = Maintenance(
            self.line, queries, self._app.config, children=children, finisher=self.finisher, identity=self._identity
        )

    def parts(self) -> list[Coroutine[Any, Any, None]]:
        """What runs for ever; the claimer first, which may end by itself."""
        return [
            self.claimer.run(),
            self.claimer.full_scan.run(),
            self.finisher.run(),
            self.lease.run(),
            self.chores.run(),
        ]

    async def open(self) -> None:
        """Sign in; raises SchemaError, or what the connection raises."""
        async with await db.connect_async(self._app.dsn) as conn:
            await db.run_async(conn, schema.check(self._app.queries, schema=self._app.config.schema))
            ((allowed,),) = await db.run_async(conn, self._app.queries.connections_allowed())
            if told := db.narrow_encoding(conn):
                logger.warning("%s", told)
        await self.lease.start()
        for line in advice(self._settings, self._hello, connections_allowed=allowed):
            logger.warning("%s", line)

    async def close(self) -> None:
        """Sign out."""
        await self.lease.stop()
        await self.line.close()
        await self._aside.close()

    def _may_claim(self) -> bool:
        return self._identity.confirmed and not self.finisher.full

    def drain(self) -> None:
        """Claim no more, and say so."""
        self.lease.draining = True
        self.claimer.stop()

    def _renew(self) -> None:
        for line in self.line, self._aside:
            line.renew()

    def _cut(self) -> None:
        for line in self.line, self._aside:
            line.cut()

    def _start_over(self) -> None:
        """The lease was lost: what the children do counts for nothing."""
        self.finisher.forget()
        for line in self.line, self._aside:
            line.rename(self._identity.session_name)
        self._children.abandon(**identity(self._identity.worker))

    def _row(self) -> dict[str, Any]:
        """What this worker's row says of it."""
        return {
            "name": self._name,
            "version": pgqueue.__version__,
            "app": self._settings.app,
            "concurrency": self._settings.concurrency * self._settings.threads,
            "queues": list(self._settings.queues) if self._settings.queues else None,
            "tasks": sorted(self._hello["tasks"]),
            "code": self._hello["code"],
        }

    def facts(self) -> Facts:
        """For the banner."""
        settings = self._settings
        return {
            "version": pgqueue.__version__,
            "app": settings.app,
            "worker": self._name,
            "database": db.describe(self._app.dsn) + ("" if self._hello["dsn"] else " (embedded)"),
            "schema": self._app.config.schema,
            "queues": ", ".join(settings.queues) if settings.queues else "all",
            "children": f"{settings.concurrency} x {settings.threads} thread{'s' * (settings.threads > 1)}",
            "wake-up": "LISTEN" if self._doorbell.listens else "polling",
            "tasks": sorted(self._hello["tasks"]),
        }


def identity(worker: str) -> dict[str, str]:
    """What children must know of the worker they belong to."""
    return {"worker": worker, "application_name": session_name(worker)}


def _child_setup(settings: Settings) -> dict[str, Any]:
    return {
        "app": settings.app,
        "threads": settings.threads,
        "weigh": settings.max_memory_per_child_mb is not None,
        "log_level": settings.log_level,
        "log_format": settings.log_format,
    }


async def _until(condition: Callable[[], bool], limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while not condition() and time.monotonic() < deadline:  # noqa: ASYNC110 (it looks at three parts, once per shutdown)
        await asyncio.sleep(SHUTDOWN_POLL_S)
