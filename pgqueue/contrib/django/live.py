"""The answer of a view that a browser follows by server-sent events, under WSGI and ASGI."""

from collections.abc import Sequence

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse

import pgqueue
from pgqueue.app import App
from pgqueue.live.frames import SENT_HEADERS, SENT_TYPE
from pgqueue.live.stream import BEAT_S, COME_BACK_S, WantedStream


def event_stream(
    request: HttpRequest,
    *,
    channels: Sequence[str] = (),
    types: Sequence[str] = (),
    app: App | None = None,
    beat_s: float = BEAT_S,
    retry_s: float = COME_BACK_S,
) -> StreamingHttpResponse:
    """What a view returns to `new EventSource(...)`: live channels, or types of events of the log.

    channels, types, beat_s and retry_s: as for `pgqueue.contrib.fastapi.event_stream`, as is what the client gets. app: by default
    the one that `from pgqueue import task` uses. Which ones a client may see is for the view to decide: it passes only those. Under
    ASGI it costs no thread, and ends as soon as the client goes; under WSGI it holds a thread of the server for as long as the
    client is there, and a client that went is noticed at the next sign of life. The view may be sync or async.
    """
    wanted = WantedStream(app or pgqueue.app, channels, types, beat_s, retry_s)
    stream = wanted.sent_events(request.headers.get("Last-Event-ID") or request.GET.get("last_event_id"))
    frames = aiter(stream) if isinstance(request, ASGIRequest) else iter(stream)
    return StreamingHttpResponse(frames, content_type=SENT_TYPE, headers=SENT_HEADERS)
