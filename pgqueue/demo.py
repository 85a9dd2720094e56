"""What `pgqueue demo` runs: short jobs, slow ones, async ones, and some that fail before they succeed."""

import asyncio
import contextlib
import time
from typing import Any

from tenacity import wait_fixed

from pgqueue.app import App
from pgqueue.client.handle import Job
from pgqueue.context import current_job
from pgqueue.errors import JobCancelled, JobDead

app = App()
SOON = wait_fixed(0.2)


@app.task
def greet(name: str) -> str:
    """A short job."""
    return f"hello {name}"


@app.task(queue="slow")
def think(seconds: float) -> float:
    """A job that reports progress."""
    for step in range(10):
        current_job().progress(step / 10, "thinking")
        time.sleep(seconds / 10)
    return seconds


@app.task(queue="net")
async def fetch(seconds: float) -> float:
    """A job that waits; a child runs many of them at once."""
    await asyncio.sleep(seconds)
    return seconds


@app.task(max_attempts=3, wait=SOON)
def stumble(succeed_on: int) -> int:
    """A job that fails until the attempt given."""
    if current_job().attempt < succeed_on:
        raise ConnectionError(f"attempt {current_job().attempt} was refused")
    return current_job().attempt


def defer_all() -> list[Job[Any]]:
    """Put every kind of job in; returns their handles."""
    return [
        *greet.defer_many((f"user {n}",) for n in range(900)),
        *think.defer_many([(1.0,)] * 8),
        *fetch.defer_many([(0.5,)] * 80),
        *stumble.defer_many([(1,)] * 8 + [(3,)] * 3 + [(9,)]),
    ]


def wait_for(jobs: list[Job[Any]]) -> None:
    """Until each has ended, one way or another."""
    for job in jobs:
        with contextlib.suppress(JobDead, JobCancelled):
            job.result(timeout=60)
