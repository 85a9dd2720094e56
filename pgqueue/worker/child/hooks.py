"""Calls what users have registered for the start and the stop of a child."""

import inspect
import logging
from collections.abc import Iterable

from pgqueue.hooks import Hook
from pgqueue.middleware import title
from pgqueue.worker.child.event_loop import EventLoop
from pgqueue.worker.child.executor import describe

logger = logging.getLogger("pgqueue.worker")


class HookFailed(Exception):
    """What a function raised that is to run before any job; the child does not start."""


def call_at_start(functions: Iterable[Hook], loop: EventLoop) -> None:
    """In order, in the main thread; raises HookFailed at the first that fails."""
    for function in functions:
        try:
            _call(function, loop)
        except BaseException as error:
            raise HookFailed(f"on_child_start {title(function)} failed: {describe(error)}") from error


def call_at_stop(functions: Iterable[Hook], loop: EventLoop) -> None:
    """The last registered first, as it may use what the others made; one that fails keeps no other from its turn."""
    for function in reversed(list(functions)):
        try:
            _call(function, loop)
        except BaseException:
            logger.exception("on_child_stop %s failed", title(function))


def _call(function: Hook, loop: EventLoop) -> None:
    returned = function()
    if inspect.iscoroutine(returned):
        loop.run(returned)
