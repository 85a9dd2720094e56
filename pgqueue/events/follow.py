"""Following the log live: `for item in app.follow("order.*")`, and `async for`."""

import os
import threading
import weakref
from collections.abc import Sequence
from typing import Any

from pgqueue import db
from pgqueue.channels.listener import Listener
from pgqueue.client.connections import AppConnections
from pgqueue.events.inbox import FollowItem, Inbox
from pgqueue.events.line import ReaderLine
from pgqueue.events.tail import Tail

_all: "weakref.WeakSet[Follows]" = weakref.WeakSet()
_inherited: list[Any] = []  # what a fork brought along from its parent: kept, so that it is never closed here


class Follower(Listener[FollowItem]):
    """What App.follow returns: a loop over Listening, events and Gap."""

    def __init__(self, inbox: Inbox, follows: "Follows", *, timeout_s: float | None) -> None:
        super().__init__(inbox, lambda: follows.tail, timeout_s=timeout_s)
        self._inbox = inbox

    @property
    def position(self) -> str | None:
        """Where the log is to be read on by who has all that this loop gave out; None before the first item."""
        return None if self._inbox.position is None else str(self._inbox.position)


class Follows:
    """The followers of one App: they share one thread and one connection."""

    def __init__(self, database: AppConnections) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._tail: tuple[str, Tail] | None = None
        _all.add(self)

    def forget(self) -> None:
        """Start over."""
        self._lock, self._tail = threading.Lock(), None

    def follow(self, types: Sequence[str], *, after: str | None, timeout_s: float | None) -> Follower:
        """See App.follow."""
        return Follower(Inbox(types, after or None), self, timeout_s=timeout_s)

    @property
    def tail(self) -> Tail:
        """What reads the log for this process."""
        database = self._database
        config, queries, dsn = (
            database.config,
            database.queries,
            database.dsn,
        )  # before our lock: they may wait for theirs
        dsn = config.direct_dsn or dsn
        with self._lock:
            if self._tail is None or self._tail[0] != dsn:
                self._end()
                line = ReaderLine(dsn, queries, schema=config.schema, name="pgqueue follow")
                self._tail = dsn, Tail(line, queries, patience_s=config.pool_timeout_s + db.ANSWER_S)
            return self._tail[1]

    def _end(self) -> None:
        ending, self._tail = self._tail, None
        if ending is not None:
            ending[1].close()

    def close(self) -> None:
        """End them all."""
        with self._lock:
            self._end()


def _after_fork() -> None:
    for follows in _all:
        _inherited.append(vars(follows).copy())
        follows.forget()


os.register_at_fork(after_in_child=_after_fork)
