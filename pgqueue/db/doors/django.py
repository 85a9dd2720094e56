"""Django's connections: `connection`, and `connections[alias]`."""

from contextlib import AbstractContextManager
from typing import Any, ClassVar, TypeVar

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.connection import ConnectionProxy

from pgqueue.db.doors.caller import Caller, made
from pgqueue.db.doors.text import COPY_BYTES, CopyFile
from pgqueue.errors import ConfigError
from pgqueue.queries import Statement

R = TypeVar("R")


def adapt(conn: Any) -> Caller | None:
    """None: no connection of Django."""
    if not isinstance(conn, ConnectionProxy | BaseDatabaseWrapper):
        return None
    if conn.vendor != "postgresql":
        raise ConfigError(
            f"the Django database {conn.alias!r} is {conn.vendor}, and jobs live in PostgreSQL: give conn= the connection of "
            "a PostgreSQL database, as connections[alias]"
        )
    return DjangoCaller(connections[conn.alias] if isinstance(conn, ConnectionProxy) else conn)


class DjangoCaller:
    """One of them. Django's own cursor opens the connection, begins the transaction and counts the query."""

    is_async: ClassVar[bool] = False
    counted: ClassVar[bool] = True

    def __init__(self, conn: Any) -> None:
        self.given = conn
        autocommit = conn.settings_dict["AUTOCOMMIT"] if conn.connection is None else conn.autocommit
        self.alone: bool = autocommit and not conn.in_atomic_block

    def execute(self, statement: Statement[R]) -> list[R]:
        with self.given.cursor() as cursor:
            if statement.copy_rows is not None:
                return self._copy(cursor.cursor, statement)
            cursor.execute(statement.sql, dict(statement.params) or None)
            return made(statement, cursor.fetchall()) if cursor.description else []

    def _copy(self, cursor: Any, statement: Statement[Any]) -> list[Any]:
        assert statement.copy_rows is not None
        if hasattr(cursor, "copy"):
            with cursor.copy(statement.sql) as copy:
                for row in statement.copy_rows:
                    copy.write_row(row)
        else:
            cursor.copy_expert(statement.sql, CopyFile(statement.copy_rows), COPY_BYTES)
        return []

    def transaction(self) -> AbstractContextManager[Any]:
        alias = self.given.alias
        if connections[alias] is not self.given:  # atomic() goes by the name alone
            raise ConfigError(
                f"this Django connection is not connections[{alias!r}] of this thread, and many jobs need one transaction: give "
                "conn= that one"
            )
        atomic: AbstractContextManager[Any] = transaction.atomic(using=alias)
        return atomic

    def said(self, setting: str) -> str | None:
        value: str | None = self.given.connection.info.parameter_status(setting)  # psycopg or psycopg2
        return value

    def driver(self) -> Any:
        self.given.ensure_connection()
        return self.given.connection
