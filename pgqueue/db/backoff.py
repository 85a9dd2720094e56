"""A database that is known to be down is left alone, but for one probe a second.

Three states. *Up*: nobody is held up. A call that waited its whole patience in vain turns it to *down*: from then on every
call is refused at once, with the reason and the time, instead of waiting as long as the first; a thread of its own asks
whether the database answers, at once and then once a second, however many threads and tasks would like to know. As soon as it
does, the state is *up* again. What the probe is told counts as an answer too: a server that refuses the password is there, and
callers hear so from it. When nobody has called for a while, the thread ends and the state is *up*: the next call finds out.

The first time-out takes the full patience, so a fail-over that is shorter than that refuses nobody. Its thread runs only while
the database is down, and belongs to one process: a fork begins with a Backoff of its own.
"""

import threading
import time
from collections.abc import Callable

from pgqueue.errors import DatabaseUnavailable, PgQueueError

PROBE_S = 1.0  # between the beginnings of two probes
PROBES_LINGER_S = 30.0  # without a caller


class Backoff:
    """What is known of one database's being away. `probe` connects and raises if it cannot; `passing` says whether what it
    raised means that the database is away.
    """

    def __init__(self, probe: Callable[[], None], passing: Callable[[BaseException], bool]) -> None:
        self._probe = probe
        self._passing = passing
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._since = self._called_at = self._next_at = 0.0
        self._reason = ""
        self.is_down = False

    def failed(self, reason: BaseException) -> None:
        """A call has waited in vain, as long as it could."""
        with self._lock:
            if self.is_down:
                return
            self._since = self._called_at = self._next_at = time.monotonic()
            self._reason = str(reason).splitlines()[0] if str(reason) else type(reason).__name__
            self._over = threading.Event()
            self.is_down = True  # before the thread begins, which may find otherwise at once
            try:
                threading.Thread(target=self._watch, args=[self._over], name="pgqueue probe", daemon=True).start()
            except RuntimeError:  # there is no room for a thread, or the program ends
                self.is_down = False

    def refuse(self) -> None:
        """Raise DatabaseUnavailable if it is down."""
        if not self.is_down:
            return
        now = self._called_at = time.monotonic()
        raise DatabaseUnavailable(
            f"the database has been known to be down for {now - self._since:.1f} s, so it was not asked; the next probe is in "
            f"{max(0.0, self._next_at - now):.1f} s. The last call that waited: {self._reason}"
        )

    def ask(self) -> None:
        """Probe now if it is down, for a caller that would rather know than be refused; takes as long as a probe."""
        if self.is_down and self._answers():
            self.close()

    def close(self) -> None:
        """Probe no more and refuse nobody; a probe that is under way ends by itself."""
        with self._lock:
            self._over.set()
            self.is_down = False

    def _watch(self, over: threading.Event) -> None:
        try:
            while time.monotonic() - self._called_at < PROBES_LINGER_S and not self._answers():
                if over.wait(max(0.0, self._next_at - time.monotonic())):
                    return
        finally:
            with self._lock:
                if not over.is_set():
                    self.is_down = False

    def _answers(self) -> bool:
        self._next_at = time.monotonic() + PROBE_S
        try:
            self._probe()
        except PgQueueError as error:
            return not self._passing(error)
        return True
