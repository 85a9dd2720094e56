"""The handler of events that is measured, apart from the other tasks: its worker keeps one connection more."""

import time

from benchmarks import tasks
from pgqueue import App, Event

TYPE = "bench.event"


def monotonic_ns_of_event(event: Event[int]) -> list[int]:
    """When it was due, and when its job began."""
    return [event.payload, time.monotonic_ns()]


app = tasks.registered(App())
app.on(TYPE)(monotonic_ns_of_event)
