"""The process that runs user code. One thread reads frames, the main thread (or --threads of them) runs sync jobs one at a
time each, and an event loop, started with the first async job, runs many of those at once.

The reader never waits for user code, so the supervisor can at any time take back what has not started, or ask for what is
done but not yet sent. When the supervisor vanishes the reader sees the end of the stream and the process ends at once,
whatever it runs; on Linux the kernel sees to it even if user code holds the interpreter.
"""

import asyncio
import ctypes
import errno
import json
import logging
import os
import queue
import resource
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from pgqueue import db
from pgqueue.app import App
from pgqueue.codec.redact import MARKS
from pgqueue.context import CurrentJob
from pgqueue.errors import PgQueueError, TimeLimitExceeded
from pgqueue.job import Claimed, Outcome, Verdict
from pgqueue.loader import load_app
from pgqueue.terminal import app_may_set_up_logging, one_line
from pgqueue.worker.child.blocked_loop import BlockedLoopWatch
from pgqueue.worker.child.contexts import Contexts
from pgqueue.worker.child.copies import Copies
from pgqueue.worker.child.executor import Attempt, describe, format_trace, storable
from pgqueue.worker.child.exits import flush, leave
from pgqueue.worker.child.fingerprint import fingerprint
from pgqueue.worker.child.signals import ignore_signals
from pgqueue.worker.child.thread_leaks import ThreadLeaks
from pgqueue.worker.link.frames import Unpacker, pack
from pgqueue.worker.link.running_slots import RunningSlots

logger = logging.getLogger("pgqueue.worker")

FLUSH_S = 0.002  # the first outcome waits this long for company while more jobs are at hand
PROGRESS_S = 0.1  # a task may report progress as often as it likes; it is sent this often
MAX_NOTE = 200  # characters of what a task says about its progress
PR_SET_PDEATHSIG = 1


