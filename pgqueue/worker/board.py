"""A page of memory that a child shares with its supervisor: which jobs run at this moment.

A child that is killed says nothing more, and what it said last may be milliseconds old: in that time it may have finished
one job of a frame and begun the next. On the board it writes each job's id as it starts, at the price of a copy of 36
bytes; so only the job that really ran is charged with the crash, and its innocent neighbours are simply run elsewhere.
"""

import mmap
import os
import sys
import tempfile

WIDTH = 36  # a job's id as text
EMPTY = bytes(WIDTH)


class Board:
    """One line per thread. Made by the supervisor, which keeps it; opened by the child through the inherited descriptor."""

    def __init__(self, fd: int, *, lines: int) -> None:
        self._page = mmap.mmap(fd, WIDTH * lines)
        self._lines = lines

    def write(self, line: int, job_id: str) -> None:
        """This thread begins this job."""
        self._page[line * WIDTH : (line + 1) * WIDTH] = job_id.encode()

    def wipe(self, line: int) -> None:
        """This thread runs nothing."""
        self._page[line * WIDTH : (line + 1) * WIDTH] = EMPTY

    def running(self) -> set[str]:
        """The ids that stand there; also after the writer's death."""
        lines = (self._page[line * WIDTH : (line + 1) * WIDTH] for line in range(self._lines))
        return {line.decode("ascii", "replace") for line in lines if line != EMPTY}

    def close(self) -> None:
        """Give the memory back."""
        self._page.close()


def blank(*, lines: int) -> int:
    """A descriptor of an empty board in memory, or where there is none in an unlinked file."""
    if sys.platform == "linux":
        fd = os.memfd_create("pgqueue")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, WIDTH * lines)
    return fd
