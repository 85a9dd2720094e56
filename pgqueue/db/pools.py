"""The pools of a process, sync and async: opened when needed, mended after an outage."""

import asyncio
import select
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Self
from weakref import WeakSet

import psycopg
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from pgqueue.config import Notify
from pgqueue.db.connections import connect, connect_async, prepare, prepare_async
from pgqueue.db.doors import AnyConnection, AsyncConnection, Connection, ReadOnlyDefault
from pgqueue.db.dsn import CONNECT_TIMEOUT_S, connection_settings

# A pool doubles its pauses between two tries for as long as this; then it begins afresh if somebody still waits, and else
# when somebody comes. Left to itself it would try every two minutes when a server was away for some.
RECONNECT_S = 1.0


def pool(dsn: str, *, size: int, timeout_s: float) -> ConnectionPool[Connection]:
    """A pool of autocommit connections, opened when needed. Connects once first, so that a wrong DSN is named at once."""
    connect(dsn).close()
    settings = {"autocommit": True, **connection_settings(dsn, timeout_s=CONNECT_TIMEOUT_S, name="pgqueue")}

    def check(conn: Connection) -> None:
        try:
            _check_alive(conn)
        except psycopg.Error:
            made.drain()
            raise

    def reconnect(pool: ConnectionPool[Connection]) -> None:
        if pool.get_stats().get("requests_waiting"):
            pool.check()

    made = ConnectionPool(
        dsn, kwargs=settings, min_size=0, max_size=size, timeout=timeout_s, open=True, name="pgqueue",
        configure=prepare, check=check, reconnect_timeout=RECONNECT_S, reconnect_failed=reconnect,
    )  # fmt: skip
    return made


class PoolLife(NamedTuple):
    """A pool of one event loop, and the generator that holds it open: asyncio closes generators before it closes a loop."""

    pool: AsyncConnectionPool[AsyncConnection]
    life: AsyncGenerator[AsyncConnectionPool[AsyncConnection], None]

    async def close(self) -> None:
        await self.life.aclose()


async def pool_async(dsn: str, *, size: int, timeout_s: float) -> PoolLife:
    """As `pool`, for the running event loop, and closed with it."""
    life = _live_pool(dsn, size=size, timeout_s=timeout_s)
    return PoolLife(await anext(life), life)


async def _live_pool(
    dsn: str, *, size: int, timeout_s: float
) -> AsyncGenerator[AsyncConnectionPool[AsyncConnection], None]:
    await (await connect_async(dsn)).close()
    settings = {"autocommit": True, **connection_settings(dsn, timeout_s=CONNECT_TIMEOUT_S, name="pgqueue")}
    opened: WeakSet[AsyncConnection] = WeakSet()

    async def note(conn: AsyncConnection) -> None:
        opened.add(conn)
        with _cancelled_for_good():
            await prepare_async(conn)

    async def check(conn: AsyncConnection) -> None:
        try:
            await _check_alive_async(conn)
        except psycopg.Error:
            await made.drain()
            raise

    async def reconnect(pool: AsyncConnectionPool[AsyncConnection]) -> None:
        if pool.get_stats().get("requests_waiting"):
            await pool.check()

    made: AsyncConnectionPool[AsyncConnection] = AsyncConnectionPool(
        dsn, kwargs=settings, min_size=0, max_size=size, timeout=timeout_s, open=False, name="pgqueue",
        configure=note, check=check, reconnect_timeout=RECONNECT_S, reconnect_failed=reconnect,
        connection_class=_Pooled,
    )  # fmt: skip
    await made.open()
    try:
        yield made
    finally:
        try:
            await made.close()
        finally:  # it waits for its tasks first, and raises if asyncio.run() has cancelled them
            for conn in list(opened):
                await conn.close()


class _Pooled(psycopg.AsyncConnection[Any]):
    """A connection that the pool's own tasks make."""

    @classmethod
    async def connect(cls, *args: Any, **kwargs: Any) -> Self:
        with _cancelled_for_good():
            return await super().connect(*args, **kwargs)


@contextmanager
def _cancelled_for_good() -> Iterator[None]:
    """Cancel the task again if it is cancelled in here: psycopg_pool takes that for a failure to connect and goes on, and
    asyncio.run(), which cancelled it, would wait for its end for ever.
    """
    try:
        yield
    except asyncio.CancelledError:
        if task := asyncio.current_task():
            asyncio.get_running_loop().call_soon(task.cancel)
        raise


def _check_alive(conn: Connection) -> None:
    """Raise if the server ended this pooled connection: then there is a farewell to read.

    Costs no round trip as long as there is none. A restart ends all, so the pool is emptied then: it pauses between two that
    it finds broken, longer each time, and eight of them would take more than a defer's patience.
    """
    if _has_word(conn):
        conn.execute("")


async def _check_alive_async(conn: AsyncConnection) -> None:
    if _has_word(conn):
        await conn.execute("")


def _has_word(conn: AnyConnection) -> bool:
    """Whether the server said something unasked. Asked at every defer, so by poll(2): a selector costs five times as much."""
    poller = select.poll()
    poller.register(conn.fileno(), select.POLLIN)
    return bool(poller.poll(0))


class NotPrimary(psycopg.errors.ReadOnlySqlTransaction):
    """Nothing can be written on a connection of ours; on a caller's own it is his affair."""


class Borrowed:
    """A pooled connection for a block, and what goes with it. Written out, as each defer takes one: as three generators, the
    pool's among them, it was a tenth of the time that the INSERT takes.
    """

    __slots__ = ("_conn", "_pool", "_ring")

    def __init__(self, pool: ConnectionPool[Connection], ring: Notify) -> None:
        self._pool = pool
        self._ring = ring

    def __enter__(self) -> tuple[Connection, Notify]:
        self._conn = self._pool.getconn()
        return self._conn, self._ring

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
                raise _not_primary(self._conn, error) from error
        finally:
            self._pool.putconn(self._conn)


@contextmanager
def writable(conn: AnyConnection) -> Iterator[None]:
    """Close a pooled connection on which nothing can be written: it is healthy, but its server is no longer the primary."""
    try:
        yield
    except psycopg.errors.ReadOnlySqlTransaction as error:
        raise _not_primary(conn, error) from error


def _not_primary(conn: AnyConnection, error: BaseException) -> psycopg.errors.ReadOnlySqlTransaction:
    conn.pgconn.finish()
    return (ReadOnlyDefault if isinstance(error, ReadOnlyDefault) else NotPrimary)(str(error))
