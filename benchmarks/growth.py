"""Whether a worker grows: what its processes weigh before and after a million jobs."""

import time
from collections.abc import Iterator
from itertools import repeat
from statistics import mean

from benchmarks.bench import Bench
from benchmarks.processes import HAS_PROC, children, memory_mb
from pgqueue.bench.measurement import Measurement, at_most
from pgqueue.bench.worker import worker

JOBS = 1_000_000
LOT = 100_000
WARM = 20_000  # until what every worker needs once has been allocated
REST_S = 1.0  # the last batch is written down and forgotten
LOOK_S = 0.2
GROWTH = at_most(10)  # MB: ten bytes a job; whatever kept one of them would keep a hundred


def measure(bench: Bench) -> Iterator[Measurement]:
    """Of the children the mean: each may happen to hold one frame of jobs more than the other."""
    if not HAS_PROC:
        return
    bench.empty()
    jobs = bench.count(JOBS)
    with worker(bench, "-c", "2") as pid:
        _run(bench, WARM)
        before = _weigh(pid)
        for begun in range(0, jobs, LOT):
            _run(bench, min(LOT, jobs - begun))
        after = _weigh(pid)
    bench.empty()
    for name, was, now in zip(("supervisor", "child"), before, after, strict=True):
        yield Measurement(name=f"memory of the {name} after {jobs:,} jobs, Rss", value=now, unit="MB")
        yield Measurement(
            name=f"growth of the {name} over {jobs:,} jobs, Rss", value=now - was, unit="MB", target=GROWTH
        )


def _run(bench: Bench, jobs: int) -> None:
    """Returns when none is left."""
    bench.task("noop").defer_many(repeat((), jobs))
    while not bench.is_done():
        time.sleep(LOOK_S)


def _weigh(pid: int) -> tuple[float, float]:
    """(supervisor, a child)."""
    time.sleep(REST_S)
    return memory_mb(pid, "Rss"), mean(memory_mb(child, "Rss") for child in children(pid))
