"""How fast one worker empties a queue: of jobs that do nothing, and of jobs that take 1 ms or 100 ms.

Nothing beside the database limits jobs that do nothing, so their floor is what bare psycopg drains. Jobs that sleep have an
ideal rate, the places where they run divided by how long they take; where bare psycopg drains less, that is their floor too.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import repeat

from benchmarks.bench import Bench
from benchmarks.filling import Filling
from pgqueue.bench import drain
from pgqueue.bench.bench import FULL
from pgqueue.bench.drain import Rates
from pgqueue.bench.measurement import Measurement, Target, at_least, typical
from pgqueue.config import Config

SLEEPING_MS = 3000  # that jobs which sleep would take at the ideal rate, at full scale
LEAST_ROUNDS = 4  # of jobs in all places; the first round only starts the clock
BLOCK = 100  # jobs for each mark: the marks cost a hundredth, and a drain has a thousand of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Noop:
    """Jobs that do nothing. marked: they leave no row, so that a mark among each BLOCK of them must tell.

    spread: over so many queues, and so many priorities in each.
    """

    options: tuple[str, ...]
    task: str = "noop"
    note: str = ""
    marked: bool = False
    spread: tuple[int, int] | None = None
    target: Target | None = None
    share: Target | None = None  # % of the floor

    @property
    def name(self) -> str:
        return f"drain {' '.join(self.options)}{self.note}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sleeping:
    """Jobs that sleep. places: how many of them sleep at once."""

    ms: int
    options: tuple[str, ...]
    places: int
    task: str = "nap"
    note: str = ""

    @property
    def name(self) -> str:
        return f"drain {self.ms} ms, {' '.join(self.options)}{self.note}"

    @property
    def ideal_rate(self) -> float:
        return 1000 * self.places / self.ms


def _options(children: int) -> tuple[str, ...]:
    return "-c", str(children)


THREADS = (*_options(1), "--threads", "8")

NOOPS = (
    Noop(options=_options(2)),
    Noop(options=_options(1), target=at_least(30_000), share=at_least(60)),
    Noop(options=_options(8)),
    Noop(options=_options(2), note=", 100 queues x 3", spread=(100, 3)),
    Noop(options=_options(2), note=", 1,000 queues x 10", spread=(1_000, 10)),
    Noop(options=THREADS),
    Noop(options=_options(1), task="unkept", note=", keep=0", marked=True, target=at_least(45_000)),
    Noop(options=_options(2), task="unkept", note=", keep=0", marked=True),
)
SLEEPING = tuple(
    case
    for ms in (1, 100)
    for case in (
        *(Sleeping(ms=ms, options=_options(children), places=children) for children in (1, 2, 8)),
        Sleeping(ms=ms, options=THREADS, places=8),
        Sleeping(ms=ms, options=_options(1), places=Config().async_jobs, task="nap_async", note=", async"),
    )
)


@dataclass(slots=True)
class Found:
    """What the rounds have found, by case."""

    floors: list[float] = field(default_factory=list)
    unkept_floors: list[float] = field(default_factory=list)
    rates: dict[str, list[Rates]] = field(default_factory=dict)


def measure(bench: Bench) -> Iterator[Measurement]:
    """Floor and workers take turns, so that a disturbance of the machine meets them alike."""
    found = Found()
    for _ in range(bench.repeat):
        found.floors.append(drain.floor_rate(bench))
        found.unkept_floors.append(drain.floor_rate(bench, result=None))
        for noop in NOOPS:
            found.rates.setdefault(noop.name, []).append(_noop_rates(bench, noop))
        for sleeping in SLEEPING:
            found.rates.setdefault(sleeping.name, []).append(_sleeping_rates(bench, sleeping))
    base = typical("drain floor: claim.sql + finish.sql", found.floors, "jobs/s")
    unkept = typical("drain floor, nothing kept", found.unkept_floors, "jobs/s")
    yield from (base, unkept)
    for noop in NOOPS:
        yield from _noop_figures(noop, found, unkept.value if noop.marked else base.value)
    for sleeping in SLEEPING:
        recorded = [rates.recorded for rates in found.rates[sleeping.name]]
        yield typical(sleeping.name, recorded, "jobs/s", floor=min(sleeping.ideal_rate, base.value))


def _noop_figures(case: Noop, found: Found, floor: float) -> Iterator[Measurement]:
    recorded, from_ready = zip(*found.rates[case.name], strict=True)
    yield typical(case.name, recorded, "jobs/s", case.target, floor=floor)
    yield typical(f"{case.name}, from ready", from_ready, "jobs/s")
    if case.share:
        shares = [100 * rate / bare for rate, bare in zip(recorded, found.floors, strict=True)]
        yield typical(f"{case.name}, share of the floor", shares, "%", case.share)


def _noop_rates(bench: Bench, case: Noop) -> Rates:
    jobs = bench.count(FULL)
    bench.empty()
    if case.spread:
        queues, priorities = case.spread
        with bench.connect() as conn:
            Filling(conn, bench.app.config.schema).queue(jobs, queues=queues, priorities=priorities, task=case.task)
        return drain.drained(bench, case.options, jobs=jobs, told_by=case.task)
    if not case.marked:
        bench.task(case.task).defer_many(repeat((), jobs))
        return drain.drained(bench, case.options, jobs=jobs, told_by=case.task)
    blocks = max(2, jobs // BLOCK)
    for _ in range(blocks):
        bench.task(case.task).defer_many(repeat((), BLOCK - 1))
        bench.task("mark").defer()
    return drain.drained(bench, case.options, jobs=blocks * BLOCK, told_by="mark", each=BLOCK)


def _sleeping_rates(bench: Bench, case: Sleeping) -> Rates:
    rounds = min(bench.count(SLEEPING_MS // case.ms, least=LEAST_ROUNDS), FULL // case.places)
    jobs = rounds * case.places
    bench.empty()
    bench.task(case.task).defer_many(repeat((case.ms / 1000,), jobs))
    return drain.drained(bench, case.options, jobs=jobs, told_by=case.task, places=case.places)
