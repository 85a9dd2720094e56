"""What somebody has not taken yet: a queue between the one thread that puts and the caller that reads, sync or async."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from pgqueue.errors import PgQueueError

T = TypeVar("T")
Wake = Callable[[], object]


class Ended(Exception):
    """Nothing comes any more. `error`: why, None when the App was closed."""

    def __init__(self, error: PgQueueError | None) -> None:
        super().__init__()
        self.error = error


class Tray(Generic[T]):
    """One reader's. How much it may hold is for the thread that puts to see to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._items: deque[tuple[T, int]] = deque()
        self._wake: Wake | None = None
        self._over = False
        self._error: PgQueueError | None = None
        self.characters = 0
        """Of what is there."""

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T, characters: int) -> None:
        """Add an item, unless it is over."""
        with self._lock:
            if self._over:
                return
            self._items.append((item, characters))
            self.characters += characters
            wake = self._take_wake()
        if wake:
            wake()

    def ends_with(self, item: T) -> bool:
        """Whether this is the last one."""
        with self._lock:
            return bool(self._items) and self._items[-1][0] == item

    def end(self, error: PgQueueError | None) -> None:
        """Nothing comes after what is there; error: why, None for a plain end."""
        with self._lock:
            if not self._over:
                self._over, self._error = True, error
            wake = self._take_wake()
        if wake:
            wake()

    def take(self, wake: Wake) -> T | None:
        """The next item. None: there is none yet, and `wake` is called once as soon as there is. Raises Ended."""
        with self._lock:
            if not self._items:
                if self._over:
                    raise Ended(self._error)
                self._wake = wake
                return None
            item, characters = self._items.popleft()
            self.characters -= characters
            return item

    def _take_wake(self) -> Wake | None:
        wake, self._wake = self._wake, None
        return wake
