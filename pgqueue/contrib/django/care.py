"""Care for Django's connections around jobs, as Django itself takes it around requests.

Without it a session that the server has ended is kept: every later job of that process fails. And in DEBUG every query is kept.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connections

from pgqueue.context import CurrentJob

_async_jobs: set[str] = set()  # those that run: they share the connections of one thread
_pending: set["asyncio.Future[Any]"] = set()  # asyncio itself keeps no task alive


def care(job: CurrentJob) -> Iterator[None]:
    """Around sync jobs, in their thread. The event loop's thread, where this also runs, has no connections."""
    refresh()
    yield
    refresh()


async def care_async(job: CurrentJob) -> AsyncIterator[None]:
    """Around async jobs, whose queries Django runs in one thread, one after the other."""
    alone = not _async_jobs
    _async_jobs.add(job.id)
    await _refresh_soon(alone=alone)
    yield
    _async_jobs.discard(job.id)
    await _refresh_soon(alone=not _async_jobs)


def refresh() -> None:
    """Close this thread's connections that are broken or too old, and forget the queries of DEBUG.

    Never in a transaction: that of a TestCase is around the jobs that it runs, and its connection would be gone for all
    later tests.
    """
    for conn in connections.all(initialized_only=True):
        if not conn.in_atomic_block:
            conn.queries_log.clear()  # not of a TestCase, which may count those of its jobs
            conn.close_if_unusable_or_obsolete()


def _refresh_shared(*, alone: bool) -> None:
    """As `refresh`; while other jobs run, one of which may read on from a connection, only what the server has closed is closed."""
    if alone:
        refresh()
        return
    for conn in connections.all(initialized_only=True):
        if not conn.in_atomic_block:
            conn.queries_log.clear()
            if conn.errors_occurred and not conn.is_usable():  # a query may fail on a connection that is fine
                conn.close()


async def _refresh_soon(*, alone: bool) -> None:
    """Put it into that thread's queue, and do not wait: the thread may be busy for long.

    `alone` is as of now, not as of the moment in which it runs: what begins meanwhile puts its queries behind it in the queue.
    """
    queued = asyncio.ensure_future(sync_to_async(_refresh_shared)(alone=alone))
    _pending.add(queued)
    queued.add_done_callback(_pending.discard)
    await asyncio.sleep(0)  # until it is in the queue
