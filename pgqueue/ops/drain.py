"""Lets a queue run empty, and then pauses it: for a migration of its tasks' tables, or the end of a service they use.

Nothing is refused meanwhile: what comes is run, until there is a moment without any. What waits at a gate is waited for, unless the
gate is closed or its limit is 0. A job may come, and be claimed, between the
look that finds nothing and the pause. So the pause is made first and believed later: when nothing has run for two looks, as a claim
that began before the pause may end after the first of them.
"""

import time

from pgqueue.client.connections import AppConnections
from pgqueue.errors import ConfigError
from pgqueue.queries.ops import LeftRow

DRAIN_LOOK_S = 0.25  # between two looks; longer than any claim takes from its snapshot to its commit, on a good disk
MOST_LEFT = 1_000  # jobs are counted so far


def drain(database: AppConnections, queue: str, *, timeout_s: float | None) -> int:
    """Wait, then pause the queue; returns how many jobs are due or run at the timeout, when it is not paused: 0 if it is.

    Raises ConfigError for a queue that is paused with jobs that are due, and inside using(), where nobody would see the pause.
    """
    if database.using.get() is not None:
        raise ConfigError("drain waits for jobs of other transactions: call it outside of using()")
    ends = None if timeout_s is None else time.monotonic() + timeout_s
    left = _look(database, queue)
    if left.paused and left.due:
        raise ConfigError(
            f"queue {queue} is paused with jobs that are due ({left.due}): they run only after `pgqueue resume {queue}`"
        )
    empty, unsure = 0, False
    try:
        while empty < 2:
            if (left.due and not left.paused) or left.running:
                empty = 0
                if ends is not None and time.monotonic() >= ends:
                    return left.due + left.running
            elif left.paused:
                empty += 1
            else:
                unsure = True
                database.run(database.queries.pause(queue, for_s=None))
            time.sleep(DRAIN_LOOK_S)
            left = _look(database, queue)
        unsure = False
        return 0
    finally:
        if unsure:  # at the timeout, and after Ctrl-C, the queue is as it was
            database.run(database.queries.resume(queue))


def _look(database: AppConnections, queue: str) -> LeftRow:
    (left,) = database.run(database.queries.left(queue, count_limit=MOST_LEFT))
    return left