class ChildMain:
    """Runs jobs for one supervisor until told to stop."""

    def __init__(
        self,
        sock: socket.socket,
        slots: RunningSlots,
        app: App,
        setup: dict[str, Any],
        *,
        contexts: Contexts,
        copies: Copies,
    ) -> None:
        self._sock = sock
        self._slots = slots
        self._app = app
        self._setup = setup
        self._unstarted: deque[Claimed] = deque()
        self._tokens: queue.SimpleQueue[bool] = queue.SimpleQueue()  # one per job put into _unstarted; False: stop
        self._running: dict[str, tuple[Attempt, asyncio.Task[None] | None]] = {}
        self._done: list[tuple[Sequence[Any], int]] = []
        self._waiting_since = 0.0  # the first of them
        self._out = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._local = threading.local()
        self._leftovers = ThreadLeaks()
        self._spoiler: str | None = None  # the job after which this process is of no more use
        self._useful = False  # some job has succeeded here
        self._contexts = contexts
        self._copies = copies
        copies.running = lambda: [attempt for attempt, _ in list(self._running.values())]

    # -- the reader --

    def read(self, frames: Iterator[list[Any]]) -> None:
        """Obey the supervisor until the stream ends; then end the process."""
        for message in frames:
            match message:
                case ["run", jobs]:
                    self._take([Claimed(*job) for job in jobs])
                case ["nudge"]:
                    self._give_back()
                case ["soft", job_id]:
                    self._interrupt(job_id, over=True)
                case ["cancel", job_id]:
                    self._interrupt(job_id, over=False)
                case ["judge", job, cause, error]:
                    self._judge(Claimed(*job), cause, error)
                case ["stop"]:
                    for _ in range(self._setup["threads"]):
                        self._tokens.put(False)
        os._exit(0)

    def _take(self, jobs: list[Claimed]) -> None:
        if self._spoiler is not None:  # they were sent before the supervisor knew
            self._send(["given", [job.id for job in jobs]])
            return
        later = []
        for job in jobs:
            if self._app.tasks[job.task].is_async:
                later.append(job)
            else:
                self._unstarted.append(job)
                self._tokens.put(True)
        if later:
            self._event_loop().call_soon_threadsafe(self._start_async, later)

    def _give_back(self) -> None:
        ids = []
        while True:
            try:
                ids.append(self._unstarted.pop().id)
            except IndexError:
                break
        self.flush()
        self._send(["given", ids])

    def _interrupt(self, job_id: str, *, over: bool) -> None:
        attempt, running = self._running.get(job_id, (None, None))
        if attempt is None:
            return
        if over:
            attempt.current.time_over = True
        else:
            attempt.current.cancel_requested = True
        if running is not None:
            self._event_loop().call_soon_threadsafe(running.cancel)

    def _judge(self, job: Claimed, cause: str, error: str) -> None:
        """Another child was killed while it ran this; only user code knows the policy, so it is asked here."""
        outcome = self._attempt(job).judged(TimeLimitExceeded(error), cause=cause)
        self._emit(outcome, 0.0, 0.0)
        self.flush()

    # -- sync jobs --

    def run(self, slot: int = 0) -> None:
        """Run sync jobs in this thread until told to stop; `slot` is its own of the running slots."""
        while self._tokens.get():
            try:
                job = self._unstarted.popleft()
            except IndexError:  # taken back in the meantime
                continue
            self._slots.write(slot, job.id)
            attempt = self._attempt(job)
            self._leftovers.begin(alone=not self._running)
            self._running[job.id] = attempt, None
            began = time.perf_counter()
            try:
                outcome = self._contexts.fresh().run(attempt.execute, self._connection)
            except BaseException as error:
                self._copies.end(job.task, error)
            if self._copies.inside:
                self._copies.end(job.task)
            now = time.perf_counter()
            del self._running[job.id]
            self._leftovers.end(job.task)
            if attempt.spoiled or self._spoiler:
                outcome = self._excused(attempt, outcome)
            self._emit(outcome, began, now)
            if attempt.spoiled or not self._unstarted or now - self._waiting_since > FLUSH_S:
                self.flush()
            # Only now: a job whose end cannot be sent would be given back for ever, and charged nothing.
            self._slots.wipe(slot)

    def _connection(self) -> db.Connection:
        """This thread's connection for atomic tasks, kept between jobs while it is healthy."""
        conn = getattr(self._local, "conn", None)
        if conn is None or conn.closed or conn.broken:
            conn = self._local.conn = db.connect(self._app.dsn, name=self._setup["application_name"], private=False)
            self._copies.keep_from(conn)
        return conn

    # -- async jobs --

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            thread = threading.Thread(target=self._loop.run_forever, name="pgqueue async", daemon=True)
            self._watch = BlockedLoopWatch(self._loop, thread)
            self._copies.keep_loop_from(self._loop, thread)
            thread.start()
            threading.Thread(target=self._watch.run, name="pgqueue watch", daemon=True).start()
        return self._loop

    def _start_async(self, jobs: list[Claimed]) -> None:
        self._leftovers.begin(alone=False)
        for job in jobs:
            attempt = self._attempt(job)
            # Which loop it is the app decides; not every one takes context=.
            running = self._contexts.fresh().run(asyncio.get_running_loop().create_task, self._run_async(attempt))
            self._running[job.id] = attempt, running

    async def _run_async(self, attempt: Attempt) -> None:
        began = time.perf_counter()
        self._watch.started()
        try:
            outcome = await attempt.execute_async(self._async_connection)
        except BaseException as error:
            self._copies.end(attempt.task.name, error)
        if self._copies.inside:
            self._copies.end(attempt.task.name)
        self._watch.ended()
        del self._running[attempt.job.id]
        first = not self._done
        if attempt.spoiled or self._spoiler:
            outcome = self._excused(attempt, outcome)
        self._emit(outcome, began, time.perf_counter())
        if first:  # one flush for all that end in this turn of the loop
            asyncio.get_running_loop().call_soon(self.flush)

    async def _async_connection(self) -> db.AsyncConnection:
        conn = await db.connect_async(self._app.dsn, name=self._setup["application_name"], private=False)
        self._copies.keep_from(conn)
        return conn

    # -- what goes back --

    def _attempt(self, job: Claimed) -> Attempt:
        reported_at = 0.0

        def report(fraction: float | None, note: str | None) -> None:
            nonlocal reported_at
            now = time.monotonic()
            if now - reported_at >= PROGRESS_S or fraction == 1:
                reported_at = now
                shown = None if note is None else attempt.mask(storable(str(note)))[:MAX_NOTE]
                self._send(["progress", job.id, job.token, fraction, shown])

        headers = _headers(job.headers)
        current = CurrentJob(
            job.id,
            job.token,
            job.task,
            job.queue,
            job.attempt,
            headers,
            report,
            waits=self._tell_of_waiting,
            give_up=self._replace,
        )
        attempt = Attempt(job, self._app.tasks[job.task], current, worker=self._setup["worker"])
        return attempt

    def _emit(self, outcome: Outcome, began: float, ended: float) -> None:
        # A success has but four fields; to encode the others' defaults took 0.75 of the 11 us that this process spends on a job.
        fields: Sequence[Any] = outcome
        if outcome.verdict == Verdict.SUCCEEDED:
            fields, self._useful = outcome[:4], True
        elif outcome.verdict == Verdict.COMMITTED:
            self._useful = True
        with self._out:
            if not self._done:
                self._waiting_since = ended
            self._done.append((fields, int((ended - began) * 1e6)))

    def _resign(self, job_id: str, why: str) -> None:
        """Ask to be replaced, once, and give back what has not started."""
        with self._out:
            if self._spoiler is not None:
                return
            self._spoiler = job_id
        self._send(["spent", why, self._useful])
        self._give_back()

    def _tell_of_waiting(self, current: CurrentJob, awaited: str) -> None:
        """A job waits for another one's result: whether that one can run, only the supervisor knows."""
        self._send(["waits", current.task, awaited])

    def _replace(self, current: CurrentJob, reason: str) -> None:
        """A task says that this process is of no more use."""
        self._resign(current.id, f"{one_line(reason, at_most=MAX_NOTE)} (job {current.id}, {current.task})")

    def _excused(self, attempt: Attempt, outcome: Outcome) -> Outcome:
        """What fails in a process that another job has spoiled is given back: it runs elsewhere, and no attempt is charged."""
        if attempt.spoiled:
            self._resign(attempt.job.id, attempt.spoiled)
        if self._spoiler == attempt.job.id or outcome.cause not in ("exception", "time limit"):
            return outcome
        if outcome.verdict not in (Verdict.RETRY, Verdict.DEAD):
            return outcome
        logger.info(
            "job %s (%s) failed in a process that job %s has spoiled: it runs again elsewhere, no attempt is charged: %s",
            attempt.job.id, attempt.task.name, self._spoiler, outcome.error,
        )  # fmt: skip
        return Outcome(attempt.job.id, attempt.job.token, Verdict.RELEASE)

    def flush(self) -> None:
        """Send what is done. What its tasks have printed is to be seen before anybody hears of their end."""
        flush()
        with self._out:
            done, self._done = self._done, []
        if done:
            self._send(["done", done, _memory_mb() if self._setup["weigh"] else 0])

    def _send(self, message: list[Any]) -> None:
        if self._copies.foreign:
            return
        data = pack(message)
        with self._out:
            try:
                self._sock.sendall(data)
            except OSError as error:
                _cut_off(error)


