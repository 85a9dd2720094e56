"""Async tasks that say how many of them run at once in their process, and some that share a small pool of connections."""

import asyncio
import os
from collections import Counter
from pathlib import Path

from pgqueue import App, current_job

app = App()
running: Counter[str] = Counter()


async def _hold(marker: str) -> list[int]:
    """Run until the marker is there; how many ran at the start, of this task and of all."""
    task = current_job().task
    running[task] += 1
    seen = [running[task], running.total()]
    try:
        begun = Path(marker).parent / f"{task}-{current_job().id}"
        begun.write_text(str(os.getpid()))
        while not os.path.exists(marker):  # noqa: ASYNC110 (another process makes it)
            await asyncio.sleep(0.005)
        return seen
    finally:
        running[task] -= 1


@app.task(name="hold")
async def hold(marker: str) -> list[int]:
    return await _hold(marker)


@app.task(name="add")
def add(one: int, other: int) -> int:
    return one + other


@app.task(name="hold two", async_limit=2)
async def hold_two(marker: str) -> list[int]:
    return await _hold(marker)


@app.task(name="brief", async_limit=2)
async def brief(marker: str) -> list[int]:
    """The same without a marker, as short as can be."""
    task = current_job().task
    running[task] += 1
    try:
        await asyncio.sleep(0)
        return [running[task], running.total()]
    finally:
        running[task] -= 1


@app.task(name="other")
async def other(number: int) -> int:
    await asyncio.sleep(0)
    return number
