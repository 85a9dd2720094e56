"""Handlers of batches for the workers of tests."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import psycopg

from pgqueue import App, Cancel, Event, Retry, Skip, current_job

app = App()


def told(name: str, events: list[Event[Any]]) -> None:
    """A ledger outside of the job's transaction: what a handler was called with."""
    with psycopg.connect(app.dsn, autocommit=True) as conn:
        conn.execute(
            "insert into shop.seen (handler, numbers, keys, attempt) values (%s, %s, %s, %s)",
            [name, [event.payload for event in events], [event.key for event in events], current_job().attempt],
        )


def fail(events: list[Event[Any]]) -> None:
    """As the test has told for these numbers."""
    with psycopg.connect(app.dsn, autocommit=True) as conn:
        bad: dict[int, str] = dict(conn.execute("select number, how from shop.bad").fetchall())
    for event in events:
        match bad.get(event.payload):
            case "raise":
                raise ValueError(f"{event.payload} is bad")
            case "die":
                os.kill(os.getpid(), 9)
            case "cancel":
                raise Cancel("not wanted")
            case "retry":
                raise Retry("later", delay=0)
            case "stay":
                while True:
                    time.sleep(0.01)
    if skipped := [event for event in events if bad.get(event.payload) == "skip"]:
        raise Skip(*skipped, reason="unfit")


@app.on("plain.*", batch=8, max_attempts=2, wait=lambda _: 0, timeout=2)
def plain(events: list[Event[int]]) -> int:
    told("plain", events)
    fail(events)
    return len(events)


@app.on("strict.*", batch=8, max_attempts=1, on_poison="stop")
def strict(events) -> None:  # type: ignore[no-untyped-def]
    assert all(isinstance(event, Event) for event in events)
    told("strict", events)
    fail(events)


@app.on("atomic.*", batch=5, lanes=3, atomic=True, max_attempts=1, keep=0)
async def atomic(events: list[Event[int]]) -> None:
    conn = current_job().conn
    for event in events:
        await conn.execute("insert into shop.kept (number, key) values (%s, %s)", [event.payload, event.key])
    if Path(os.environ.get("TEST_BLOCK", "/nowhere")).exists():
        told("atomic", events)
        while Path(os.environ["TEST_BLOCK"]).exists():  # noqa: ASYNC110 (another process ends it)
            await asyncio.sleep(0.01)


@app.on("slow.*", batch=100, batch_wait=3600)
def slow(events: list[Event[int]]) -> int:
    told("slow", events)
    return len(events)
