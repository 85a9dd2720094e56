"""The supervisor's working connection: opened when needed, every round trip under a deadline, reopened after a failure."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable
from typing import Any, TypeVar, overload

from pgqueue import db
from pgqueue.errors import DatabaseUnavailable
from pgqueue.queries import Queries, Statement, Steps, TogetherSteps
from pgqueue.worker.settings import DEADLINE_S, RECONNECT_MAX_S, TELL_S

logger = logging.getLogger("pgqueue.worker")

T = TypeVar("T")
R = TypeVar("R")

# What a round trip can fail with when it is worth trying again. psycopg's own errors include a lost connection, a
# deadlock, a serialization failure and a cancelled statement: our transactions are all safe to repeat.
TRANSIENT = (db.DatabaseError, DatabaseUnavailable, OSError)


async def within(conn: db.AsyncConnection, deadline_s: float, work: Awaitable[T]) -> T:
    """Await work on a connection; when the time is over the connection is cut, and the work raises.

    Cancelling it instead would ask the server to cancel, which a frozen server never answers.
    """
    alarm = asyncio.get_running_loop().call_later(deadline_s, db.sever, conn)
    try:
        return await work
    finally:
        alarm.cancel()


class TroubleLog:
    """Logs each error once, for the part of the worker that meets it first, and again only after some seconds."""

    def __init__(self) -> None:
        self._told_at: dict[str, float] = {}

    def log(self, what: str, error: BaseException, *, then: str = "trying again") -> None:
        """Log one line, unless this error was logged just now."""
        now = time.monotonic()
        self._told_at = {told: at for told, at in self._told_at.items() if now - at < TELL_S}
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        if text not in self._told_at:
            self._told_at[text] = now
            logger.warning("%s: %s; %s", what, text, then)


class RetryPacing:
    """How long to wait before trying again: full jitter, doubling to a second."""

    def __init__(self, troubles: TroubleLog) -> None:
        self._troubles = troubles
        self._failures = 0

    def passed(self) -> None:
        self._failures = 0

    async def wait(self, what: str, error: BaseException) -> None:
        """Sleep after a failure."""
        self._troubles.log(what, error)
        pause_s = random.uniform(0.05, min(RECONNECT_MAX_S, 0.1 * 2.0**self._failures))
        self._failures += 1
        await asyncio.sleep(pause_s)


class WorkConnection:
    """One connection at a time, for one caller at a time; `lost` counts those that were given up, so that callers see a gap."""

    def __init__(self, dsn: str, queries: Queries, *, name: str, troubles: TroubleLog) -> None:
        self._dsn = dsn
        self.troubles = troubles
        self._queries = queries
        self._name = name
        self._conn: db.AsyncConnection | None = None
        self._turn = asyncio.Lock()
        self._stale = False
        self.lost = 0

    def rename(self, name: str) -> None:
        """Speak under another name from the next statement on: a new connection."""
        self._name = name
        self.renew()

    def renew(self) -> None:
        """Take a new connection for the next statement."""
        self._stale = True

    def cut(self) -> None:
        """Wait no longer for an answer on a connection from before the last renew()."""
        if self._stale and self._conn is not None:
            db.sever(self._conn)

    @overload
    async def run(self, steps: Statement[R], *, transaction: bool = False) -> list[R]: ...
    @overload
    async def run(self, steps: Steps[T], *, transaction: bool = False) -> T: ...
    async def run(self, steps: "Steps[Any] | Statement[Any]", *, transaction: bool = False) -> Any:
        """Drive steps, in a transaction of their own if asked to; raises one of TRANSIENT and forgets the connection then.

        Not where values were refused: that harms no connection.
        """
        async with self._turn:
            try:
                conn = await self._connected()
                return await within(conn, DEADLINE_S, self._drive(conn, steps, transaction=transaction))
            except TRANSIENT as error:
                if not db.is_of_values(error):
                    self.lost += 1
                    await self.close()
                raise

    async def run_together(self, steps: TogetherSteps[T]) -> T:
        """As `run`, for steps of several statements each; whatever fails costs the connection, as its transaction is open."""
        async with self._turn:
            try:
                conn = await self._connected()
                return await within(conn, DEADLINE_S, db.run_together_async(conn, steps))
            except Exception:
                self.lost += 1
                await self.close()
                raise

    async def _drive(self, conn: db.AsyncConnection, steps: "Steps[Any] | Statement[Any]", *, transaction: bool) -> Any:
        if not transaction:
            return await db.run_async(conn, steps)
        async with conn.transaction():
            return await db.run_async(conn, steps)

    async def _connected(self) -> db.AsyncConnection:
        if self._stale:
            self._stale = False
            self.lost += 1  # what it was connected to may be another server by now
            await self.close()
        if self._conn is None or self._conn.closed:
            self._conn = await db.connect_async(self._dsn, name=self._name)
            await within(self._conn, DEADLINE_S, db.run_async(self._conn, db.plan_steadily(self._conn, self._queries)))
        return self._conn

    async def close(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            await conn.close()
