"""The process that runs user code. One thread reads frames, the main thread (or --threads of them) runs sync jobs one at a
time each, and an event loop, started with the first async job, runs many of those at once.

The reader never waits for user code, so the supervisor can at any time take back what has not started, or ask for what is
done but not yet sent. When the supervisor vanishes the reader sees the end of the stream and the process ends at once,
whatever it runs; on Linux the kernel sees to it even if user code holds the interpreter.
"""

import asyncio
import json
import logging
import os
import queue
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import Any

from pgqueue import db
from pgqueue.app import App
from pgqueue.context import CurrentJob, parted
from pgqueue.errors import PgQueueError, TimeLimitExceeded
from pgqueue.events.batch import LANE, LaneName
from pgqueue.job import Claimed, Outcome, Verdict
from pgqueue.loader import load_app
from pgqueue.terminal import app_may_set_up_logging, one_line
from pgqueue.webhooks import built_in
from pgqueue.worker.child.batches import BatchAttempt
from pgqueue.worker.child.contexts import Contexts
from pgqueue.worker.child.copies import Copies
from pgqueue.worker.child.event_loop import EventLoop
from pgqueue.worker.child.executor import Attempt, describe, format_trace, storable
from pgqueue.worker.child.exits import die_with_parent, leave
from pgqueue.worker.child.fingerprint import fingerprint
from pgqueue.worker.child.hooks import HookFailed, call_at_start, call_at_stop
from pgqueue.worker.child.outgoing import FLUSH_S, Outgoing, end_alone
from pgqueue.worker.child.parking import Parking
from pgqueue.worker.child.signals import ignore_signals
from pgqueue.worker.child.thread_leaks import ThreadLeaks
from pgqueue.worker.link.frames import Unpacker, pack
from pgqueue.worker.link.greeting import AppFacts, ChildSetup, TaskFacts
from pgqueue.worker.link.running_slots import RunningSlots

logger = logging.getLogger("pgqueue.worker")

PROGRESS_S = 0.1  # a task may report progress as often as it likes; it is sent this often
BATCH_SILENCE_S = 30.0  # of its own connection: a window of a million events is sorted in a few seconds
MAX_NOTE = 200  # characters of what a task says about its progress


