"""What one connection that listens hears, and the pipe by which other threads wake the thread that waits for it."""

import contextlib
import os
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

import psycopg

from pgqueue.db.connections import readable
from pgqueue.db.doors.psycopg import Connection
from pgqueue.queries import Statement


class Heard(NamedTuple):
    """A notification as it came: the native name of its channel, and its text."""

    channel: str
    payload: str


class Nudge:
    """Wakes a thread that waits. It never blocks and takes no lock, so that even a finalizer may call it.

    Its two ends are closed when nothing refers to it any longer: before that a late call would write into a stranger's file. Of
    objects that refer to each other in a circle the collector may finalize this one first: from then on `give` does nothing.
    """

    def __init__(self) -> None:
        self.fd, self._waker_fd = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._waker_fd, False)

    def give(self) -> None:
        """Wake it, now or when it next waits."""
        if self._waker_fd < 0:
            return
        with contextlib.suppress(BlockingIOError):  # full of those that were not taken yet
            os.write(self._waker_fd, b"!")

    def wait(self, timeout_s: float) -> None:
        """Block until it is given, or the time is over."""
        readable([self.fd], timeout_s)
        self.take()

    def take(self) -> None:
        """Forget those that came."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 65_536)

    def __del__(self) -> None:
        fd, waker_fd = self.fd, self._waker_fd
        self.fd = self._waker_fd = -1
        os.close(fd)
        os.close(waker_fd)


class Ears:
    """Collects the notifications of one of our sync connections, in the order in which they come."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._heard: deque[Heard] = deque()
        # psycopg's own way would read the texts as strictly UTF-8, which a database without an encoding does not promise.
        conn.pgconn.notify_handler = self._hear  # for those that arrive with the answer to a statement

    def _hear(self, note: psycopg.pq.PGnotify) -> None:
        self._heard.append(Heard(note.relname.decode(errors="replace"), note.extra.decode(errors="replace")))

    def say(self, statements: Iterable[Statement[Any]]) -> None:
        """Say several commands without parameters in one message, which the server takes as one transaction."""
        text = ";\n".join(statement.sql for statement in statements)
        psycopg.Cursor(self._conn).execute(text.encode(), prepare=False)

    def wait(self, timeout_s: float, *, nudge: Nudge) -> bool:
        """Block until the server says something, the nudge is given or the time is over; True: the server did."""
        if self._heard:
            return False
        spoke = self._conn.fileno() in readable([self._conn.fileno(), nudge.fd], timeout_s)
        nudge.take()
        if spoke:
            self._conn.pgconn.consume_input()
        return spoke

    def take(self) -> list[Heard]:
        """All that has come since the last call."""
        # To the last one: what lies in libpq's buffer would wait for the next byte on the socket.
        while note := self._conn.pgconn.notifies():
            self._hear(note)
        heard, self._heard = self._heard, deque()
        return list(heard)
