"""The one row, or the one value, that a query gives."""

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg

from pgqueue.queries import Row


def one_row(conn: psycopg.Connection, query: str, params: Sequence[Any] | Mapping[str, Any] | None = None) -> Row:
    """The first row of the answer, which has one."""
    row = conn.execute(query, params).fetchone()
    assert row is not None, query
    return row


def one_value(conn: psycopg.Connection, query: str, params: Sequence[Any] | Mapping[str, Any] | None = None) -> Any:
    """The first value of that row."""
    return one_row(conn, query, params)[0]
