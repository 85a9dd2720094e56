"""Copies of this process that a task forks: they never speak for it, and they end where the task's code does.

A copy has all memory of the original and the one thread that forked. So it also has the socket to the supervisor, the
connections of atomic tasks, and an event loop on which other jobs wait to continue, a second time. All of that is cut off
before any code of the user's runs on in the copy. What it may still do is its own; when its code returns or raises, the
process ends as a script of Python's would, with what the copy itself has registered with atexit.
"""

import atexit
import contextlib
import logging
import os
import select
import socket
import sys
import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable
from typing import NoReturn
from weakref import WeakSet

from pgqueue import db
from pgqueue.worker.child.executor import Attempt
from pgqueue.worker.child.exits import flush, run_exit_functions

logger = logging.getLogger("pgqueue.worker")

ADVICE = "end it with os._exit(), or start another program with subprocess"


class Copies:
    """Watches over one process. Made before the app is imported, as that may fork too; `running` are the attempts under way."""

    def __init__(self, sock: socket.socket) -> None:
        self.inside = False
        """Whether this process is such a copy."""
        self.running: Callable[[], Iterable[Attempt]] = lambda: ()
        self._sock = sock
        self._pid = os.getpid()
        self._connections: WeakSet[db.AnyConnection] = WeakSet()
        self._loop: AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        # What was printed before is shown by the original alone.
        os.register_at_fork(before=flush, after_in_child=self._cut_off)

    @property
    def foreign(self) -> bool:
        """Whether this process is not the one it was made in; also after a fork by C code, which tells Python nothing."""
        return self.inside or os.getpid() != self._pid

    def keep_from(self, conn: db.AnyConnection) -> None:
        """This connection is of no use to a copy, which would write into the midst of what the original says."""
        self._connections.add(conn)

    def keep_loop_from(self, loop: AbstractEventLoop, thread: threading.Thread) -> None:
        """Nor is this event loop, nor what runs on it."""
        self._loop, self._thread = loop, thread

    def _cut_off(self) -> None:
        self.inside = True
        _deaden(self._sock.fileno())
        for conn in list(self._connections):
            if not conn.closed:
                _deaden(conn.fileno())
        for attempt in self.running():
            attempt.copied = True
        # It was registered by the original, which will run it; multiprocessing does the same in what it forks.
        atexit._clear()
        if self._loop is not None and threading.current_thread() is self._thread:
            self._strand(self._loop)

    def _strand(self, loop: AbstractEventLoop) -> None:
        """The coroutine that forked may run on up to its next await; then the copy ends, before the loop turns to other jobs.

        The selector is a descriptor that both processes share: what the copy tells it, the original hears.
        """
        selector = getattr(getattr(loop, "_selector", None), "fileno", None)
        if selector is not None and hasattr(select, "epoll"):
            with select.epoll() as empty:
                os.dup2(empty.fileno(), selector(), inheritable=False)
        for waiting in "_ready", "_scheduled":
            with contextlib.suppress(AttributeError):  # a loop that is not asyncio's own
                getattr(loop, waiting).clear()
        loop.call_soon(self._end_awaiting)

    def _end_awaiting(self) -> None:
        logger.warning(
            "an async task forked a copy of this process (%d) and awaited something in it: a copy has no event loop, and ends. %s.",
            os.getpid(), ADVICE[0].upper() + ADVICE[1:],
        )  # fmt: skip
        _end(1)

    def end(self, task: str, error: BaseException | None = None) -> NoReturn:
        """The task's code has returned or raised in this copy. (In the original nothing is raised; what is, is a bug of ours.)"""
        if error is not None and not self.inside:
            raise error
        how = "returned" if error is None else f"ended by {type(error).__qualname__}"
        logger.warning(
            "task %s forked a copy of this process (%d), and the task's code %s in it: the copy exits and its result is ignored. "
            "If it was not meant to get that far, %s.", task, os.getpid(), how, ADVICE,
        )  # fmt: skip
        _end(_exit_code(error))


def _deaden(fd: int) -> None:
    """What uses this descriptor here finds the other end closed; the original's is not touched."""
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours:
        os.dup2(ours.fileno(), fd, inheritable=False)


def _exit_code(error: BaseException | None) -> int:
    """As Python ends a script that raised this; a traceback and words on standard error are part of that."""
    if isinstance(error, SystemExit) and isinstance(error.code, int | None):
        return (error.code or 0) & 0xFF
    if isinstance(error, SystemExit):
        sys.stderr.write(f"{error.code}\n")
    elif error is not None:
        sys.excepthook(type(error), error, error.__traceback__)
    return 0 if error is None else 1


def _end(code: int) -> NoReturn:
    try:
        threading._shutdown()  # type: ignore[attr-defined] # threads that the copy has started, as at the end of a script
        run_exit_functions()
    finally:
        os._exit(code)
