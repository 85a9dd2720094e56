"""What the processes of an idle worker weigh, with an app of three trivial tasks."""

import time
from collections.abc import Iterator
from statistics import mean

from benchmarks.bench import Bench
from benchmarks.processes import HAS_PROC, children, memory_mb
from pgqueue.bench.measurement import Measurement, at_most, typical
from pgqueue.bench.worker import worker

SETTLE_S = 3.0  # all children are up, and the supervisor has been through its first chores
SUPERVISOR = at_most(60)  # MB resident
CHILD = at_most(40)  # MB resident, before user code


def measure(bench: Bench) -> Iterator[Measurement]:
    """Rss is what the targets are about; Pss, which divides what is shared, is what another child really costs."""
    if not HAS_PROC:
        return
    weighed = [_weigh(bench) for _ in range(bench.repeat)]
    for place, (name, target) in enumerate(
        (("supervisor, Rss", SUPERVISOR), ("supervisor, Pss", None), ("child, Rss", CHILD), ("child, Pss", None))
    ):
        yield typical(f"memory of the {name}", [each[place] for each in weighed], "MB", target)


def _weigh(bench: Bench) -> tuple[float, float, float, float]:
    with worker(bench, "-c", "2") as pid:
        time.sleep(SETTLE_S)
        own = children(pid)
        rss, pss = (mean(memory_mb(child, kind) for child in own) for kind in ("Rss", "Pss"))
        return memory_mb(pid, "Rss"), memory_mb(pid, "Pss"), rss, pss
