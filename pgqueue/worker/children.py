"""The child processes as their supervisor sees them: started, handed frames, timed, taken back from, killed, replaced.

Jobs in hand are claimed but not started. A child gets one sync job per thread at a time, unless the task was measured to
be short: then a frame carries many. Whatever does not start within 100 ms behind a slow job is taken back. Async jobs start
at once, up to a limit per child. A job that crashed before runs with no other job beside it, so that no neighbour is
blamed; one that crashed twice gets a fresh process, so that no predecessor is to blame either.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from pgqueue.errors import ConfigError
from pgqueue.job import Claimed, Outcome, Verdict
from pgqueue.worker.frames import Unpacker, pack
from pgqueue.worker.settings import (
    ASYNC_JOBS,
    CRASH_CAP,
    FAST_S,
    FRAME_JOBS,
    FRAME_S,
    HARD_GRACE_S,
    START_S,
    STUCK_S,
    TICK_S,
    Settings,
)

logger = logging.getLogger("pgqueue.worker")

SMOOTH = 0.1  # weight of a new measurement of a task's run time
SAMPLES = 10  # before that many, a task counts as slow


@dataclass(slots=True)
class Pace:
    """What is known of a task: from the child's hello, and its run time as measured."""

    is_async: bool
    timeout_s: float | None
    mean_s: float = 1.0
    samples: int = 0

    @property
    def fast(self) -> bool:
        return self.samples >= SAMPLES and self.mean_s <= FAST_S

    def measured(self, seconds: float) -> None:
        """One more run; the first ones count fully, so that the start value is forgotten."""
        self.samples += 1
        self.mean_s += (seconds - self.mean_s) * max(SMOOTH, 1 / self.samples)


@dataclass(slots=True, eq=False)
class Run:
    """A job given to a child. started_at is monotonic; None while it may still wait behind another."""

    job: Claimed
    is_async: bool
    timeout_s: float | None
    given_at: float
    started_at: float | None = None
    soft_at: float | None = None
    cancelled: bool = False


class Child(asyncio.Protocol):
    """One child process and the jobs it has. Ready after its hello; leaving once it is told to stop."""

    def __init__(self, number: int, *, threads: int, heard: Callable[["Child", list[Any]], None]) -> None:
        self.number = number
        self.threads = threads
        self.sync: dict[str, Run] = {}  # in the order given, which is the order of starting
        self.later: dict[str, Run] = {}
        self.alone: str | None = None
        self.ready = False
        self.came_up = False
        self.leaving = False
        self.done_count = 0
        self.heard_at = time.monotonic()
        self.nudged = False
        self.condemned: str | None = None  # the job for whose time limit this child is being killed
        self.failed: str | None = None
        self._told = False
        self.process: asyncio.subprocess.Process | None = None
        self.closed = asyncio.get_running_loop().create_future()
        self._heard = heard
        self._unpacker = Unpacker()
        self._transport: asyncio.Transport | None = None

    # -- the wire --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.heard_at = time.monotonic()
        for message in self._unpacker.feed(data):
            self._heard(self, message)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)

    def send(self, *message: Any) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(pack(list(message)))

    def kill(self) -> None:
        """End the process now, whatever it runs, together with what it started in its session."""
        if self.process is not None and self.process.returncode is None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:  # it has just ended by itself
                return

    # -- its jobs --

    @property
    def runs(self) -> Iterable[Run]:
        yield from self.sync.values()
        yield from self.later.values()

    @property
    def empty(self) -> bool:
        return not self.sync and not self.later

    @property
    def usable(self) -> bool:
        return self.ready and not self.leaving and self.alone is None

    def stop(self) -> None:
        """Let it finish what it has and end."""
        self.leaving = True
        if not self._told:
            self._told = True
            self.send("stop")

    def give(self, runs: list[Run]) -> None:
        """Hand over jobs in one frame."""
        for run in runs:
            (self.later if run.is_async else self.sync)[run.job.id] = run
        self.mark_started()
        self.send("run", [run.job for run in runs])

    def mark_started(self) -> None:
        """Sync jobs start in order, as many as there are threads; async ones at once."""
        now = time.monotonic()
        for run in islice(self.sync.values(), self.threads):
            run.started_at = run.started_at or now

    def pop(self, job_id: str) -> Run | None:
        run = self.sync.pop(job_id, None) or self.later.pop(job_id, None)
        if self.alone == job_id:
            self.alone = None
        return run


