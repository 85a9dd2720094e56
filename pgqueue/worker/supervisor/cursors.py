"""How far a worker has come in each (queue, priority): a claim continues from there, and reads nothing twice.

A job has its seq before it is committed, and those with later ones may have been taken by then. So a cursor trails: it is
the last seq that was taken some time ago. What commits later still or is given back lies below, and new pairs are not known.
Both are seen only by a look at the heads, the first jobs of all pairs that have some.
"""

from collections.abc import Iterable, Mapping

from pgqueue.job import Claimed

Pair = tuple[str, int]
Position = tuple[str, int, int]  # queue, priority, seq

# By once to twice as much: longer than an autocommit INSERT takes to its commit, on a good disk. A thousand jobs may have ended
# in that time, and their entries are read again, for 0.1 ms.
TRAIL_S = 0.02
MOST_EMPTY = 1000  # pairs; each costs every claim 2 us


class Cursors:
    """The seq of each pair beyond which jobs are to be claimed."""

    def __init__(self) -> None:
        # A delay line: what a claim brings goes into the first, and comes one step on whenever TRAIL_S have passed.
        self._newest: dict[Pair, int] = {}
        self._aging: dict[Pair, int] = {}
        self._usable: dict[Pair, int] = {}  # claims continue from these
        self._rotated_at = 0.0

    def __bool__(self) -> bool:
        return bool(self._usable)

    def positions(self) -> list[Position]:
        """The best first: larger priority, then where the oldest jobs must be."""
        pairs = sorted(self._usable.items(), key=lambda pair: (-pair[0][1], pair[1]))
        return [(queue, priority, seq) for (queue, priority), seq in pairs]

    def snapshot(self) -> dict[Pair, int]:
        """As they stand now."""
        return dict(self._usable)

    def advance(self, jobs: Iterable[Claimed], *, sent: Iterable[Position], now_s: float) -> None:
        """Continue beyond these, in a while. sent: the positions() of their claim. now_s: by a clock that never goes back."""
        if now_s - self._rotated_at > TRAIL_S:
            self._usable, self._aging, self._rotated_at = self._aging, dict(self._newest), now_s
        begun = {(queue, priority): seq for queue, priority, seq in sent}
        # The jobs of a pair come by their seq, so the last of them is kept here.
        for pair, seq in {(job.queue, job.priority): job.seq for job in jobs}.items():
            # Unless a look has gone back or forgotten the pair meanwhile: then what lies between is still to be read.
            if begun[pair] <= self._newest.get(pair, -1) < seq:
                self._newest[pair] = seq

    def rewind(self, heads: Iterable[Position], *, since: Mapping[Pair, int]) -> None:
        """Go back to each head that lay below its cursor when the look began; claims may have taken it meanwhile.

        since: the snapshot() of before the look.
        """
        heads = list(heads)
        if len(self._usable) + len(heads) > MOST_EMPTY:
            live = {(queue, priority) for queue, priority, _ in heads}
            for pair in self._usable.keys() - live:
                del self._newest[pair], self._aging[pair], self._usable[pair]
        for queue, priority, seq in heads:
            pair = queue, priority
            if seq <= since.get(pair, seq):
                self._newest[pair] = self._aging[pair] = self._usable[pair] = seq - 1

    def rewind_to(self, before: Mapping[Pair, int]) -> None:
        """Read again from where they stood then, by snapshot()."""
        self.rewind(((queue, priority, seq + 1) for (queue, priority), seq in before.items()), since=self._newest)
