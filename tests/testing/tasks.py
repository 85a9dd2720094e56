"""What the tests of the kit defer and run."""

import asyncio
import time
from collections.abc import Generator
from contextvars import ContextVar
from typing import Any

import psycopg

from pgqueue import App, Cancel, CurrentJob, Outcome, Snooze, current_job

app = App()
bound: Any = None  # the connection of a test


def written(conn: psycopg.Connection) -> list[str]:
    return [text for (text,) in conn.execute("select text from written order by text")]


@app.task(max_attempts=3)
def add(a: int, b: int) -> int:
    if a < 0:
        raise ValueError("no negative numbers")
    return a + b


@app.task
async def add_later(a: int, b: int) -> int:
    return a + b


@app.task(atomic=True)
def write(text: str, fails: bool = False) -> str:
    current_job().conn.execute("insert into written values (%s)", [text])
    if fails:
        raise ValueError("not this time")
    return text


@app.task(atomic=True)
async def write_later(text: str) -> str:
    await current_job().conn.execute("insert into written values (%s)", [text])
    return text


@app.task
def give_up(how: str) -> None:
    raise {"snooze": Snooze(60), "cancel": Cancel("not wanted")}[how]


@app.task
def fan_out(count: int) -> None:
    add.defer_many([(n, 1) for n in range(count)])


@app.task
async def fan_out_later(count: int) -> None:
    for n in range(count):
        await add.defer_async(n, 1)


@app.task
def again() -> None:
    again.defer()


@app.task
def too_long() -> None:
    while True:
        current_job().check()
        time.sleep(0.001)


@app.task
async def too_long_later() -> None:
    await asyncio.sleep(60)


mark = ContextVar("mark", default="of the app")


@app.task
def say_mark() -> str:
    found = mark.get()
    mark.set("of another job")
    return found


@app.task
def report() -> None:
    current_job().progress(0.5, "half")
    current_job().progress(1)


@app.task
def interrupt() -> None:
    raise KeyboardInterrupt


@app.task
def break_transaction() -> None:
    bound.execute("select from not_there")


heard: list[str] = []


def listen(job: CurrentJob) -> Generator[None, Outcome, None]:
    heard.append(f"before {job.args}")
    outcome = yield
    heard.append(f"after {outcome.verdict}")


@app.task(middleware=[listen])
def overheard(a: int) -> int:
    return a


@app.task(middleware=[listen])
async def overheard_later(a: int) -> int:
    return a


@app.task
def wait_for(job_id: str) -> Any:
    return app.job(job_id).result(timeout=30)


@app.task
async def wait_for_later(job_id: str) -> Any:
    return await app.job(job_id).result_async(timeout=30)
