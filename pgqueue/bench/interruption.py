"""Ctrl-C, TERM and HUP end a run of measurements, and its schema is dropped.

Python raises KeyboardInterrupt in the function that runs at the moment. If that is a callback of the garbage collector, the
exception is dropped there and the signal with it: one Ctrl-C of forty was lost so, and the run came to its end. So it is
remembered as well, and looked for before each sample.
"""

import signal
from types import FrameType, TracebackType
from typing import Any, Self

ENDINGS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP


class Interruption:
    """A context manager, for the main thread."""

    def __init__(self) -> None:
        self._came = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._before = {ending: signal.signal(ending, self._heard) for ending in ENDINGS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for ending, handler in self._before.items():
            signal.signal(ending, handler)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self._came = True
        raise KeyboardInterrupt  # as Python does for Ctrl-C: what waits must not wait on

    def check(self) -> None:
        """Raise KeyboardInterrupt if one of them has come."""
        if self._came:
            raise KeyboardInterrupt