class ChildMain:
    """Runs jobs for one supervisor until told to stop."""

    def __init__(
        self,
        outgoing: Outgoing,
        slots: RunningSlots,
        app: App,
        setup: ChildSetup,
        *,
        contexts: Contexts,
        copies: Copies,
        loop: EventLoop,
    ) -> None:
        self._outgoing = outgoing
        self._slots = slots
        self._app = app
        self._setup = setup
        self._async_jobs: int = setup.async_jobs or app.config.async_jobs
        self._unstarted: deque[Claimed] = deque()
        self._wakeups: queue.SimpleQueue[bool] = queue.SimpleQueue()  # one per job put into _unstarted; False: stop
        self._running: dict[str, tuple[Attempt, asyncio.Task[None] | None]] = {}
        self._loop = loop
        self._local = threading.local()
        self._thread_leaks = ThreadLeaks()
        self._resigning = threading.Lock()
        self._spoiler: str | None = None  # the job after which this process is of no more use
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
                case ["return_unstarted"]:
                    self._return_unstarted()
                case ["soft_limit", job_id]:
                    self._interrupt(job_id, over=True)
                case ["cancel", job_id]:
                    self._interrupt(job_id, over=False)
                case ["ask_policy", job, cause, error]:
                    self._ask_policy(Claimed(*job), cause, error)
                case ["stop"]:
                    for _ in range(self._setup.threads):
                        self._wakeups.put(False)
        os._exit(0)

    def _take(self, jobs: list[Claimed]) -> None:
        if self._spoiler is not None:  # they were sent before the supervisor knew
            self._outgoing.send(["returned", [job.id for job in jobs]])
            return
        async_jobs = []
        for job in jobs:
            if self._app.tasks[job.task].is_async:
                async_jobs.append(job)
            else:
                self._unstarted.append(job)
                self._wakeups.put(True)
        if async_jobs:
            self._loop.get().call_soon_threadsafe(self._start_async, async_jobs)

    def _return_unstarted(self) -> None:
        ids = []
        while True:
            try:
                ids.append(self._unstarted.pop().id)
            except IndexError:
                break
        self._outgoing.flush()
        self._outgoing.send(["returned", ids])

    def _interrupt(self, job_id: str, *, over: bool) -> None:
        attempt, running = self._running.get(job_id, (None, None))
        if attempt is None:
            return
        if over:
            attempt.current.time_over = True
        else:
            attempt.current.cancel_requested = True
        if running is not None:
            self._loop.get().call_soon_threadsafe(running.cancel)

    def _ask_policy(self, job: Claimed, cause: str, error: str) -> None:
        """Another child was killed while it ran this; only user code knows the policy, so it is asked here."""
        attempt, over = self._attempt(job), TimeLimitExceeded(error)
        if isinstance(attempt, BatchAttempt):
            killed = partial(self._tell_killed, attempt, over, cause)
            threading.Thread(target=killed, name="pgqueue batch", daemon=True).start()
            return
        self._outgoing.add(attempt.by_policy(over, cause=cause), 0.0, 0.0)
        self._outgoing.flush()

    def _tell_killed(self, attempt: BatchAttempt, over: TimeLimitExceeded, cause: str) -> None:
        self._outgoing.add(attempt.killed(over, cause=cause), 0.0, 0.0)
        self._outgoing.flush()

    # -- sync jobs --

    def run(self, slot: int = 0) -> None:
        """Run sync jobs in this thread until told to stop; `slot` is its own of the running slots."""
        outgoing, several = self._outgoing, self._setup.threads > 1
        while self._wakeups.get():
            try:
                job = self._unstarted.popleft()
            except IndexError:  # taken back in the meantime
                continue
            # Outcomes waited for company while this job was unstarted. It may be long, and the other threads have nothing to do:
            # they would wait for its end. Where there is one thread the supervisor sees that it waits, and asks back the rest.
            if several and not self._unstarted and not outgoing.empty:
                outgoing.flush()
            self._slots.write(slot, job.id)
            attempt = self._attempt(job)
            execute = attempt.execute_inside if attempt.task.middleware else attempt.execute
            self._thread_leaks.begin(alone=not self._running)
            self._running[job.id] = attempt, None
            began = time.perf_counter()
            try:
                outcome = self._contexts.fresh().run(execute, self._connection)
            except BaseException as error:
                self._copies.end(job.task, error)
            if self._copies.inside:
                self._copies.end(job.task)
            now = time.perf_counter()
            del self._running[job.id]
            self._thread_leaks.end(job.task)
            if attempt.spoiled or self._spoiler:
                outcome = self._excused(attempt, outcome)
            outgoing.add(outcome, began, now)
            if attempt.spoiled or not self._unstarted or now - outgoing.waiting_since > FLUSH_S:
                outgoing.flush()
            # Only now: a job whose end cannot be sent would be given back again and again, and charged nothing.
            self._slots.wipe(slot)

    def _connection(self) -> db.Connection:
        """This thread's connection for atomic tasks, kept between jobs while it is healthy."""
        conn = getattr(self._local, "conn", None)
        if conn is None or conn.closed or conn.broken:
            conn = self._local.conn = db.connect(self._app.dsn, name=self._setup.application_name, private=False)
            self._copies.keep_from(conn)
        return conn

    def _line(self) -> db.Connection:
        """This thread's connection for what batches read and note."""
        line: db.Connection | None = getattr(self._local, "line", None)
        if line is None or line.closed or line.broken:
            line = self._local.line = db.connect(
                self._app.dsn, name=self._setup.application_name, silence_s=BATCH_SILENCE_S
            )
            self._copies.keep_from(line)
        return line

    # -- async jobs --

    def _start_async(self, jobs: list[Claimed]) -> None:
        self._thread_leaks.begin(alone=False)
        for job in jobs:
            attempt = self._attempt(job)
            # Which loop it is the app decides; not every one takes context=.
            running = self._contexts.fresh().run(asyncio.get_running_loop().create_task, self._run_async(attempt))
            self._running[job.id] = attempt, running

    async def _run_async(self, attempt: Attempt) -> None:
        execute = attempt.execute_inside_async if attempt.task.middleware else attempt.execute_async
        began = time.perf_counter()
        self._loop.watch.started()
        try:
            outcome = await execute(self._async_connection)
        except BaseException as error:
            self._copies.end(attempt.task.name, error)
        if self._copies.inside:
            self._copies.end(attempt.task.name)
        self._loop.watch.ended()
        del self._running[attempt.job.id]
        first = self._outgoing.empty
        if attempt.spoiled or self._spoiler:
            outcome = self._excused(attempt, outcome)
        self._outgoing.add(outcome, began, time.perf_counter())
        if first:  # one flush for all that end in this turn of the loop
            asyncio.get_running_loop().call_soon(self._outgoing.flush)

    async def _async_connection(self) -> db.AsyncConnection:
        conn = await db.connect_async(self._app.dsn, name=self._setup.application_name, private=False)
        self._copies.keep_from(conn)
        return conn

    async def _line_async(self) -> db.AsyncConnection:
        line = await db.connect_async(self._app.dsn, name=self._setup.application_name)
        self._copies.keep_from(line)
        return line

    # -- what goes back --

    def _attempt(self, job: Claimed) -> Attempt:
        reported_at = 0.0

        def report(fraction: float | None, note: str | None) -> None:
            nonlocal reported_at
            now = time.monotonic()
            if now - reported_at >= PROGRESS_S or fraction == 1:
                reported_at = now
                shown = None if note is None else attempt.mask(storable(str(note)))[:MAX_NOTE]
                self._outgoing.send(["progress", job.id, job.token, fraction, shown])

        headers, own = parted(_headers(job.headers)) if job.headers else ({}, {})
        current = CurrentJob(
            job.id,
            job.token,
            job.task,
            job.queue,
            job.attempt,
            headers,
            report,
            own_headers=own,
            waits=self._report_waiting,
            give_up=self._replace,
        )
        task, worker = self._app.tasks[job.task], self._setup.worker
        attempt: Attempt
        if LANE in own and (lane := LaneName.read(own[LANE])) is not None:
            attempt = BatchAttempt(
                job, task, current, worker=worker, async_jobs=self._async_jobs, lane=lane, line=self._line,
                line_async=self._line_async,
            )  # fmt: skip
        elif (task.limits.gates or self._app.queues) and task.lacks_gates(job):
            attempt = Parking(job, task, current, worker=worker, async_jobs=self._async_jobs)
        else:
            attempt = Attempt(job, task, current, worker=worker, async_jobs=self._async_jobs)
        return attempt

    def _resign(self, job_id: str, why: str) -> None:
        """Ask to be replaced, once, and give back what has not started."""
        with self._resigning:
            if self._spoiler is not None:
                return
            self._spoiler = job_id
        self._outgoing.send(["replace_me", why, self._outgoing.useful])
        self._return_unstarted()

    def _report_waiting(self, current: CurrentJob, awaited: str) -> None:
        """A job waits for another one's result: whether that one can run, only the supervisor knows."""
        self._outgoing.send(["waits", current.task, awaited])

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


