"""The test's connection for jobs of the other colour: an async task defers into the transaction of a sync test, and the reverse."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import Any, ClassVar, TypeVar

from pgqueue import db
from pgqueue.db.doors.caller import Adapted
from pgqueue.queries import Statement

R = TypeVar("R")
Call = Callable[..., Awaitable[Any]]


async def call_here(function: Callable[..., R], *args: Any) -> R:
    """For connections that do not mind an event loop in their thread."""
    return function(*args)


class AsyncBridge(Adapted):
    """A sync connection that is awaited. `call` runs a function in the thread to which the connection belongs."""

    is_async: ClassVar[bool] = True

    def __init__(self, conn: Any, call: Call) -> None:
        self._conn = conn
        self._call = call

    async def execute(self, statement: Statement[R]) -> list[R]:
        rows: list[R] = await self._call(db.run, self._conn, statement)
        return rows

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        block: AbstractContextManager[Any] = self._conn.transaction()
        await self._call(block.__enter__)
        try:
            yield
        except BaseException as error:
            await self._call(block.__exit__, type(error), error, error.__traceback__)
            raise
        await self._call(block.__exit__, None, None, None)

    def said(self, setting: str) -> str | None:
        """As the connection has heard; psycopg's own, which does without a Caller, is not asked."""
        return None if (said := getattr(self._conn, "said", None)) is None else said(setting)

    async def driver(self) -> Any:
        raise NotImplementedError("an async atomic task never comes here: see way.py")


class SyncBridge(Adapted):
    """An async connection for a thread next to its event loop, which must be free meanwhile."""

    is_async: ClassVar[bool] = False
    counted: ClassVar[bool] = False

    def __init__(self, conn: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._conn = conn
        self._loop = loop

    def _wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def execute(self, statement: Statement[R]) -> list[R]:
        rows: list[R] = self._wait(db.run_async(self._conn, statement))
        return rows

    @contextmanager
    def transaction(self) -> Iterator[None]:
        block = self._conn.transaction()
        self._wait(block.__aenter__())
        try:
            yield
        except BaseException as error:
            self._wait(block.__aexit__(type(error), error, error.__traceback__))
            raise
        self._wait(block.__aexit__(None, None, None))

    def said(self, setting: str) -> str | None:
        return None if (said := getattr(self._conn, "said", None)) is None else said(setting)

    def driver(self) -> Any:
        raise NotImplementedError("a sync atomic task never comes here: see way.py")
