"""How soon jobs start: with an idle worker, with one that is half busy, and when their time comes."""

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from benchmarks.bench import Bench
from benchmarks.load import load
from pgqueue.bench import drain, floor, latency
from pgqueue.bench.latency import ASLEEP_S, JOBS
from pgqueue.bench.measurement import Measurement, Target, at_most, typical
from pgqueue.bench.worker import worker
from pgqueue.job import new_id

DELAYED = 100
DELAYS_S = (0.2, 2.0)
LATE: dict[int, Target | None] = {50: None, 99: None, 100: at_most(50)}  # ms
FILLING = 50_000  # jobs of the drain that tells what half load is
HALF: dict[int, Target | None] = {50: None, 99: at_most(15)}  # ms


def measure(bench: Bench) -> Iterator[Measurement]:
    yield from latency.measure(bench)
    yield from _half_load(bench)
    yield from latency.figures("delayed jobs, late by", [_lateness_ms(bench)], LATE)


def _half_load(bench: Bench) -> Iterator[Measurement]:
    """The load is there throughout; only the jobs that we defer one by one beside it are looked at.

    It must keep its half of the drain's rate, which is the floor of its figure, or the latency means less. The floor of a job's
    wait, in which two commits fit, is one bare INSERT beside it: with 30 MB of log a second a disk has its moments.
    """
    options = ("-c", str(bench.concurrency))
    jobs = bench.count(FILLING, least=1000)
    drain.fill(bench, jobs)
    full = drain.drained(bench, options, jobs=jobs, told_by="noop").recorded
    bench.empty()
    with worker(bench, *options), load(bench, full / 2) as offered:
        time.sleep(ASLEEP_S)
        bare, waits = zip(*(_window(bench) for _ in range(bench.repeat)), strict=True)
        rate = offered()
    yield typical("half load, jobs put in", [rate], "jobs/s", floor=full)
    yield from latency.figures("half load floor: INSERT", bare, latency.NONE)
    yield from latency.figures("latency at half load", waits, HALF, floors_ms=bare)


def _window(bench: Bench) -> tuple[list[float], list[float]]:
    """How long INSERTs of bare psycopg took, and how soon jobs started that were deferred beside them."""
    jobs = bench.count(JOBS, least=10)
    with ThreadPoolExecutor(1) as beside:
        bare = beside.submit(_inserts_ms, bench, jobs)
        ours = latency.starts_ms(bench, jobs)
        return bare.result(), ours


def _inserts_ms(bench: Bench, jobs: int) -> list[float]:
    took_ms: list[float] = []
    with floor.inserting(bench.app) as insert:
        insert(new_id())  # the first one is planned
        for due_ns in latency.paced(jobs):
            insert(new_id())
            took_ms.append((time.monotonic_ns() - due_ns) / 1e6)
    return took_ms


def _lateness_ms(bench: Bench) -> list[float]:
    """From the time a job is due, which the server reckoned, to the first line of its task."""
    bench.empty()
    wall_s = bench.task("wall_s")
    with worker(bench, "-c", str(bench.concurrency)):
        time.sleep(ASLEEP_S)
        jobs = range(bench.count(DELAYED, least=10))
        ids = [wall_s.options(delay=random.uniform(*DELAYS_S)).defer().id for _ in jobs]
        return [(job.result - job.run_at.timestamp()) * 1000 for job in latency.returned(bench, ids)]
