"""A reader's connection to the log: opened again after a failure, heard on, and never waited for by who ends the reader."""

import logging
import random
import time
from collections.abc import Callable
from typing import Any, TypeVar, overload

from pgqueue import db
from pgqueue.db.listening import Nudge
from pgqueue.errors import DatabaseUnavailable, PgQueueError
from pgqueue.queries import Queries, Statement, Steps

logger = logging.getLogger("pgqueue.events")

T = TypeVar("T")
R = TypeVar("R")

LINE_SILENCE_S = 30.0  # a window of a million events is sorted in a few seconds
RECONNECT_LINE_S = 5.0  # at most, between two tries
TELL_LINE_S = 10.0  # the same trouble is logged this often


class Stopped(PgQueueError):
    """The reader was told to end."""


class ReaderLine:
    """One connection at a time, for one thread at a time; `stop` is for any.

    It plans each statement once, and not by what the server knows of the log: right after a transaction of a million events
    that is little, and a page took 112 ms instead of 2.
    """

    def __init__(self, dsn: str, queries: Queries, *, schema: str, name: str) -> None:
        self._dsn, self._queries, self._schema, self._name = dsn, queries, schema, name
        self._conn: db.Connection | None = None
        self._told_at = 0.0
        self._nudge = Nudge()
        self.listens = False
        """Whether notifications can reach it: none do behind a pooler."""
        self.stopped = False

    def stop(self) -> None:
        """Let whatever waits here, or tries again, end with Stopped."""
        self.stopped = True
        self._nudge.give()

    def wake(self) -> None:
        """Let whatever waits here look again; for any thread."""
        self._nudge.give()

    @overload
    def run(self, steps: Statement[R], *, transaction: bool = False) -> list[R]: ...
    @overload
    def run(self, steps: Steps[T], *, transaction: bool = False) -> T: ...
    def run(self, steps: Steps[Any] | Statement[Any], *, transaction: bool = False) -> Any:
        """Drive steps, in a transaction of their own if asked to; raises what the connection raises, and our own errors."""
        try:
            conn = self._connected()
            if not transaction:
                return db.run(conn, steps)
            with conn.transaction():
                return db.run(conn, steps)
        except db.DatabaseError as error:
            raise (db.explain(error, schema=self._schema) or error) from error

    def patiently(self, work: Callable[[], T]) -> T:
        """Do it again on a new connection until it passes. Raises Stopped, and what no waiting cures."""
        failures = 0
        while True:
            try:
                return work()
            except (db.DatabaseError, DatabaseUnavailable, OSError) as error:
                self.drop()
                if not db.is_of_the_moment(error):
                    raise
                self._tell(error)
                failures += 1
                self.pause(random.uniform(0.05, min(RECONNECT_LINE_S, 0.1 * 2.0**failures)))

    def _tell(self, error: Exception) -> None:
        now = time.monotonic()
        if now - self._told_at > TELL_LINE_S:
            self._told_at = now
            logger.warning(
                "%s: %s; trying again", self._name, str(error).splitlines()[0] if str(error) else type(error).__name__
            )

    def pause(self, pause_s: float) -> None:
        """Sleep; raises Stopped."""
        if not self.stopped and pause_s > 0:
            self._nudge.wait(pause_s)
        if self.stopped:
            raise Stopped(f"{self._name} was told to end")

    def hear(self, pause_s: float) -> bool:
        """Wait for a notification, or for so long. True: there was one. Raises Stopped."""
        if not self.listens or self._conn is None:
            self.pause(pause_s)
            return False
        heard = db.wait_for_bell(self._conn, pause_s, wake_fd=self._nudge.fd)
        self._nudge.take()
        self.pause(0)
        return heard

    def _connected(self) -> db.Connection:
        if self._conn is None or self._conn.closed:
            self._conn = self._opened()
        return self._conn

    def _opened(self) -> db.Connection:
        conn = db.connect(self._dsn, name=self._name, silence_s=LINE_SILENCE_S)
        try:
            self.listens = db.prepares(conn)
            if self.listens:
                db.run(conn, self._queries.listen_events)
            db.run(conn, db.plan_steadily(conn, self._queries))
            db.run(conn, self._queries.begin_era())
        except BaseException:
            conn.close()
            raise
        return conn

    def drop(self) -> None:
        """Give the connection up; the next statement opens another."""
        conn, self._conn = self._conn, None
        if conn is not None:
            conn.close()

    def close(self) -> None:
        """For the last one who uses it."""
        self.drop()
