"""Notices threads that a sync task left running: the job's end does not wait for them, and they run next to later jobs."""

import logging
import threading

logger = logging.getLogger("pgqueue.worker")


class ThreadLeaks:
    """Counts the threads of one child. Told at the first, and again whenever their number has doubled.

    Threads do not say what started them, so only jobs that ran alone are judged.
    """

    def __init__(self) -> None:
        self._alone = False
        self._before = 0
        self._told = 0

    def begin(self, *, alone: bool) -> None:
        """A job begins; alone: nothing else runs."""
        self._alone = alone
        self._before = threading.active_count()

    def end(self, task: str) -> None:
        """A job has ended."""
        if not self._alone or threading.active_count() <= self._before:
            return
        left = [
            thread for thread in threading.enumerate() if not thread.daemon and thread is not threading.main_thread()
        ]
        if len(left) >= max(1, 2 * self._told):
            self._told = len(left)
            logger.warning(
                "task %s left a thread running (%s); %d such threads are running in this child. Join them before the task "
                "returns, or they keep running next to other jobs until the child ends.", task, left[-1].name, len(left),
            )  # fmt: skip
