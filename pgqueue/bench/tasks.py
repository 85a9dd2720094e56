"""The tasks that are measured: they do nothing, or tell when they began."""

import time
from collections.abc import Callable, Iterable
from typing import Any

from pgqueue.app import App


def noop() -> int:
    """The cheapest job whose result is still written down."""
    return 1


def monotonic_ns() -> int:
    """When the job began, on the clock that all processes of a machine share."""
    return time.monotonic_ns()


FUNCTIONS: tuple[Callable[[], int], ...] = (noop, monotonic_ns)


def registered(app: App, functions: Iterable[Callable[..., Any]] = FUNCTIONS) -> App:
    """The App, with each function as a task of the same name; a measurement's and its worker's know the same ones."""
    for function in functions:
        app.task(name=function.__name__)(function)
    return app


app = registered(App())
