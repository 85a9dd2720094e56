"""Who follows which types of events, and who of them is up to date with the log."""

import threading
from collections import deque
from collections.abc import Iterator

from pgqueue.events.inbox import Inbox

MOST_PATTERNS = 50  # with more of them the whole log is read, and sorted out here


class Crowd:
    """All inboxes of a process. Followers come and go in any thread; all else is for the thread that reads the log."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._coming: list[Inbox] = []
        self._leaving: deque[Inbox] = deque()
        self._all: set[Inbox] = set()
        self._current: dict[str, set[Inbox]] = {}  # by pattern, those who are up to date
        self._behind: deque[Inbox] = deque()

    def add(self, inbox: Inbox) -> None:
        """It comes."""
        with self._lock:
            self._coming.append(inbox)

    def remove(self, inbox: Inbox) -> None:
        """It goes. Takes no lock, for a finalizer may call it while the lock is held by the same thread."""
        self._leaving.append(inbox)

    def __bool__(self) -> bool:
        """Whether anybody is there."""
        self._let_go()
        with self._lock:
            return bool(self._all or self._coming)

    def coming(self) -> list[Inbox]:
        """Those who came since the last time."""
        with self._lock:
            coming, self._coming = self._coming, []
            self._all.update(coming)
        return coming

    def everybody(self) -> list[Inbox]:
        """All that are there now."""
        with self._lock:
            return [*self._all, *self._coming]

    def current(self, inbox: Inbox) -> None:
        """It is up to date."""
        inbox.at = None
        for pattern in inbox.types:
            self._current.setdefault(pattern, set()).add(inbox)

    def behind(self, inbox: Inbox) -> None:
        """It is not: `inbox.at` says how far it has come."""
        self._forget(inbox)
        self._behind.append(inbox)

    @property
    def is_any_current(self) -> bool:
        """Whether somebody is up to date."""
        return bool(self._current)

    def next_behind(self) -> Inbox | None:
        """One who is behind and has room, each in turn."""
        self._let_go()
        for _ in range(len(self._behind)):
            inbox = self._behind.popleft()
            if inbox.can_take_more:
                return inbox
            self._behind.append(inbox)
        return None

    def doubt(self) -> None:
        """The connection was lost: it may be another server the next time."""
        for inbox in self._behind:
            inbox.is_checked = False

    def patterns(self) -> list[str]:
        """What those who are up to date want, or everything."""
        return list(self._current) if len(self._current) <= MOST_PATTERNS else ["*"]

    def of(self, type_: str) -> set[Inbox]:
        """Those of them who want events of a type."""
        return set().union(*(self._current.get(pattern, ()) for pattern in _patterns_of(type_)))

    def all_current(self) -> set[Inbox]:
        """All who are up to date."""
        return set().union(*self._current.values())

    def _forget(self, inbox: Inbox) -> None:
        for pattern in inbox.types:
            rest = self._current.get(pattern, set())
            rest.discard(inbox)
            if not rest:
                self._current.pop(pattern, None)

    def _let_go(self) -> None:
        """Forget those who went."""
        gone = set()
        while self._leaving:
            gone.add(self._leaving.popleft())
        if not gone:
            return
        for inbox in gone:
            self._forget(inbox)
        self._behind = deque(inbox for inbox in self._behind if inbox not in gone)
        with self._lock:
            self._all -= gone
            self._coming = [inbox for inbox in self._coming if inbox not in gone]


def _patterns_of(type_: str) -> Iterator[str]:
    """All patterns that match a type, see event_matches."""
    yield type_
    yield "*"
    for end, letter in enumerate(type_):
        if letter == ".":
            yield f"{type_[: end + 1]}*"
