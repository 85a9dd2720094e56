"""How far a worker has come in each (queue, priority): a claim goes on from there, and does not read again what is done with.

A job has its seq before it is committed, and those with later ones may have been taken by then. So a cursor trails: it is
the last seq that was taken some time ago. What commits later still or is given back lies below, and new pairs are not known.
Both are seen only by a look at the heads, the first jobs of all pairs that have some.
"""

from collections.abc import Iterable, Mapping

from pgqueue.job import Claimed

Pair = tuple[str, int]
Place = tuple[str, int, int]  # queue, priority, seq

# By once to twice as much: longer than an autocommit INSERT takes to its commit, on a good disk. A thousand jobs may have ended
# in that time, and their entries are read again, for 0.1 ms.
TRAIL_S = 0.02
MOST_EMPTY = 1000  # pairs; each costs every claim 2 us


class Cursors:
    """The seq of each pair beyond which jobs are to be claimed."""

    def __init__(self) -> None:
        self._taken: dict[Pair, int] = {}
        self._turned: dict[Pair, int] = {}
        self._trailing: dict[Pair, int] = {}
        self._turned_at = 0.0

    def __bool__(self) -> bool:
        return bool(self._trailing)

    def places(self) -> list[Place]:
        """The best first: larger priority, then where the oldest jobs must be."""
        pairs = sorted(self._trailing.items(), key=lambda pair: (-pair[0][1], pair[1]))
        return [(queue, priority, seq) for (queue, priority), seq in pairs]

    def seqs(self) -> dict[Pair, int]:
        """As they stand now."""
        return dict(self._trailing)

    def take(self, jobs: Iterable[Claimed], *, sent: Iterable[Place], now_s: float) -> None:
        """Go on beyond these, in a while. sent: the places() that their claim was given. now_s: by a clock that never goes back."""
        if now_s - self._turned_at > TRAIL_S:
            self._trailing, self._turned, self._turned_at = self._turned, dict(self._taken), now_s
        begun = {(queue, priority): seq for queue, priority, seq in sent}
        for job in jobs:
            pair = job.queue, job.priority
            # Unless a look has gone back or forgotten the pair meanwhile: then what lies between is still to be read.
            if begun[pair] <= self._taken.get(pair, -1) < job.seq:
                self._taken[pair] = job.seq

    def look(self, heads: Iterable[Place], *, since: Mapping[Pair, int]) -> None:
        """Go back to each head that lay below its cursor when the look began; claims may have taken it meanwhile.

        since: seqs() of before the look.
        """
        heads = list(heads)
        if len(self._trailing) + len(heads) > MOST_EMPTY:
            live = {(queue, priority) for queue, priority, _ in heads}
            for pair in self._trailing.keys() - live:
                del self._taken[pair], self._turned[pair], self._trailing[pair]
        for queue, priority, seq in heads:
            pair = queue, priority
            if seq <= since.get(pair, seq):
                self._taken[pair] = self._turned[pair] = self._trailing[pair] = seq - 1

    def go_back(self, before: Mapping[Pair, int]) -> None:
        """Read again from where they stood then, with seqs()."""
        self.look(((queue, priority, seq + 1) for (queue, priority), seq in before.items()), since=self._taken)
