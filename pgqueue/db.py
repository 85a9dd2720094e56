"""The only importer of psycopg: connections, pools, and the two doors through which every statement goes."""

import asyncio
import os
import select
import socket
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Any, NamedTuple, Self, TypeVar
from weakref import WeakSet

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import tuple_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolTimeout

from pgqueue.errors import ConfigError, DatabaseUnavailable, NotAllowed, SchemaMissing
from pgqueue.queries import Rows, Statement, Steps, session

T = TypeVar("T")
Connection = psycopg.Connection[Any]
AsyncConnection = psycopg.AsyncConnection[Any]
AnyConnection = Connection | AsyncConnection
DatabaseError = psycopg.Error
Blocked = psycopg.errors.LockNotAvailable  # somebody else held a lock for longer than we wait

CONNECT_TIMEOUT_S = 3  # an unreachable host answers nothing for minutes otherwise

# A pool doubles its pauses between two tries for as long as this; then it begins afresh if somebody still waits, and else
# when somebody comes. Left to itself it would try every two minutes when a server was away for some.
RECONNECT_S = 1.0

# Without these a vanished network is noticed after two hours; measured with them: 5 to 6 seconds.
KEEPALIVE: dict[str, Any] = {
    "keepalives_idle": 3,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 5000,
}
# It also counts while the other side does not read, as a server does whose COPY waits for a lock: a task's own statements
# may wait longer for that than ours.
TASK_USER_TIMEOUT_MS = 60_000


# -- the two doors: they differ in `await` and nothing else --


def run(conn: Connection, steps: "Steps[T] | Statement") -> Any:
    """Drive Steps (or one Statement) over a sync connection and return its value (or rows)."""
    if isinstance(steps, Statement):
        return _execute(conn, steps)
    rows: Rows = []
    try:
        statement = next(steps)
        while True:
            rows = _execute(conn, statement)
            statement = steps.send(rows)
    except StopIteration as done:
        return done.value


async def run_async(conn: AsyncConnection, steps: "Steps[T] | Statement") -> Any:
    """As `run`, over an async connection."""
    if isinstance(steps, Statement):
        return await _execute_async(conn, steps)
    rows: Rows = []
    try:
        statement = next(steps)
        while True:
            rows = await _execute_async(conn, statement)
            statement = steps.send(rows)
    except StopIteration as done:
        return done.value


def _execute(conn: Connection, statement: Statement) -> Rows:
    # Our own cursor class: the caller's connection may make cursors that read rows or placeholders another way.
    with psycopg.Cursor(conn, row_factory=tuple_row) as cursor:
        if statement.copy_rows is not None:
            _check_copy(conn)
            with cursor.copy(_trusted(statement)) as copy:
                for row in statement.copy_rows:
                    copy.write_row(row)
            return []
        cursor.execute(_trusted(statement), statement.params or None)
        if _in_pipeline(conn):  # the answer has not been read yet, not even whether there are rows
            with conn.pipeline() as pipeline:
                pipeline.sync()
        return cursor.fetchall() if _has_rows(cursor) else []


async def _execute_async(conn: AsyncConnection, statement: Statement) -> Rows:
    async with psycopg.AsyncCursor(conn, row_factory=tuple_row) as cursor:
        if statement.copy_rows is not None:
            _check_copy(conn)
            async with cursor.copy(_trusted(statement)) as copy:
                for row in statement.copy_rows:
                    await copy.write_row(row)
            return []
        await cursor.execute(_trusted(statement), statement.params or None)
        if _in_pipeline(conn):
            async with conn.pipeline() as pipeline:
                await pipeline.sync()
        return await cursor.fetchall() if _has_rows(cursor) else []


def _has_rows(cursor: psycopg.Cursor[Any] | psycopg.AsyncCursor[Any]) -> bool:
    """`cursor.description` would say it too, at a twentieth of a defer's cost."""
    return cursor.pgresult is not None and cursor.pgresult.nfields > 0


def _in_pipeline(conn: AnyConnection) -> bool:
    return conn.info.pipeline_status != pq.PipelineStatus.OFF


def _check_copy(conn: AnyConnection) -> None:
    if _in_pipeline(conn):
        raise ConfigError(
            "defer_many streams rows by COPY, which a pipeline cannot carry: call it outside of conn.pipeline()"
        )


def _trusted(statement: Statement) -> Any:
    """psycopg wants a literal; ours come from files in the package, with names we checked ourselves."""
    return statement.sql


