"""SQLAlchemy's sessions and connections, sync and async, over psycopg, psycopg2 and asyncpg; SQLModel's are among them.

Statements go through the connection that owns the transaction. asyncpg's adapter, for one, sends BEGIN with the first statement
that comes from SQLAlchemy: what goes to the driver's connection before that is committed at once, and stays after a rollback.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, ClassVar, TypeVar

import psycopg
from sqlalchemy import Connection, Engine
from sqlalchemy.engine import TwoPhaseTransaction
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from pgqueue.db.doors.caller import AsyncCaller, Caller, made
from pgqueue.db.doors.psycopg import execute, execute_async
from pgqueue.db.doors.text import arguments, numbered, silent
from pgqueue.errors import ConfigError
from pgqueue.queries import Statement

R = TypeVar("R")
DRIVERS = "psycopg, psycopg2, asyncpg"


def adapt(conn: Any) -> Caller | AsyncCaller | None:
    """None: nothing of SQLAlchemy that has a transaction."""
    match conn:
        case scoped_session() | async_scoped_session():
            return adapt(conn())
        case Session() | Connection():
            return SqlalchemyCaller(conn)
        case AsyncSession() | AsyncConnection():
            return AsyncSqlalchemyCaller(conn)
        case Engine() | AsyncEngine():
            raise ConfigError(
                "an Engine has no transaction: give conn= the connection of `with engine.begin() as conn`"
            )
        case sessionmaker() | async_sessionmaker():
            raise ConfigError(
                "a sessionmaker has no transaction: give conn= the session that it makes, session = Session()"
            )
    return None


class SqlalchemyCaller:
    """A Session or a Connection."""

    is_async: ClassVar[bool] = False
    counted: ClassVar[bool] = False

    def __init__(self, given: Session | Connection) -> None:
        self.given = given
        self.alone = False

    def _connection(self) -> Connection:
        if isinstance(self.given, Connection):
            return self.given
        try:
            # Asked before: to try would leave a coroutine that nobody awaits.
            if self.given.get_bind().dialect.is_async and not in_greenlet():
                raise ConfigError(
                    "this Session belongs to an AsyncSession: await defer_async() with the AsyncSession, or defer inside run_sync()"
                )
            return self.given.connection()
        except UnboundExecutionError as error:
            raise ConfigError(
                "this Session has an engine for each model and none for others: give the connection of a model in the "
                "queue's database, conn=session.connection(bind_arguments={'mapper': Model})"
            ) from error

    def execute(self, statement: Statement[R]) -> list[R]:
        conn = self._connection()
        self.alone = getattr(
            conn.connection.dbapi_connection, "autocommit", False
        )  # gone with the connection, when that is lost
        if statement.copy_rows is not None:
            _copy(conn, statement)
            return []
        sql = silent(statement.sql) if isinstance(conn.get_transaction(), TwoPhaseTransaction) else statement.sql
        if conn.dialect.paramstyle == "pyformat":
            result = conn.exec_driver_sql(sql, statement.params or None)
        elif conn.dialect.paramstyle == "numeric_dollar":
            text, names = numbered(sql)
            result = conn.exec_driver_sql(text, arguments(names, statement.params) or None)
        else:
            raise _unknown(conn)
        return made(statement, result.all()) if result.returns_rows else []

    def transaction(self) -> AbstractContextManager[Any]:
        return self.given.begin_nested()

    def said(self, setting: str) -> str | None:
        return _said(self._connection(), setting)

    def driver(self) -> Any:
        return self._connection().connection.driver_connection


class AsyncSqlalchemyCaller:
    """An AsyncSession or an AsyncConnection, whose sync side runs the statements."""

    is_async: ClassVar[bool] = True

    def __init__(self, given: AsyncSession | AsyncConnection) -> None:
        self.given = given
        self.alone = False

    async def execute(self, statement: Statement[R]) -> list[R]:
        def run(given: Any) -> list[R]:
            sync = SqlalchemyCaller(given)
            try:
                return sync.execute(statement)
            finally:
                self.alone = sync.alone

        return await self.given.run_sync(run)

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        return self.given.begin_nested()

    def said(self, setting: str) -> str | None:
        sync = (
            self.given.sync_connection
            if isinstance(self.given, AsyncConnection)
            else self.given.sync_session.connection()
        )
        return None if sync is None else _said(sync, setting)

    async def driver(self) -> Any:
        run: Callable[[Any], Any] = lambda given: SqlalchemyCaller(given).driver()  # noqa: E731
        return await self.given.run_sync(run)


def _copy(conn: Connection, statement: Statement[Any]) -> None:
    """By the driver, once SQLAlchemy has begun: clock.sql went through it before."""
    driver: Any = conn.connection.driver_connection
    match type(driver).__module__.partition(".")[0]:
        case "psycopg" if isinstance(driver, psycopg.AsyncConnection):
            await_only(execute_async(driver, statement))
        case "psycopg":
            execute(driver, statement)
        case "psycopg2":
            from pgqueue.db.doors.psycopg2 import Psycopg2Caller

            Psycopg2Caller(driver).execute(statement)
        case "asyncpg":
            from pgqueue.db.doors.asyncpg import AsyncpgCaller

            await_only(AsyncpgCaller(driver).execute(statement))
        case _:
            raise _unknown(conn)


def _said(conn: Connection, setting: str) -> str | None:
    driver: Any = conn.connection.driver_connection
    if hasattr(driver, "get_settings"):  # asyncpg's
        return getattr(driver.get_settings(), setting, None)
    value: str | None = driver.info.parameter_status(setting)
    return value


def _unknown(conn: Connection) -> ConfigError:
    return ConfigError(
        f"jobs go through SQLAlchemy over {DRIVERS}, not {conn.dialect.name}+{conn.dialect.driver}: use one of them"
    )