def _headers(text: str | None) -> dict[str, Any]:
    """A job's headers as its task sees them. Whoever writes rows by hand may have stored anything."""
    try:
        headers = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    if not isinstance(headers, dict):
        return {}
    headers.pop(MARKS, None)
    return headers


def _memory_mb() -> float:
    """Resident memory of this process; where the kernel does not tell it, the peak."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 (read per batch)
            return int(file.read().split()[1]) * resource.getpagesize() / 1e6
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


def _die_with_parent(parent_pid: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent_pid:  # it died before the kernel knew of our wish
            os._exit(1)


def _frames(sock: socket.socket) -> Iterator[list[Any]]:
    unpacker = Unpacker()
    try:
        while data := sock.recv(1 << 16):
            yield from unpacker.feed(data)
    except OSError as error:
        _cut_off(error)


def _cut_off(error: OSError) -> NoReturn:
    """No supervisor, no one to work for: it or its successor runs the job again."""
    if error.errno in (errno.EBADF, errno.ENOTSOCK):
        logger.error("a task has closed file descriptors that are not its own: this process can work no more")
        flush()
    os._exit(1)


def _hello(app: App) -> dict[str, Any]:
    return {
        "code": fingerprint(app),
        "dsn": app.config.dsn,
        "config": {"schema": app.config.schema, "keep_succeeded_days": app.config.keep_succeeded_days,
                   "keep_dead_days": app.config.keep_dead_days, "notify": app.config.notify,
                   "pool_size": app.config.pool_size},
        "tasks": {
            name: {"is_async": task.is_async, "timeout_s": task.timeout_s, "queue": task.queue} for name, task in app.tasks.items()
        },
    }  # fmt: skip


def main() -> None:
    """`python -m pgqueue.worker.child.main SOCKET_FD SLOTS_FD PARENT_PID`, started by the supervisor only."""
    ignore_signals()
    _die_with_parent(int(sys.argv[3]))
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)
    copies = Copies(sock)
    frames = _frames(sock)
    _, setup = next(frames)
    try:
        with app_may_set_up_logging(level=setup["log_level"], form=setup["log_format"]):
            app = load_app(setup["app"])
        hello = _hello(app)
    except BaseException as error:
        reason = str(error) if isinstance(error, PgQueueError) else describe(error)
        trace = None if isinstance(error, PgQueueError) else format_trace(error)
        sock.sendall(pack(["failed", reason, trace]))
        sys.exit(1)
    slots_fd = int(sys.argv[2])
    child = ChildMain(
        sock, RunningSlots(slots_fd, slots=setup["threads"]), app, setup, contexts=Contexts(), copies=copies
    )
    os.close(slots_fd)  # the memory stays; what a task starts shall not inherit it
    sock.sendall(pack(["hello", hello]))
    threading.Thread(target=child.read, args=(frames,), name="pgqueue reader", daemon=True).start()
    others = [
        threading.Thread(target=child.run, args=(n,), name=f"pgqueue {n}", daemon=True)
        for n in range(1, setup["threads"])
    ]
    for thread in others:
        thread.start()
    child.run()
    for thread in others:
        thread.join()
    child.flush()
    leave()


if __name__ == "__main__":
    main()
