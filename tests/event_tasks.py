"""Handlers of events for the workers of tests."""

from typing import Any

from pgqueue import App
from pgqueue.events.event import Event

app = App()


@app.on("user.created", "user.deleted")
def index_user(event: Event[dict[str, Any]]) -> Any:
    return [event.type, event.key, event.payload]


@app.on("user.*", queue="audit", priority=3)
def audit(event) -> str:  # type: ignore[no-untyped-def]
    assert isinstance(event, Event)
    return event.id


@app.on("chain")
def publish_next(event: Event[int]) -> int:
    if event.payload:
        app.publish("chain", event.payload - 1)
    return event.payload
