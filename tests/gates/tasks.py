"""Tasks with limits, which note when they run."""

import os
import time

import psycopg
from tenacity import wait_fixed

from pgqueue import Limit, app, current_job, task

DSN = os.environ.get("LEDGER", "")


def note(what: str, seconds: float) -> None:
    """Note that a job of this name runs now, and for how long."""
    with psycopg.connect(DSN, autocommit=True) as conn:
        began = (
            "insert into shop.ledger (what, job, attempt, began) values (%s, %s, %s, clock_timestamp()) returning id"
        )
        row = conn.execute(began, [what, current_job().id, current_job().attempt]).fetchone()
        time.sleep(seconds)
        conn.execute("update shop.ledger set ended = clock_timestamp() where id = %s", row)


@task(limit=2)
def two(seconds: float = 0.05) -> None:
    note("two", seconds)


@task(limit=Limit(1, key="tenant"))
def each(tenant: str, seconds: float = 0.02) -> None:
    note(f"each {tenant}", seconds)


@task(limit=[Limit(1, key=lambda tenant: tenant[0].upper(), name="tenant"), 3])
def both(tenant: str) -> None:
    note(f"both {tenant}", 0.01)


@task(limit=1, max_attempts=3, wait=wait_fixed(0.05))
def fails() -> None:
    raise ValueError("as it does")


@task(limit=1, atomic=True)
def atomically() -> None: ...


@task
def free(tenant: str = "") -> None: ...


@task(limit=1000)
def many() -> None: ...


@task(ordered="key", max_attempts=2, wait=wait_fixed(0.02))
def in_order(key: str, number: int) -> None:
    note(f"{key} {number}", 0.02)
    if number % 3 == 0 and current_job().attempt == 1:
        raise ValueError("not at first")


@task(fair="tenant")
def turns(tenant: str, seconds: float = 0.0) -> None:
    time.sleep(seconds)


app.queue("shared", fair="tenant")
