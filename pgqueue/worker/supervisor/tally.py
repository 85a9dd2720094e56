"""What a worker has recorded, by kind, and how much of that its row was told."""

from collections import Counter


class Tally:
    """The finisher counts, the lease tells. Nothing is told twice, and what was told in vain is told again."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._told: Counter[str] = Counter()

    def news(self) -> Counter[str]:
        """What was not told yet."""
        return self.counts - self._told

    def told(self, news: Counter[str]) -> None:
        """These have arrived."""
        self._told += news
