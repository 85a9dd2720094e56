"""The jobs of a chaos run. Each returns its claim token, so that the result says which attempt it came from.

`tx` writes in its own transaction, `ext` outside of the database, `fail` fails some times first, `poison` kills its process,
`long` takes seconds. What runs, and how it ends, goes into the ledger.
"""

import functools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tenacity import stop_after_attempt, wait_fixed

from benchmarks.chaos.ledger import Ledger
from pgqueue import App, current_job

app = App()
PATIENT = {"wait": wait_fixed(0.3), "stop": stop_after_attempt(500)}  # a database that is away fails many attempts
WORK_S = 0.02  # long enough to be struck


@functools.cache
def ledger() -> Ledger:
    return Ledger(Path(os.environ["PGQUEUE_CHAOS_LEDGER"]), "task")


def recorded(function: Callable[..., None]) -> Callable[..., int]:
    """Write down when this attempt starts and that its own work was done; return its token."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> int:
        job = current_job()
        ledger().write("start", job=job.id, token=job.token, pid=os.getpid())
        function(*args, **kwargs)
        ledger().write("done", job=job.id, token=job.token)
        return job.token

    run.__annotations__["return"] = int
    return run


@app.task(atomic=True, **PATIENT)
@recorded
def tx(key: str) -> None:
    current_job().conn.execute(
        "insert into effect (job, token) values (%s, %s)", [current_job().id, current_job().token]
    )
    time.sleep(WORK_S)


@app.task(**PATIENT)
@recorded
def ext(key: str) -> None:
    time.sleep(WORK_S)
    ledger().write("effect", job=current_job().id, token=current_job().token)


@app.task(**PATIENT)
@recorded
def fail(key: str, times: int) -> None:
    if current_job().attempt <= times:
        raise RuntimeError(f"{key} fails {times} times")


@app.task(**PATIENT)
@recorded
def long(key: str, seconds: float) -> None:
    time.sleep(seconds)


@app.task(**PATIENT)
@recorded
def poison(key: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
