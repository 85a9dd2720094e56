"""What a claim costs with a thousand, a million and ten million jobs waiting, and with much else in the tables.

Each is measured in turn with the same claim in a second schema, where a thousand jobs wait: so both meet the same noise,
and the figure that has a target is the ratio of the two.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import starmap
from statistics import median

from benchmarks.bench import Bench
from benchmarks.claimant import Claimant, claimant
from benchmarks.filling import Filling, beside
from pgqueue.bench.measurement import Measurement, Target, at_most, typical

FEW = 1_000  # jobs in the schema beside it, at any scale
SIZES = (1_000_000, 10_000_000)
HISTORY = 10_000_000
SCHEDULED = 1_000_000
QUEUES, PRIORITIES = 1_000, 10
LIMITS = (1, 10, 500)
ROUNDS = 101  # with each of the two, at full scale
SCHEMA = "pgqueue_few"
TARGET = at_most(1.5)  # times the claim with a thousand jobs

Pair = tuple[float, float]  # milliseconds with a few jobs, and with many


@dataclass(frozen=True, slots=True)
class Scene:
    """What is added to the tables for a measurement, and what to call all that is then in them."""

    name: str
    fill: Callable[[], None]
    target: Target | None = TARGET


def measure(bench: Bench) -> Iterator[Measurement]:
    bench.empty()
    with bench.connect() as conn, beside(bench, SCHEMA) as few:
        beside_it, tables = Filling(conn, SCHEMA), Filling(conn, bench.app.config.schema)
        with claimant(bench, few.queries) as small, claimant(bench, bench.app.queries) as large:
            beside_it.queue(FEW)
            beside_it.settle()
            for scene in _scenes(bench, tables):
                scene.fill()
                tables.settle()
                yield from _compare(small, large, scene, rounds=bench.count(ROUNDS, least=11))
    bench.empty()


def _scenes(bench: Bench, tables: Filling) -> Iterator[Scene]:
    """The many queues have no target: a look reads each (queue, priority), and these are ten thousand."""
    waiting = 0
    for size in (bench.count(size, least=FEW) for size in SIZES):
        yield Scene(f"{size:,} queued", partial(tables.queue, size - waiting))
        waiting = size
    ended, later, queues = (bench.count(full) for full in (HISTORY, SCHEDULED, QUEUES))
    yield Scene(f"the same and {ended:,} ended", partial(tables.end, ended))
    yield Scene(f"the same and {later:,} scheduled", partial(tables.schedule, later))
    # No fewer than FEW in each pair, at any scale.
    jobs = bench.count(SIZES[-1], least=FEW * PRIORITIES * queues)
    yield Scene(f"{jobs:,} in {queues:,} queues x {PRIORITIES}", partial(_spread, bench, tables, jobs, queues), None)


def _spread(bench: Bench, tables: Filling, jobs: int, queues: int) -> None:
    bench.empty()
    tables.queue(jobs, queues=queues, priorities=PRIORITIES)


def _compare(small: Claimant, large: Claimant, scene: Scene, *, rounds: int) -> Iterator[Measurement]:
    for name, ask, rows in (
        ("look", Claimant.heads, 1),
        *((f"claim of {limit}", partial(Claimant.claim, limit=limit), limit) for limit in LIMITS),
    ):
        few, many = ask(small), ask(large)
        pairs = [(small.try_ms(few, rows=rows), large.try_ms(many, rows=rows)) for _ in range(rounds + 1)][1:]
        yield from _figures(f"{name}, {scene.name}", pairs, scene.target)
        yield Measurement(name=f"{name}, {scene.name}: blocks", value=large.blocks(many), unit="blocks")


def _figures(name: str, pairs: Sequence[Pair], target: Target | None) -> Iterator[Measurement]:
    """The ratio is that of the medians: the median of the pairs' ratios would let a slow half of them cancel out."""
    fews, manys = zip(*pairs, strict=True)
    yield typical(name, manys, "ms")
    ratio, samples = median(manys) / median(fews), list(starmap(_times, pairs))
    yield Measurement(name=f"{name}: to {FEW:,}", value=ratio, unit="x", target=target, samples=samples)


def _times(few: float, many: float) -> float:
    return many / few
