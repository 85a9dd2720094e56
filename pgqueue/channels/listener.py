"""A caller's loop over what comes in on some channels, sync or async."""

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from pgqueue.channels.tray import Ended, Wake
from pgqueue.errors import ConfigError, PgQueueError
from pgqueue.waiting import wait_for

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Box(Protocol[T_co]):
    """Where a listener takes what came in for it: as Tray says."""

    def take(self, wake: Wake) -> T_co | None: ...
    def end(self, error: PgQueueError | None) -> None: ...


class Feeder(Protocol):
    """What puts it there, in a thread of its own."""

    def add(self, box: Any, /) -> None: ...
    def remove(self, box: Any, /) -> None: ...


class Listener(Iterator[T], AsyncIterator[T]):
    """What App.listen returns, for one `for` or `async for` loop; it begins to listen with the loop, and ends with it.

    As a context manager, sync or async, it ends with the block, also where the loop was left by an exception that is kept.
    """

    def __init__(self, mailbox: Box[T], receiver: Callable[[], Feeder], *, timeout_s: float | None) -> None:
        self._mailbox = mailbox
        self._find_receiver = receiver
        self._receiver: Feeder | None = None
        self._timeout_s = timeout_s
        self._pid = os.getpid()
        self.closed = False
        """Whether it has ended: nothing comes any more."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        item = self.wait(self._timeout_s)
        if item is None:
            self.close()
            raise StopIteration
        return item

    def wait(self, timeout_s: float | None) -> T | None:
        """The next item. None: nothing came for this many seconds, or nothing comes any more, as `closed` says."""
        self._check()
        if self._receiver is None:
            self._begin(self._find_receiver())
        arrived = threading.Event()
        try:
            while (item := self._mailbox.take(arrived.set)) is None:
                if not wait_for(arrived, timeout_s):
                    return None
                arrived.clear()
        except Ended as ended:
            self._end(ended)
            return None
        return item

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        item = await self.wait_async(self._timeout_s)
        if item is None:
            self.close()
            raise StopAsyncIteration
        return item

    async def wait_async(self, timeout_s: float | None) -> T | None:
        """As `wait`, for asyncio."""
        self._check()
        if self._receiver is None:
            self._begin(await asyncio.to_thread(self._find_receiver))
        loop = asyncio.get_running_loop()
        try:
            while True:
                arrived = loop.create_future()
                if (item := self._mailbox.take(partial(_wake, loop, arrived))) is not None:
                    return item
                await asyncio.wait_for(arrived, timeout_s)
        except TimeoutError:
            return None
        except Ended as ended:
            self._end(ended)
        return None

    def close(self) -> None:
        """Stop listening; a loop over it ends."""
        self._mailbox.end(None)
        self.closed = True
        if self._receiver is not None and self._pid == os.getpid():
            self._receiver.remove(self._mailbox)

    def _begin(self, receiver: Feeder) -> None:
        self._receiver = receiver
        receiver.add(self._mailbox)

    def _check(self) -> None:
        if self._pid != os.getpid():  # the thread that hears has not come along
            raise ConfigError("this listener was made by another process, before a fork: call listen() in this one")

    def _end(self, ended: Ended) -> None:
        """Raises the error, if there is one."""
        self.close()
        if ended.error is not None:
            raise ended.error from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        """The loop was left: nothing refers to it any longer. Takes no lock, as it may run at any moment."""
        receiver = getattr(self, "_receiver", None)
        if receiver is not None and not self.closed and self._pid == os.getpid():
            receiver.remove(self._mailbox)


def _wake(loop: asyncio.AbstractEventLoop, arrived: "asyncio.Future[None]") -> None:
    with contextlib.suppress(RuntimeError):  # the loop was closed; the thread has others to wake
        loop.call_soon_threadsafe(_arrive, arrived)


def _arrive(arrived: "asyncio.Future[None]") -> None:
    if not arrived.done():
        arrived.set_result(None)
