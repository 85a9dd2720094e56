"""A worker's statements for drivers that take every value as text: asyncpg, bare or under SQLAlchemy.

A worker says them through psycopg alone, which writes numbers, ids and lists in their own types.
"""

import re
from dataclasses import replace
from functools import lru_cache
from typing import TypeVar

from pgqueue.queries import Statement, Steps

T = TypeVar("T")
R = TypeVar("R")

# What a place is that the statement does not cast by itself.
TYPES = {
    "worker": "uuid", "id": "uuid", "token": "bigint", "limit": "bigint", "most_bytes": "bigint", "lease_s": "float8",
    "lock_key": "integer", "pid": "integer", "concurrency": "integer",
}  # fmt: skip
_PLACE_OF_VALUE = re.compile(r"%\((\w+)\)s(::[\w.\"]+(?:\[\])?)?")


@lru_cache(64)
def _cast(sql: str, literals: frozenset[str]) -> str:
    """The text with a cast at each place that needs one; what is the text of a list, as `literals` are, is a text first."""

    def place(found: re.Match[str]) -> str:
        name, cast = found.groups()
        if cast is None:
            return f"%({name})s::{TYPES[name]}" if name in TYPES else found[0]
        return f"%({name})s::text{cast}" if cast.endswith("[]") and name in literals else found[0]

    return _PLACE_OF_VALUE.sub(place, sql)


def worded(statement: Statement[R]) -> Statement[R]:
    """The same statement, with all its values in types that such a driver takes."""
    literals = frozenset(name for name, value in statement.params.items() if isinstance(value, str))
    return replace(statement, sql=_cast(statement.sql, literals))


def in_text(steps: Steps[T]) -> Steps[T]:
    """The same steps."""
    try:
        statement = next(steps)
        while True:
            statement = steps.send((yield worded(statement)))
    except StopIteration as done:
        value: T = done.value
        return value
