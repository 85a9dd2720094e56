"""How a child ends: what it has printed is shown, and what users have registered for the end of a process runs, for a while."""

import atexit
import ctypes
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from pgqueue.worker.settings import EXIT_S

logger = logging.getLogger("pgqueue.worker")

PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel to end this process with the supervisor, even if user code holds the interpreter."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent_pid:  # it died before the kernel knew of our wish
            os._exit(1)


def flush() -> None:
    """Show what was printed, also in a pipe."""
    for stream in sys.stdout, sys.stderr:
        try:
            stream.flush()
        except Exception:  # a task may have closed it, or put anything into its place
            continue


def leave(last: Callable[[], None]) -> NoReturn:
    """Call what is to be called last, then end this process as Python would, but wait for no thread that a task left behind.

    All of it may take only so long. In the main thread.
    """
    # The kernel's floor under the thread's: a function that holds the interpreter lets no thread run.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    signal.setitimer(signal.ITIMER_REAL, EXIT_S + 1)
    threading.Thread(target=_lose_patience, name="pgqueue end", daemon=True).start()
    try:
        _try(last)
        # In Python's own order; it would join all other threads between the two.
        for function in reversed(getattr(threading, "_threading_atexits", [])):
            _try(function)
        run_exit_functions()
    finally:
        os._exit(0)


def run_exit_functions() -> None:
    """What was registered with atexit, logging's own farewell too; what was printed is shown before and after."""
    flush()
    _try(atexit._run_exitfuncs)
    flush()


def _try(function: Callable[[], Any]) -> None:
    try:
        function()
    except BaseException:
        logger.exception("a function that was registered for the end of the process failed")


def _lose_patience() -> None:
    time.sleep(EXIT_S)
    logger.warning(
        "what is registered for the end of the process (stop hooks, atexit) did not finish within %g s: it exits without that",
        EXIT_S,
    )
    flush()
    os._exit(0)
