"""The jobs of a chaos run. Each returns its claim token, so that the result says which attempt it came from.

`tx` writes in its own transaction, `ext` outside of the database, `fail` fails some times first, `poison` kills its process,
`long` takes seconds. `snooze` puts itself off, `report` tells how far it is, `fork` makes a copy of its process that must never
answer for it, `context` leaves behind what the next job must not find; `first` and `second` are of events. `limited` has a limit
per tenant and one for all, `in_line` an order, `paced` a rate. What runs, and how it ends, goes into the ledger.
"""

import decimal
import functools
import os
import signal
import sys
import time
from collections.abc import Callable
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from typing import Any

from tenacity import stop_after_attempt, wait_fixed

from benchmarks.chaos.ledger import Ledger
from pgqueue import App, Event, Limit, Rate, Snooze, current_job

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
        try:
            function(*args, **kwargs)
        except BaseException:
            ledger().write("failed", job=job.id, token=job.token)
            raise
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


SNOOZES = (0, 0.2, timedelta(milliseconds=100))  # each kind of number that a delay may be


@app.task(**PATIENT)
@recorded
def snooze(key: str, times: int) -> None:
    token = current_job().token  # a snooze costs no attempt, but each claim has a token of its own
    if token <= times:
        raise Snooze(SNOOZES[token % len(SNOOZES)])


@app.task(**PATIENT)
@recorded
def report(key: str) -> None:
    for step in range(5):
        current_job().progress(step if step < 2 else step / 5, f"step {step} of {key}")
        time.sleep(WORK_S / 5)


@app.task(**PATIENT)
@recorded
def fork(key: str, how: str) -> None:
    if pid := os.fork():
        os.waitpid(pid, 0)
        return
    current_job().token = -1  # what this copy says is known by it
    if how == "raise":
        raise RuntimeError("a copy of the process has failed")
    if how == "exit":
        sys.exit(0)


TENANT: ContextVar[str] = ContextVar("tenant", default="")


@app.task(**PATIENT)
@recorded
def context(key: str) -> None:
    left, digits = TENANT.get(), decimal.getcontext().prec
    TENANT.set(key)
    decimal.getcontext().prec = 5
    if left or digits == 5:
        raise RuntimeError(f"{key} finds what {left or 'another job'} left behind")


@app.task(limit=[Limit(2, key="tenant", name="tenant"), 5], **PATIENT)
@recorded
def limited(key: str, tenant: str, fails: bool) -> None:
    time.sleep(WORK_S)
    if fails and current_job().attempt == 1:
        raise RuntimeError(f"{key} fails once")


@app.task(ordered="line", **PATIENT)
@recorded
def in_line(key: str, line: str, nth: int) -> None:
    time.sleep(WORK_S)
    if nth % 5 == 0 and current_job().attempt == 1:
        raise RuntimeError(f"{key} fails once, and its line waits")


@app.task(rate=Rate(10, burst=3), **PATIENT)
@recorded
def paced(key: str) -> None:
    time.sleep(WORK_S / 10)


# Who subscribes: two handlers, a relay, and the loop of reader.py.
RELAY = "chaos relay"
app.relay(to="env:PGQUEUE_CHAOS_BUS", types="chaos.*", name=RELAY, batch=20)


@app.on("chaos.a", "chaos.alone", **PATIENT)
@recorded
def first(event: Event[str]) -> None:
    time.sleep(WORK_S / 10)


@app.on("chaos.*", **PATIENT)
@recorded
def second(event: Event[str]) -> None:
    time.sleep(WORK_S / 10)
