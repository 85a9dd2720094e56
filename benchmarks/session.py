"""A session that prepares and plans as a worker's line does: a plan is made once, for whatever the tables hold by then."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from pgqueue import db
from pgqueue.queries import Queries, Row, Statement

PLACE = re.compile(r"%\((\w+)\)s")


class Session:
    """Statements are planned when they are first sent, and again only when the server knows more of the tables."""

    def __init__(self, conn: psycopg.Connection, queries: Queries) -> None:
        self._conn = conn
        db.run(conn, db.plan_steadily(conn, queries))

    def send(self, statement: Statement) -> list[Row]:
        """Its rows."""
        cursor = self._conn.execute(statement.sql.encode(), statement.params)
        return cursor.fetchall() if cursor.description else []

    @contextmanager
    def undone(self) -> Iterator[None]:
        """What is sent within is rolled back, and stays prepared: psycopg's own rollback would deallocate everything."""
        self._conn.pgconn.exec_(b"begin")
        try:
            yield
        finally:
            self._conn.pgconn.exec_(b"rollback")

    def prepare(self, statement: Statement) -> None:
        """Plan it by what the tables hold now."""
        with self.undone():
            self.send(statement)

    def plan(self, statement: Statement) -> dict[str, Any]:
        """The plan that is kept of a statement, with what it did when it ran now; that is undone."""
        names = list(dict.fromkeys(PLACE.findall(statement.sql)))
        values = f"({', '.join(['%s'] * len(names))})" if names else ""
        explain = f"explain (analyze, buffers, timing off, format json) execute {self._name(statement)}{values}"
        with self.undone(), psycopg.ClientCursor(self._conn) as cursor:
            cursor.execute(explain.encode(), [statement.params[name] for name in names])
            return top(cursor.fetchone())

    def _name(self, statement: Statement) -> str:
        """Under which psycopg has prepared it. A text has several if it was sent with longer and with shorter numbers."""
        before = self._uses()
        self.prepare(statement)
        (name,) = (name for name, uses in self._uses().items() if uses > before.get(name, 0))
        return name

    def _uses(self) -> dict[str, int]:
        return dict(
            self._conn.execute("select name, generic_plans from pg_prepared_statements", prepare=False).fetchall()
        )


def top(row: Row | None) -> dict[str, Any]:
    """The topmost node, which counts what all others did too, of an EXPLAIN in JSON."""
    assert row is not None
    (found,) = row
    node: dict[str, Any] = (found if isinstance(found, list) else json.loads(found))[0]["Plan"]
    return node


def blocks(node: dict[str, Any]) -> int:
    """How many blocks the server touched, cached or not."""
    return int(node["Shared Hit Blocks"]) + int(node["Shared Read Blocks"])