def _headers(text: str) -> dict[str, Any]:
    """A job's headers, our own among them. A row that was written by hand may hold anything."""
    try:
        headers = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return headers if isinstance(headers, dict) else {}


def _frames(sock: socket.socket) -> Iterator[list[Any]]:
    unpacker = Unpacker()
    try:
        while data := sock.recv(1 << 16):
            yield from unpacker.feed(data)
    except OSError as error:
        end_alone(error)


def _facts(app: App) -> AppFacts:
    heeded = (
        "schema", "keep_succeeded_days", "keep_dead_days", "notify", "pool_size", "async_jobs", "on_worker_start", "on_worker_stop",
        "keep_events_days", "keep_events_days_at_most",
    )  # fmt: skip
    return AppFacts(
        code=fingerprint(app),
        dsn=app.config.dsn,
        config={name: getattr(app.config, name) for name in heeded},
        tasks={
            name: TaskFacts(task.is_async, task.timeout_s, task.queue, task.async_limit, task.limits.keyed)
            for name, task in app.tasks.items()
        },
        subscriptions=[subscription.as_json() for subscription in app.subscriptions.values()],
        webhooks=[endpoint.as_json() for endpoint in app.webhooks.values()],
        gates=[rule.as_json() for rule in app.rules()],
        schedules=[schedule.as_json() for schedule in app.schedules.made()],
    )


def main() -> None:
    """`python -m pgqueue.worker.child.main SOCKET_FD SLOTS_FD PARENT_PID`, started by the supervisor only."""
    ignore_signals()
    die_with_parent(int(sys.argv[3]))
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)
    copies = Copies(sock)
    frames = _frames(sock)
    _, told = next(frames)
    setup = ChildSetup(**told)
    loop = EventLoop(copies)
    try:
        with app_may_set_up_logging(level=setup.log_level, form=setup.log_format):
            app = load_app(setup.app)
        built_in.install(app)
        call_at_start(app.hooks.child_start, loop)
        facts = _facts(app)
    except BaseException as error:
        reason = str(error) if isinstance(error, PgQueueError | HookFailed) else describe(error)
        trace = None if isinstance(error, PgQueueError) else format_trace(error)
        sock.sendall(pack(["failed", reason, trace]))
        sys.exit(1)
    slots_fd = int(sys.argv[2])
    outgoing = Outgoing(sock, copies, weigh=setup.weigh)
    slots = RunningSlots(slots_fd, slots=setup.threads)
    child = ChildMain(outgoing, slots, app, setup, contexts=Contexts(), copies=copies, loop=loop)
    os.close(slots_fd)  # the memory stays; what a task starts must not inherit it
    sock.sendall(pack(["hello", facts.as_json()]))
    threading.Thread(target=child.read, args=(frames,), name="pgqueue reader", daemon=True).start()
    others = [
        threading.Thread(target=child.run, args=(n,), name=f"pgqueue {n}", daemon=True) for n in range(1, setup.threads)
    ]
    for thread in others:
        thread.start()
    child.run()
    for thread in others:
        thread.join()
    outgoing.flush()
    leave(partial(call_at_stop, app.hooks.child_stop, loop))


if __name__ == "__main__":
    main()
