"""Waiting for results: one thread and one connection per process serve every waiter, sync and async, thousands of them.

A waiter says so in the table `awaited`; a finished batch then rings once if it holds an awaited job, and the hub asks in
one query which of all its jobs have ended. The bell may be missed: the finisher may have looked at `awaited` just before
our row was committed, or the network may drop it. So the hub looks again soon after every new waiter and slowly
afterwards: push is the fast path, the poll is the floor.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pgqueue import db
from pgqueue.context import CurrentJob, running_job
from pgqueue.db.listening import Nudge
from pgqueue.db.spurious import SpuriousWakeups
from pgqueue.errors import DatabaseUnavailable, PgQueueError
from pgqueue.queries import Queries
from pgqueue.queries.client import End

logger = logging.getLogger("pgqueue.results")

RESULT_POLL_S = 1.0  # the floor for a bell that was missed
RESULT_POLL_ALONE_S = 0.2  # behind a pooler, where there is no bell
RESULT_SECOND_LOOK_S = 0.05  # after a new waiter: longer than a finish takes from its look at `awaited` to its commit
LINGER_S = 30.0  # the connection is kept this long after the last waiter
# `awaited` rows live an hour; but only a write tells that the server behind this connection is no longer the primary.
RENEW_S = 30.0
RESULT_RECONNECT_S = 0.5
WORRY_S = 1.0  # a job that waits for another tells its worker after this long
WORRY_AGAIN_S = 10.0  # and again, as the worker may have had a free place
NEEDLESS_BELLS = (
    100  # a second: with more needless bells (other processes' results, or a flood) they are read in bunches
)
NAP_S = 0.02


Told = End | PgQueueError | None
CLOSED = End("", "closed", "", None, None)  # what waiters get when their app is closed under them


@dataclass(slots=True, eq=False)
class Waiter:
    """One caller waiting for one job. `wake(end)` is called once from the hub's thread; end None: there is no such job.

    CLOSED: nobody looks for its end any more. An error: why it cannot be looked for.
    """

    job_id: str
    wake: Callable[[Told], None]
    inside: CurrentJob | None = field(default_factory=running_job)
    """The job that waits for this one, if it is one."""
    tell_at: float = field(default_factory=lambda: time.monotonic() + WORRY_S)
    """When its worker is told next that it still waits: the two may wait for each other."""


class Hub:
    """Wakes waiters when their jobs end.

    They do not notice an outage that is shorter than `patience_s`; after that they hear that the database is away, and so
    does `on_silence`. `check` comes before the first words: it raises if there is no use in waiting.
    """

    def __init__(
        self,
        dsn: str,
        queries: Queries,
        *,
        schema: str,
        patience_s: float,
        check: Callable[[], None],
        on_silence: Callable[[BaseException], None],
    ) -> None:
        self._dsn = dsn
        self._queries = queries
        self._schema = schema
        self._patience_s = patience_s
        self._check = check
        self._on_silence = on_silence
        self._answered_at = 0.0  # since the thread began; 0: not yet
        self._lock = threading.Lock()
        self._waiters: dict[str, list[Waiter]] = {}
        self._fresh: list[str] = []  # ids whose `awaited` row is still to be written
        self._announced: set[str] = set()  # ids that have one
        self._thread: threading.Thread | None = None
        self._closing = False
        self._nudge = Nudge()  # a new waiter is announced at once, not at the next bell

    def add(self, waiter: Waiter) -> None:
        """Start waiting."""
        with self._lock:
            if self._closing:  # another thread closed the app between our caller's look at it and now
                waiter.wake(CLOSED)
                return
            self._waiters.setdefault(waiter.job_id, []).append(waiter)
            self._fresh.append(waiter.job_id)
            if self._thread is None or not self._thread.is_alive():
                self._answered_at = 0.0
                self._thread = threading.Thread(target=self._serve, name="pgqueue results", daemon=True)
                self._thread.start()
        self._nudge.give()

    def close(self) -> None:
        """End the thread and its connection; callers that still wait get CLOSED."""
        with self._lock:
            self._closing = True
        self._nudge.give()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        self._wake_all(CLOSED)

    def _wake_all(self, end: Told) -> None:
        with self._lock:
            left, self._waiters = self._waiters, {}
        for waiters in left.values():
            for waiter in waiters:
                waiter.wake(end)

    def remove(self, waiter: Waiter) -> None:
        """Stop waiting: the caller's patience is over."""
        with self._lock:
            rest = [other for other in self._waiters.get(waiter.job_id, []) if other is not waiter]
            if rest:
                self._waiters[waiter.job_id] = rest
            else:
                self._waiters.pop(waiter.job_id, None)
                self._announced.discard(waiter.job_id)  # the row is forgotten in an hour

    def _serve(self) -> None:
        while True:
            began = time.monotonic()
            try:
                self._check()
                with db.connect(self._dsn, name="pgqueue results", silence_s=db.SILENCE_S) as conn:
                    self._watch(conn, RESULT_POLL_S if self._listen(conn) else RESULT_POLL_ALONE_S)
            except db.DatabaseError as error:
                self._answered_at = self._answered_at or began  # it was there
                told = db.explain(error, schema=self._schema) or DatabaseUnavailable(str(error))
                self._hear(told, took_s=time.monotonic() - max(began, self._answered_at))
            except PgQueueError as error:
                self._hear(error, took_s=time.monotonic() - began)
            with self._lock:
                if self._closing or not self._waiters:
                    self._thread = None
                    return

    def _hear(self, error: PgQueueError, *, took_s: float) -> None:
        """Bear with an outage, if there is time for another try that takes as long as this one; else tell all waiters."""
        is_away = isinstance(error, DatabaseUnavailable) and self._answered_at > 0
        if is_away and time.monotonic() - self._answered_at + took_s < self._patience_s:
            logger.warning("waiting for results: %s; trying again", error)
            time.sleep(RESULT_RECONNECT_S)
            return
        if is_away:
            self._on_silence(error)
        self._wake_all(error)

    def _listen(self, conn: db.Connection) -> bool:
        """False: a pooler sits in between, and what the session hears goes to the client that it serves then."""
        if not db.prepares(conn):
            return False
        db.run(conn, self._queries.listen_results)
        return True

    def _watch(self, conn: db.Connection, poll_s: float) -> None:
        """Serve until nobody has waited for a while."""
        idle_since = time.monotonic()
        renewed_at = idle_since
        alarms, rung = SpuriousWakeups(at_most=NEEDLESS_BELLS), False
        self._announce_all()
        while not self._closing:
            # Many have ended by the time somebody asks: those cost no write, which is slow on a slow disk.
            woken = self._look(conn) if self._fresh else 0
            announced = self._announce(conn)
            woken += self._look(conn)
            self._answered_at = time.monotonic()
            if rung:
                alarms.answered(for_nothing=not woken)
                rung = False
            now = time.monotonic()
            if now - renewed_at > RENEW_S:
                self._announce_all()
                renewed_at = now
            if self._waiters:
                idle_since = now
            elif now - idle_since > LINGER_S:
                return
            if alarms.too_many():
                self._nudge.wait(NAP_S)
            else:
                rung = db.wait_for_bell(conn, RESULT_SECOND_LOOK_S if announced else poll_s, wake_fd=self._nudge.fd)
                self._nudge.take()

    def _announce_all(self) -> None:
        with self._lock:
            self._fresh = list(self._waiters)

    def _announce(self, conn: db.Connection) -> bool:
        with self._lock:
            fresh, self._fresh = {job_id for job_id in self._fresh if job_id in self._waiters}, []
        if fresh:
            db.run(conn, self._queries.await_(sorted(fresh)))
            self._announced |= fresh
        return bool(fresh)

    def _look(self, conn: db.Connection) -> int:
        """Wake the callers that wait for what has ended; for how many jobs."""
        with self._lock:
            wanted = list(self._waiters)
        if not wanted:
            return 0
        ends = {end.id: end for end in db.run(conn, self._queries.ends(wanted))}
        if missing := [job_id for job_id in wanted if job_id not in ends]:  # looked for twice: see retention.py
            ends |= {end.id: end for end in db.run(conn, self._queries.ends(missing))}
        over = [job_id for job_id in wanted if job_id not in ends or ends[job_id].state is not None]
        if over:
            if told := self._announced.intersection(over):
                db.run(conn, self._queries.unawait(sorted(told)))
                self._announced -= told
            self._wake(over, ends)
        self._tell_workers()
        return len(over)

    def _tell_workers(self) -> None:
        now = time.monotonic()
        with self._lock:
            inside = [each for waiters in self._waiters.values() for each in waiters if each.inside is not None]
        for waiter in inside:
            if waiter.inside is not None and now >= waiter.tell_at:
                waiter.tell_at = now + WORRY_AGAIN_S
                waiter.inside.waits(waiter.inside, waiter.job_id)

    def _wake(self, over: Sequence[str], ends: dict[str, End]) -> None:
        for job_id in over:
            with self._lock:
                waiters = self._waiters.pop(job_id, [])
            for waiter in waiters:
                waiter.wake(ends.get(job_id))
