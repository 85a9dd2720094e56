"""What fair share costs a tenant that is alone: jobs that take turns with nobody, next to the same jobs without turns.

A job that takes turns is written once more, as each job with a limit is: of jobs that do nothing this is half of all there is to
do, so their share has no target.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import repeat

from benchmarks import fair_tasks
from benchmarks.bench import Bench
from pgqueue import App
from pgqueue.bench import drain
from pgqueue.bench.bench import FULL
from pgqueue.bench.measurement import Measurement, at_least, typical

OPTIONS = ("-c", "2")
PLACES = 2
SLEEPING_MS = 3000  # that jobs which sleep would take at the ideal rate, at full scale
CASES: tuple[tuple[str, int], ...] = (("noop", 0), ("nap", 1), ("nap", 20))
KEPT = at_least(80)  # % of the rate without turns


def measure(bench: Bench) -> Iterator[Measurement]:
    """Both kinds take turns, so that a disturbance of the machine meets them alike."""
    app = fair_tasks.registered(App(bench.app.dsn))
    own = replace(bench, app=app, tasks=fair_tasks.__name__)
    try:
        for task, ms in CASES:
            yield from _pair(own, task, ms)
        own.empty()
    finally:
        app.close()


def _pair(bench: Bench, task: str, ms: int) -> Iterator[Measurement]:
    pairs = [(_rate(bench, task, ms), _rate(bench, f"{task} in turn", ms)) for _ in range(bench.repeat)]
    plain, alone = zip(*pairs, strict=True)
    name = f"{' '.join(OPTIONS)}, {f'{ms} ms' if ms else 'no-op'}"
    yield typical(f"drain {name}", plain, "jobs/s")
    yield typical(f"drain {name}, a tenant alone", alone, "jobs/s")
    yield typical(
        f"drain {name}, a tenant alone: share", [100 * fair / free for free, fair in pairs], "%", KEPT if ms else None
    )


def _rate(bench: Bench, task: str, ms: int) -> float:
    bench.empty()
    jobs = bench.count(SLEEPING_MS * PLACES // ms if ms else FULL, least=20)
    bench.task(task).defer_many(repeat((ms / 1000,) if ms else (), jobs))
    return drain.drained(bench, OPTIONS, jobs=jobs, told_by=task, places=PLACES if ms else 1).recorded
