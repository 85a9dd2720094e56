"""What a database error means: whether to wait, to try again, or what to tell the user of pgqueue."""

import re
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg_pool import PoolClosed, PoolTimeout

from pgqueue.db.doors.psycopg import ReadOnlyDefault, Said, read_only
from pgqueue.db.pools import NotPrimary
from pgqueue.errors import (
    ConfigError,
    DatabaseUnavailable,
    InvalidArguments,
    NotAllowed,
    PgQueueError,
    SchemaError,
    SchemaMissing,
)
from pgqueue.queries import Statement, first_line


def is_refusal(error: BaseException) -> bool:
    """Whether the server said no, so that a COMMIT certainly did not happen; a broken connection leaves it open."""
    code = error.sqlstate if isinstance(error, psycopg.Error) else None
    return code is not None and code[:2] not in ("08", "57")


def gave_way(error: BaseException) -> bool:
    """Whether a statement ended because a lock or its time was over, which says nothing about the next try."""
    return isinstance(
        error, psycopg.errors.LockNotAvailable | psycopg.errors.DeadlockDetected | psycopg.errors.QueryCanceled
    )


def may_pass(error: BaseException) -> bool:
    """Whether waiting may cure what a connection failed with: the server is away, starts, stops, or has no room.

    False when it refuses us: a wrong password or database stays wrong.
    """
    if isinstance(error, DatabaseUnavailable):
        return "FATAL" not in str(error) or any(reason in str(error) for reason in _PASSING)
    if isinstance(error, psycopg.OperationalError):
        return error.sqlstate is None or error.sqlstate[:3] in (*_GOING_AWAY, "533")
    return isinstance(error, OSError)


def is_of_values(error: BaseException) -> bool:
    """Whether it is the values of a statement that were refused: psycopg could not write them, or the server not take them.

    Sending the same again is no use, and the session is as good as before.
    """
    if not isinstance(error, psycopg.Error):
        return not isinstance(
            error, DatabaseUnavailable | OSError
        )  # raised by a value that is not of its column's type
    if error.sqlstate is None:
        return isinstance(error, _UNWRITTEN)
    return error.sqlstate[:2] in _OF_VALUES and error.sqlstate != _NO_MORE_NUMBERS


def is_of_the_moment(error: BaseException) -> bool:
    """Whether the same statement may pass when it is sent again: the server is away, full or busy, or gave way to another."""
    if not isinstance(error, psycopg.Error):
        return isinstance(error, DatabaseUnavailable | OSError)
    if error.sqlstate is None:
        return not isinstance(error, _UNWRITTEN)
    return error.sqlstate[:2] in _OF_THE_MOMENT or error.sqlstate == _NO_MORE_NUMBERS


def may_repeat(error: BaseException) -> bool:
    """Whether a transaction of ours that failed with this may succeed if it is tried again; it may also have been committed."""
    if isinstance(error, ReadOnlyDefault):
        return False
    return isinstance(error, (*_FOR_REPEATING, PoolClosed)) or is_lost(error)


def is_lost(error: BaseException) -> bool:
    """Whether a statement was sent, or may have been, and no answer came: nobody knows what became of it.

    Without a connection from the pool nothing was sent.
    """
    away = isinstance(error, psycopg.OperationalError) and (error.sqlstate is None or error.sqlstate[:3] in _GOING_AWAY)
    return away and not isinstance(error, PoolTimeout | PoolClosed)


def is_timeout(error: BaseException) -> bool:
    """Whether a pool had no connection to give for as long as a caller waited."""
    return isinstance(error, PoolTimeout)


class GoneAway(psycopg.OperationalError):
    """A caller's connection of another library went away. alone: each statement was committing by itself there."""

    def __init__(self, said: str, *, alone: bool) -> None:
        super().__init__(said)
        self.alone = alone


def as_psycopg(error: BaseException) -> psycopg.Error | None:
    """An error of another library, as psycopg would raise it: known by its SQLSTATE, whatever class it has and however deep it is.

    asyncpg and Django's psycopg call it sqlstate, psycopg2 pgcode; SQLAlchemy keeps the driver's error in orig, Django as the
    cause. None: neither has the server said it, nor is it about the connection.
    """
    wrapped = (error, getattr(error, "orig", None), error.__cause__)
    for found in (*wrapped, getattr(wrapped[1], "__cause__", None)):
        code = getattr(found, "sqlstate", None) or getattr(found, "pgcode", None)
        if code is None and f"{type(found).__module__}.{type(found).__name__}" in _GONE:
            return psycopg.OperationalError(str(found))
        if isinstance(code, str):
            try:
                return psycopg.errors.lookup(code)(str(found))
            except KeyError:  # a class of later versions
                return None
    return None


