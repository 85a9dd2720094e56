"""How fast one worker empties a queue of jobs that do nothing but have a result."""

import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate, repeat
from typing import NamedTuple

from pgqueue.bench import floor
from pgqueue.bench.bench import FULL, Bench
from pgqueue.bench.measurement import Measurement, typical
from pgqueue.bench.worker import worker
from pgqueue.queries.bench import RecordedBatch

DRAIN_POLL_S = 0.05  # how often the end is looked for; the rate itself comes from the rows


class Rates(NamedTuple):
    """Jobs a second: by the times that the rows tell, and by the clock since the worker was ready."""

    recorded: float
    from_ready: float


def measure(bench: Bench) -> Iterator[Measurement]:
    """Floor and worker take turns, so that a disturbance of the machine meets them alike."""
    options = ("-c", str(bench.concurrency))
    floors, rates = zip(*((floor_rate(bench), _rates(bench, options)) for _ in range(bench.repeat)), strict=True)
    base = typical("drain floor: claim.sql + finish.sql", floors, "jobs/s")
    yield base
    yield typical(f"drain {' '.join(options)}", [rate.recorded for rate in rates], "jobs/s", floor=base.value)


def floor_rate(bench: Bench, *, result: str | None = "1") -> float:
    """Jobs a second of bare psycopg. No result: nothing of them is kept."""
    fill(bench, bench.count(FULL))
    return floor.drain(bench.app, result=result)


def _rates(bench: Bench, options: tuple[str, ...]) -> Rates:
    jobs = bench.count(FULL)
    fill(bench, jobs)
    return drained(bench, options, jobs=jobs, told_by="noop")


def fill(bench: Bench, jobs: int) -> None:
    """Put this many jobs, and nothing else, into the tables."""
    bench.empty()
    bench.task("noop").defer_many(repeat((), jobs))


def drained(
    bench: Bench, options: tuple[str, ...], *, jobs: int, told_by: str, each: int = 1, places: int = 1
) -> Rates:
    """Let a worker run the jobs that are there.

    told_by: the task whose rows tell when; each of them counts for `each` jobs. places: how many jobs that take their
    time run at once; the clock starts when that many have ended, or the first of them would count without the time they took.
    """
    with worker(bench, *options):
        began = time.perf_counter()
        while not bench.is_done():
            time.sleep(DRAIN_POLL_S)
        from_ready = jobs / (time.perf_counter() - began)
    batches = bench.app.run(bench.app.queries.bench_batches(task=told_by))
    return Rates(_recorded(batches, each=each, places=places) or from_ready, from_ready)


def _recorded(batches: Sequence[RecordedBatch], *, each: int, places: int) -> float | None:
    """Jobs a second from the batch that fills the places to the last one; None when these are the same."""
    ended = list(accumulate(batch.jobs for batch in batches))
    first = bisect_left(ended, places)
    if first >= len(batches) - 1:
        return None
    return each * (ended[-1] - ended[first]) / (batches[-1].at_s - batches[first].at_s)
