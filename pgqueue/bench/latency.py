"""From the call of `defer` to the first line of the task, with an idle worker."""

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from pgqueue.bench import floor
from pgqueue.bench.bench import Bench
from pgqueue.bench.measurement import Measurement, Target, at_most, percentile
from pgqueue.bench.worker import worker
from pgqueue.errors import PgQueueError

JOBS = 300
SPACING_S = (0.02, 0.05)  # uneven, so that nothing the worker does at fixed times falls together with the samples
SETTLE_S = 2.0  # until all children are up and the worker has gone to sleep
END_S = 30.0
TARGETS = {50: at_most(1.5), 99: at_most(5)}  # ms
NONE: dict[int, Target | None] = {50: None, 99: None}

Row = tuple[str, float, datetime]  # id, what the task returned, run_at


def measure(bench: Bench) -> Iterator[Measurement]:
    """One machine, one clock on both sides. Results are read from the rows afterwards, so nobody waits meanwhile."""
    bench.empty()
    jobs = bench.count(JOBS, least=10)
    bare = floor.starts_ms(bench.app, jobs, pause)
    bench.empty()
    with worker(bench, "-c", str(bench.concurrency)):
        time.sleep(SETTLE_S)
        waits = starts_ms(bench, jobs)
    yield from figures("latency floor: INSERT + LISTEN + claim.sql", bare, NONE)
    yield from figures("latency", waits, TARGETS, floor_ms=bare)


def figures(
    name: str, samples_ms: Sequence[float], targets: Mapping[int, Target | None], *, floor_ms: Sequence[float] = ()
) -> Iterator[Measurement]:
    """One for each percentile; none without samples, as where a pooler lets nobody LISTEN."""
    for percent, target in targets.items() if samples_ms else ():
        value = percentile(samples_ms, percent)
        ratio = value / percentile(floor_ms, percent) if floor_ms else None
        label = "max" if percent == 100 else f"p{percent}"
        yield Measurement(
            name=f"{name}, {label}", value=value, unit="ms", target=target, floor_ratio=ratio, samples=samples_ms
        )


def pause() -> None:
    """Between two samples."""
    time.sleep(random.uniform(*SPACING_S))


def starts_ms(bench: Bench, jobs: int) -> list[float]:
    """From the call of `defer` to the first line of the task, job after job with a pause before each."""
    bench.task("monotonic_ns").defer()  # connects
    called_ns = dict(_defer_spaced(bench) for _ in range(jobs))
    return [(began_ns - called_ns[id_]) / 1e6 for id_, began_ns, _ in returned(bench, list(called_ns))]


def _defer_spaced(bench: Bench) -> tuple[str, int]:
    pause()
    called_ns = time.monotonic_ns()
    return bench.task("monotonic_ns").defer().id, called_ns


def returned(bench: Bench, ids: list[str]) -> list[Row]:
    """What the jobs' tasks returned, once all have; raises PgQueueError if some do not end."""
    deadline = time.monotonic() + END_S
    while len(rows := bench.ask("returned", ids=ids)) < len(ids):
        if time.monotonic() > deadline:
            raise PgQueueError(f"{len(ids) - len(rows)} of {len(ids)} jobs have not ended within {END_S:.0f} s")
        time.sleep(0.1)
    return rows
