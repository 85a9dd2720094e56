"""Needless bells. Any role that may connect may ring ours: NOTIFY has no privileges."""

import time
from collections import deque

WITHIN_S = 1.0


class SpuriousWakeups:
    """Counts them: `at_most` within a second are the herd's share (another worker was faster), more are a flood."""

    def __init__(self, *, at_most: int) -> None:
        self._times: deque[float] = deque(maxlen=at_most)

    def answered(self, *, for_nothing: bool) -> None:
        """A bell was heard and looked after."""
        if for_nothing:
            self._times.append(time.monotonic())
        else:
            self._times.clear()

    def too_many(self) -> bool:
        """Whether listening costs more than it brings."""
        return len(self._times) == self._times.maxlen and time.monotonic() - self._times[0] < WITHIN_S
