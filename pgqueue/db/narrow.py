"""Databases that are not made in UTF8: what they can hold, and how our own texts are made to fit."""

import codecs
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import psycopg

AnyConnection = psycopg.BaseConnection[Any]

# Texts that are for people: better with an escape in them than not at all. Arguments and results are never changed this way.
FOR_PEOPLE = ("errors", "tracebacks", "notes", "reason")
_codecs: WeakKeyDictionary[AnyConnection, str] = WeakKeyDictionary()
_any = False  # asked with each statement, and nearly always the answer is no


def encoding(conn: AnyConnection) -> str:
    """The database's, by the server's name for it."""
    return conn.info.parameter_status("server_encoding") or "UTF8"


def narrow_encoding(conn: AnyConnection) -> str | None:
    """What to tell a user who runs pgqueue in such a database, or nothing."""
    if encoding(conn) == "UTF8":
        return None
    return (
        f"the database's encoding is {encoding(conn)}, which cannot hold every text: jobs with other characters are refused, and "
        "error texts have escapes in their place; recreate the database with encoding UTF8"
    )


def remember_encoding(conn: AnyConnection) -> None:
    """Remember a connection of ours to such a database."""
    global _any
    if encoding(conn) != "UTF8":
        _codecs[conn] = _codec(encoding(conn))
        _any = True


def fitting(conn: AnyConnection, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters, with escapes for what the database lacks in texts that are for people."""
    if not _any or (codec := _codecs.get(conn)) is None:
        return params
    return {name: _fit(value, codec) if name in FOR_PEOPLE else value for name, value in params.items()}


def _fit(value: Any, codec: str) -> Any:
    if isinstance(value, str):
        return value.encode(codec, "backslashreplace").decode(codec)
    return [_fit(each, codec) for each in value] if isinstance(value, list) else value


def _codec(name: str) -> str:
    """Python's name for it. What takes bytes as they come would be cut between the bytes of a letter: ASCII there."""
    try:
        return codecs.lookup(f"cp{name[3:]}" if name.startswith("WIN") else name).name
    except LookupError:
        return "ascii"
