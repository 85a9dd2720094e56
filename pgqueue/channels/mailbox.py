"""What one listener has not taken yet.

A caller that is too slow neither holds up the others nor fills the memory. When its mailbox is full, a Gap is put at the end and
what comes after is dropped until the caller takes that Gap: it reads its state then, which shows all that was dropped before.
"""

import time
from collections.abc import Mapping

from pgqueue.channels.items import Gap, Item, Notification
from pgqueue.channels.tray import Ended, Tray, Wake
from pgqueue.errors import PgQueueError

MAILBOX_ITEMS = 1_000
MAILBOX_CHARACTERS = 32_000_000  # a thousand large payloads would be a gigabyte


class Mailbox:
    """One listener's. `names`: the channels as it calls them, by their native names."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = names
        self.waits_since = time.monotonic()
        self.told = False
        """Whether it got its Listening. Of the thread that hears alone."""
        self._whole = next(iter(names.values())) if len(names) == 1 else None
        self._tray: Tray[Item] = Tray()
        self._full = False

    def put(self, item: Item) -> None:
        """Add an item, or note that it is missing."""
        if self._full and self._tray:  # the Gap is the last one, and not taken yet
            return
        self._full = len(self._tray) >= MAILBOX_ITEMS or self._tray.characters > MAILBOX_CHARACTERS
        put = self._gap("too slow") if self._full else item
        self._tray.put(put, _characters(put))

    def miss(self, why: str) -> None:
        """Add a Gap for all channels, unless the last item is one."""
        if not self._tray.ends_with(self._gap(why)):  # nobody else puts anything
            self.put(self._gap(why))

    def end(self, error: PgQueueError | None) -> None:
        """As Tray.end."""
        self._tray.end(error)

    def take(self, wake: Wake) -> Item | None:
        """As Tray.take."""
        return self._tray.take(wake)

    def _gap(self, why: str) -> Gap:
        return Gap(self._whole, why)


def _characters(item: Item) -> int:
    return len(item.payload) if isinstance(item, Notification) else 0


__all__ = ["Ended", "Mailbox"]