@dataclass(slots=True)
class Hand:
    """Jobs claimed and not yet given to a child."""

    sync: deque[Claimed] = field(default_factory=deque)
    later: deque[Claimed] = field(default_factory=deque)
    alone: deque[Claimed] = field(default_factory=deque)
    stale_since: float = 0.0

    def __len__(self) -> int:
        return len(self.sync) + len(self.later) + len(self.alone)

    def clear(self) -> list[Claimed]:
        jobs = [*self.alone, *self.sync, *self.later]
        for part in (self.sync, self.later, self.alone):
            part.clear()
        return jobs


class Crew:
    """All children of one worker. `deliver` takes outcomes, `report` progress; `stirred` is called when capacity may have changed."""

    def __init__(
        self,
        settings: Settings,
        *,
        deliver: Callable[[list[Outcome]], None],
        report: Callable[[str, int, float | None, str | None], None],
        stirred: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._deliver = deliver
        self._report = report
        self._stirred = stirred
        self.children: list[Child] = []
        self.hand = Hand()
        self.tasks: dict[str, Pace] = {}
        self.hello: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._hello_seen = False
        self._setup: dict[str, Any] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._judgments: deque[tuple[Claimed, str]] = deque()
        self._judging: dict[str, Claimed] = {}
        self._stopping = False
        self.last_done_at = time.monotonic()
        self._async_share = 0.0  # of the jobs claimed lately: how many of the next ones are likely to be async
        self.finished = 0  # jobs that came back from children, ever

    # -- processes --

    def start(self, setup: dict[str, Any]) -> None:
        """Start all children; `hello` is set by the first that is ready."""
        self._setup = setup
        self._keepers = [asyncio.create_task(self._keep(number)) for number in range(self._settings.concurrency)]

    async def _keep(self, number: int) -> None:
        """Keep one place filled: start a child, wait for its end, settle its jobs, start the next."""
        failures = 0
        while not self._stopping:
            child = Child(number, threads=self._settings.threads, heard=self._heard)
            self.children.append(child)
            await self._launch(child)
            await self._watch(child)
            self.children.remove(child)
            self._bury(child)
            failures = 0 if child.came_up else failures + 1
            if child.failed is not None and not self._hello_seen:
                if not self.hello.done():
                    self.hello.set_exception(ConfigError(child.failed))
                return
            if failures and not self._stopping:
                logger.error("child %d did not come up%s", number, f": {child.failed}" if child.failed else "")
                await asyncio.sleep(min(30.0, 2.0 ** (failures - 1)))

    async def _launch(self, child: Child) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            child.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "pgqueue.worker.child", str(theirs.fileno()), str(os.getpid()),
                pass_fds=[theirs.fileno()], start_new_session=True, stdin=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
        await asyncio.get_running_loop().create_connection(lambda: child, sock=ours)
        child.send("setup", self._setup)

    async def _watch(self, child: Child) -> None:
        """Until the process has ended and everything it still said was heard."""
        assert child.process is not None
        starting = asyncio.get_running_loop().call_later(START_S, self._give_up_starting, child)
        await child.process.wait()
        starting.cancel()
        # A process that the task started may hold the socket open after the child's end.
        await asyncio.wait([child.closed], timeout=0.2)
        if child._transport is not None:
            child._transport.abort()

    def _give_up_starting(self, child: Child) -> None:
        if not child.ready:
            child.failed = f"it did not finish importing the app within {START_S:.0f} s"
            child.kill()

    def _bury(self, child: Child) -> None:
        """Settle the jobs of a child that has ended."""
        runs = list(child.runs)
        child.ready = False
        if runs:
            code = child.process.returncode if child.process else None
            for run in runs:
                self._settle_lost(child, run, code)
        self.dispatch()
        self._stirred()

    def _settle_lost(self, child: Child, run: Run, code: int | None) -> None:
        if run.job.id == child.condemned:
            self.judge(run.job, f"the task ran longer than its timeout of {run.timeout_s:g} s and was killed")
        elif child.condemned is not None or self._stopping:
            self._deliver([Outcome(run.job.id, run.job.token, Verdict.RELEASE)])
        else:
            self._deliver([_crash(run.job, _death(code))])

    def judge(self, job: Claimed, error: str) -> None:
        """Have a child ask the task's policy what shall become of a job whose own child was killed."""
        self._judgments.append((job, error))
        self._pass_judgments()

    def _pass_judgments(self) -> None:
        for child in self.children:
            if child.ready:
                while self._judgments:
                    job, error = self._judgments.popleft()
                    self._judging[job.id] = job
                    child.send("judge", job, "time limit", error)
                return

    # -- what children say --

    def _heard(self, child: Child, message: list[Any]) -> None:
        match message:
            case ["done", done, rss_mb]:
                self._done(child, done, rss_mb)
            case ["given", ids]:
                self._given(child, ids)
            case ["progress", job_id, token, fraction, note]:
                self._report(job_id, token, fraction, note)
            case ["hello", hello]:
                self._welcome(child, hello)
            case ["failed", reason, trace]:
                child.failed = reason
                if trace and not self._hello_seen:
                    sys.stderr.write(trace)

    def _welcome(self, child: Child, hello: dict[str, Any]) -> None:
        child.ready = child.came_up = True
        for name, task in hello["tasks"].items():
            self.tasks.setdefault(name, Pace(**{key: task[key] for key in ("is_async", "timeout_s")}))
        if not self._hello_seen:
            self._hello_seen = True
            self._async_share = sum(pace.is_async for pace in self.tasks.values()) / max(1, len(self.tasks))
            self.hello.set_result(hello)
        self._pass_judgments()
        self.dispatch()
        self._stirred()

    def _done(self, child: Child, done: list[Any], rss_mb: float) -> None:
        outcomes = []
        for fields, seconds in done:
            outcome = Outcome(*fields)
            run = child.pop(outcome.job_id)
            if run is None:
                self._judging.pop(outcome.job_id, None)
            elif run.job.task in self.tasks:
                self.tasks[run.job.task].measured(seconds)
            outcomes.append(outcome)
        child.mark_started()
        child.done_count += len(done)
        self.finished += len(done)
        self.last_done_at = time.monotonic()
        self._deliver(outcomes)
        self._retire_if_due(child, rss_mb)
        self.dispatch()
        self._stirred()

    def _retire_if_due(self, child: Child, rss_mb: float) -> None:
        limits = self._settings
        worn = limits.max_tasks_per_child is not None and child.done_count >= limits.max_tasks_per_child
        heavy = limits.max_memory_per_child_mb is not None and rss_mb > limits.max_memory_per_child_mb
        if (worn or heavy) and not child.leaving:
            logger.info("child %d is replaced after %d jobs, at %.0f MB", child.number, child.done_count, rss_mb)
            self._retire(child)

    def _retire(self, child: Child) -> None:
        child.leaving = True
        if child.empty:
            child.stop()
        else:
            child.send("nudge")  # what has not started goes to others; the last outcome stops it

    def _given(self, child: Child, ids: list[str]) -> None:
        child.nudged = False
        for job_id in reversed(ids):
            if run := child.pop(job_id):
                self.hand.sync.appendleft(run.job)
        if ids and not self.hand.stale_since:
            self.hand.stale_since = time.monotonic()
        if self._stopping:
            self.release_hand()
        self.dispatch()
        self._stirred()

    # -- jobs --

    def take(self, jobs: Iterable[Claimed]) -> None:
        """Jobs just claimed."""
        jobs = list(jobs)
        if jobs:
            share = sum(self.tasks[job.task].is_async for job in jobs) / len(jobs)
            self._async_share += (share - self._async_share) * 0.3
        for job in jobs:
            if job.crashes:
                self.hand.alone.append(job)
            elif self.tasks[job.task].is_async:
                self.hand.later.append(job)
            else:
                self.hand.sync.append(job)
        self.dispatch()

    def room(self) -> int:
        """How many more jobs could start at once: free threads, and free places for async jobs by their share of late."""
        usable = [child for child in self.children if child.usable]
        threads = sum(max(0, child.threads - len(child.sync)) for child in usable)
        places = sum(ASYNC_JOBS - len(child.later) for child in usable)
        later = int(places * self._async_share) - len(self.hand.later)
        return max(0, threads - len(self.hand.sync) - len(self.hand.alone)) + max(0, later)

    def running(self) -> dict[str, Run]:
        """Every job that a child has, by id."""
        return {run.job.id: run for child in self.children for run in child.runs}

    def holds(self) -> set[str]:
        """The ids of every job in this worker's hands: given, in hand or being judged."""
        return self.running().keys() | {job.id for job in (*self.hand.sync, *self.hand.later, *self.hand.alone)} | set(
            self._judging
        ) | {job.id for job, _ in self._judgments}

    def dispatch(self) -> None:
        """Give as much of the hand to children as may start."""
        if self._stopping:
            return
        while self.hand.alone and self._give_alone(self.hand.alone[0]):
            self.hand.alone.popleft()
        while self.hand.later and (child := self._most_idle()):
            free = ASYNC_JOBS - len(child.later)
            self._give(child, [self.hand.later.popleft() for _ in range(min(free, len(self.hand.later), FRAME_JOBS))])
        while self.hand.sync and (child := self._place_for(self.tasks[self.hand.sync[0].task])):
            self._give(child, self._frame())
        if not self.hand:
            self.hand.stale_since = 0.0
        elif not self.hand.stale_since:
            self.hand.stale_since = time.monotonic()

    def _give_alone(self, job: Claimed) -> bool:
        for child in self.children:
            if child.usable and child.empty and not self._must_be_fresh(job, child):
                child.alone = job.id
                self._give(child, [job])
                return True
        return False

    def _must_be_fresh(self, job: Claimed, child: Child) -> bool:
        """A used child is sent away for a fresh one if this may be the job's last try."""
        if job.crashes < CRASH_CAP - 1 or child.done_count == 0:
            return False
        if not any(other.done_count == 0 or not other.ready for other in self.children):
            self._retire(child)
        return True

    def _most_idle(self) -> Child | None:
        free = [child for child in self.children if child.usable and len(child.later) < ASYNC_JOBS]
        return min(free, key=lambda child: len(child.later), default=None)

    def _place_for(self, pace: Pace) -> Child | None:
        """The first child with a free thread; for a short task also one that works through a frame of short ones."""
        for child in self.children:
            if child.usable and len(child.sync) < child.threads:
                return child
        if pace.fast:
            recent = time.monotonic() - TICK_S
            for child in self.children:
                if child.usable and len(child.sync) <= FRAME_JOBS and child.heard_at > recent:
                    return child
        return None

    def _frame(self) -> list[Claimed]:
        """The next job, and those behind it as long as all are short and together within the budget of a frame."""
        jobs, budget_s = [self.hand.sync.popleft()], FRAME_S
        pace = self.tasks[jobs[0].task]
        while pace.fast and self.hand.sync and len(jobs) < FRAME_JOBS:
            budget_s -= pace.mean_s
            pace = self.tasks[self.hand.sync[0].task]
            if not pace.fast or budget_s < pace.mean_s:
                break
            jobs.append(self.hand.sync.popleft())
        return jobs

    def _give(self, child: Child, jobs: list[Claimed]) -> None:
        now = time.monotonic()
        runs = []
        for job in jobs:
            pace = self.tasks[job.task]
            timeout_s = job.timeout_s or pace.timeout_s
            runs.append(Run(job, pace.is_async, timeout_s, now, now if pace.is_async else None))
        child.give(runs)

    # -- time --

    async def tick(self) -> None:
        """Look after running jobs for ever: time limits, and jobs stuck behind others."""
        while True:
            await asyncio.sleep(TICK_S if self.hand or any(not child.empty for child in self.children) else 4 * TICK_S)
            self.look()

    def look(self) -> None:
        """One look at everything that runs."""
        now = time.monotonic()
        for child in list(self.children):
            if len(child.sync) > child.threads and now - child.heard_at > STUCK_S and not child.nudged:
                child.nudged = True
                child.send("nudge")
            for run in list(child.runs):
                if run.timeout_s is not None and run.started_at is not None:
                    self._limit(child, run, now)
            if child.leaving and child.ready and child.empty:
                child.stop()
        if self.hand.stale_since and now - self.hand.stale_since > STUCK_S and not self._some_place_soon():
            self.release_hand()

    def _some_place_soon(self) -> bool:
        """A child that is starting will take the hand; one that leaves is about to be replaced."""
        return any(not child.ready or child.leaving for child in self.children)

    def release_hand(self) -> None:
        """Give back what cannot start soon: another worker may have room."""
        jobs = self.hand.clear()
        self.hand.stale_since = 0.0
        self._deliver([Outcome(job.id, job.token, Verdict.RELEASE) for job in jobs])

    def _limit(self, child: Child, run: Run, now: float) -> None:
        assert run.started_at is not None and run.timeout_s is not None
        if run.soft_at is None and now - run.started_at > run.timeout_s:
            run.soft_at = now
            child.send("soft", run.job.id)
        elif run.soft_at is not None and now - run.soft_at > HARD_GRACE_S and child.condemned is None:
            logger.warning("job %s (%s) did not end %g s after its timeout; its child is killed", run.job.id, run.job.task, HARD_GRACE_S)
            child.condemned = run.job.id
            child.kill()

    def cancel(self, ids: Iterable[str]) -> None:
        """Ask these running jobs to stop."""
        wanted = set(ids)
        for child in self.children:
            for run in child.runs:
                if run.job.id in wanted and not run.cancelled:
                    run.cancelled = True
                    child.send("cancel", run.job.id)

    # -- the end --

    def abandon(self, **setup: Any) -> None:
        """Nothing here is ours any more: end all children, settle nothing, start over with a new setup."""
        self._setup |= setup
        self.hand.clear()
        self._judgments.clear()
        self._judging.clear()
        for child in self.children:
            child.sync.clear()
            child.later.clear()
            child.kill()

    def recall(self) -> None:
        """Take back everything that has not started."""
        self._stopping = True
        self.release_hand()
        for child in self.children:
            child.send("nudge")

    @property
    def idle(self) -> bool:
        """Nothing given, nothing in hand, nothing being judged."""
        return not self.hand and not self._judging and not self._judgments and all(child.empty for child in self.children)

    async def stop(self) -> None:
        """End all children: politely those that have nothing to do, the others by force."""
        self._stopping = True
        for child in self.children:
            if child.ready and child.empty:
                child.stop()
            else:
                child.kill()
        if self._keepers:
            _, late = await asyncio.wait(self._keepers, timeout=2.0)
            for child in self.children:
                child.kill()
            if late:
                await asyncio.wait(late)


def _crash(job: Claimed, death: str) -> Outcome:
    crashes = job.crashes + 1
    if crashes >= CRASH_CAP:
        error = f"quarantined: its process died {crashes} times while running it; the last one {death}"
        return Outcome(job.id, job.token, Verdict.QUARANTINE, cause="crash", error=error)
    return Outcome(job.id, job.token, Verdict.CRASH, cause="crash", error=f"the process running it {death}")


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        hint = " (if nobody sent it: out of memory)" if -code == signal.SIGKILL else ""
        return f"was killed by {name}{hint}"
    return f"exited with code {code}"
