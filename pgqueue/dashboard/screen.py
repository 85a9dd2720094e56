"""The live screen: the page drawn again whenever there is news, until a key or a signal."""

import os
import select
import signal
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live

from pgqueue.dashboard.page import View
from pgqueue.dashboard.words import span
from pgqueue.ops.stats import Stats

INPUT_TICK_S = 0.1  # how long a key or a new size waits: shorter than what people notice
STALE_S = 5.0  # no answer for this long is worth a line, even without an error
QUIT_KEYS = ("q", "Q", "")  # empty: the terminal is gone


def live(fetch: Callable[[], Stats], *, title: str, console: Console, refresh_s: float = 1.0) -> None:
    """Redraw what `fetch` returns over the whole screen until q, Ctrl-C or SIGTERM; the terminal is left as it was.

    The first fetch happens before the screen is taken, and its errors are raised. Later errors are shown, and `fetch` is
    called again, in a thread of its own: it must reconnect by itself, and q works even while it hangs.
    """
    feed = _Feed(fetch(), fetch, refresh_s=refresh_s)
    live_screen = Live(console=console, screen=True, auto_refresh=False)
    with _leaving() as leave, _keys() as pressed, live_screen as screen, feed:
        hint = "q quits   " if pressed.reads else ""
        drawn: object = None
        while not (leave.is_set() or pressed.wait(INPUT_TICK_S) in QUIT_KEYS):
            view = View(feed.latest, title, hint=hint, trouble=feed.trouble(), height=console.height)
            width = console.width
            if (view, width) != drawn:
                screen.update(view, refresh=True)
                drawn = (view, width)


class _Feed:
    """Fetches again and again in a daemon thread: a database that hangs must not keep the program from exiting."""

    def __init__(self, first: Stats, fetch: Callable[[], Stats], *, refresh_s: float) -> None:
        self.latest = first
        self._fetch = fetch
        self._refresh_s = refresh_s
        self._error = ""
        self._answered_at = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pgqueue-stats", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(timeout=1.0)  # so that a fetch that is about to end does not meet a closed connection

    def trouble(self) -> str:
        """One line for the screen while the database does not answer, else empty."""
        silent_s = time.monotonic() - self._answered_at
        if self._error:
            return f"{self._error} (trying again; this page is {span(round(silent_s))} old)"
        return f"no answer for {span(round(silent_s))}" if silent_s > STALE_S + self._refresh_s else ""

    def _run(self) -> None:
        while not self._over.wait(self._refresh_s):
            try:
                self.latest = self._fetch()
            except Exception as error:  # of any kind: the page on the screen is worth more than a traceback
                self._error = next(iter(str(error).splitlines()), "") or type(error).__name__
            else:
                self._error, self._answered_at = "", time.monotonic()


class _Keys:
    """Reads single keys from the terminal, or only waits if there is none."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd

    @property
    def reads(self) -> bool:
        return self._fd is not None

    def wait(self, timeout_s: float) -> str | None:
        """The keys pressed, None when the time is over; empty when the terminal is gone."""
        if self._fd is None:
            time.sleep(timeout_s)
            return None
        ready, _, _ = select.select([self._fd], [], [], timeout_s)
        return os.read(self._fd, 1).decode("ascii", "replace") if ready else None


@contextmanager
def _keys() -> Iterator[_Keys]:
    """Read keys as they are pressed, without echo; only if standard input is a terminal."""
    if not sys.stdin.isatty():
        yield _Keys(None)
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        yield _Keys(fd)
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


@contextmanager
def _leaving() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set, so that the program ends in the usual way and restores the terminal."""
    leave = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield leave
        return
    before = {number: signal.signal(number, lambda *_: leave.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield leave
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
