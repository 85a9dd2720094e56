"""The side connection: for what is not the way of a job. It also hears that events were published."""

import time
from typing import Any

from pgqueue import db
from pgqueue.queries import Queries
from pgqueue.worker.settings import DEADLINE_S
from pgqueue.worker.supervisor.connection import TroubleLog, WorkConnection, within
from pgqueue.worker.supervisor.wakeups import Wakeups


class SideConnection(WorkConnection):
    """One connection at a time, opened with the first statement. Where there are subscriptions and notifications can reach it, it
    listens; a statement of another part of the worker ends the wait for a moment."""

    def __init__(
        self, dsn: str, queries: Queries, *, name: str, troubles: TroubleLog, wanted: bool, wakeups: Wakeups
    ) -> None:
        super().__init__(dsn, queries, name=name, troubles=troubles)
        self._wanted = wanted
        self._wakeups = wakeups
        self._heard_on: db.AsyncConnection | None = None
        self._listener: db.NotificationListener | None = None
        self._asked = 0  # statements that wait for their turn
        self._renewed = False
        self.listens = False
        """Whether notifications can reach it: none do behind a pooler."""

    async def _connected(self) -> db.AsyncConnection:
        conn = await super()._connected()
        if (
            conn is not self._heard_on and self._wakeups.subscribed.is_set()
        ):  # who listens and does not hear fills the server's queue
            await within(conn, DEADLINE_S, db.run_async(conn, self._queries.begin_era()))
            self.listens = self._wanted and db.prepares(conn)
            if self.listens:
                self._listener = db.NotificationListener(conn)
                await db.run_async(conn, self._queries.listen_events)
            self._renewed = self._heard_on is not None
            self._heard_on = conn
        return conn

    async def run(self, steps: Any, *, transaction: bool = False) -> Any:
        """As of every connection."""
        self._asked += 1
        if self._listener is not None:
            self._listener.interrupt()
        try:
            return await super().run(steps, transaction=transaction)
        finally:
            self._asked -= 1

    async def hear(self, pause_s: float) -> bool:
        """Wait for a notification, or for so long. True: there was one, or one may have been missed. Only while `listens`."""
        until = time.monotonic() + pause_s
        while True:
            async with self._turn:
                if self._renewed:  # another part of the worker has opened it again
                    self._renewed = False
                    return True
                assert self._listener is not None
                # Not while a statement waits: it could come only after the pause.
                rest_s = 0.0 if self._asked else max(0.0, until - time.monotonic())
                if await self._listener.listen(rest_s):
                    return True
            if time.monotonic() >= until:
                return False
