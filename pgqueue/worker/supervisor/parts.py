"""The parts of a worker that talk to the database, wired to each other and to the children, in the order of construction."""

import logging
import os
import socket
from collections.abc import Coroutine
from functools import partial
from typing import Any

import pgqueue
from pgqueue import db, schema
from pgqueue.app import App
from pgqueue.db.spurious import SpuriousWakeups
from pgqueue.events.subscription import Subscription
from pgqueue.schedules.schedule import Schedule
from pgqueue.webhooks.endpoint import WEBHOOK_TASK, Endpoint
from pgqueue.worker.link.greeting import AppFacts, TaskFacts
from pgqueue.worker.settings import FALSE_ALARMS, Settings
from pgqueue.worker.supervisor.admission import Admission
from pgqueue.worker.supervisor.avoided import AvoidedTasks
from pgqueue.worker.supervisor.breakers import Breakers
from pgqueue.worker.supervisor.children import Children
from pgqueue.worker.supervisor.claimer import Claimer
from pgqueue.worker.supervisor.connection import TroubleLog, WorkConnection
from pgqueue.worker.supervisor.control_connection import ControlConnection
from pgqueue.worker.supervisor.cursors import Cursors
from pgqueue.worker.supervisor.doorbell import Doorbell
from pgqueue.worker.supervisor.event_dispatcher import EventDispatcher
from pgqueue.worker.supervisor.finisher import Finisher
from pgqueue.worker.supervisor.identity import Identity, session_name
from pgqueue.worker.supervisor.lease import Lease
from pgqueue.worker.supervisor.maintenance import Maintenance
from pgqueue.worker.supervisor.outcome_queue import OutcomeQueue
from pgqueue.worker.supervisor.preflight import advice
from pgqueue.worker.supervisor.queue_order import QueueOrder
from pgqueue.worker.supervisor.relays import Relays
from pgqueue.worker.supervisor.rescue import Rescue
from pgqueue.worker.supervisor.scheduler import Scheduler
from pgqueue.worker.supervisor.side_connection import SideConnection
from pgqueue.worker.supervisor.tally import Tally
from pgqueue.worker.supervisor.wakeups import Wakeups

logger = logging.getLogger("pgqueue.worker")

Banner = dict[str, Any]


