"""The pools of a process, sync and async: opened when needed, repaired after an outage."""

import asyncio
import select
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple, Self
from weakref import WeakKeyDictionary, WeakSet

import psycopg
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from pgqueue.config import Notify
from pgqueue.db.backoff import Backoff
from pgqueue.db.connections import connect, connect_async, prepare, prepare_async
from pgqueue.db.deadlines import SILENCE_S, Allowance, Punctual, PunctualAsync, Silent, limit
from pgqueue.db.doors.psycopg import AnyConnection, AsyncConnection, Connection, ReadOnlyDefault
from pgqueue.db.dsn import CONNECT_TIMEOUT_S, connection_settings

# A pool doubles its pauses between two tries for as long as this; then it starts over if a caller still waits, and else
# when one comes. Left to itself it would try every two minutes when a server was away for some.
RECONNECT_S = 1.0

AnyPool = ConnectionPool[Any] | AsyncConnectionPool[Any]
_tried: WeakKeyDictionary[AnyPool, int] = WeakKeyDictionary()  # tries to connect, as of the last one that succeeded


def pool(dsn: str, *, size: int, timeout_s: float, backoff: Backoff) -> ConnectionPool[Connection]:
    """A pool of autocommit connections, opened when needed. Connects once first, so that a wrong DSN is named at once.

    backoff: while it says that the database is down, only its probe asks.
    """
    connect(dsn, silence_s=SILENCE_S).close()
    settings = {"autocommit": True, **connection_settings(dsn, timeout_s=CONNECT_TIMEOUT_S, name="pgqueue")}

    def note(conn: Any) -> None:
        prepare(conn)
        conn.cursors = {}
        _arrived(made)

    def check(conn: Connection) -> None:
        try:
            _check_alive(conn)
        except psycopg.Error:
            made.drain()
            raise

    def reconnect(pool: ConnectionPool[Connection]) -> None:
        if _is_wanted(pool, backoff):
            pool.check()

    made: ConnectionPool[Connection] = ConnectionPool(
        dsn, kwargs=settings, min_size=0, max_size=size, timeout=timeout_s, open=True, name="pgqueue",
        configure=note, check=check, reconnect_timeout=RECONNECT_S, reconnect_failed=reconnect,
        connection_class=Punctual,
    )  # fmt: skip
    return made


def is_starved(pool: AnyPool) -> bool:
    """Whether it is not just in use: one of its connections fell silent, or a try to connect failed or hangs, since the last
    one that succeeded.
    """
    return _tries(pool) > _tried.get(pool, 0)


def _arrived(pool: AnyPool) -> None:
    _tried[pool] = _tries(pool)


def _miss(pool: AnyPool) -> None:
    """One of its connections fell silent."""
    _tried[pool] = -1


def _tries(pool: AnyPool) -> int:
    return pool.get_stats().get("connections_num", 0)


def _is_wanted(pool: AnyPool, backoff: Backoff) -> bool:
    """Whether a pool that could not connect should keep trying. It counts callers that gave up among those that wait."""
    return bool(pool.get_stats().get("requests_waiting")) and not backoff.is_down


class PoolLife(NamedTuple):
    """A pool of one event loop, and the generator that holds it open: asyncio closes generators before it closes a loop."""

    pool: AsyncConnectionPool[AsyncConnection]
    life: AsyncGenerator[AsyncConnectionPool[AsyncConnection], None]

    async def close(self) -> None:
        await self.life.aclose()


async def pool_async(dsn: str, *, size: int, timeout_s: float, backoff: Backoff) -> PoolLife:
    """As `pool`, for the running event loop, and closed with it."""
    life = _live_pool(dsn, size=size, timeout_s=timeout_s, backoff=backoff)
    return PoolLife(await anext(life), life)


async def _live_pool(
    dsn: str, *, size: int, timeout_s: float, backoff: Backoff
) -> AsyncGenerator[AsyncConnectionPool[AsyncConnection], None]:
    await (await connect_async(dsn)).close()
    settings = {"autocommit": True, **connection_settings(dsn, timeout_s=CONNECT_TIMEOUT_S, name="pgqueue")}
    opened: WeakSet[AsyncConnection] = WeakSet()

    async def note(conn: Any) -> None:
        opened.add(conn)
        conn.cursors = {}
        with _cancelled_for_good():
            await prepare_async(conn)
        _arrived(made)

    async def check(conn: AsyncConnection) -> None:
        try:
            await _check_alive_async(conn)
        except psycopg.Error:
            await made.drain()
            raise

    async def reconnect(pool: AsyncConnectionPool[AsyncConnection]) -> None:
        if _is_wanted(pool, backoff):
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


class _Pooled(PunctualAsync):
    """A connection that the pool's own tasks make."""

    @classmethod
    async def connect(cls, *args: Any, **kwargs: Any) -> Self:
        with _cancelled_for_good():
            return await super().connect(*args, **kwargs)


@contextmanager
def _cancelled_for_good() -> Iterator[None]:
    """Cancel the task again if it is cancelled in here: psycopg_pool takes that for a failure to connect and continues, and
    asyncio.run(), which cancelled it, would never see its end.
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
    """Nothing can be written on a connection of ours; on a caller's own that is the caller's affair."""


class Borrowed:
    """A pooled connection for a block, and what goes with it. Written out, as each defer takes one: as three generators, the
    pool's among them, it was a tenth of the time that the INSERT takes.
    """

    __slots__ = ("_allowance", "_conn", "_pool", "_ring")

    def __init__(self, pool: ConnectionPool[Connection], ring: Notify, allowance: Allowance) -> None:
        self._pool = pool
        self._ring = ring
        self._allowance = allowance

    def __enter__(self) -> tuple[Connection, Notify]:
        self._conn = self._pool.getconn(self._allowance.wait_s)
        self._allowance.grant(self._conn)
        return self._conn, self._ring

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            if error is not None:
                self._judge(error)
        finally:
            limit(self._conn, SILENCE_S)
            self._pool.putconn(self._conn)

    def _judge(self, error: BaseException) -> None:
        if isinstance(error, Silent):
            _miss(self._pool)
            self._pool.drain()  # after waiting for this one in vain, do not try the others that are as old
        elif isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
            self._pool.drain()  # the others lead to the same server
            raise _not_primary(self._conn, error) from error


@asynccontextmanager
async def borrowed_async(
    pool: AsyncConnectionPool[AsyncConnection], allowance: Allowance
) -> AsyncIterator[AsyncConnection]:
    """As Borrowed, for asyncio."""
    async with pool.connection(allowance.wait_s) as conn:
        allowance.grant(conn)
        try:
            yield conn
        except Silent:
            _miss(pool)
            await pool.drain()
            raise
        except psycopg.errors.ReadOnlySqlTransaction as error:
            await pool.drain()
            raise _not_primary(conn, error) from error
        finally:
            limit(conn, SILENCE_S)


def _not_primary(conn: AnyConnection, error: BaseException) -> psycopg.errors.ReadOnlySqlTransaction:
    conn.pgconn.finish()
    return (ReadOnlyDefault if isinstance(error, ReadOnlyDefault) else NotPrimary)(str(error))
