"""The thread of clients that know asyncio alone: nothing of theirs makes a call hang."""

import asyncio
import threading
import time

import pytest

from pgqueue.buses.loop import LoopThread


def test_what_does_not_end_is_cancelled() -> None:
    loop = LoopThread("test")
    with pytest.raises(TimeoutError):
        loop.run(asyncio.sleep(60), within_s=0.05)
    assert loop.run(asyncio.sleep(0, 7), within_s=5) == 7
    loop.close()
    loop.close()


def test_what_cannot_be_cancelled_is_left() -> None:
    ended = threading.Event()

    async def stubborn() -> None:
        while not ended.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    loop, began = LoopThread("test"), time.monotonic()
    with pytest.raises(TimeoutError):
        loop.run(stubborn(), within_s=0.1)
    ended.set()
    loop.close()
    assert time.monotonic() - began < 10 and "pgqueue test" not in {thread.name for thread in threading.enumerate()}