class WorkerParts:
    """`facts` are what the first child said of the app."""

    def __init__(
        self,
        settings: Settings,
        children: Children,
        facts: AppFacts,
        outcome_queue: OutcomeQueue,
        wakeups: Wakeups,
    ) -> None:
        self._settings = settings
        self._children = children
        self._facts = facts
        self._app = App(facts.dsn, **facts.config)
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        dsn, queries, name = self._app.dsn, self._app.queries, session_name(wakeups.identity.worker)
        self.troubles = TroubleLog()
        work, scan = self._connections = [
            WorkConnection(dsn, queries, name=name, troubles=self.troubles) for _ in range(2)
        ]
        side = SideConnection(dsn, queries, name=name, troubles=self.troubles, wanted=settings.listen, wakeups=wakeups)
        self._connections.append(side)
        self._dispatcher = EventDispatcher(side, queries, wakeups)
        declared = [Schedule(**row) for row in facts.schedules]
        self._scheduler = Scheduler(side, queries, wakeups, declared, ring=self._app.config.notify)
        self.relays = Relays(settings)
        control = ControlConnection(dsn)
        alarms, tally, cursors = SpuriousWakeups(at_most=FALSE_ALARMS), Tally(), Cursors()
        avoided = AvoidedTasks(cursors, wakeups)
        admission = Admission(work, queries, wakeups, Breakers(side, queries, wakeups))
        self.finisher = Finisher(
            work, queries, outcome_queue, wakeups, avoided, tally, admission, worker_name=self._name
        )
        self._doorbell = Doorbell(control, queries, wanted=settings.listen, alarms=alarms, wakeups=wakeups)
        self._lease = Lease(
            control, queries, wakeups, doorbell=self._doorbell,
            rescue=Rescue(control, queries, troubles=self.troubles, wakeups=wakeups),
            row=self._row(), tally=tally, connections=self._connections,
            on_lost=partial(self._start_over, wakeups.identity), troubles=self.troubles,
        )  # fmt: skip
        self._claimer = Claimer(
            work,
            scan,
            queries,
            children,
            settings,
            outcome_queue,
            wakeups,
            cursors,
            QueueOrder(settings.queues, strict=settings.strict, weights=settings.weights),
            avoided,
            admission,
            name=self._name,
            alarms=alarms,
        )
        self._maintenance = Maintenance(
            work, queries, self._app.config, children=children, outcome_queue=outcome_queue, finisher=self.finisher,
            wakeups=wakeups,
        )  # fmt: skip

    def loops(self) -> list[Coroutine[Any, Any, None]]:
        """What runs as long as the worker; the claimer first, which may end by itself."""
        return [
            self._claimer.run(),
            self._claimer.full_scan.run(),
            self.finisher.run(),
            self.finisher.admission.run(),
            self.finisher.admission.breakers.run(),
            self._lease.run(),
            self._maintenance.run(),
            self._dispatcher.run(),
            self._scheduler.run(),
            self.relays.run(self._app.dsn, self._facts.config, self._facts.subscriptions),
        ]

    async def open(self) -> None:
        """Sign in; raises SchemaError, or what the connection raises."""
        async with await db.connect_async(self._app.dsn) as conn:
            await db.run_async(conn, schema.check(self._app.queries, schema=self._app.config.schema))
            (allowed,) = await db.run_async(conn, self._app.queries.connections_allowed())
            if told := db.narrow_encoding(conn):
                logger.warning("%s", told)
        await self._lease.start()
        await self.finisher.admission.declare(self._facts)
        await self._dispatcher.declare_webhooks([Endpoint(**row) for row in self._facts.webhooks])
        await self._dispatcher.declare([Subscription(**row) for row in self._facts.subscriptions])
        await self._scheduler.declare()
        for line in advice(self._settings, self._facts, connections_allowed=allowed):
            logger.warning("%s", line)

    async def close(self) -> None:
        """Sign out."""
        await self._lease.stop()
        await self.finisher.admission.breakers.close()
        for connection in self._connections:
            await connection.close()

    def _start_over(self, identity: Identity) -> None:
        """The lease was lost: what the children do no longer counts."""
        self.finisher.forget()
        self._children.abandon(**identity.for_children())

    def _row(self) -> dict[str, Any]:
        """What this worker's row says of it."""
        return {
            "name": self._name,
            "version": pgqueue.__version__,
            "app": self._settings.app,
            "concurrency": self._settings.concurrency * self._settings.threads,
            "queues": list(self._settings.queues) if self._settings.queues else None,
            "tasks": sorted(self._facts.tasks),
            "code": self._facts.code,
            "schedules": self._scheduler.fingerprints,
        }

    def _own_tasks(self) -> dict[str, TaskFacts]:
        """Those of the app, without what each child has built in."""
        return {name: task for name, task in self._facts.tasks.items() if name != WEBHOOK_TASK}

    def _each_child(self) -> str:
        """How many jobs one child runs at once."""
        threads, async_ = self._settings.threads, any(task.is_async for task in self._own_tasks().values())
        jobs = self._settings.async_jobs or self._facts.config["async_jobs"]
        shown = f"{threads} thread{'s' * (threads > 1)}"
        return f"({shown} and {jobs} async job{'s' * (jobs > 1)})" if async_ else shown

    def _served(self) -> str:
        """Which queues it serves, and in which order."""
        queues, weights = self._settings.queues or ("all",), self._settings.weights
        if weights:
            return ", ".join(
                f"{queue} ({weight} of {sum(weights)})" for queue, weight in zip(queues, weights, strict=True)
            )
        return ", then ".join(queues) + " (strict)" if self._settings.strict else ", ".join(queues)

    def banner(self) -> Banner:
        """What the worker says when it is ready."""
        settings = self._settings
        return {
            "version": pgqueue.__version__,
            "app": settings.app,
            "worker": self._name,
            "database": db.describe(self._app.dsn) + ("" if self._facts.dsn else " (embedded)"),
            "schema": self._app.config.schema,
            "queues": self._served(),
            "children": f"{settings.concurrency} x {self._each_child()}",
            "wake-up": "LISTEN" if self._doorbell.listens else "polling",
            "tasks": sorted(self._own_tasks()),
        }
