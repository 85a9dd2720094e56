"""From the call of `defer` to the first line of the task, with an idle worker."""

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from pgqueue.bench import floor
from pgqueue.bench.bench import Bench
from pgqueue.bench.measurement import Measurement, Target, at_most, percentile, typical
from pgqueue.bench.worker import worker
from pgqueue.errors import PgQueueError
from pgqueue.queries.bench import ReturnedNumber

JOBS = 300
SPACING_S = (0.02, 0.05)  # uneven, so that nothing the worker does at fixed times falls together with the samples
ASLEEP_S = 2.0  # until all children are up and the worker has gone to sleep
JOBS_END_S = 30.0
TARGETS = {50: at_most(1.5), 99: at_most(5)}  # ms
NONE: dict[int, Target | None] = {50: None, 99: None}


def measure(bench: Bench) -> Iterator[Measurement]:
    """One machine, one clock on both sides. Results are read from the rows afterwards, so nobody waits meanwhile.

    Floor and worker take turns. Where the system places a worker's processes moves its latency by a third, so each turn has a
    worker of its own.
    """
    bare, ours = zip(*(_turn(bench, bench.count(JOBS, least=10)) for _ in range(bench.repeat)), strict=True)
    yield from figures("latency floor: INSERT + LISTEN + claim.sql", bare, NONE)
    yield from figures("latency", ours, TARGETS, floors_ms=bare)


def _turn(bench: Bench, jobs: int) -> tuple[list[float], list[float]]:
    bench.empty()
    bare = floor.starts_ms(bench.app, paced(jobs))
    bench.empty()
    with worker(bench, "-c", str(bench.concurrency)):
        time.sleep(ASLEEP_S)
        return bare, starts_ms(bench, jobs)


def figures(
    name: str,
    windows_ms: Sequence[Sequence[float]],
    targets: Mapping[int, Target | None],
    *,
    floors_ms: Sequence[Sequence[float]] = (),
) -> Iterator[Measurement]:
    """One for each percentile: the median of that of each window. None without samples, as where a pooler allows no LISTEN."""
    for percent, target in targets.items() if all(windows_ms) else ():
        samples = [percentile(window, percent) for window in windows_ms]
        floor_ms = median(percentile(window, percent) for window in floors_ms) if floors_ms and all(floors_ms) else None
        label = "max" if percent == 100 else f"p{percent}"
        yield typical(f"{name}, {label}", samples, "ms", target, floor=floor_ms)


def paced(samples: int, *, spacing_s: tuple[float, float] = SPACING_S) -> Iterator[int]:
    """Waits until each sample is due and yields the time it counts from, in ns of the monotonic clock.

    A sample that was held up is followed at once by those that fell due meanwhile, with their own times: users do not wait for
    each other, so a stall of 0.1 s counts for every sample due in it, and not once. A sleep that lasts too long counts for none.
    """
    due_ns = time.monotonic_ns()
    for _ in range(samples):
        due_ns += round(random.uniform(*spacing_s) * 1e9)
        if (early_ns := due_ns - time.monotonic_ns()) > 0:
            time.sleep(early_ns / 1e9)
            due_ns = time.monotonic_ns()
        yield due_ns


def starts_ms(bench: Bench, jobs: int) -> list[float]:
    """From the time a call of `defer` is due to the first line of the task."""
    bench.task("monotonic_ns").defer()  # connects
    due_ns = {bench.task("monotonic_ns").defer().id: at_ns for at_ns in paced(jobs)}
    return [(job.result - due_ns[job.id]) / 1e6 for job in returned(bench, list(due_ns))]


def returned(bench: Bench, ids: list[str]) -> list[ReturnedNumber]:
    """What the jobs' tasks returned, once all have; raises PgQueueError if some do not end."""
    deadline = time.monotonic() + JOBS_END_S
    while len(rows := bench.app.run(bench.app.queries.bench_returned(ids=ids))) < len(ids):
        if time.monotonic() > deadline:
            raise PgQueueError(f"{len(ids) - len(rows)} of {len(ids)} jobs have not ended within {JOBS_END_S:.0f} s")
        time.sleep(0.1)
    return rows
