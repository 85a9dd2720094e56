"""How many jobs to claim next. Pure: the caller says what was measured, and no clock is read here.

ahead   what will be finished before the jobs of the next claim are here: the rate of a child, times the children that take
        jobs, times the time until then, which grows with a claim's round trip. No more than one answer holds in bytes.
few     two for each child. Less than this ahead means that jobs are long: then only those are claimed that start at once.
wanted  the free slots and what is missing ahead; where no slot is free, not before half of that is missing. So claims are
        never tiny.

A slot that a long job holds finishes nothing, whatever the rate was: what was claimed for it would come back at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pgqueue.queries import CLAIM_BYTES
from pgqueue.worker.settings import CLAIM_MAX

AHEAD_S = 0.1  # jobs are claimed ahead for this long, and for as long as a claim takes, at the measured rate
AHEAD_MAX_S = 1.0
SURPLUS = (
    4  # times what is wanted ahead: so much in the buffer is given back, as jobs have become slower than they were
)
RATE_WINDOW_S = 0.05
WEIGHT = 0.5  # of a new measurement


class Supply(NamedTuple):
    """What the children have and could take."""

    room: int
    """Jobs that could start at once."""
    flowing: int
    """Children that took a job just now."""
    children: int
    buffered: int
    """Jobs claimed and not yet given to a child."""
    most: int = CLAIM_MAX
    """That one claim may bring, where tasks have limits of their own."""


@dataclass(slots=True)
class WorkDone:
    """How fast jobs get done when there are enough of them, since the worker began.

    Time spent waiting for a claim tells nothing, or a slow database would make the claims small as well.
    """

    busy_s: float = 0.0
    """How long children had jobs, added up."""
    finished: int = 0
    """How many of those came back."""


class Demand:
    """What was measured of jobs and claims, and how many jobs that makes worth claiming."""

    def __init__(self) -> None:
        self.rate = 0.0
        """Jobs a second, of a child that has some."""
        self.trip_s = 0.0
        """A claim's round trip, with the wait for its turn on the connection."""
        self.mean_bytes = 1.0
        """Arguments of a job, in the last claim."""
        self._busy_s = 0.0
        self._finished = 0

    def measure_rate(self, work_done: WorkDone) -> None:
        """What the children have done since the worker began."""
        window_s = work_done.busy_s - self._busy_s
        # The first jobs count at once, or a slow database would keep the claims small for long.
        if window_s >= RATE_WINDOW_S or (window_s > 0 and not self.rate):
            latest = (work_done.finished - self._finished) / window_s
            self.rate = latest if not self.rate else self.rate + (latest - self.rate) * WEIGHT
            self._busy_s, self._finished = work_done.busy_s, work_done.finished

    def measure_trip(self, took_s: float) -> None:
        """One more claim has been answered."""
        self.trip_s += (took_s - self.trip_s) * WEIGHT

    def measure_sizes(self, sizes: Sequence[int]) -> None:
        """Bytes of arguments of each job that a claim brought."""
        if sizes:
            self.mean_bytes = max(1.0, sum(sizes) / len(sizes))

    def forget_rate(self) -> None:
        """Nothing runs any more: what comes next may be slower."""
        self.rate = 0.0

    def has_surplus(self, supply: Supply) -> bool:
        """Far more is buffered than will start soon: others may have room for it."""
        few = _few(supply)
        return supply.buffered > SURPLUS * max(self._ahead(supply), few) and not supply.room

    def wanted(self, supply: Supply) -> int:
        """How many jobs to claim; zero or less: none."""
        ahead = self._ahead(supply)
        if ahead <= _few(supply):
            return min(supply.room, supply.most, CLAIM_MAX)
        missing = supply.room + ahead - supply.buffered
        return min(missing, supply.most, CLAIM_MAX) if supply.room or missing > ahead / 2 else 0

    def _ahead(self, supply: Supply) -> int:
        ahead_s = min(AHEAD_S + self.trip_s, AHEAD_MAX_S)
        return min(int(self.rate * supply.flowing * ahead_s), int(CLAIM_BYTES / self.mean_bytes))


def _few(supply: Supply) -> int:
    return 2 * max(1, supply.children)
