"""In which order a claim reads the pairs of queue and priority that may have jobs.

usual     larger priority first, then where the oldest jobs are
strict    the queues as `-Q` names them, one after the other; within each as usual
weighted  for each claim the queues are drawn, each with the odds of its weight; within each as usual

What comes first may always have jobs, and then the others would starve. So one claim in ten begins with the pairs that
have waited, oldest first, unless the order is strict; with weights that holds within each queue, as the odds see to the queues.
Every claim names all pairs, whatever the order: none comes back with less than there is. Pure: no clock is read here.
"""

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple

from pgqueue.job import Claimed
from pgqueue.worker.supervisor.cursors import Pair, Position

AGED_CLAIM = 10  # one in this many begins with what has waited: what comes first loses a tenth at most
WAITED_S = (
    0.5  # several looks: a short burst runs in the usual order, and nobody waits much longer than that for nothing
)
_SEQ, _PRIORITY = attrgetter("seq"), attrgetter("priority")


class Turn(NamedTuple):
    """The order of one claim."""

    positions: list[Position]
    usual: bool

    def sorted(self, jobs: Iterable[Claimed]) -> list[Claimed]:
        """What the claim brought, as it is to start."""
        if self.usual:
            found = sorted(jobs, key=_SEQ)
            # Stable, so they stay by their seq. Twice by one value is a third of once by two.
            return found if len(self.positions) == 1 else sorted(found, key=_PRIORITY, reverse=True)
        places = {(queue, priority): place for place, (queue, priority, _) in enumerate(self.positions)}
        return sorted(jobs, key=lambda job: (places[job.queue, job.priority], job.seq))


class QueueOrder:
    """Of one worker. weights: one for each of the queues; none: not by weight."""

    def __init__(
        self, queues: Sequence[str] | None = None, *, strict: bool = False, weights: Sequence[int] = (),
        dice: random.Random | None = None,
    ) -> None:  # fmt: skip
        self._strict = strict
        self._places = {queue: float(place) for place, queue in enumerate(queues or ())} if strict else {}
        self._weights = dict(zip(queues or (), weights, strict=True)) if weights else {}
        self._dice = dice or random.Random()
        self._turns = 0
        self._since: dict[Pair, float] = {}  # since when every look has found jobs there
        self._latest_s = 0.0

    def saw(self, pairs: Iterable[Pair], *, now_s: float) -> None:
        """A look found jobs in these pairs and in no others. now_s: by a clock that never goes back."""
        self._since = {pair: self._since.get(pair, now_s) for pair in pairs}
        self._latest_s = now_s

    def turn(self, cursors: Mapping[Pair, int]) -> Turn:
        """The next claim's."""
        self._turns += 1
        places = self._drawn() if self._weights else self._places
        pairs = sorted(cursors.items(), key=lambda item: (places.get(item[0][0], 0.0), -item[0][1], item[1]))
        waited: set[Pair] = set()
        if self._turns % AGED_CLAIM == 0 and not self._strict:
            waited = self._waited(pairs)
            # Stable: the others stay as they are.
            pairs.sort(key=lambda item: (places.get(item[0][0], 0.0), item[1] if item[0] in waited else math.inf))
        positions = [(queue, priority, seq) for (queue, priority), seq in pairs]
        return Turn(positions, usual=not (places or waited))

    def _drawn(self) -> dict[str, float]:
        # The order of such numbers is that of draws by weight, one after the other, without putting back; so it holds for
        # those queues that have jobs, whichever these are.
        return {queue: self._dice.expovariate(weight) for queue, weight in self._weights.items()}

    def _waited(self, pairs: Sequence[tuple[Pair, int]]) -> set[Pair]:
        """Those that have had jobs for a while, older ones than the first pair of all; with weights, than that of their queue."""
        waited, first = set(), dict[str, int]()
        for pair, seq in pairs:
            # A pair without jobs keeps the cursor of long ago.
            if pair in self._since:
                oldest = first.setdefault(pair[0] if self._weights else "", seq)
                if seq < oldest and self._latest_s - self._since[pair] >= WAITED_S:
                    waited.add(pair)
        return waited
