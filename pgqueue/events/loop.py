"""Loops over events in a program: `for events in app.subscribe(...)`, and `async for`."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Generator, Iterable, Iterator
from typing import Any

from pgqueue.client.connections import AppConnections
from pgqueue.client.options import check_integer, check_name
from pgqueue.codec.calls import decode_plain
from pgqueue.events.event import Event
from pgqueue.events.line import ReaderLine
from pgqueue.events.reader import Reader, Stopped
from pgqueue.events.reader_thread import ReaderThread
from pgqueue.events.start import StartAt
from pgqueue.events.subscription import MAX_BATCH, MAX_LANES, Subscription
from pgqueue.events.types import check_patterns
from pgqueue.queries.events import Logged
from pgqueue.waiting import answer_of

Events = list[Event[Any]]


class Loops:
    """The loops of one App, so that its close ends them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[ReaderThread] = set()

    @contextlib.contextmanager
    def running(self, reader: Reader) -> Iterator[ReaderThread]:
        """A thread that is among them until its loop is over."""
        thread = ReaderThread(reader)
        with self._lock:
            self._running.add(thread)
        try:
            yield thread
        finally:
            thread.stop()
            with self._lock:
                self._running.discard(thread)

    def close(self) -> None:
        """End them all: each leaves its lane where it is."""
        with self._lock:
            running = list(self._running)
        for thread in running:
            thread.close()


def subscribed(types: Iterable[object], *, name: str, batch: int, lanes: int) -> Subscription:
    """What `App.subscribe` asks for; raises InvalidOption."""
    return Subscription(
        name=check_name("name", name), mode="pull", types=check_patterns(types), in_code=False,
        batch=check_integer("batch", batch, low=1, high=MAX_BATCH), lanes=check_integer("lanes", lanes, low=1, high=MAX_LANES),
    )  # fmt: skip


class Subscribed:
    """Pages of events, under a `for` or an `async for`; see App.subscribe."""

    def __init__(self, loops: Loops, database: AppConnections, subscription: Subscription, *, start: StartAt) -> None:
        self._loops = loops
        self._database = database
        self._subscription = subscription
        self._start: StartAt = start
        self._batch = subscription.batch or 1

    def _reader(self) -> Reader:
        queries, schema, name = self._database.queries, self._database.config.schema, self._subscription.name
        line = ReaderLine(self._database.dsn, queries, schema=schema, name=f"pgqueue events {name}")
        return Reader(line, queries, self._subscription, start=self._start)

    def __iter__(self) -> Generator[Events, None, None]:
        with self._loops.running(self._reader()) as thread, contextlib.suppress(Stopped):
            try:
                answer_of(thread.declare())
                while True:
                    page = answer_of(thread.next(self._batch))
                    yield [as_event(fetched.row) for fetched in page.events]
                    answer_of(thread.done(page))
            finally:
                thread.close()

    async def __aiter__(self) -> AsyncGenerator[Events, None]:
        with self._loops.running(await asyncio.to_thread(self._reader)) as thread, contextlib.suppress(Stopped):
            try:
                await asyncio.wrap_future(thread.declare())
                while True:
                    page = await asyncio.wrap_future(thread.next(self._batch))
                    yield [as_event(fetched.row) for fetched in page.events]
                    await asyncio.wrap_future(thread.done(page))
            finally:
                thread.stop()


def as_event(row: Logged) -> Event[Any]:
    """As a reader gets it. Raises ValueError for a payload that is not JSON, which only another program's INSERT can leave."""
    headers: Any = decode_plain(row.headers or None)
    return Event(
        id=row.id, type=row.type, payload=decode_plain(row.payload), at=row.at, key=row.key or None, headers=headers
    )
