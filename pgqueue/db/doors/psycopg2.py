"""psycopg2's connections."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

import psycopg2.extensions

from pgqueue.db.doors.caller import Caller, made
from pgqueue.db.doors.text import COPY_BYTES, CopyFile
from pgqueue.errors import ConfigError
from pgqueue.queries import Statement
from pgqueue.queries.statement import sql_file

R = TypeVar("R")
Cursor = psycopg2.extensions.cursor  # not the caller's own class, which may read rows as dicts
NESTED = "client/nested_begin.sql", "client/nested_release.sql", "client/nested_rollback.sql"
IN_TRANSACTION = psycopg2.extensions.TRANSACTION_STATUS_INTRANS


def adapt(conn: Any) -> Caller | None:
    """None: no connection of psycopg2."""
    if not isinstance(conn, psycopg2.extensions.connection):
        return None
    if conn.async_:
        raise ConfigError("psycopg2's asynchronous mode has no transactions: give conn= a connection without async_=1")
    return Psycopg2Caller(conn)


class Psycopg2Caller:
    """One of them. It tells nobody of its tpc_begin(), after which no bell may ring: there an App(notify="never") is needed."""

    is_async: ClassVar[bool] = False
    counted: ClassVar[bool] = False

    def __init__(self, conn: Any) -> None:
        self.given = conn
        self.alone: bool = conn.autocommit

    def execute(self, statement: Statement[R]) -> list[R]:
        with self.given.cursor(cursor_factory=Cursor) as cursor:
            if statement.copy_rows is not None:
                cursor.copy_expert(statement.sql, CopyFile(statement.copy_rows), COPY_BYTES)
                return []
            cursor.execute(statement.sql, dict(statement.params) or None)
            return made(statement, cursor.fetchall()) if cursor.description else []

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """By SQL: psycopg2's own `with conn` would commit what the caller has begun."""
        nested = not self.given.autocommit or self.given.info.transaction_status == IN_TRANSACTION
        begin, end, undo = map(sql_file, NESTED) if nested else ("begin", "commit", "rollback")
        self._say(begin)
        try:
            yield
        except BaseException:
            self._say(undo)
            raise
        self._say(end)

    def _say(self, sql: str) -> None:
        with self.given.cursor(cursor_factory=Cursor) as cursor:
            cursor.execute(sql)

    def said(self, setting: str) -> str | None:
        value: str | None = self.given.info.parameter_status(setting)
        return value

    def driver(self) -> Any:
        return self.given
