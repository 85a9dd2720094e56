"""What a worker costs that has nothing to do: statements a second and processor time, with eight children.

The server counts the transactions of each database. This one is the run's own, the worker sends single statements
outside of a transaction, and we ask from another database; so its count is the number of statements. An autovacuum that
comes by can only add to it, therefore the least of several windows counts. A window is a multiple of 1.5, 5, 15 and 30 s,
in which all that an idle worker does repeats, and long against the second by which sessions report their counts late.
"""

import time
from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.processes import HAS_PROC, children, cpu_s
from pgqueue.bench.measurement import Measurement, at_most, typical
from pgqueue.bench.worker import worker

SETTLE_S = 5.0  # until the work of starting is done and counted
WINDOW_S = 30.0
STATEMENTS = at_most(1)  # a second
PROCESSOR = at_most(0.5)  # % of one core


def measure(bench: Bench) -> Iterator[Measurement]:
    if not HAS_PROC:
        return
    bench.empty()
    with worker(bench, "-c", "8") as pid:
        time.sleep(SETTLE_S)
        statements, processor = zip(*(_window(bench, pid) for _ in range(bench.repeat)), strict=True)
    yield Measurement(
        name="idle -c 8, statements", value=min(statements), unit="1/s", target=STATEMENTS, samples=statements
    )
    yield typical("idle -c 8, processor", processor, "%", PROCESSOR)


def _window(bench: Bench, pid: int) -> tuple[float, float]:
    """(statements a second, percent of a core)."""
    pids = [pid, *children(pid)]
    window_s = max(2.0, WINDOW_S * bench.scale)
    commits, cpu, began = _commits(bench), cpu_s(pids), time.perf_counter()
    time.sleep(window_s)
    took_s = time.perf_counter() - began
    return (_commits(bench) - commits) / took_s, 100 * (cpu_s(pids) - cpu) / took_s


def _commits(bench: Bench) -> int:
    ask = "select xact_commit + xact_rollback from pg_stat_database where datname = %s"
    row = bench.admin.execute(ask, [bench.database]).fetchone()
    assert row is not None
    return int(row[0])