def would_begin(conn: AnyConnection) -> bool:
    """True when the next statement opens the caller's transaction. conn.transaction() would open and commit one of its own."""
    return not conn.autocommit and is_idle(conn)


def is_idle_autocommit(conn: AnyConnection) -> bool:
    """True when each statement on this connection commits by itself, so that what it does is visible at once."""
    return conn.autocommit and is_idle(conn)


def is_idle(conn: AnyConnection) -> bool:
    """True when no transaction is open on the connection."""
    return conn.info.transaction_status == pq.TransactionStatus.IDLE


def is_async(conn: object) -> bool:
    """Whether a caller's connection is psycopg's async one; raises ConfigError for anything else than psycopg's two."""
    if isinstance(conn, psycopg.AsyncConnection):
        return True
    if isinstance(conn, psycopg.Connection):
        return False
    raise ConfigError(
        f"conn= takes a psycopg Connection or AsyncConnection, not a {type(conn).__module__}.{type(conn).__qualname__}"
    )


# -- connections --


def connect(
    dsn: str, *, timeout_s: float = CONNECT_TIMEOUT_S, name: str = "pgqueue", private: bool = True
) -> Connection:
    """Open one autocommit connection; raises DatabaseUnavailable with one line and without the password.

    private: no user code runs on it, so that even its search_path is ours.
    """
    try:
        parameters = _parameters(dsn, timeout_s=timeout_s, name=name, private=private)
        conn = psycopg.connect(dsn, autocommit=True, **parameters)
        _prepare(conn, private=private)
    except psycopg.Error as error:
        raise _no_connection(dsn, error) from None
    return conn


async def connect_async(
    dsn: str, *, timeout_s: float = CONNECT_TIMEOUT_S, name: str = "pgqueue", private: bool = True
) -> AsyncConnection:
    """As `connect`, for asyncio."""
    try:
        parameters = _parameters(dsn, timeout_s=timeout_s, name=name, private=private)
        conn = await psycopg.AsyncConnection.connect(dsn, autocommit=True, **parameters)
        alarm = asyncio.get_running_loop().call_later(timeout_s, sever, conn)
        try:
            await _prepare_async(conn, private=private)
        finally:
            alarm.cancel()
    except psycopg.Error as error:
        raise _no_connection(dsn, error) from None
    return conn


def _prepare(conn: Connection, *, private: bool = True) -> None:
    if not run(conn, session(backend_pid=conn.info.backend_pid, private=private)):
        prepare_nothing(conn)


async def _prepare_async(conn: AsyncConnection, *, private: bool = True) -> None:
    if not await run_async(conn, session(backend_pid=conn.info.backend_pid, private=private)):
        prepare_nothing(conn)


def pool(dsn: str, *, size: int, timeout_s: float) -> ConnectionPool[Connection]:
    """A pool of autocommit connections, opened when needed. Connects once first, so that a wrong DSN is named at once."""
    connect(dsn).close()
    settings = {"autocommit": True, **_parameters(dsn, timeout_s=CONNECT_TIMEOUT_S, name="pgqueue")}

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
        configure=_prepare, check=check, reconnect_timeout=RECONNECT_S, reconnect_failed=reconnect,
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
    settings = {"autocommit": True, **_parameters(dsn, timeout_s=CONNECT_TIMEOUT_S, name="pgqueue")}
    opened: WeakSet[AsyncConnection] = WeakSet()

    async def note(conn: AsyncConnection) -> None:
        opened.add(conn)
        with _cancelled_for_good():
            await _prepare_async(conn)

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


def wait_for_bell(conn: Connection, timeout_s: float, *, wake_fd: int) -> bool:
    """Block until a notification arrives, wake_fd is readable, or the time is over; takes all notifications that lie ready.

    True: there were some.
    """
    if list(conn.notifies(timeout=0)):  # some may have come in with the answer to a query
        return True
    wait([conn.fileno(), wake_fd], timeout_s)
    return bool(list(conn.notifies(timeout=0)))


async def wait_for_bell_async(conn: AsyncConnection, timeout_s: float) -> list[str]:
    """As `wait_for_bell`; returns the payloads. psycopg's own wait wakes up ten times a second, which an idle worker need not."""
    rung = [note.payload async for note in conn.notifies(timeout=0)]
    if not rung:
        await _readable(conn.fileno(), timeout_s)
        rung = [note.payload async for note in conn.notifies(timeout=0)]
    return rung


