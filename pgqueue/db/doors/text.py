"""What a statement looks like to drivers that do not take psycopg's places and values. Pure."""

import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import islice, repeat
from typing import Any, NamedTuple

ROOM_FOR_A_BELL = "pg_notification_queue_usage() < 0.5"
_PLACE = re.compile(r"%%|%\((\w+)\)s(::[\w.\"]+(?:\[\])?)?")
_COPY = re.compile(r'\s*(?:--[^\n]*\n\s*)*copy "(\w+)"\.(\w+) \(([^)]*)\) from stdin\s*', re.S)
HARMFUL = {"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"}  # to a line of COPY
_HARMFUL = str.maketrans(HARMFUL)
COPY_BYTES = 1 << 18  # psycopg2 asks for so much at once: more than LINES are, as a rule
LINES = 1000  # of COPY in one message: 62,000 jobs a second by asyncpg, and 46,000 with one line in each


class Numbered(NamedTuple):
    """Where a value goes; is_text: it travels as text."""

    name: str
    is_text: bool


@lru_cache(64)
def silent(sql: str) -> str:
    """The statement without its bells, each of which asks first whether there is room for one.

    For a transaction that is to be prepared: PostgreSQL prepares none that has rung. The poll finds the job.
    """
    return sql.replace(ROOM_FOR_A_BELL, "false")


@lru_cache(256)
def numbered(sql: str) -> tuple[str, tuple[Numbered, ...]]:
    """The text with $1, $2 ... for its places, and these in that order.

    What the text casts travels as text, and the server casts it: then no codec that the caller has set for json, uuid or times
    ever sees one of ours. A list, and what is not cast anywhere, goes as it is.
    """
    cast = {name for name, kind in _PLACE.findall(sql) if kind and not kind.endswith("[]")}
    places = list(dict.fromkeys(Numbered(name, name in cast) for name, _ in _PLACE.findall(sql) if name))

    def number(found: re.Match[str]) -> str:
        name, kind = found.groups()
        if name is None:
            return "%"
        place = Numbered(name, name in cast)
        return f"${places.index(place) + 1}{'::text' if place.is_text else ''}{kind or ''}"

    return _PLACE.sub(number, sql), tuple(places)


def as_text(value: Any) -> Any:
    """A value as PostgreSQL reads it from text; a list stays a list, of texts."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return [as_text(each) for each in value]
    return value.isoformat() if isinstance(value, datetime) else str(value)


def arguments(places: Sequence[Numbered], params: Mapping[str, Any]) -> tuple[Any, ...]:
    """The values of numbered places."""
    return tuple(as_text(params[name]) if is_text else params[name] for name, is_text in places)


class CopyTarget(NamedTuple):
    """Where the rows of a COPY go."""

    schema: str
    table: str
    columns: list[str]


@lru_cache(16)
def copy_target(sql: str) -> CopyTarget:
    """What client/copy.sql says, for a driver that writes the command itself."""
    found = _COPY.fullmatch(sql)
    assert found is not None, f"not the COPY that is known: {sql}"
    schema, table, columns = found.groups()
    return CopyTarget(schema, table, [column.strip() for column in columns.split(",")])


def copy_lines(rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """Rows in COPY's text format, LINES of them at a time."""
    rest = iter(rows)
    while piece := list(islice(rest, LINES)):
        columns = map(_column, zip(*piece, strict=True))
        yield "\n".join(map("\t".join, zip(*columns, strict=True))) + "\n"


def _column(values: tuple[Any, ...]) -> Iterable[str]:
    """One column of some rows. Most say the same in each, or nothing harmful in any: a tenth of the time of each by itself."""
    first = values[0]
    if all(value is first for value in values):
        return repeat(_field(first), len(values))
    if all(type(value) is str for value in values):
        whole = "".join(values)
        if not any(sign in whole for sign in HARMFUL):
            return values
    return map(_field, values)


def _field(value: Any) -> str:
    return r"\N" if value is None else str(as_text(value)).translate(_HARMFUL)


class CopyFile(io.TextIOBase):
    """The same as a file that is read piece by piece."""

    def __init__(self, rows: Iterable[Sequence[Any]]) -> None:
        self._pieces = copy_lines(rows)
        self._piece = io.StringIO()

    def read(self, size: int | None = -1) -> str:
        """The rest of a piece, or the beginning of the next: fewer characters than `size` are not the end, none are."""
        text = self._piece.read(size)
        if not text and (piece := next(self._pieces, "")):
            self._piece = io.StringIO(piece)
            text = self._piece.read(size)
        return text
