"""Streams for browsers: the answer of an endpoint, or what goes through a WebSocket."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

from starlette.requests import HTTPConnection, Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from pgqueue.app import App
from pgqueue.live.frames import SENT_HEADERS, SENT_TYPE
from pgqueue.live.stream import BEAT_S, COME_BACK_S, Stream, WantedStream

T = TypeVar("T")

GOING_AWAY = 1001


def event_stream(
    app: App,
    *,
    channels: Sequence[str] = (),
    types: Sequence[str] = (),
    beat_s: float = BEAT_S,
    retry_s: float = COME_BACK_S,
) -> StreamingResponse:
    """The answer of an endpoint that a browser reads with `new EventSource(...)`: return it.

    channels: live ones, as for `App.listen`; what is sent while a client is cut off it never gets. types: events of the log, as for
    `App.follow`: each carries an id, and a client that comes back with it (`Last-Event-ID`, or `?last_event_id=` in the address)
    gets what it missed, once. Which ones a client may see is for the endpoint to decide: it passes only those.

    The client gets `listening` first, and each time that it comes back: load your state then. A `gap` says that something may be
    missing: load it again. All else is a message, its data JSON. beat_s: when nothing comes for this many seconds, a sign of life
    does. retry_s: after this many a browser that was cut off comes back. Raises InvalidOption at once; a database that is away is
    DatabaseUnavailable, as if the endpoint had raised it. The stream ends when the client goes, when the server is told to end, and
    when the App is closed.
    """
    return _EventStream(WantedStream(app, channels, types, beat_s, retry_s))


async def websocket_events(
    websocket: WebSocket,
    app: App,
    *,
    channels: Sequence[str] = (),
    types: Sequence[str] = (),
    last_id: str | None = None,
    beat_s: float = BEAT_S,
) -> None:
    """Send what `event_stream` would through a WebSocket, until the client goes: each a JSON object with `event`, `id`, `data`.

    event: `listening`, `gap`, `message`, or `alive` where nothing comes for beat_s seconds. last_id: the id that the client has,
    by default `?last_event_id=` of the address. It accepts the WebSocket, unless that was done, and ignores what the client sends.
    Who may see what is for the caller to decide.
    """
    stream = WantedStream(app, channels, types, beat_s).messages(last_id or _last_id(websocket))
    if websocket.client_state is WebSocketState.CONNECTING:
        await websocket.accept()
    # The client went while something was sent; whose error that is depends on the server.
    with contextlib.suppress(OSError, RuntimeError, WebSocketDisconnect):
        async with _closed_with(stream, websocket.receive, "websocket.disconnect"):
            async for text in stream:
                await websocket.send_text(text)
        await websocket.close(GOING_AWAY)


class _EventStream(StreamingResponse):
    def __init__(self, wanted: WantedStream) -> None:
        super().__init__((), headers=SENT_HEADERS, media_type=SENT_TYPE)
        self._wanted = wanted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        stream = self._wanted.sent_events(_last_id(Request(scope)))
        frames = aiter(stream)
        first = await anext(frames)  # what is wrong is raised before the answer begins
        self.body_iterator = _after(first, frames)
        async with _closed_with(stream, receive, "http.disconnect"):
            with contextlib.suppress(OSError):
                await self.stream_response(send)


async def _after(first: T, others: AsyncIterator[T]) -> AsyncIterator[T]:
    yield first
    async for other in others:
        yield other


def _last_id(connection: HTTPConnection) -> str | None:
    # The header of a browser that comes back is newer than the address, which stays as it was.
    return connection.headers.get("last-event-id") or connection.query_params.get("last_event_id")


@contextlib.asynccontextmanager
async def _closed_with(stream: Stream[Any], receive: Callable[[], Awaitable[Any]], goodbye: str) -> AsyncIterator[None]:
    """Within the block the stream ends as soon as the client goes."""

    async def wait() -> None:
        while (await receive())["type"] != goodbye:
            pass
        stream.close()

    waiting = asyncio.create_task(wait())
    try:
        yield
    finally:
        waiting.cancel()
        stream.close()
