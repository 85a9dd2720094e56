"""Connections of a plain program: they wait for an answer for a limited time, then they are cut and the wait ends with Silent.

A frozen server, or a router that forgot a connection, acknowledges every packet and says nothing: neither keepalives nor a
cancel request end that wait. So the waiting side looks at the clock itself. psycopg does all its waiting in `wait`, a round
trip or a piece of a COPY at a time, and wakes up there ten times a second as long as nothing comes; `_heeding` sits between
the two and reads the clock at those moments only. Hence no thread, no timer and nothing that a fork could bring along, and a
statement that is answered within a tenth of a second never reads the clock at all.

What counts is silence, not length: as long as something arrives or can be sent, the wait continues; what a user's generator
takes between two rows is no wait at all. Two limits hold, whichever is over first:

  silence_s   for each wait, as long as nothing is heard
  until       for all of them, by time.monotonic(): the end of a call that has tried before

The connection is closed at once and not just given up: the server may have got the statement, and answers to it later.

Only connections that we opened are of these classes; on a caller's own nothing is ever cut. Nor are those of tasks, whose
statements may take hours: they are `unhurried` as soon as they are open.
"""

import math
import time
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg

from pgqueue.db.doors.psycopg import AnyConnection

T = TypeVar("T")

# A first try is given up after this long, if it may be repeated: longer than a checkpoint's stall, and a fail-over that left
# the old primary frozen leaves time for a second one. Also for what the pool itself asks a connection.
SILENCE_S = 5.0
# Beyond the wait for a connection, for the answers: with the ten seconds for that, a call ends within 15.
ANSWER_S = 4.0
PATIENCE_S = 14.0  # for a look on a connection of its own, as those of the doctor
UNHURRIED = math.inf


class Silent(psycopg.OperationalError):
    """The server did not answer in time; the connection is closed, and what was asked may be done or not."""


class Allowance:
    """How long one call waits in all, from now on: `wait_s` for a connection, and with that until `until` for answers.

    silence_s: how long for a single answer, if the call can be tried again. None: as long as is left when it has got its
    connection, for each answer; what flows may flow on.
    """

    __slots__ = ("silence_s", "until", "wait_s")

    def __init__(self, wait_s: float, *, silence_s: float | None = None) -> None:
        self.wait_s = wait_s
        self.silence_s = silence_s
        self.until = time.monotonic() + wait_s + ANSWER_S

    def begin_again(self) -> float:
        """Before a further try, which may take all that is left, by `wait_s` for a connection too; how much that is."""
        self.silence_s = UNHURRIED
        self.wait_s = min(self.wait_s, max(0.0, self.until - time.monotonic()))
        return self.wait_s

    def grant(self, conn: Any) -> None:
        """To a connection, for the statements of this call."""
        if self.silence_s is None:
            conn.silence_s = max(ANSWER_S, self.until - time.monotonic())
        else:
            conn.silence_s, conn.until = self.silence_s, self.until


class Punctual(psycopg.Connection[Any]):
    """A sync connection that waits for a limited time.

    cursors: by statement, kept where no user's code could change how values are written; see doors.
    """

    silence_s = SILENCE_S
    until = UNHURRIED
    cursors: dict[str, Any] | None = None

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        if self.silence_s < UNHURRIED or self.until < UNHURRIED:
            gen = _heeding(self, gen)
        return super().wait(gen, *args, **kwargs)


class PunctualAsync(psycopg.AsyncConnection[Any]):
    """As Punctual, for asyncio."""

    silence_s = SILENCE_S
    until = UNHURRIED
    cursors: dict[str, Any] | None = None

    async def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        return await super().wait(_heeding(self, gen), *args, **kwargs)


def limit(conn: Any, silence_s: float) -> None:
    """From now on wait this long for each answer on one of our connections."""
    conn.silence_s, conn.until = silence_s, UNHURRIED


def _heeding(conn: Any, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
    """psycopg's generator, ended when nothing has happened for too long."""
    ready: Any = None
    silent_since = 0.0
    try:
        while True:
            ready = yield gen.send(ready)
            if ready:
                silent_since = 0.0
            elif _is_over(conn, silent_since := silent_since or time.monotonic()):
                raise _cut(conn, silent_since)
    except StopIteration as done:
        value: T = done.value
        return value


def _is_over(conn: Any, silent_since: float) -> bool:
    return time.monotonic() >= float(min(silent_since + conn.silence_s, conn.until))


def _cut(conn: AnyConnection, silent_since: float) -> Silent:
    conn.pgconn.finish()
    return Silent(f"no answer for {time.monotonic() - silent_since:.0f} s")
