"""What a web application does with an App when it starts and when it ends."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType

from pgqueue.client.connections import AppConnections


class Lifespan(AbstractAsyncContextManager[None]):
    """An async context manager; called with the web application, as Starlette and FastAPI do, it gives a new one."""

    def __init__(self, database: AppConnections, close_first: Callable[[], None]) -> None:
        self._database = database
        self._close_first = close_first

    def __call__(self, web: object) -> "Lifespan":
        return Lifespan(self._database, self._close_first)

    async def __aenter__(self) -> None:
        try:
            await self._database.open_async()
        except BaseException:
            await self._close()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        await asyncio.to_thread(self._close_first)
        await self._database.close_async()
        await asyncio.to_thread(self._database.close)  # what sync endpoints have opened; it waits for threads
