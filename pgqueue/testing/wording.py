"""A worker's statements for drivers that take every value as text: asyncpg, bare or under SQLAlchemy.

A worker says them through psycopg alone, which writes numbers, ids and lists in their own types.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeVar

from pgqueue.db.doors.text import as_text
from pgqueue.queries import Statement, Steps
from pgqueue.queries.statement import array

T = TypeVar("T")
R = TypeVar("R")

# What a place is that the statement does not cast by itself.
TYPES = {
    "worker": "uuid", "id": "uuid", "token": "bigint", "limit": "bigint", "most_bytes": "bigint", "lease_s": "float8",
    "lock_key": "integer", "pid": "integer", "concurrency": "integer",
}  # fmt: skip
_PLACE_OF_VALUE = re.compile(r"%\((\w+)\)s(::text\[\])?(::)?")


@lru_cache(64)
def _cast(sql: str) -> tuple[str, frozenset[str]]:
    """The text with a cast at each place that needs one, and the places that stay lists."""
    lists = frozenset(found[1] for found in _PLACE_OF_VALUE.finditer(sql) if found[2])

    def place(found: re.Match[str]) -> str:
        name, is_list, is_cast = found.groups()
        kind = TYPES.get(name)
        return found[0] if is_list or is_cast or kind is None else f"%({name})s::{kind}"

    return _PLACE_OF_VALUE.sub(place, sql), lists


def worded(statement: Statement[R]) -> Statement[R]:
    """The same statement."""
    sql, lists = _cast(statement.sql)
    return replace(statement, sql=sql, params=dict(_values(statement.params, lists)))


def _values(params: Mapping[str, Any], lists: frozenset[str]) -> Any:
    for name, value in params.items():
        yield name, array(as_text(value)) if isinstance(value, list | tuple) and name not in lists else value


def in_text(steps: Steps[T]) -> Steps[T]:
    """The same steps."""
    try:
        statement = next(steps)
        while True:
            statement = steps.send((yield worded(statement)))
    except StopIteration as done:
        value: T = done.value
        return value
