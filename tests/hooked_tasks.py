"""An app with hooks and middleware, all of which note in a file what they see."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Generator
from contextvars import ContextVar
from pathlib import Path

from tenacity import wait_fixed

from pgqueue import App, CurrentJob, Outcome, current_job

app = App()
of_start: ContextVar[str] = ContextVar("of_start", default="unset")
loops: list[asyncio.AbstractEventLoop] = []


def note(event: object) -> None:
    with Path(os.environ["EVENTS"]).open("a") as file:
        file.write(f"{event}\n")


@app.on_child_start
def first() -> None:
    note("start 1")
    of_start.set("set at the start")


@app.on_child_start
async def second() -> None:
    await asyncio.sleep(0)
    loops.append(asyncio.get_running_loop())
    note("start 2")
    if fails := os.environ.get("FAIL_START"):
        raise ConnectionError(fails)


@app.on_child_stop
def last() -> None:
    note("stop 1")
    time.sleep(float(os.environ.get("SLOW_STOP", "0")))


@app.on_child_stop
async def stops() -> None:
    assert asyncio.get_running_loop() is loops[0]
    note("stop 2")


@app.on_child_stop
def fails() -> None:
    raise OSError("cannot stop")


@app.middleware
def around(job: CurrentJob) -> Generator[None, Outcome, None]:
    outcome = yield
    note(f"{job.task} {outcome.verdict}")


@app.middleware
async def around_async(job: CurrentJob) -> AsyncGenerator[None, Outcome]:
    assert asyncio.get_running_loop() is loops[0]
    note(f"async before {job.task}")
    await asyncio.sleep(0)
    yield


@app.task(name="sync")
def sync_task() -> str:
    return of_start.get()


@app.task(name="async")
async def async_task() -> str:
    assert asyncio.get_running_loop() is loops[0]
    return of_start.get()


@app.task(name="atomic", atomic=True)
def atomic_task() -> str:
    return str(current_job().conn.execute("select 'in the transaction'").fetchone()[0])


@app.task(name="cut", atomic=True, wait=wait_fixed(0.05), max_attempts=2)
def cut() -> None:
    """The answer of its COMMIT is lost, the first time."""
    if current_job().attempt == 1:
        current_job().conn.execute(
            "create constraint trigger cut after insert on shop.cut deferrable initially deferred "
            "for each row execute function shop.cut()"
        )
        current_job().conn.execute("insert into shop.cut default values")


# -- for a worker's helper: named in pyproject.toml --


def warm() -> None:
    note(f"worker warms {os.getpid()}")


async def warm_async() -> None:
    await asyncio.sleep(0)
    note(f"worker warms async {os.getpid()}")


def cool() -> None:
    note(f"worker cools {os.getpid()}")


async def cool_async() -> None:
    await asyncio.sleep(0)
    note(f"worker cools async {os.getpid()}")


def warm_long() -> None:
    note("worker warms long")
    time.sleep(3600)


def die() -> None:
    os._exit(7)
