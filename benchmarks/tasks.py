"""The tasks that are measured: those of `pgqueue bench`, and some that take their time."""

import asyncio
import time

from pgqueue import App
from pgqueue.bench import tasks


def wall_s() -> float:
    """When the job began, on the clock that a server on the same machine shares."""
    return time.time()


def nap(seconds: float) -> int:
    """A job that keeps its thread, or its child, for so long."""
    time.sleep(seconds)
    return 1


async def nap_async(seconds: float) -> int:
    """A job that lets others run meanwhile."""
    await asyncio.sleep(seconds)
    return 1


def mark() -> int:
    """A job whose row tells when those before it were done, where these leave none."""
    return 1


def registered(app: App) -> App:
    """The App with all of these as its tasks, and `noop` once more as one of which nothing is kept."""
    app.task(name="unkept", keep=0)(tasks.noop)
    return tasks.registered(tasks.registered(app), (wall_s, nap, nap_async, mark))


app = registered(App())
