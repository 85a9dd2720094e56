"""What one follower of the log has not taken yet, and how far in the log it is.

Unlike a mailbox it never loses anything: when it is full, its follower falls behind and reads on from there once it has taken
what it has.
"""

import time
from collections.abc import Callable, Sequence

from pgqueue.channels.items import Gap, Listening
from pgqueue.channels.tray import Tray, Wake
from pgqueue.errors import PgQueueError
from pgqueue.events.event import Event
from pgqueue.events.position import Position

INBOX_EVENTS = 1_000
INBOX_CHARACTERS = 4_000_000

FollowItem = Listening | Event[object] | Gap


class Inbox:
    """One follower's. after: where it reads on, as text from anybody; None: here and now."""

    def __init__(self, types: Sequence[str], after: str | None) -> None:
        self.types = types
        self.after = after
        self.waits_since = time.monotonic()
        self.at: Position | None = None
        """Up to where it was read for it; None: it is up to date with the log. Of the thread that reads alone, as `told`."""
        self.told = False
        self.is_checked = False
        """Whether the log can be read on from `at`, and how much that is."""
        self.position: Position | None = None
        """After all that was taken."""
        self.head: Callable[[], Position | None] = lambda: None
        """Up to where the log was read for those who are up to date."""
        self.has_room_again: Callable[[], None] = lambda: None
        self._tray: Tray[tuple[FollowItem, Position]] = Tray()
        self._waits_for_room = False

    @property
    def has_room(self) -> bool:
        """Whether more may be put."""
        return len(self._tray) < INBOX_EVENTS and self._tray.characters < INBOX_CHARACTERS

    @property
    def can_take_more(self) -> bool:
        """Whether it is worth reading for: half of it is free; else `has_room_again` is called when it is."""
        self._waits_for_room = True  # before the look: the follower may take something between the two
        if len(self._tray) <= INBOX_EVENTS // 2 and self._tray.characters <= INBOX_CHARACTERS // 2:
            self._waits_for_room = False
        return not self._waits_for_room

    def put(self, item: FollowItem, position: Position, characters: int = 0) -> None:
        """Add an item; the position after it."""
        self._tray.put((item, position), characters)

    def end(self, error: PgQueueError | None) -> None:
        """As Tray.end."""
        self._tray.end(error)

    def take(self, wake: Wake) -> FollowItem | None:
        """As Tray.take. Raises Ended."""
        # In this order: what is put after these looks is later than this head, and one who falls behind has something to take.
        is_up_to_date = self.told and self.at is None
        head = self.head()
        found = self._tray.take(wake)
        if found is None:
            if is_up_to_date and head is not None:
                self.position = head
            return None
        item, self.position = found
        if self._waits_for_room and len(self._tray) <= INBOX_EVENTS // 2:
            self._waits_for_room = False
            self.has_room_again()
        return item
