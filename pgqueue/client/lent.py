"""A caller's connection, lent for one call."""

from types import TracebackType
from typing import Any

from pgqueue import db
from pgqueue.config import Notify


class Lent:
    """The block in which it is used, which gives it and when to ring. A class, as each defer enters one.

    What another library raises comes out in our own words where we know the cure; psycopg's errors are the caller's to explain.
    """

    __slots__ = ("_conn", "_ring", "_schema")

    def __init__(self, conn: Any, ring: Notify, *, schema: str) -> None:
        self._conn = conn
        self._ring = ring
        self._schema = schema

    def __enter__(self) -> tuple[Any, Notify]:
        return self._conn, self._ring

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, Exception) or not db.is_foreign(self._conn):
            return
        same = db.as_psycopg(error)
        if same is not None and db.is_lost(same):  # what that means depends on what was sent: see Tries
            raise db.GoneAway(str(same), alone=self._conn.alone) from error
        explained = db.explain_foreign(error, self._conn.said, schema=self._schema)
        if explained is not None:
            raise explained from error
