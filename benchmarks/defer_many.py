"""How fast `defer_many` loads jobs, and how much memory a million of them take in the process that defers."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context

from benchmarks.bench import Bench
from benchmarks.measurement import Measurement, at_least, at_most, typical
from benchmarks.tasks import noop
from benchmarks.worker import HAS_PROC, peak_mb

JOBS = 100_000
MANY = 1_000_000
TARGET = at_least(100_000)  # jobs/s
# 16 bytes of id for each job and as much again while they are copied once, and what libpq buffers.
GROWTH = at_most(64)  # MB


def measure(bench: Bench) -> Iterator[Measurement]:
    """The million goes in once: it takes ten seconds and noise evens out. In a process of its own, for its memory."""
    jobs, many = bench.count(JOBS), bench.count(MANY)
    yield typical(f"defer_many, {jobs:,}", [_rate(bench, jobs) for _ in range(bench.repeat)], "jobs/s", TARGET)
    bench.empty()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        rate, growth_mb = process.submit(_rate_and_growth, many).result()
    yield typical(f"defer_many, {many:,}", [rate], "jobs/s", TARGET)
    if growth_mb is not None:
        yield typical(f"defer_many, {many:,}: peak memory growth", [growth_mb], "MB", GROWTH)
    bench.empty()


def _rate(bench: Bench, jobs: int) -> float:
    bench.empty()
    return _defer(jobs)


def _defer(jobs: int) -> float:
    """Jobs a second, from the call until they are committed."""
    began = time.perf_counter()
    noop.defer_many(repeat((), jobs))
    return jobs / (time.perf_counter() - began)


def _rate_and_growth(jobs: int) -> tuple[float, float | None]:
    _defer(1000)  # connects, imports and allocates what every process would anyway
    before_mb = _peak_mb()
    rate = _defer(jobs)
    after_mb = _peak_mb()
    return rate, None if before_mb is None or after_mb is None else after_mb - before_mb


def _peak_mb() -> float | None:
    return peak_mb(os.getpid()) if HAS_PROC else None