async def _readable(fd: int, timeout_s: float) -> None:
    loop = asyncio.get_running_loop()
    heard = asyncio.Event()
    loop.add_reader(fd, heard.set)
    try:
        await asyncio.wait_for(heard.wait(), timeout_s)
    except TimeoutError:
        return
    finally:
        loop.remove_reader(fd)


def sever(conn: AnyConnection) -> None:
    """Cut the connection's socket, so that whoever waits on it gets an error now.

    A frozen server still acknowledges packets: neither keepalives nor cancelling the wait would end it.
    """
    if conn.closed:
        return
    with socket.socket(fileno=os.dup(conn.fileno())) as wire:
        try:
            wire.shutdown(socket.SHUT_RDWR)
        except OSError:  # the other side was faster; the wait ends either way
            return


def is_pooled(conn: AnyConnection, backend_pid: int) -> bool:
    """Whether a pooler stands between: the process id it made up for the handshake is not that of the real backend."""
    return conn.info.backend_pid != backend_pid


class Wire(NamedTuple):
    """A connection as its client sees it: the server's address or socket folder, and the backend that the handshake named."""

    host: str
    sslmode: str
    encrypted: bool
    backend_pid: int


def wire(conn: AnyConnection) -> Wire:
    """What libpq says of the way to the server."""
    modes = [option.val for option in conn.pgconn.info if option.keyword == b"sslmode"]
    return Wire(
        conn.info.hostaddr or conn.info.host,
        (modes[0] or b"").decode(),
        bool(conn.pgconn.ssl_in_use),
        conn.info.backend_pid,
    )


def prepare_nothing(conn: AnyConnection) -> None:
    """Never prepare a statement here: behind a pooler the next transaction may meet another session, which has not got it."""
    conn.prepare_threshold = None


def prepares(conn: AnyConnection) -> bool:
    """Whether statements may be prepared, and the session is ours alone."""
    return conn.prepare_threshold is not None


def is_refusal(error: BaseException) -> bool:
    """Whether the server said no, so that a COMMIT certainly did not happen; a broken connection leaves it open."""
    code = error.sqlstate if isinstance(error, psycopg.Error) else None
    return code is not None and code[:2] not in ("08", "57")


def describe(dsn: str) -> str:
    """Where a DSN points, for people: user, host, port and database, never the password."""
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.Error:
        return "an unreadable DSN"
    if _is_torn(parts):
        return "an unreadable DSN"
    where = parts.get("host") or parts.get("hostaddr") or parts.get("service") or "local socket"
    port = f":{parts['port']}" if parts.get("port") else ""
    user = f"{parts['user']}@" if parts.get("user") else ""
    return f"{user}{where}{port}/{parts.get('dbname') or parts.get('user') or ''}"


def _parameters(dsn: str, *, timeout_s: float, name: str, private: bool = True) -> dict[str, Any]:
    """Our connection settings, each but the encoding only where the DSN does not say otherwise."""
    try:
        given = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        raise ConfigError(
            "the DSN cannot be read: write postgresql://user:password@host:5432/database or host=... dbname=..."
        ) from None
    if _is_torn(given):
        raise ConfigError(
            "the DSN cannot be read: the port is a number, and a password takes %40 for an @ and %2F for a /"
        )
    wanted = {
        "connect_timeout": max(2, round(timeout_s)),
        "application_name": name,
        "client_encoding": "UTF8",
        **KEEPALIVE,
        **({} if private else {"tcp_user_timeout": TASK_USER_TIMEOUT_MS}),
    }
    if "," in str(given.get("host") or given.get("hostaddr") or ""):
        wanted["target_session_attrs"] = "read-write"  # of a primary and its standbys: the one that takes writes
    # Another encoding could not carry every text there is: neither the DSN nor the environment chooses it.
    return {key: value for key, value in wanted.items() if key not in given or key == "client_encoding"}


def _is_torn(given: dict[str, Any]) -> bool:
    """Whether libpq cut a URL within the password, at an @ or / that was not escaped: its rest is then in host, port or dbname."""
    host, port, database = (str(given.get(name) or "") for name in ("host", "port", "dbname"))
    return "@" in host[1:] or "@" in database or (not port.replace(",", "").isdigit() and port != "")


