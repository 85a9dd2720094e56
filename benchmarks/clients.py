"""Many clients at once: threads of up to four processes, so that one Python's lock is not what is measured."""

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier

from benchmarks import tasks
from benchmarks.bench import Bench
from pgqueue import App

PROCESSES = 4  # at most; each has an equal share of the clients
WARM = 10  # calls before the start: psycopg prepares a statement after five
START_S = 60.0  # all are ready in a second or two

# Made in each client's thread; each call inserts something and tells how many jobs that was.
Client = Callable[[App], AbstractContextManager[Callable[[], int]]]

_start: Barrier | None = None  # of the run that this process is part of


def rate(bench: Bench, client: Client, *, clients: int, seconds: float) -> float:
    """Jobs a second of so many clients together that begin at once and go on for so long."""
    processes = min(clients, PROCESSES)
    context = get_context("spawn")
    with ProcessPoolExecutor(
        processes, mp_context=context, initializer=_meet, initargs=(context.Barrier(clients),)
    ) as pool:
        place = (bench.app.dsn, bench.app.config.schema)
        parts = [pool.submit(_process, *place, client, clients // processes, seconds) for _ in range(processes)]
        return sum(part.result() for part in parts)


def _meet(start: Barrier) -> None:
    global _start
    _start = start


def _process(dsn: str, schema: str, client: Client, threads: int, seconds: float) -> float:
    app = tasks.registered(App(dsn, schema=schema, pool_size=threads))
    with ThreadPoolExecutor(threads) as pool:
        found = [pool.submit(_client, app, client, seconds) for _ in range(threads)]
        total = sum(each.result() for each in found)
    app.close()
    return total


def _client(app: App, client: Client, seconds: float) -> float:
    """Jobs a second of one client."""
    assert _start is not None
    with client(app) as insert:
        for _ in range(WARM):
            insert()
        _start.wait(START_S)
        began, jobs = time.perf_counter(), 0
        while (took_s := time.perf_counter() - began) < seconds:
            jobs += insert()
        return jobs / took_s
