"""How statements reach a connection: one door for each library, found by the root package of the connection's class.

A door is imported when the first connection of its library comes, so that nobody imports a framework for nothing. What takes
several statements is said in Steps; the two functions here drive them, and differ in `await`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from typing import Any, TypeVar, overload

# By name: the module of the same name in this folder would hide the library.
from psycopg import AsyncConnection as PsycopgAsync
from psycopg import Connection as PsycopgSync

from pgqueue.db.doors import psycopg as own
from pgqueue.db.doors.caller import Adapted, AsyncCaller, Caller
from pgqueue.db.doors.psycopg import AnyConnection, AsyncConnection, Connection
from pgqueue.errors import ConfigError
from pgqueue.queries import Queries, Statement, Steps, TogetherSteps

T = TypeVar("T")
R = TypeVar("R")

PSYCOPG = (PsycopgSync, PsycopgAsync)
DOORS = ("asyncpg", "django", "psycopg2", "sqlalchemy", "sqlmodel")
TAKEN = "conn= takes a connection of psycopg, psycopg2 or asyncpg, a session or connection of SQLAlchemy, or Django's connection"


def adapt(conn: Any) -> Any:
    """A caller's connection as statements use it: psycopg's as it is. Raises ConfigError for what is no connection."""
    if isinstance(conn, (*PSYCOPG, Adapted)):
        return conn
    kind: type = type(conn)
    for try_door in _doors(kind):
        if (found := try_door(conn)) is not None:
            return found
    raise ConfigError(f"{TAKEN}, not a {type(conn).__module__}.{type(conn).__qualname__}")


def stands_for(conn: Any) -> Any:
    """What a proxy is here and now, such as Django's `connection` and a scoped_session; all others are themselves.

    Raises ConfigError as `adapt`.
    """
    found = adapt(conn)
    return getattr(found, "given", found)


@lru_cache(64)
def _doors(kind: type) -> tuple[Callable[[Any], Any], ...]:
    """The doors of the libraries that a class comes from, imported now."""
    roots = dict.fromkeys(each.__module__.partition(".")[0] for each in kind.__mro__)
    names = ("sqlalchemy" if root == "sqlmodel" else root for root in roots if root in DOORS)
    return tuple(import_module(f"pgqueue.db.doors.{name}").adapt for name in dict.fromkeys(names))


def is_async(conn: Any) -> bool:
    """Whether one that `adapt` gave waits by `await`."""
    return bool(conn.is_async) if is_foreign(conn) else isinstance(conn, PsycopgAsync)


def is_foreign(conn: Any) -> bool:
    """Whether it is of another library than psycopg."""
    return not isinstance(conn, PSYCOPG)


@overload
def run(conn: Connection | Caller, steps: Statement[R]) -> list[R]: ...
@overload
def run(conn: Connection | Caller, steps: Steps[T]) -> T: ...
def run(conn: Connection | Caller, steps: Steps[Any] | Statement[Any]) -> Any:
    """Drive Steps (or one Statement) over a sync connection and return its value (or rows)."""
    if isinstance(steps, Statement):
        return _execute(conn, steps)
    try:
        statement = next(steps)
        while True:
            rows = _execute(conn, statement)
            statement = steps.send(rows)
    except StopIteration as done:
        return done.value


@overload
async def run_async(conn: AsyncConnection | AsyncCaller, steps: Statement[R]) -> list[R]: ...
@overload
async def run_async(conn: AsyncConnection | AsyncCaller, steps: Steps[T]) -> T: ...
async def run_async(conn: AsyncConnection | AsyncCaller, steps: Steps[Any] | Statement[Any]) -> Any:
    """As `run`, over an async connection."""
    if isinstance(steps, Statement):
        return await _execute_async(conn, steps)
    try:
        statement = next(steps)
        while True:
            rows = await _execute_async(conn, statement)
            statement = steps.send(rows)
    except StopIteration as done:
        return done.value


def run_together(conn: Connection, steps: TogetherSteps[T]) -> T:
    """As `run`, for steps of several statements each."""
    try:
        statements = next(steps)
        while True:
            statements = steps.send([own.execute(conn, statement) for statement in statements])
    except StopIteration as done:
        value: T = done.value
        return value


async def run_together_async(conn: AsyncConnection, steps: TogetherSteps[T]) -> T:
    """As `run_async`, for steps of several statements each, which share a round trip."""
    try:
        statements = next(steps)
        while True:
            statements = steps.send(await own.execute_together_async(conn, statements))
    except StopIteration as done:
        value: T = done.value
        return value


def _execute(conn: Connection | Caller, statement: Statement[R]) -> list[R]:
    return own.execute(conn, statement) if isinstance(conn, PsycopgSync) else conn.execute(statement)


async def _execute_async(conn: AsyncConnection | AsyncCaller, statement: Statement[R]) -> list[R]:
    if isinstance(conn, PsycopgAsync):
        return await own.execute_async(conn, statement)
    return await conn.execute(statement)


@contextmanager
def in_index_order(conn: Connection, queries: Queries) -> Iterator[None]:
    """Within the block statements walk along indexes. For reading only: the setting goes as it came, by a rollback."""
    with conn.transaction(force_rollback=True):
        run(conn, queries.in_index_order())
        yield


__all__ = [
    "AnyConnection",
    "AsyncConnection",
    "Connection",
    "caller",
    "in_index_order",
    "is_async",
    "is_foreign",
    "run",
    "run_async",
    "run_together",
    "run_together_async",
    "stands_for",
]
