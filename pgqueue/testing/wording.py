"""A worker's statements for drivers that take every value as text: asyncpg, bare or under SQLAlchemy.

A worker says them through psycopg alone, which writes numbers, ids and lists in their own types.
"""

import re
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeVar

from pgqueue.db.doors.text import as_text
from pgqueue.queries import Statement, Steps
from pgqueue.queries.statement import array, texts

T = TypeVar("T")
R = TypeVar("R")

# What a place is that the statement does not cast by itself.
TYPES = {
    "worker": "uuid", "id": "uuid", "token": "bigint", "limit": "bigint", "most_bytes": "bigint", "lease_s": "float8",
    "lock_key": "integer", "pid": "integer", "concurrency": "integer",
}  # fmt: skip
_PLACE_OF_VALUE = re.compile(r"%\((\w+)\)s(::text\[\]|::)?")


@lru_cache(64)
def _cast(sql: str) -> str:
    """The text with a cast at each place that needs one; a list of text is a text first."""

    def place(found: re.Match[str]) -> str:
        name, cast = found.groups()
        if cast == "::text[]":
            return f"%({name})s::text::text[]"
        return found[0] if cast or name not in TYPES else f"%({name})s::{TYPES[name]}"

    return _PLACE_OF_VALUE.sub(place, sql)


def worded(statement: Statement[R]) -> Statement[R]:
    """The same statement, with lists as PostgreSQL writes them."""
    params = {name: _list(value) if isinstance(value, list) else value for name, value in statement.params.items()}
    return replace(statement, sql=_cast(statement.sql), params=params)


def _list(values: list[Any]) -> str:
    return array("NULL" if value is None else texts([as_text(value)])[1:-1] for value in values)


def in_text(steps: Steps[T]) -> Steps[T]:
    """The same steps."""
    try:
        statement = next(steps)
        while True:
            statement = steps.send((yield worded(statement)))
    except StopIteration as done:
        value: T = done.value
        return value
