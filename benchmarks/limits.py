"""What a limit costs: jobs of a task that has one, next to the same jobs without it, in the same run.

A job with a limit is written once more, when it is let through. Where a tenant takes turns with nobody, jobs that do nothing have
no target: that one more write is half of all there is to do.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from benchmarks import limit_tasks
from benchmarks.bench import Bench
from pgqueue import App
from pgqueue.bench import drain
from pgqueue.bench.bench import FULL
from pgqueue.bench.measurement import Measurement, Target, at_least, typical

OPTIONS = ("-c", "2")
PLACES = 2
KEYS = 1000
SLEEPING_MS = 3000  # that jobs which sleep would take at the ideal rate, at full scale


class Case(NamedTuple):
    """A task without and with a limit. ms: how long a job takes. call: arguments of the nth job. target: % of the rate without."""

    name: str
    plain: str
    limited: str
    ms: int
    call: Callable[[int], Sequence[Any]]
    target: Target | None


CASES = (
    Case("1,000 keys of 5", "of_key", "of_key, 5 each", 0, lambda number: (number % KEYS,), at_least(80)),
    Case("one key of 1,000", "of_key", "of_key, 1,000 each", 0, lambda number: (0,), at_least(50)),
    Case("no-op, a tenant alone", "noop", "noop in turn", 0, lambda number: (), None),
    Case("1 ms, a tenant alone", "nap", "nap in turn", 1, lambda number: (0.001,), at_least(80)),
    Case("20 ms, a tenant alone", "nap", "nap in turn", 20, lambda number: (0.02,), at_least(80)),
)


def measure(bench: Bench) -> Iterator[Measurement]:
    """Both kinds take turns, so that a disturbance of the machine meets them alike."""
    app = limit_tasks.registered(App(bench.app.dsn))
    own = replace(bench, app=app, tasks=limit_tasks.__name__)
    try:
        for case in CASES:
            yield from _pair(own, case)
        own.empty()
    finally:
        app.close()


def _pair(bench: Bench, case: Case) -> Iterator[Measurement]:
    pairs = [(_rate(bench, case, case.plain), _rate(bench, case, case.limited)) for _ in range(bench.repeat)]
    plain, limited = zip(*pairs, strict=True)
    name = f"drain {' '.join(OPTIONS)}, {case.name}"
    yield typical(f"{name}: without", plain, "jobs/s")
    yield typical(f"{name}: with", limited, "jobs/s")
    yield typical(f"{name}: share", [100 * with_ / without for without, with_ in pairs], "%", case.target)


def _rate(bench: Bench, case: Case, task: str) -> float:
    bench.empty()
    jobs = bench.count(SLEEPING_MS * PLACES // case.ms if case.ms else FULL, least=20)
    bench.task(task).defer_many(map(case.call, range(jobs)))
    return drain.drained(bench, OPTIONS, jobs=jobs, told_by=task, places=PLACES if case.ms else 1).recorded
