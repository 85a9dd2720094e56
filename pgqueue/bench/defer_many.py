"""How fast `defer_many` loads jobs, compared with the same COPY of rows that have their ids already."""

import time
from collections.abc import Iterator
from itertools import repeat

from pgqueue.bench import floor
from pgqueue.bench.bench import FULL, Bench
from pgqueue.bench.measurement import Measurement, at_least, typical
from pgqueue.job import new_ids
from pgqueue.task import AnyTask

TARGET = at_least(150_000)  # jobs/s


def measure(bench: Bench) -> Iterator[Measurement]:
    """Both take turns, each time into empty tables."""
    jobs = bench.count(FULL)
    bare, ours = zip(*(_pair(bench, jobs) for _ in range(bench.repeat)), strict=True)
    base = typical("defer_many floor: the bare COPY", bare, "jobs/s")
    yield base
    yield typical(f"defer_many, {jobs:,}", ours, "jobs/s", TARGET, floor=base.value)
    bench.empty()


def _pair(bench: Bench, jobs: int) -> tuple[float, float]:
    return _bare_rate(bench, jobs), _rate(bench, jobs)


def _bare_rate(bench: Bench, jobs: int) -> float:
    bench.empty()
    ids = new_ids(jobs)
    with floor.copying(bench.app) as copy:
        began = time.perf_counter()
        copy(ids)
        return jobs / (time.perf_counter() - began)


def _rate(bench: Bench, jobs: int) -> float:
    bench.empty()
    bench.task("noop").defer()  # connects
    return deferred(bench.task("noop"), jobs)


def deferred(task: AnyTask, jobs: int) -> float:
    """Jobs a second, from the call until they are committed."""
    began = time.perf_counter()
    task.defer_many(repeat((), jobs))
    return jobs / (time.perf_counter() - began)
