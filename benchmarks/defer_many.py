"""`defer_many` beside the bare COPY; and a million at once, with the memory that they take in the process that defers."""

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from benchmarks import tasks
from benchmarks.bench import Bench
from benchmarks.processes import HAS_PROC, peak_mb
from pgqueue import App
from pgqueue.bench import defer_many
from pgqueue.bench.measurement import Measurement, at_most, typical

MANY = 1_000_000
# 16 bytes of id for each job and as much again while they are copied once, and what libpq buffers.
GROWTH = at_most(64)  # MB


def measure(bench: Bench) -> Iterator[Measurement]:
    """The million goes in once: it takes ten seconds and noise evens out. In a process of its own, for its memory."""
    yield from defer_many.measure(bench)
    many = bench.count(MANY)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        rate, growth_mb = process.submit(_rate_and_growth, bench.app.dsn, bench.app.config.schema, many).result()
    yield typical(f"defer_many, {many:,}", [rate], "jobs/s", defer_many.TARGET)
    if growth_mb is not None:
        yield typical(f"defer_many, {many:,}: peak memory growth", [growth_mb], "MB", GROWTH)
    bench.empty()


def _rate_and_growth(dsn: str, schema: str, jobs: int) -> tuple[float, float | None]:
    noop = tasks.registered(App(dsn, schema=schema)).tasks["noop"]
    defer_many.deferred(noop, 1000)  # connects, imports and allocates what every process would anyway
    before_mb = _peak_mb()
    rate = defer_many.deferred(noop, jobs)
    after_mb = _peak_mb()
    return rate, None if before_mb is None or after_mb is None else after_mb - before_mb


def _peak_mb() -> float | None:
    return peak_mb(os.getpid()) if HAS_PROC else None
