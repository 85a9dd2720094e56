"""What a worker has recorded, by kind, and how much of that its row counts already."""

from collections import Counter


class Tally:
    """The finisher counts, the lease reports. Nothing is reported twice; what did not arrive is reported again."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._reported: Counter[str] = Counter()

    def news(self) -> Counter[str]:
        """What was not reported yet."""
        return self.counts - self._reported

    def reported(self, news: Counter[str]) -> None:
        """These have arrived."""
        self._reported += news
