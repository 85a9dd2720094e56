"""The side connection: for what is not the way of a job. It also hears that events were published."""

from pgqueue import db
from pgqueue.queries import Queries
from pgqueue.worker.settings import DEADLINE_S
from pgqueue.worker.supervisor.connection import TroubleLog, WorkConnection, within


class SideConnection(WorkConnection):
    """One connection at a time, opened with the first statement; it listens where notifications can reach it."""

    def __init__(self, dsn: str, queries: Queries, *, name: str, troubles: TroubleLog, wanted: bool) -> None:
        super().__init__(dsn, queries, name=name, troubles=troubles)
        self._wanted = wanted
        self._heard_on: db.AsyncConnection | None = None
        self._listener: db.NotificationListener
        self.listens = False
        """Whether notifications can reach it: none do behind a pooler."""

    async def _connected(self) -> db.AsyncConnection:
        conn = await super()._connected()
        if conn is not self._heard_on:
            await within(conn, DEADLINE_S, db.run_async(conn, self._queries.begin_era()))
            self.listens = self._wanted and db.prepares(conn)
            if self.listens:
                self._listener = db.NotificationListener(conn)
                await db.run_async(conn, self._queries.listen_events)
            self._heard_on = conn
        return conn

    async def hear(self, pause_s: float) -> bool:
        """Wait for a notification, or for so long. True: there was one. Only while `listens`."""
        return await self._listener.listen(pause_s)
