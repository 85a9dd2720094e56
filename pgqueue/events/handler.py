"""What makes a function the handler of events: it takes one argument, an Event."""

import inspect
from collections.abc import Callable
from typing import Any

from pgqueue.errors import ConfigError
from pgqueue.events.event import Event


def check_handler(function: Callable[..., Any]) -> None:
    """Raise ConfigError unless it can be called with one event; one without an annotation is given that of Event.

    The annotation is what its stored argument is read by: without one it would be a dict.
    """
    parameters = list(inspect.signature(function).parameters.values())
    required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if not parameters or parameters[0].kind is inspect.Parameter.KEYWORD_ONLY or len(required) > 1:
        raise ConfigError(
            f"@app.on calls {function.__qualname__} with one argument, the event: write `def {function.__name__}(event: Event)`"
        )
    if parameters[0].annotation is inspect.Parameter.empty and inspect.isfunction(function):
        function.__annotations__[parameters[0].name] = Event
