"""What `defer` costs on top of its own INSERT: the same statement, sent by pgqueue and by bare psycopg."""

import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

from pgqueue.bench import floor
from pgqueue.bench.bench import Bench
from pgqueue.bench.measurement import Measurement, typical
from pgqueue.job import new_id

PAIRS = 60
BLOCK = 50  # defers between two turns: short enough that both sides meet the same noise

Pair = tuple[float, float]  # defers a second: pgqueue's, and those of the bare INSERT


def measure(bench: Bench) -> Iterator[Measurement]:
    """One client that waits for each commit."""
    ours, bare = zip(*pairs(bench), strict=True)
    yield typical("defer floor: the bare INSERT", bare, "jobs/s")
    yield typical("defer", ours, "jobs/s", floor=median(bare))


def pairs(bench: Bench) -> list[Pair]:
    """Blocks of one and the other in turn; the first pair, in which statements are prepared, does not count."""
    bench.empty()
    noop = bench.task("noop")
    with floor.inserting(bench.app) as insert:
        found = []
        for _ in range(bench.count(PAIRS) + 1):
            bench.check()
            found.append((_rate(noop.defer), _rate(lambda: insert(new_id()))))
    return found[1:]


def _rate(defer: Callable[[], Any]) -> float:
    began = time.perf_counter()
    for _ in range(BLOCK):
        defer()
    return BLOCK / (time.perf_counter() - began)
