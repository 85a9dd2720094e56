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
    _async_jobs.add(job.id)
    await _refresh_soon()
    yield
    _async_jobs.discard(job.id)
    await _refresh_soon()


def refresh() -> None:
    """Close this thread's connections that are broken or too old, and forget the queries of DEBUG.

    Never in a transaction: that of a TestCase is around the jobs that it runs, and its connection would be gone for all
    later tests.
    """
    for conn in connections.all(initialized_only=True):
        if not conn.in_atomic_block:
            conn.queries_log.clear()  # not of a TestCase, which may count those of its jobs
            conn.close_if_unusable_or_obsolete()


def _refresh_shared() -> None:
    """As `refresh`, where a job may be about to read on from a connection: while several run, only what has failed is closed."""
    if len(_async_jobs) <= 1:
        refresh()
        return
    for conn in connections.all(initialized_only=True):
        if not conn.in_atomic_block:
            conn.queries_log.clear()
            if conn.errors_occurred:
                conn.close_if_unusable_or_obsolete()


async def _refresh_soon() -> None:
    """Put it into that thread's queue, before what this job will put there, and do not wait: the thread may be busy for long."""
    queued = asyncio.ensure_future(sync_to_async(_refresh_shared)())
    _pending.add(queued)
    queued.add_done_callback(_pending.discard)
    await asyncio.sleep(0)  # until it is in the queue
