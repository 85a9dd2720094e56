"""What makes a function the handler of events: it takes one argument, an Event, or a list of them."""

import inspect
from collections.abc import Callable
from typing import Any

from pgqueue.client.options import check_integer, seconds
from pgqueue.errors import ConfigError, InvalidOption
from pgqueue.events.event import Event
from pgqueue.events.subscription import MAX_BATCH, MAX_LANES, check_on_poison

MAX_BATCH_WAIT_S = 3_600.0


def check_handler(function: Callable[..., Any], *, batch: bool = False) -> None:
    """Raise ConfigError unless it can be called with one event, or a list of them; what has no annotation is given that.

    The annotation is what its stored argument is read by: without one it would be a dict.
    """
    parameters = list(inspect.signature(function).parameters.values())
    required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if not parameters or parameters[0].kind is inspect.Parameter.KEYWORD_ONLY or len(required) > 1:
        raise ConfigError(
            f"@app.on calls {function.__qualname__} with one argument, {'the events' if batch else 'the event'}: write "
            f"`def {function.__name__}({'events: list[Event]' if batch else 'event: Event'})`"
        )
    if parameters[0].annotation is inspect.Parameter.empty and inspect.isfunction(function):
        function.__annotations__[parameters[0].name] = list[Event[Any]] if batch else Event


def batches(*, batch: object, batch_wait: object, lanes: object, on_poison: object) -> dict[str, Any]:
    """What these options of `@app.on` make of its subscription; nothing where it has a job for each event. Raises InvalidOption."""
    if batch is None:
        for option, value in {"batch_wait": batch_wait, "lanes": lanes, "on_poison": on_poison}.items():
            if value is not None:
                raise InvalidOption(f"@app.on: {option}= is for batches; add batch=, as in batch=100")
        return {}
    wait_s = 0.0 if batch_wait is None else seconds("batch_wait", batch_wait)
    if wait_s > MAX_BATCH_WAIT_S:
        raise InvalidOption(f"batch_wait={wait_s:g} is out of range: 0 to {MAX_BATCH_WAIT_S:g} seconds")
    return {
        "mode": "batch",
        "batch": check_integer("batch", batch, low=1, high=MAX_BATCH),
        "batch_wait_s": wait_s,
        "lanes": check_integer("lanes", 1 if lanes is None else lanes, low=1, high=MAX_LANES),
        "on_poison": check_on_poison("skip" if on_poison is None else on_poison),
    }
