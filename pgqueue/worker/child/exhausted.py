"""Finds that an attempt failed because no connection of a pool became free in time, whatever library's pool it is.

A child runs many async jobs at once, each of which may want a connection, and the usual pool has fewer. The libraries say that the
pool is exhausted; that the jobs next to this one have exhausted it, and what bounds those, only we can say.
"""

from itertools import pairwise
from traceback import walk_tb

from pgqueue.retry import traceback_of
from pgqueue.spoils import chain

EXHAUSTED = {("sqlalchemy", "TimeoutError"), ("psycopg_pool", "PoolTimeout")}  # root package and class
# asyncpg has no class for it: acquire(timeout=) raises TimeoutError, and one without waits until the job's own limit is over.
WAITING = ("asyncpg.pool", "asyncio.queues")  # a frame, and the one that it called


def hint(error: BaseException, *, at_once: int) -> str:
    """What to add to the text of the error of an async job; empty if it is about something else."""
    if at_once < 2 or not any(map(_exhausted, chain(error))):
        return ""
    return (
        f"; this child runs up to {at_once} async jobs at once, which share the pool: lower that with --async or "
        "@task(async_limit=), or enlarge the pool"
    )


def _exhausted(error: BaseException) -> bool:
    named = {(cls.__module__.partition(".")[0], cls.__name__) for cls in type(error).__mro__}
    modules = (frame.f_globals.get("__name__") for frame, _ in walk_tb(traceback_of(error)))
    return not named.isdisjoint(EXHAUSTED) or WAITING in pairwise(modules)
