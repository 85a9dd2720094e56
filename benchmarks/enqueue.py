"""How fast many clients put jobs in, one by one and in lots of a thousand, each in turn with its floors.

The floors: the same SQL by bare psycopg from as many clients in as many processes, and the same INSERT by pgbench, whose
clients cost next to nothing, so that it shows what the server takes. pgbench cannot send the rows of a COPY.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import repeat

from benchmarks import clients, pgbench
from benchmarks.bench import Bench
from benchmarks.clients import Client
from pgqueue import App
from pgqueue.bench import floor
from pgqueue.bench.measurement import Measurement, typical
from pgqueue.job import new_id, new_ids

CLIENTS = (1, 8, 32)
WINDOW_S = 3.0  # of one sample at full scale
LEAST_S = 0.1
LOT = 1000


@contextmanager
def deferring(app: App) -> Iterator[Callable[[], int]]:
    """`defer`."""
    noop = app.tasks["noop"]

    def insert() -> int:
        noop.defer()
        return 1

    yield insert


@contextmanager
def inserting(app: App) -> Iterator[Callable[[], int]]:
    """Its floor."""
    with floor.inserting(app) as bare:

        def insert() -> int:
            bare(new_id())
            return 1

        yield insert


@contextmanager
def deferring_many(app: App) -> Iterator[Callable[[], int]]:
    """`defer_many`."""
    noop = app.tasks["noop"]
    yield lambda: len(noop.defer_many(repeat((), LOT)))


@contextmanager
def copying(app: App) -> Iterator[Callable[[], int]]:
    """Its floor; it too must make the ids."""
    with floor.copying(app) as copy:

        def insert() -> int:
            copy(new_ids(LOT))
            return LOT

        yield insert


def measure(bench: Bench) -> Iterator[Measurement]:
    """A line in the report tells if there is no pgbench."""
    program = pgbench.find()
    if program is None:
        sys.stderr.write(
            "enqueue: there is no pgbench beside the server's programs or on PATH, so its floor is left out\n"
        )
    for count in CLIENTS:
        yield from _one_by_one(bench, count, program)
    for count in CLIENTS:
        yield from _in_lots(bench, count)
    bench.empty()


def _one_by_one(bench: Bench, count: int, program: str | None) -> Iterator[Measurement]:
    samples: dict[str, list[float]] = {"ours": [], "bare": [], "pgbench": []}
    for _ in range(bench.repeat):
        samples["bare"].append(_rate(bench, inserting, count))
        samples["ours"].append(_rate(bench, deferring, count))
        if program:
            bench.empty()
            samples["pgbench"].append(pgbench.rate(bench, program, clients=count, seconds=_window_s(bench)))
    base = typical(f"defer floor, {_said(count)}", samples["bare"], "jobs/s")
    yield base
    if program:
        yield typical(f"defer by pgbench, {_said(count)}", samples["pgbench"], "jobs/s")
    yield typical(f"defer, {_said(count)}", samples["ours"], "jobs/s", floor=base.value)


def _in_lots(bench: Bench, count: int) -> Iterator[Measurement]:
    bare, ours = zip(
        *((_rate(bench, copying, count), _rate(bench, deferring_many, count)) for _ in range(bench.repeat)), strict=True
    )
    base = typical(f"defer_many floor, {_said(count)}", bare, "jobs/s")
    yield base
    yield typical(f"defer_many of {LOT:,}, {_said(count)}", ours, "jobs/s", floor=base.value)


def _rate(bench: Bench, client: Client, count: int) -> float:
    bench.empty()
    return clients.rate(bench, client, clients=count, seconds=_window_s(bench))


def _window_s(bench: Bench) -> float:
    return max(LEAST_S, WINDOW_S * bench.scale)


def _said(count: int) -> str:
    return f"{count} client{'s' if count > 1 else ''}"
