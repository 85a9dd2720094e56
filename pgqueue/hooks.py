"""What a child calls once: after it has imported the app, and before it ends."""

import inspect
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from pgqueue.errors import ConfigError

Hook = Callable[[], Coroutine[Any, Any, None] | None]
"""A function without arguments; an async one runs on the event loop of the async jobs."""


@dataclass(slots=True)
class Hooks:
    """Those of one app, in the order in which they were registered."""

    child_start: list[Hook] = field(default_factory=list)
    child_stop: list[Hook] = field(default_factory=list)


def check_hook(function: Hook, *, where: str) -> Hook:
    """Raises ConfigError for what cannot be called without arguments, or would not run when it is."""
    if not callable(function):
        raise ConfigError(f"{where} takes a function, not {function!r}")
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise ConfigError(f"{where}: {function!r} is called without arguments ({error})") from None
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigError(f"{where}: {function!r} yields: register one function for the start and one for the stop")
    return function
