"""The control connection: one session that holds the worker's lock, renews its lease and hears the doorbell."""

from collections.abc import Awaitable
from typing import TypeVar

from pgqueue import db
from pgqueue.queries import Statement
from pgqueue.worker.settings import BEAT_DEADLINE_S
from pgqueue.worker.supervisor.connection import within

T = TypeVar("T")
R = TypeVar("R")


class ControlConnection:
    """One connection at a time, opened when told to. Each wait has a deadline, which is short compared with a lease."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._conn: db.AsyncConnection | None = None
        self._listener: db.NotificationListener
        self.pooled = False
        """A pooler sits in front of the database: sessions are not ours, so they can neither hold a lock nor listen."""

    @property
    def opened(self) -> bool:
        """There is a connection; it may be broken by now."""
        return self._conn is not None

    @property
    def usable(self) -> bool:
        """There is a connection, and nothing has shown that it is broken."""
        return self._conn is not None and not self._conn.closed

    async def open(self, *, name: str) -> None:
        """Connect under this application_name, in place of any earlier connection; raises what the connection raises."""
        await self.close()
        self._conn = await db.connect_async(self._dsn, name=name)
        self._listener = db.NotificationListener(self._conn)
        self.pooled = not db.prepares(self._conn)
        db.prepare_nothing(self._conn)

    async def run(self, statement: Statement[R]) -> list[R]:
        """The rows of one statement."""
        assert self._conn is not None
        return await self.within(db.run_async(self._conn, statement))

    async def within(self, work: Awaitable[T]) -> T:
        """Await several statements under one deadline."""
        assert self._conn is not None
        return await within(self._conn, BEAT_DEADLINE_S, work)

    async def hear(self, pause_s: float) -> bool:
        """Wait for a notification, or for so long. True: there was one."""
        return await self._listener.listen(pause_s)

    async def close(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            await conn.close()
