"""What a child says to its supervisor: outcomes in batches, everything else at once."""

import errno
import logging
import os
import resource
import socket
import sys
import threading
from collections.abc import Sequence
from typing import Any, NoReturn

from pgqueue.job import Outcome, Verdict
from pgqueue.worker.child.copies import Copies
from pgqueue.worker.child.exits import flush
from pgqueue.worker.link.frames import pack

logger = logging.getLogger("pgqueue.worker")

FLUSH_S = 0.002  # the first outcome waits this long for company while more jobs are at hand


class Outgoing:
    """Used by all threads of the child. `weigh`: tell the memory of the process with each batch."""

    def __init__(self, sock: socket.socket, copies: Copies, *, weigh: bool) -> None:
        self._sock = sock
        self._copies = copies
        self._weigh = weigh
        self._lock = threading.Lock()
        self._done: list[tuple[Sequence[Any], int]] = []
        self.waiting_since = 0.0
        """When the first of the outcomes came that wait (time.perf_counter); asked with each job, so no call."""
        self.useful = False
        """Some job has succeeded here."""

    def add(self, outcome: Outcome, began: float, ended: float) -> None:
        """One more outcome, and when its job ran (time.perf_counter)."""
        # A success has but four fields; to encode the others' defaults took 0.75 of the 11 us that this process spends on a job.
        fields: Sequence[Any] = outcome
        if outcome.verdict == Verdict.SUCCEEDED:
            fields, self.useful = outcome[:4], True
        elif outcome.verdict == Verdict.COMMITTED:
            self.useful = True
        with self._lock:
            if not self._done:
                self.waiting_since = ended
            self._done.append((fields, int((ended - began) * 1e6)))

    @property
    def empty(self) -> bool:
        """No outcome waits."""
        return not self._done

    def flush(self) -> None:
        """Send the outcomes. What their tasks have printed must be seen before their end is known."""
        flush()
        with self._lock:
            done, self._done = self._done, []
        if done:
            self.send(["done", done, memory_mb() if self._weigh else 0])

    def send(self, message: list[Any]) -> None:
        """One message, see link/frames.py; nothing from a copy of the process."""
        if self._copies.foreign:
            return
        data = pack(message)
        with self._lock:
            try:
                self._sock.sendall(data)
            except OSError as error:
                end_alone(error)


def end_alone(error: OSError) -> NoReturn:
    """There is no supervisor to work for: it or its successor runs the job again."""
    if error.errno in (errno.EBADF, errno.ENOTSOCK):
        logger.error("a task has closed file descriptors that are not its own: this process cannot work any longer")
        flush()
    os._exit(1)


def memory_mb() -> float:
    """Resident memory of this process; where the kernel does not tell it, the peak."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 (read per batch)
            return int(file.read().split()[1]) * resource.getpagesize() / 1e6
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 1e6 if sys.platform == "darwin" else peak / 1e3
