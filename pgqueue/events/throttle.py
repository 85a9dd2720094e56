"""Which subscriptions have too many unfinished jobs, and are made none for now: their events wait in the log, which is made for
that, and the table of jobs stays small.

The jobs are not counted in each round. A count allows for as many more as are left up to the limit, and the next one comes when
those are made, or at the first page that is full where nothing was counted yet: without a backlog there is nothing to count.
"""

from collections.abc import Iterable

MOST_UNFINISHED = 10_000
RECOUNT_S = 0.5  # while it is held: a worker ends some thousands in this time
HELD = f"{MOST_UNFINISHED:,} of its jobs are unfinished: no more are made until some have ended"


class Throttle:
    """For one dispatcher; in seconds of its clock."""

    def __init__(self) -> None:
        self._allowed: dict[str, int] = {}
        self._doubtful: set[str] = set()
        self._held: set[str] = set()
        self._recount_at = 0.0

    @property
    def held(self) -> list[str]:
        """Those for which no jobs are made."""
        return sorted(self._held)

    def read(self, names: Iterable[str], events: int, *, full: bool) -> None:
        """These subscriptions have read a page of events, of which each may have become a job for each of them."""
        for name in names:
            known = name in self._allowed
            self._allowed[name] = self._allowed.get(name, MOST_UNFINISHED) - events
            if self._allowed[name] <= 0 or (full and not known):
                self._doubtful.add(name)

    def to_count(self, now: float) -> list[str]:
        """Those whose jobs are to be counted before the next page."""
        return sorted(self._doubtful | (self._held if now >= self._recount_at else set()))

    def counted(self, jobs: dict[str, int], *, asked: Iterable[str], now: float) -> list[str]:
        """What came of it; the subscriptions that are held from now on."""
        before = set(self._held)
        for name in asked:
            self._doubtful.discard(name)
            self._allowed[name] = MOST_UNFINISHED - jobs.get(name, 0)  # a subscription that was dropped has none
            (self._held.add if self._allowed[name] <= 0 else self._held.discard)(name)
        self._recount_at = now + RECOUNT_S
        return sorted(self._held - before)

    def look_in_s(self, now: float) -> float | None:
        """Seconds until the jobs of held ones are counted again."""
        return max(0.0, self._recount_at - now) if self._held else None