def explain_foreign(raised: BaseException, said: Said, *, schema: str) -> PgQueueError | None:
    """As `explain`, for what another library raises; and for the caches of other drivers, which psycopg's has none of."""
    error = as_psycopg(raised)
    if error is None:
        # asyncpg's InterfaceError. psycopg and psycopg2 let the second statement wait.
        return ConfigError(ONE_AT_A_TIME) if "another operation is in progress" in str(raised) else None
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        error = read_only(error, said)
    if error.sqlstate in _LOST_PLANS:
        return ConfigError(
            f"the statement that the driver had prepared is gone ({_first_line(error)}): a pooler gives each transaction another "
            "session, so prepare nothing: statement_cache_size=0 for asyncpg, and prepared_statement_cache_size=0 as well for "
            "SQLAlchemy on it"
        )
    if error.sqlstate == _NO_TRANSACTION:
        return ConfigError(
            "this connection commits each statement by itself, and many jobs need one transaction: take a connection without "
            "isolation_level='AUTOCOMMIT', or defer them one by one"
        )
    return explain(error, schema=schema)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def explain(error: psycopg.Error, *, schema: str) -> PgQueueError | None:
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
    if isinstance(error, psycopg.errors.UntranslatableCharacter | psycopg.errors.CharacterNotInRepertoire):
        reason = (str(error).splitlines() or [""])[0]
        return InvalidArguments(
            f"the database cannot hold this text ({reason}): leave it out, or recreate the database with encoding UTF8"
        )
    if isinstance(error, ReadOnlyDefault):
        return NotAllowed(str(error))
    if isinstance(error, NotPrimary):
        return DatabaseUnavailable(f"the server takes no writes, as after a fail-over: {error}")
    return None


def explain_migration(error: psycopg.Error, *, schema: str, said: Sequence[Statement[Any]]) -> Exception:
    """As `explain`, with the first line of the statement that failed, which the error alone does not tell.

    said: the last statement, if there was any.
    """
    if isinstance(error, psycopg.errors.InvalidSchemaDefinition) and _is_ours(error):
        return SchemaError(error.diag.message_primary)
    explained = explain(error, schema=schema)
    if isinstance(explained, DatabaseUnavailable) or not said or _is_ours(error):
        return explained or error
    reason = (str(explained or error).splitlines() or [type(error).__name__])[0]
    return type(explained or SchemaError())(f"{reason}; this was `{first_line(said[0].sql)}`, and nothing was changed")


def _is_ours(error: psycopg.Error) -> bool:
    """Whether one of our own blocks has said it (sql/roles/create.sql, sql/schema/citus.sql), in a sentence that needs no more."""
    return error.diag.source_function == "exec_stmt_raise" and "inline_code_block" in (error.diag.context or "")


def _not_allowed(error: psycopg.Error, *, schema: str) -> NotAllowed | None:
    """None when the right that is missing is one on the caller's own tables."""
    reason = (str(error).splitlines() or [""])[0]
    # The server says it in its own language, and in some there is no space between a name and the words around it.
    if not re.search(rf"(?<![A-Za-z0-9_])(?:{'|'.join((*_OURS, schema))})(?![A-Za-z0-9_])", reason):
        return None
    roles = ", ".join(f"{schema}_{role}" for role in ("producer", "worker", "reader", "admin"))
    return NotAllowed(
        f"{reason}: connect as a role with this right, or grant this one some of {roles} (created by `pgqueue migrate --roles`)"
    )


_OURS = {
    "job", "jobs", "history", "attempt", "failures", "worker", "queue", "awaited", "throughput", "audit", "migration",
    "notice", "period", "job_seq", "enqueue", "tidy",
}  # fmt: skip
_FOR_REPEATING = (
    psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected, psycopg.errors.ReadOnlySqlTransaction,
)  # fmt: skip
ONE_AT_A_TIME = (
    "an asyncpg connection runs one statement at a time, and another is under way on this one: await each defer before the next, "
    "use defer_many_async(), or give each asyncio task a connection of its own"
)
# Without a code of the server's these are about the connection.
_GONE = "psycopg.OperationalError", "psycopg2.OperationalError"
_NO_TRANSACTION = "25P01"
_LOST_PLANS = ("26000", "42P05")  # no such prepared statement, one of that name exists
_NO_TABLES = (
    psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedObject,
    psycopg.errors.UndefinedFunction,
)  # fmt: skip
_UNWRITTEN = (
    psycopg.DataError, psycopg.ProgrammingError, psycopg.NotSupportedError, psycopg.InterfaceError,
)  # fmt: skip
_OF_VALUES = ("21", "22", "54")  # how many they are, what they say, how large they are
# Connections; transaction states, as of a server that takes no writes; deadlocks; room; locks; an administrator; the system.
_OF_THE_MOMENT = ("08", "25", "40", "53", "55", "57", "58")
_NO_MORE_NUMBERS = "2200H"  # a sequence is at its end: of class 22, and no value's fault
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
