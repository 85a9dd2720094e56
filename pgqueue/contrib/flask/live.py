"""The answer of a view that a browser follows by server-sent events."""

from collections.abc import Sequence

from flask import Response, request

import pgqueue
from pgqueue.app import App
from pgqueue.live.frames import SENT_HEADERS, SENT_TYPE
from pgqueue.live.stream import BEAT_S, COME_BACK_S, WantedStream


def event_stream(
    *,
    channels: Sequence[str] = (),
    types: Sequence[str] = (),
    app: App | None = None,
    beat_s: float = BEAT_S,
    retry_s: float = COME_BACK_S,
) -> Response:
    """What a view returns to `new EventSource(...)`: live channels, or types of events of the log.

    channels, types, beat_s and retry_s: as for `pgqueue.contrib.fastapi.event_stream`, as is what the client gets. app: by default
    the one that `from pgqueue import task` uses. Which ones a client may see is for the view to decide: it passes only those. It
    holds a thread of the server for as long as the client is there, and a client that went is noticed at the next sign of life.
    """
    wanted = WantedStream(app or pgqueue.app, channels, types, beat_s, retry_s)
    last_id = request.headers.get("Last-Event-ID") or request.args.get("last_event_id")
    return Response(iter(wanted.sent_events(last_id)), mimetype=SENT_TYPE, headers=SENT_HEADERS)