def _no_connection(dsn: str, error: psycopg.Error) -> ConfigError | DatabaseUnavailable:
    lines = str(error).splitlines() or [type(error).__name__]
    # One line per host that was tried, each followed by lines of advice: the last verdict is the one that counts.
    reason = ([line for line in lines if "failed: " in line] or lines)[-1].rpartition("failed: ")[2].strip()
    password = conninfo_to_dict(dsn).get("password")
    if password:
        reason = reason.replace(str(password), "***")
    if reason.endswith(_NO_WORD):
        reason = "libpq could not even begin, for want of file descriptors or memory"
    elif "connection is bad: " in lines[0] and not any(sign in lines[0] for sign in _TRIED):
        return ConfigError(f"the DSN cannot be used: {reason.removeprefix('connection is bad: ')}")
    return DatabaseUnavailable(
        f"cannot connect to {describe(dsn)}: {reason}; check PGQUEUE_DSN and that the server runs"
    )


# What libpq says once it looks for the server. Before that it can only have disliked an option, as an unknown sslmode.
_TRIED = ("connection to server", "translate host name")
_NO_WORD = "no error details available"  # psycopg's, when libpq said nothing


def may_pass(error: BaseException) -> bool:
    """Whether waiting may cure what a connection failed with: the server is away, starts, stops, or has no room.

    False when it refuses us: a wrong password or database stays wrong.
    """
    if isinstance(error, DatabaseUnavailable):
        return "FATAL" not in str(error) or any(reason in str(error) for reason in _PASSING)
    if isinstance(error, psycopg.OperationalError):
        return error.sqlstate is None or error.sqlstate[:3] in (*_GOING_AWAY, "533")
    return isinstance(error, OSError)


def may_repeat(error: BaseException) -> bool:
    """Whether a transaction of ours that failed with this may succeed if it is tried again; it may also have been committed."""
    if isinstance(error, _FOR_REPEATING):
        return True
    lost = isinstance(error, psycopg.OperationalError) and (error.sqlstate is None or error.sqlstate[:3] in _GOING_AWAY)
    return lost and not isinstance(error, PoolTimeout)  # that one has waited already


class _NotPrimary(psycopg.errors.ReadOnlySqlTransaction):
    """Nothing can be written on a connection of ours; on a caller's own it is his affair."""


@contextmanager
def writable(conn: AnyConnection) -> Iterator[None]:
    """Close a pooled connection on which nothing can be written: it is healthy, but its server is no longer the primary."""
    try:
        yield
    except psycopg.errors.ReadOnlySqlTransaction as error:
        conn.pgconn.finish()
        raise _NotPrimary(str(error)) from error


def explain(error: psycopg.Error, *, schema: str) -> Exception | None:
    """What a database error means to the user of pgqueue: our own error where there is a cure, else None."""
    if isinstance(error, _NO_TABLES) and schema in str(
        error
    ):  # else it comes from whatever makes the caller's arguments
        return SchemaMissing(f"the schema '{schema}' has no pgqueue tables: run `pgqueue migrate`")
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return _not_allowed(error, schema=schema)
    if isinstance(error, PoolTimeout):
        return DatabaseUnavailable(
            f"no connection: {error}. Check that the server runs, or raise pool_size or pool_timeout_s."
        )
    if isinstance(error, psycopg.OperationalError) and (error.sqlstate is None or error.sqlstate[:3] in _GOING_AWAY):
        return DatabaseUnavailable(
            f"the database went away: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        )
    if isinstance(error, _NotPrimary):
        return DatabaseUnavailable(f"the server takes no writes, as after a fail-over: {error}")
    return None


def _not_allowed(error: psycopg.Error, *, schema: str) -> NotAllowed | None:
    """None when the right that is missing is one on the caller's own tables."""
    reason = (str(error).splitlines() or [""])[0]
    if reason.split(" ")[-1] not in _OURS | {schema}:
        return None
    roles = ", ".join(f"{schema}_{role}" for role in ("producer", "worker", "reader", "admin"))
    return NotAllowed(
        f"{reason}: connect as a role that may, or grant this one what it needs of {roles} (made by `pgqueue migrate --roles`)"
    )


_OURS = {
    "job", "jobs", "history", "attempt", "failures", "worker", "queue", "awaited", "throughput", "audit", "migration",
    "job_seq", "enqueue", "tidy",
}  # fmt: skip
_FOR_REPEATING = (
    psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected, psycopg.errors.ReadOnlySqlTransaction,
)  # fmt: skip
_NO_TABLES = psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedObject
_GOING_AWAY = ("57P", "080")  # shutdown, crash or start of the server; connection exceptions
# libpq tells no code for a connection that was refused; other languages' words count as a refusal.
_PASSING = (
    "starting up",
    "shutting down",
    "in recovery",
    "not yet accepting",
    "too many",
    "remaining connection slots",
)
