"""What one listener has not taken yet: a bounded queue between the thread that hears and the caller that reads.

A caller that is too slow neither holds up the others nor fills the memory. When its mailbox is full, a Gap is put at the end and
what comes after is dropped until the caller takes that Gap: it reads its state then, which shows all that was dropped before.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping

from pgqueue.channels.items import Gap, Item, Notification
from pgqueue.errors import PgQueueError

MAILBOX_ITEMS = 1_000
MAILBOX_CHARACTERS = 32_000_000  # a thousand large payloads would be a gigabyte
Wake = Callable[[], object]


class Ended(Exception):
    """Nothing comes any more. `error`: why, None when the App was closed."""

    def __init__(self, error: PgQueueError | None) -> None:
        super().__init__()
        self.error = error


class Mailbox:
    """One listener's. `names`: the channels as it calls them, by their native names."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = names
        self.waits_since = time.monotonic()
        self.told = False
        """Whether it got its Listening. Of the thread that hears alone."""
        self._whole = next(iter(names.values())) if len(names) == 1 else None
        self._lock = threading.Lock()
        self._items: deque[Item] = deque()
        self._wake: Wake | None = None
        self._characters = 0
        self._full = False
        self._over = False
        self._error: PgQueueError | None = None

    def put(self, item: Item) -> None:
        """Add an item, or note that it is missing."""
        with self._lock:
            if self._full or self._over:
                return
            if len(self._items) >= MAILBOX_ITEMS or self._characters > MAILBOX_CHARACTERS:
                self._full = True
                item = self._gap("too slow")
            self._items.append(item)
            self._characters += _characters(item)
            wake = self._take_wake()
        if wake:
            wake()

    def miss(self, why: str) -> None:
        """Add a Gap for all channels, unless the last item is one."""
        with self._lock:
            is_said = bool(self._items) and self._items[-1] == self._gap(why)
        if not is_said:  # nobody else puts anything
            self.put(self._gap(why))

    def end(self, error: PgQueueError | None) -> None:
        """Nothing comes after what is there; error: why, None for a plain end."""
        with self._lock:
            if not self._over:
                self._over, self._error = True, error
            wake = self._take_wake()
        if wake:
            wake()

    def take(self, wake: Wake) -> Item | None:
        """The next item. None: there is none yet, and `wake` is called once as soon as there is. Raises Ended."""
        with self._lock:
            if not self._items:
                if self._over:
                    raise Ended(self._error)
                self._wake = wake
                return None
            item = self._items.popleft()
            self._characters -= _characters(item)
            self._full = self._full and bool(self._items)  # the Gap is the last one
            return item

    def _gap(self, why: str) -> Gap:
        return Gap(self._whole, why)

    def _take_wake(self) -> Wake | None:
        wake, self._wake = self._wake, None
        return wake


def _characters(item: Item) -> int:
    return len(item.payload) if isinstance(item, Notification) else 0
