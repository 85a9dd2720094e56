"""From the call of `defer` to the first line of the task, with an idle worker; and how late delayed jobs are."""

import random
import time
from collections.abc import Iterator, Sequence
from datetime import datetime

from benchmarks import floor
from benchmarks.bench import Bench, query
from benchmarks.measurement import Measurement, Target, at_most, percentile
from benchmarks.tasks import monotonic_ns, wall_s
from benchmarks.worker import worker

JOBS = 300
SPACING_S = (0.02, 0.05)  # uneven, so that nothing the worker does at fixed times falls together with the samples
SETTLE_S = 2.0  # until all children are up and the worker has gone to sleep
DELAYED = 100
DELAYS_S = (0.2, 2.0)
END_S = 30.0

Row = tuple[str, float, datetime]  # id, what the task returned, run_at


def measure(bench: Bench) -> Iterator[Measurement]:
    """One machine, one clock on both sides. Results are read from the rows afterwards, so nobody waits meanwhile."""
    bench.empty()
    jobs = bench.count(JOBS, least=10)
    bare = floor.starts_ms(bench, jobs, _pause)
    bench.empty()
    with worker(2):
        time.sleep(SETTLE_S)
        waits = _latencies(bench, jobs)
        late = _lateness(bench, bench.count(DELAYED, least=10))
    yield from _figures("latency floor: INSERT + LISTEN + claim.sql", bare, {50: None, 99: None})
    yield from _figures("latency", waits, {50: at_most(2.5), 99: at_most(8)}, floor_ms=bare)
    yield from _figures("delayed jobs, late by", late, {50: None, 99: None, 100: at_most(50)})


def _figures(
    name: str, samples_ms: Sequence[float], targets: dict[int, Target | None], *, floor_ms: Sequence[float] = ()
) -> Iterator[Measurement]:
    for percent, target in targets.items():
        value = percentile(samples_ms, percent)
        ratio = value / percentile(floor_ms, percent) if floor_ms else None
        label = "max" if percent == 100 else f"p{percent}"
        yield Measurement(
            name=f"{name}, {label}", value=value, unit="ms", target=target, floor_ratio=ratio, samples=samples_ms
        )


def _pause() -> None:
    time.sleep(random.uniform(*SPACING_S))


def _latencies(bench: Bench, jobs: int) -> list[float]:
    monotonic_ns.defer()  # connects
    called_ns = dict(_defer_spaced() for _ in range(jobs))
    return [(began_ns - called_ns[id_]) / 1e6 for id_, began_ns, _ in _results(bench, list(called_ns))]


def _defer_spaced() -> tuple[str, int]:
    _pause()
    called_ns = time.monotonic_ns()
    return monotonic_ns.defer().id, called_ns


def _lateness(bench: Bench, jobs: int) -> list[float]:
    ids = [wall_s.options(delay=random.uniform(*DELAYS_S)).defer().id for _ in range(jobs)]
    return [(began_s - run_at.timestamp()) * 1000 for _, began_s, run_at in _results(bench, ids)]


def _results(bench: Bench, ids: list[str]) -> list[Row]:
    """What the tasks returned, once all have."""
    ended = query("select id::text, result::float8, run_at from {schema}.history where id = any (%s::uuid[])")
    deadline = time.monotonic() + END_S
    with bench.connect() as conn:
        while len(rows := conn.execute(ended, [ids]).fetchall()) < len(ids):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(ids) - len(rows)} of {len(ids)} jobs have not ended")
            time.sleep(0.1)
    return rows
