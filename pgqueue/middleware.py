"""Middleware: a generator around each job, in the process that runs it. Its `yield` returns what the attempt came to."""

import inspect
from collections.abc import AsyncIterator, Callable, Iterable, Iterator

from pgqueue.context import CurrentJob
from pgqueue.errors import ConfigError

Middleware = Callable[[CurrentJob], Iterator[None] | AsyncIterator[None]]
"""A function that yields once: a plain generator goes around sync and async jobs, an async one around async jobs."""

EXAMPLE = "write `def around(job): ...; outcome = yield; ...`"


def check_middleware(functions: Iterable[Middleware], *, where: str) -> tuple[Middleware, ...]:
    """The functions in order; raises ConfigError for what is no generator function of one argument."""
    if callable(functions) or not isinstance(functions, Iterable):
        raise ConfigError(f"{where}: middleware takes a list of generator functions, as in middleware=[around]")
    return tuple(_checked(function, where) for function in functions)


def _checked(function: Middleware, where: str) -> Middleware:
    if not (_makes(inspect.isgeneratorfunction, function) or is_async(function)):
        raise ConfigError(f"{where}: middleware must be a function that yields, not {function!r}: {EXAMPLE}")
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        raise ConfigError(f"{where}: middleware {title(function)} must take the job and no more: {EXAMPLE}") from None
    return function


def is_async(function: object) -> bool:
    """Whether it goes around async jobs only."""
    return _makes(inspect.isasyncgenfunction, function)


def _makes(kind: Callable[[object], bool], function: object) -> bool:
    """Also where it is an object with a __call__."""
    return kind(function) or kind(inspect.getattr_static(function, "__call__", None))


def title(function: object) -> str:
    """As people know it."""
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{getattr(function, '__module__', '?')}.{name}"
