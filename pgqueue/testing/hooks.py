"""A drain is a child's life: what on_child_start and on_child_stop hold is called around it, and what that raises comes out."""

import inspect
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from pgqueue.app import App
from pgqueue.hooks import Hook
from pgqueue.testing.loop import job_loop
from pgqueue.testing.way import contexts


@contextmanager
def life_of_a_child(app: App) -> Iterator[None]:
    """An async function runs in the event loop of the async jobs."""
    for function in app.hooks.child_start:
        _call(function)
    try:
        yield
    finally:
        for function in reversed(app.hooks.child_stop):
            _call(function)


@asynccontextmanager
async def life_of_a_child_async(app: App) -> AsyncIterator[None]:
    """In the event loop of the test."""
    for function in app.hooks.child_start:
        await _call_async(function)
    try:
        yield
    finally:
        for function in reversed(app.hooks.child_stop):
            await _call_async(function)


def _call(function: Hook) -> None:
    returned = function()
    if inspect.iscoroutine(returned):
        job_loop.run(returned, context=contexts.fresh())


async def _call_async(function: Hook) -> None:
    returned = function()
    if inspect.iscoroutine(returned):
        await returned
