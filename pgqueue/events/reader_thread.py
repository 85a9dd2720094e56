"""A reader in a thread of its own: what works on its pages may take long, or block, while the thread holds the lane for it."""

import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

from pgqueue.events.reader import EventPage, Reader, Stopped

T = TypeVar("T")

HOLD_LOOK_S = 1.0  # how often it looks whether the lease has to be renewed
END_WAIT_S = 5.0  # for a thread that was told to end: it may be in the middle of a statement

_Order = tuple[Callable[[], Any], "Future[Any]"]


class ReaderThread:
    """What it is asked to do it does in the order of asking; each method returns a Future."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._orders: queue.SimpleQueue[_Order] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="pgqueue reader", daemon=True)
        self._lock = threading.Lock()
        self._ended = False
        self._thread.start()

    def declare(self) -> "Future[None]":
        """As Reader.declare."""
        return self._ask(self._reader.declare)

    def next(self, most: int) -> "Future[EventPage]":
        """As Reader.next."""
        return self._ask(lambda: self._reader.next(most))

    def read_ahead(self, most: int) -> "Future[None]":
        """As Reader.read_ahead."""
        return self._ask(lambda: self._reader.read_ahead(most))

    def done(self, page: EventPage) -> "Future[bool]":
        """As Reader.done."""
        return self._ask(lambda: self._reader.done(page))

    def put_aside(self, page: EventPage, job: Mapping[str, Any]) -> "Future[str | None]":
        """As Reader.put_aside."""
        return self._ask(lambda: self._reader.put_aside(page, job))

    def failed(self, page: EventPage, error: str, *, retry_s: float | None) -> "Future[None]":
        """As Reader.failed."""
        return self._ask(lambda: self._reader.failed(page, error, retry_s=retry_s))

    def stop(self) -> None:
        """Let it end; what it was asked to do and has not done ends with Stopped."""
        with self._lock:
            if not self._ended:
                self._reader.line.stop()
                self._orders.put((lambda: None, Future()))

    def close(self) -> None:
        """Let it end, and wait until it has left its lane to others."""
        self.stop()
        if self._thread is not threading.current_thread():
            self._thread.join(END_WAIT_S)

    def _ask(self, work: Callable[[], T]) -> "Future[T]":
        future: Future[T] = Future()
        with self._lock:
            if self._ended:
                future.set_exception(Stopped("the reader has ended"))
            else:
                self._orders.put((work, future))
        return future

    def _serve(self) -> None:
        while not self._reader.line.stopped:
            try:
                work, future = self._orders.get(timeout=HOLD_LOOK_S)
            except queue.Empty:
                self._reader.renew()
                continue
            if not self._reader.line.stopped:
                _carry_out(work, future)
            else:
                future.set_exception(Stopped("the reader has ended"))
        with self._lock:
            self._ended = True
        self._reader.close()
        while not self._orders.empty():
            self._orders.get()[1].set_exception(Stopped("the reader has ended"))


def _carry_out(work: Callable[[], Any], future: "Future[Any]") -> None:
    if not future.set_running_or_notify_cancel():  # the event loop that waited for it has given up
        return
    try:
        answer = work()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(answer)
