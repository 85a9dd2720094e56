"""A constant load: jobs that do nothing, deferred in small lots by a process of its own."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import repeat
from multiprocessing import get_context
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event

from benchmarks import tasks
from benchmarks.bench import Bench
from pgqueue import App

LOT_S = 0.01  # of jobs that go in together: longer lots would be bursts, shorter ones are dear
START_S = 30.0  # a process starts in a fraction of this, however busy the machine


@contextmanager
def load(bench: Bench, rate: float) -> Iterator[Callable[[], float]]:
    """Within the block, jobs go in at this rate; yields a function that tells the rate that was kept so far."""
    context = get_context("spawn")
    begun, over, placed = context.Event(), context.Event(), context.Value("q", 0)
    place = (bench.app.dsn, bench.app.config.schema)
    process = context.Process(target=_offer, args=(*place, rate, begun, over, placed), daemon=True)
    process.start()
    try:
        if not begun.wait(START_S):
            raise TimeoutError("the process that defers did not start")
        began = time.perf_counter()
        yield lambda: float(placed.value) / (time.perf_counter() - began)
    finally:
        over.set()
        process.join()


def _offer(dsn: str, schema: str, rate: float, begun: Event, over: Event, placed: "Synchronized[int]") -> None:
    """By the clock: a lot that took long is made up for, as callers do not wait for each other."""
    noop = tasks.registered(App(dsn, schema=schema)).tasks["noop"]
    noop.defer()
    lot = max(1, round(rate * LOT_S))
    begun.set()
    began = time.perf_counter()
    while not over.wait(max(0.0, (placed.value + lot) / rate - (time.perf_counter() - began))):
        noop.defer_many(repeat((), lot))
        placed.value += lot
