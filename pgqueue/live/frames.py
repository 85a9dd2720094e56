"""What one client is told, and how that is written: server-sent events (WHATWG HTML, section 9.2), or JSON for a WebSocket."""

import json
import re
from typing import NamedTuple

from pgqueue.channels.items import Gap, Item, Listening, Notification
from pgqueue.events.event import Event
from pgqueue.events.inbox import FollowItem

LINE_ENDS = re.compile(r"\r\n|\r|\n")
SENT_TYPE = "text/event-stream"
SENT_HEADERS = {
    "Cache-Control": "no-cache, no-transform",  # compressed it would be held back until there is enough of it
    "X-Accel-Buffering": "no",  # nginx would hold it back
}


class Frame(NamedTuple):
    """name: None for what happened; `listening` and `gap` say something of the stream. data: JSON text; None for a mere sign of
    life."""

    name: str | None = None
    data: str | None = None


def frame_of(item: Item | FollowItem | None) -> Frame:
    """None: nothing came for a while."""
    match item:
        case Notification():
            return Frame(None, f'{{"channel":{json.dumps(item.channel)},"payload":{_as_json(item.payload)}}}')
        case Event():
            shown = {
                "id": item.id,
                "type": item.type,
                "key": item.key,
                "at": item.at.isoformat(),
                "payload": item.payload,
            }
            return Frame(None, json.dumps(shown, ensure_ascii=False, separators=(",", ":")))
        case Gap():
            return Frame("gap", json.dumps({"channel": item.channel, "why": item.why}))
        case Listening():
            return Frame("listening", "null")
        case _:
            return Frame()


def _as_json(payload: str) -> str:
    """As it is, or as a string what another program sent and is not JSON."""
    try:
        json.loads(payload)
    except ValueError:
        return json.dumps(payload)
    return payload


def sent_event(frame: Frame, position: str | None, *, retry_s: float) -> bytes:
    """A frame as a server-sent event; one without data sets the id of the stream alone, or is a comment.

    retry_s: after how long a client that was cut off comes back.
    """
    lines = [f"id: {position}"] if position is not None else []
    if frame.name == "listening":
        lines.append(f"retry: {round(retry_s * 1000)}")
    if frame.name is not None:
        lines.append(f"event: {frame.name}")
    if frame.data is not None:
        lines += [f"data: {line}" for line in LINE_ENDS.split(frame.data)]
    else:
        lines.append(":")
    return "\n".join([*lines, "", ""]).encode()


def message(frame: Frame, position: str | None) -> str:
    """A frame as the text of a message: an object with `event`, `id` and `data`."""
    name = json.dumps(frame.name or ("message" if frame.data is not None else "alive"))
    return f'{{"event":{name},"id":{json.dumps(position)},"data":{frame.data or "null"}}}'
