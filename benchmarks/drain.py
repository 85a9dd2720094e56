"""How fast one worker empties a queue of jobs that do nothing but have a result."""

import time
from collections.abc import Iterator
from itertools import repeat

from benchmarks import floor
from benchmarks.bench import Bench, query
from benchmarks.measurement import Measurement, at_least, typical
from benchmarks.tasks import noop
from benchmarks.worker import worker

JOBS = 100_000
POLL_S = 0.05  # how often the end is looked for; the rate itself comes from the rows
CONCURRENCIES = (2, 1, 8)
TARGET = at_least(15_000)  # jobs/s, with -c 2

Rates = tuple[float, float]  # jobs/s by the times that the rows tell, and by the clock since the worker was ready


def measure(bench: Bench) -> Iterator[Measurement]:
    """Floor and workers take turns, so that a disturbance of the machine meets them alike."""
    floors, workers = zip(*(_round(bench) for _ in range(bench.repeat)), strict=True)
    base = typical("drain floor: claim.sql + finish.sql", floors, "jobs/s")
    yield base
    for place, concurrency in enumerate(CONCURRENCIES):
        recorded, walls = zip(*(each[place] for each in workers), strict=True)
        target = TARGET if concurrency == 2 else None
        yield typical(f"drain -c {concurrency}", recorded, "jobs/s", target, floor=base.value)
        yield typical(f"drain -c {concurrency}, from ready", walls, "jobs/s")


def _round(bench: Bench) -> tuple[float, list[Rates]]:
    _fill(bench)
    return floor.drain(bench), [_drain(bench, concurrency) for concurrency in CONCURRENCIES]


def _fill(bench: Bench) -> int:
    bench.empty()
    return len(noop.defer_many(repeat((), bench.count(JOBS))))


def _drain(bench: Bench, concurrency: int) -> Rates:
    jobs = _fill(bench)
    with worker(concurrency):
        began = time.perf_counter()
        _wait_until_empty(bench)
        wall_s = time.perf_counter() - began
    return _recorded_rate(bench), jobs / wall_s


def _wait_until_empty(bench: Bench) -> None:
    some = query("select exists (select from {schema}.job)")
    with bench.connect() as conn:
        while conn.execute(some).fetchone() != (False,):
            time.sleep(POLL_S)


def _recorded_rate(bench: Bench) -> float:
    """Jobs finished after the first batch, over the time between the first batch and the last."""
    batch_sizes = query(
        "select extract(epoch from finished_at)::float8, count(*) from {schema}.history "
        "where state = 'succeeded' group by 1 order by 1"
    )
    with bench.connect() as conn:
        batches = conn.execute(batch_sizes).fetchall()
    first_at, last_at = batches[0][0], batches[-1][0]
    return float(sum(count for _, count in batches[1:]) / (last_at - first_at))
