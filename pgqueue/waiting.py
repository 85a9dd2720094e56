"""Waits of a caller's thread that Ctrl-C ends.

Python runs a signal's handler between two steps of the main thread. A signal that comes as that thread is about to block is seen
when the wait is over: for one without end, never. So nobody waits for longer than a moment at a time.
"""

import concurrent.futures
import threading
import time
from typing import TypeVar

T = TypeVar("T")

LOOK_UP_S = 0.5


def wait_for(event: threading.Event, timeout_s: float | None) -> bool:
    """Whether it was set within this many seconds; None: wait without end."""
    ends = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        left_s = LOOK_UP_S if ends is None else min(LOOK_UP_S, ends - time.monotonic())
        if event.wait(max(0.0, left_s)):
            return True
        if left_s < LOOK_UP_S:
            return False


def answer_of(future: "concurrent.futures.Future[T]") -> T:
    """What it gives or raises, when it is there."""
    while not future.done():
        concurrent.futures.wait([future], LOOK_UP_S)
    return future.result()
