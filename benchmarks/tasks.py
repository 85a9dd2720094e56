"""The tasks that are measured: they do nothing, or tell when they began."""

import time

from pgqueue import App

app = App()


@app.task
def noop() -> int:
    """The cheapest job whose result is still written down."""
    return 1


@app.task
def monotonic_ns() -> int:
    """When the job began, on the clock that all processes of a machine share."""
    return time.monotonic_ns()


@app.task
def wall_s() -> float:
    """When the job began, on the clock that a server on the same machine shares."""
    return time.time()


@app.task
def nap(seconds: float) -> int:
    """A job that keeps its thread, or its child, for so long."""
    time.sleep(seconds)
    return 1
