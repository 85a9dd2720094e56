"""A caller's loop over what comes in on some channels, sync or async."""

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import partial
from types import TracebackType

from pgqueue.channels.items import Item
from pgqueue.channels.mailbox import Ended, Mailbox
from pgqueue.channels.receiver import Receiver
from pgqueue.errors import ConfigError


class Listener(Iterator[Item], AsyncIterator[Item]):
    """What App.listen returns, for one `for` or `async for` loop; it begins to listen with the loop, and ends with it.

    As a context manager, sync or async, it ends with the block, also where the loop was left by an exception that is kept.
    """

    def __init__(self, names: Mapping[str, str], receiver: Callable[[], Receiver], *, timeout_s: float | None) -> None:
        self._mailbox = Mailbox(names)
        self._find_receiver = receiver
        self._receiver: Receiver | None = None
        self._timeout_s = timeout_s
        self._pid = os.getpid()
        self._closed = False

    def __iter__(self) -> "Listener":
        return self

    def __next__(self) -> Item:
        self._check()
        if self._receiver is None:
            self._begin(self._find_receiver())
        arrived = threading.Event()
        try:
            while (item := self._mailbox.take(arrived.set)) is None:
                if not arrived.wait(self._timeout_s):
                    raise Ended(None)
                arrived.clear()
        except Ended as ended:
            self._end(ended)
            raise StopIteration from None
        return item

    def __aiter__(self) -> "Listener":
        return self

    async def __anext__(self) -> Item:
        self._check()
        if self._receiver is None:
            self._begin(await asyncio.to_thread(self._find_receiver))
        loop = asyncio.get_running_loop()
        try:
            while True:
                arrived = loop.create_future()
                if (item := self._mailbox.take(partial(_wake, loop, arrived))) is not None:
                    return item
                await asyncio.wait_for(arrived, self._timeout_s)
        except TimeoutError:
            self.close()
        except Ended as ended:
            self._end(ended)
        raise StopAsyncIteration

    def close(self) -> None:
        """Stop listening; a loop over it ends."""
        self._mailbox.end(None)
        self._closed = True
        if self._receiver is not None and self._pid == os.getpid():
            self._receiver.remove(self._mailbox)

    def _begin(self, receiver: Receiver) -> None:
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

    def __enter__(self) -> "Listener":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> "Listener":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        """The loop was left: nothing refers to it any longer. Takes no lock, as it may run at any moment."""
        receiver = getattr(self, "_receiver", None)
        if receiver is not None and not self._closed and self._pid == os.getpid():
            receiver.remove(self._mailbox)


def _wake(loop: asyncio.AbstractEventLoop, arrived: "asyncio.Future[None]") -> None:
    with contextlib.suppress(RuntimeError):  # the loop was closed; the thread has others to wake
        loop.call_soon_threadsafe(_arrive, arrived)


def _arrive(arrived: "asyncio.Future[None]") -> None:
    if not arrived.done():
        arrived.set_result(None)
