"""Who wants to hear which channels, and what the session must listen to for that.

Callers come and go in any thread; the thread that hears asks now and then what has changed since.
"""

import threading
import time
from collections import deque
from typing import NamedTuple

from pgqueue.channels.mailbox import Mailbox

HUSH_S = 5.0  # a channel without a listener is still heard: the page that is loaded again would listen again at once


class Changes(NamedTuple):
    """What came since the last time: mailboxes, channels to listen to, and channels that nobody has wanted for a while."""

    coming: list[Mailbox]
    more: list[str]
    less: list[str]


class Audience:
    """All mailboxes of a process, by the native names of their channels."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_name: dict[str, set[Mailbox]] = {}
        self._coming: list[Mailbox] = []
        self._leaving: deque[Mailbox] = deque()
        self._heard: set[str] = set()
        self._hushed: dict[str, float] = {}  # heard without a listener, and until when

    def add(self, mailbox: Mailbox) -> None:
        """It comes."""
        with self._lock:
            self._coming.append(mailbox)
            for name in mailbox.names:
                self._by_name.setdefault(name, set()).add(mailbox)
                self._hushed.pop(name, None)

    def remove(self, mailbox: Mailbox) -> None:
        """It goes. Takes no lock, for a finalizer may call it while the lock is held by the same thread."""
        self._leaving.append(mailbox)

    @property
    def heard(self) -> frozenset[str]:
        """The channels that the session listens to, or is about to."""
        with self._lock:
            return frozenset(self._heard)

    def __bool__(self) -> bool:
        """Whether anybody is there."""
        with self._lock:
            self._let_go()
            return bool(self._by_name)

    def everybody(self) -> set[Mailbox]:
        """All that are there now."""
        with self._lock:
            self._let_go()
            return set().union(*self._by_name.values())

    def of(self, name: str, *, told: bool) -> list[Mailbox]:
        """Those who listen to a channel; told: and have been told so, else those who have not."""
        with self._lock:
            return [mailbox for mailbox in self._by_name.get(name, ()) if mailbox.told == told]

    def begin(self) -> Changes:
        """Everything, for a session that listens to nothing yet."""
        with self._lock:
            self._let_go()
            self._coming.clear()
            self._hushed.clear()
            self._heard = set(self._by_name)
            return Changes([*set().union(*self._by_name.values())], [*self._heard], [])

    def changes(self) -> Changes:
        """What the session must do now."""
        with self._lock:
            self._let_go()
            coming, self._coming = self._coming, []
            more = {name for mailbox in coming for name in mailbox.names} - self._heard
            now = time.monotonic()
            less = [name for name, until in self._hushed.items() if until <= now]
            for name in less:
                del self._hushed[name]
            self._heard |= more
            self._heard.difference_update(less)
            return Changes(coming, [*more], less)

    def due_at(self) -> list[float]:
        """When a channel is to be left."""
        with self._lock:
            return list(self._hushed.values())

    def clear(self) -> set[Mailbox]:
        """Forget all; who they were."""
        with self._lock:
            everybody: set[Mailbox] = set().union(*self._by_name.values())
            self._by_name.clear()
            self._coming.clear()
        return everybody

    def _let_go(self) -> None:
        """Forget those who went; under the lock."""
        gone = set()
        while self._leaving:
            gone.add(self._leaving.popleft())
        if gone:
            self._coming = [mailbox for mailbox in self._coming if mailbox not in gone]
        until = time.monotonic() + HUSH_S
        for mailbox in gone:
            for name in mailbox.names:
                rest = self._by_name.get(name, set())
                rest.discard(mailbox)
                if not rest and self._by_name.pop(name, None) is not None:
                    self._hushed[name] = until
