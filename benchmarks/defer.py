"""What `defer` costs on top of its own INSERT: the same statement, sent by pgqueue and by bare psycopg."""

import time
from collections.abc import Callable, Iterator
from itertools import starmap
from statistics import median
from typing import Any

from psycopg import sql

from benchmarks.bench import Bench
from benchmarks.floor import inserting
from benchmarks.measurement import Measurement, at_least, typical
from benchmarks.tasks import app, noop
from pgqueue.job import new_id

PAIRS = 60
BLOCK = 50  # defers between two turns: short enough that both sides meet the same noise
TARGET = at_least(80)  # % of the rate of the bare INSERT

Defer = Callable[[], Any]
Pair = tuple[float, float]  # defers a second: pgqueue's, and those of the bare INSERT


def measure(bench: Bench) -> Iterator[Measurement]:
    """Waiting for the disk at each commit, as by default; then without, which shows our own work undiluted."""
    for setting, note in (("on", ""), ("off", ", no wait for the disk")):
        _set_synchronous_commit(bench, setting)
        pairs = _pairs(bench)
        yield typical(f"defer{note}", [ours for ours, _ in pairs], "jobs/s", floor=median(bare for _, bare in pairs))
        yield typical(f"defer, share of the bare INSERT{note}", list(starmap(_percent, pairs)), "%", TARGET)
    _set_synchronous_commit(bench, "on")


def _percent(ours: float, bare: float) -> float:
    return 100 * ours / bare


def _set_synchronous_commit(bench: Bench, setting: str) -> None:
    database = sql.Identifier(bench.database)
    bench.admin.execute(sql.SQL("alter database {} set synchronous_commit = {}").format(database, setting))
    app.close()  # connections that are open keep the old setting


def _pairs(bench: Bench) -> list[Pair]:
    """Blocks of one and the other in turn; the first pair, in which statements are prepared, does not count."""
    bench.empty()
    with inserting(bench) as insert:
        return [(_rate(noop.defer), _rate(lambda: insert(new_id()))) for _ in range(bench.count(PAIRS) + 1)][1:]


def _rate(defer: Defer) -> float:
    began = time.perf_counter()
    for _ in range(BLOCK):
        defer()
    return BLOCK / (time.perf_counter() - began)
