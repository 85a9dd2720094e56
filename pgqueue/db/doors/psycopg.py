"""The two doors through which every statement goes, and what a caller's connection says about itself."""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, TypeVar
from weakref import WeakSet

import psycopg
from psycopg import pq
from psycopg.rows import tuple_row

from pgqueue.db.doors.text import silent
from pgqueue.db.narrow import fitting
from pgqueue.errors import ConfigError
from pgqueue.queries import Queries, Statement, Steps

R = TypeVar("R")
Connection = psycopg.Connection[Any]
AsyncConnection = psycopg.AsyncConnection[Any]
AnyConnection = Connection | AsyncConnection
DatabaseError = psycopg.Error
Said = Callable[[str], str | None]  # a setting that the server reports to the driver
_steady: WeakSet[AnyConnection] = WeakSet()
Blocked = psycopg.errors.LockNotAvailable  # another session held a lock for longer than we wait
# As text a time or an interval comes in whatever style the session has, which a caller may have set on its own: psycopg reads
# but one of them, and a float may lack its last digits.
BINARY = True


class ReadOnlyDefault(psycopg.errors.ReadOnlySqlTransaction):
    """Nothing can be written because a setting says so: for the role, the database or the server."""


def execute(conn: Connection, statement: Statement[R]) -> list[R]:
    cursor = _cursor(psycopg.Cursor, conn, statement)
    try:
        if statement.copy_rows is not None:
            _check_copy(conn)
            with cursor.copy(_trusted(conn, statement)) as copy:
                for row in statement.copy_rows:
                    copy.write_row(row)
            return []
        prepare = _prepare(conn, statement)
        cursor.execute(
            _trusted(conn, statement), fitting(conn, statement.params) or None, prepare=prepare, binary=BINARY
        )
        if _in_pipeline(conn):  # the answer has not been read yet, not even whether there are rows
            with conn.pipeline() as pipeline:
                pipeline.sync()
        return cursor.fetchall() if _has_rows(cursor) else []
    except psycopg.errors.ReadOnlySqlTransaction as error:
        raise read_only(error, conn.info.parameter_status) from None


async def execute_async(conn: AsyncConnection, statement: Statement[R]) -> list[R]:
    cursor = _cursor(psycopg.AsyncCursor, conn, statement)
    try:
        if statement.copy_rows is not None:
            _check_copy(conn)
            async with cursor.copy(_trusted(conn, statement)) as copy:
                for row in statement.copy_rows:
                    await copy.write_row(row)
            return []
        prepare = _prepare(conn, statement)
        await cursor.execute(
            _trusted(conn, statement), fitting(conn, statement.params) or None, prepare=prepare, binary=BINARY
        )
        if _in_pipeline(conn):
            async with conn.pipeline() as pipeline:
                await pipeline.sync()
        return await cursor.fetchall() if _has_rows(cursor) else []
    except psycopg.errors.ReadOnlySqlTransaction as error:
        raise read_only(error, conn.info.parameter_status) from None


async def execute_together_async(conn: AsyncConnection, statements: Iterable[Statement[Any]]) -> list[list[Any]]:
    """Several statements in one go, where the session is ours alone; each but the last one answered before the next is sent, else.

    The first that fails raises, and none after it was run.
    """
    if not prepares(conn):
        return [await execute_async(conn, statement) for statement in statements]
    cursors = []
    async with conn.pipeline():
        for statement in statements:
            cursor = _cursor(psycopg.AsyncCursor, conn, statement)
            prepare = _prepare(conn, statement)
            params = fitting(conn, statement.params) or None
            await cursor.execute(_trusted(conn, statement), params, prepare=prepare, binary=BINARY)
            cursors.append(cursor)
    return [await cursor.fetchall() if _has_rows(cursor) else [] for cursor in cursors]


def _cursor(kind: Callable[..., Any], conn: AnyConnection, statement: Statement[Any]) -> Any:
    """A cursor of our own class, as the caller's connection may make some that read rows or placeholders another way. It holds
    nothing on the server, so nobody needs to close it.

    A pool's connection keeps one for each lasting statement: psycopg then knows already how to write its parameters and read its
    rows, which is a sixth of what a defer costs the client.
    """
    kept: dict[str, Any] | None = getattr(conn, "cursors", None) if statement.lasting else None
    if kept is None:
        return kind(conn, row_factory=_rows(statement))
    if (cursor := kept.get(statement.sql)) is None:
        cursor = kept[statement.sql] = kind(conn, row_factory=_rows(statement))
    return cursor


