"""A page of memory that a child shares with its supervisor: which jobs run at this moment.

A child that is killed says nothing more, and what it said last may be milliseconds old: in that time it may have finished
one job of a frame and begun the next. Into its slot each thread writes a job's id as it starts, at the price of a copy of 36
bytes; so only the job that really ran is charged with the crash, and its innocent neighbours are simply run elsewhere.
"""

import mmap
import os
import sys
import tempfile

WIDTH = 36  # a job's id as text
EMPTY = bytes(WIDTH)


class RunningSlots:
    """One slot per thread. Made by the supervisor, which keeps it; opened by the child through the inherited descriptor."""

    def __init__(self, fd: int, *, slots: int) -> None:
        self._page = mmap.mmap(fd, WIDTH * slots)
        self._count = slots

    def write(self, slot: int, job_id: str) -> None:
        """This thread begins this job."""
        self._page[slot * WIDTH : (slot + 1) * WIDTH] = job_id.encode()

    def wipe(self, slot: int) -> None:
        """This thread runs nothing."""
        self._page[slot * WIDTH : (slot + 1) * WIDTH] = EMPTY

    def running(self) -> set[str]:
        """The ids in the slots; also after the writer's death."""
        texts = (self._page[slot * WIDTH : (slot + 1) * WIDTH] for slot in range(self._count))
        return {text.decode("ascii", "replace") for text in texts if text != EMPTY}

    def close(self) -> None:
        """Give the memory back."""
        self._page.close()


def blank(*, slots: int) -> int:
    """A descriptor of empty slots in memory, or where there is none in an unlinked file."""
    if sys.platform == "linux":
        fd = os.memfd_create("pgqueue")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, WIDTH * slots)
    return fd
