"""Waits for processes that have no other parent: what tasks leave behind goes to the first process of a container.

That is often the worker itself. Each end that is not waited for stays in the kernel's table, until no process can be started.
"""

import asyncio
import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

REAP_S = 1.0
PR_GET_CHILD_SUBREAPER = 37


def adopts() -> bool:
    """Whether orphans become children of this process."""
    if os.getpid() == 1:
        return True
    if sys.platform != "linux":
        return False
    answer = ctypes.c_int(0)
    ctypes.CDLL(None).prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0)
    return answer.value == 1


class Reaper:
    """Looks once a second, and costs one call of the system while there is nothing to do.

    How our own children ended is for asyncio to learn, which waits for each from its start on and so takes it within
    milliseconds. What is still there at the next look is an orphan.
    """

    def __init__(self) -> None:
        self._seen: set[int] = set()

    async def run(self) -> None:
        """Reap again and again."""
        while True:
            self.reap()
            await asyncio.sleep(REAP_S)

    def reap(self) -> None:
        """Wait for what had ended before the last look."""
        ended = set(_ended()) if _any_ended() else set()
        for pid in ended & self._seen:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        self._seen = ended - self._seen


def _any_ended() -> bool:
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


def _ended() -> Iterator[int]:
    """The children of this process that have ended and were not waited for."""
    ours = str(os.getpid())
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it has just gone
            continue
        if (state, parent) == ("Z", ours):
            yield int(folder.name)