def _rows(statement: Statement[R]) -> Callable[[Any], Any]:
    """psycopg's way to make the rows: each is made once, where it is read from the answer."""
    return tuple_row if statement.row is None else lambda _: statement.row


def _prepare(conn: AnyConnection, statement: Statement[Any]) -> bool | None:
    """False: plan it for this one time. None: the connection keeps plans as it likes.

    A plan made while there were few jobs reads the whole table when there are a million: measured 63 to 180 ms for the finish
    of one job. A steady session keeps all, as it can plan but one way.
    """
    return None if statement.lasting or conn in _steady else False


def read_only(error: psycopg.Error, said: Said) -> psycopg.Error:
    """The error, by the name of the setting if that is what refuses us; on a standby nothing can be set."""
    if said("default_transaction_read_only") != "on" or said("in_hot_standby") == "on":
        return error
    role = said("session_authorization")
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return ReadOnlyDefault(
        f"{reason}: default_transaction_read_only is on for role {role}, for the database or for the whole server "
        "(some hosts set it when the disk is full): alter role or database ... set default_transaction_read_only = off, or "
        "put options=-cdefault_transaction_read_only=off into the DSN"
    )


def plan_steadily(conn: AnyConnection, queries: Queries) -> Steps[None]:
    """Prepare each statement when it is first said here, and keep its plan for whatever the tables hold later.

    Behind a transaction pooler, whose sessions others use too, nothing can be kept.
    """
    if prepares(conn):
        conn.prepare_threshold = 0
        _steady.add(conn)
        yield queries.steady_plans()


def prepare_nothing(conn: AnyConnection) -> None:
    """Never prepare a statement here: behind a pooler the next transaction may meet another session, which has not got it."""
    conn.prepare_threshold = None


def prepares(conn: AnyConnection) -> bool:
    """Whether statements may be prepared, and the session is ours alone: no pooler sits in between (see session.sql)."""
    return conn.prepare_threshold is not None


def _has_rows(cursor: psycopg.Cursor[Any] | psycopg.AsyncCursor[Any]) -> bool:
    """`cursor.description` would say it too, at a twentieth of a defer's cost."""
    return cursor.pgresult is not None and cursor.pgresult.nfields > 0


def _in_pipeline(conn: AnyConnection) -> bool:
    return conn.pgconn.pipeline_status != pq.PipelineStatus.OFF


def _check_copy(conn: AnyConnection) -> None:
    if _in_pipeline(conn):
        raise ConfigError(
            "defer_many streams rows by COPY, which a pipeline cannot carry: call it outside of conn.pipeline()"
        )


def _trusted(conn: AnyConnection, statement: Statement[Any]) -> Any:
    """psycopg wants a literal; ours come from files in the package, with names we checked ourselves."""
    # After conn.tpc_begin(): psycopg keeps the mark to itself.
    return _encoded(statement.sql if getattr(conn, "_tpc", None) is None else silent(statement.sql))


@lru_cache(256)
def _encoded(text: str) -> str | bytes:
    """One and the same bytes for a text, by which psycopg knows it again: it would encode and hash two kilobytes each time."""
    return text.encode() if text.isascii() else text


def would_begin(conn: Any) -> bool:
    """True when the next statement opens the caller's transaction. conn.transaction() would open and commit one of its own.
    Those of other libraries begin a transaction by their own way.
    """
    return isinstance(conn, psycopg.Connection | psycopg.AsyncConnection) and not conn.autocommit and is_idle(conn)


def is_idle_autocommit(conn: AnyConnection) -> bool:
    """True when each statement on this connection commits by itself, so that what it does is visible at once."""
    return conn.autocommit and is_idle(conn)


def is_idle(conn: AnyConnection) -> bool:
    """True when no transaction is open on the connection."""
    return conn.pgconn.transaction_status == pq.TransactionStatus.IDLE
