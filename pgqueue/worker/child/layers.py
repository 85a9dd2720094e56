"""The middleware of one attempt: entered from the outermost in, told the outcome from the innermost out."""

from collections.abc import AsyncGenerator, Generator
from typing import Any

from pgqueue.context import CurrentJob
from pgqueue.job import Outcome
from pgqueue.middleware import Middleware, title

Layer = Generator[None, Outcome, None] | AsyncGenerator[None, Outcome]


class Layers:
    """Those that were entered, each of which is told the outcome once."""

    def __init__(self, job: CurrentJob) -> None:
        self._job = job
        self._entered: list[tuple[Any, Middleware]] = []

    def __bool__(self) -> bool:
        return bool(self._entered)

    # -- the two colours: an async attempt may have middleware of both --

    def enter(self, middleware: Middleware) -> None:
        """Run it up to its yield; raises what it raises."""
        layer: Any = middleware(self._job)
        _begin(layer, middleware)
        self._entered.append((layer, middleware))

    def leave(self, outcome: Outcome) -> None:
        """Run the innermost one that is left to its end; raises what it raises."""
        layer, middleware = self._entered.pop()
        _end(layer, middleware, outcome)

    async def enter_async(self, middleware: Middleware) -> None:
        """As `enter`, for either kind."""
        layer: Any = middleware(self._job)
        if isinstance(layer, AsyncGenerator):
            await _begin_async(layer, middleware)
        else:
            _begin(layer, middleware)
        self._entered.append((layer, middleware))

    async def leave_async(self, outcome: Outcome) -> None:
        """As `leave`, for either kind."""
        layer, middleware = self._entered.pop()
        if isinstance(layer, AsyncGenerator):
            await _end_async(layer, middleware, outcome)
        else:
            _end(layer, middleware, outcome)


def _begin(layer: Generator[None, Outcome, None], middleware: Middleware) -> None:
    try:
        next(layer)
    except StopIteration:
        raise _missing(middleware) from None


def _end(layer: Generator[None, Outcome, None], middleware: Middleware, outcome: Outcome) -> None:
    try:
        layer.send(outcome)
    except StopIteration:
        return
    layer.close()
    raise _twice(middleware)


async def _begin_async(layer: AsyncGenerator[None, Outcome], middleware: Middleware) -> None:
    try:
        await anext(layer)
    except StopAsyncIteration:
        raise _missing(middleware) from None


async def _end_async(layer: AsyncGenerator[None, Outcome], middleware: Middleware, outcome: Outcome) -> None:
    try:
        await layer.asend(outcome)
    except StopAsyncIteration:
        return
    await layer.aclose()
    raise _twice(middleware)


def _missing(middleware: Middleware) -> RuntimeError:
    return RuntimeError(f"middleware {title(middleware)} returned without its yield: it must yield once")


def _twice(middleware: Middleware) -> RuntimeError:
    return RuntimeError(f"middleware {title(middleware)} yielded twice: it must yield once")
