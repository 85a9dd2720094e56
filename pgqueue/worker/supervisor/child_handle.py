"""One child process as its supervisor sees it: started, spoken to over a socket pair, given jobs, killed."""

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pgqueue.job import Claimed
from pgqueue.worker.link.frames import Unpacker, pack
from pgqueue.worker.link.running_slots import RunningSlots, blank
from pgqueue.worker.settings import COMING_S

logger = logging.getLogger("pgqueue.worker")


@dataclass(slots=True, eq=False)
class Run:
    """A job given to a child. started_at is monotonic; None while it may still wait behind another."""

    job: Claimed
    is_async: bool
    timeout_s: float | None
    given_at: float
    started_at: float | None = None
    soft_at: float | None = None
    cancelled_at: float | None = None  # monotonic, when it was asked to stop
    kill: bool = False  # to be killed, should it not


class ChildHandle(asyncio.Protocol):
    """One child process and the jobs it has. Ready after its hello; leaving once it is told to stop."""

    def __init__(self, number: int, *, threads: int, heard: Callable[["ChildHandle", list[Any]], None]) -> None:
        self.number = number
        self.threads = threads
        self.sync_runs: dict[str, Run] = {}  # in the order given, which is the order of starting
        self.async_runs: dict[str, Run] = {}
        self.isolated: str | None = None
        self.ready = False
        self.came_up = False
        self.leaving = False
        self.done_count = 0
        self.born_at = time.monotonic()
        # When a sync job last began, and when an async one was last given. Both kinds talk, so what was heard tells neither.
        self.moved_at = self.filled_at = 0.0
        self.busy_since = 0.0
        self.nudged = False
        self.condemned: str | None = None  # the job for whose time limit this child is being killed
        self.cut = False  # it is being killed for one job's sake; what else it has is not to blame
        self.failed: str | None = None
        self.hopeless = False  # another try would fail likewise
        self.fruitless = False  # it was spoiled before any job succeeded in it
        self._told = False
        self.process: asyncio.subprocess.Process | None = None
        self._slots: RunningSlots | None = None
        self.closed = asyncio.get_running_loop().create_future()
        self._heard = heard
        self._unpacker = Unpacker()
        self._transport: asyncio.Transport | None = None

    # -- the wire --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        for message in self._unpacker.feed(data):
            self._heard(self, message)

    def connection_lost(self, error: Exception | None) -> None:
        self.ready = False  # it is gone, even if the kernel has not said so yet
        if not self.closed.done():
            self.closed.set_result(None)

    def send(self, *message: Any) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(pack(list(message)))

    async def launch(self, setup: dict[str, Any]) -> None:
        """Start the process and tell it what it is for; raises OSError if the system refuses one."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                await self._spawn(theirs.fileno())
            except OSError:
                ours.close()
                raise
        await asyncio.get_running_loop().create_connection(lambda: self, sock=ours)
        self.send("setup", setup)

    async def _spawn(self, fd: int) -> None:
        slots = blank(slots=self.threads)
        try:
            self._slots = RunningSlots(slots, slots=self.threads)
            fds = [fd, slots]
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "pgqueue.worker.child.main", *map(str, fds), str(os.getpid()),
                pass_fds=fds, start_new_session=True, stdin=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
        finally:
            os.close(slots)

    async def ended(self, *, start_s: float) -> None:
        """Wait until the process has ended and everything it still said was heard. It has start_s seconds to come up."""
        assert self.process is not None
        starting = asyncio.get_running_loop().call_later(start_s, self._give_up_starting, start_s)
        await self.process.wait()
        starting.cancel()
        # A process that the task started may hold the socket open after the child's end.
        await asyncio.wait([self.closed], timeout=0.2)
        if self._transport is not None:
            self._transport.abort()

    def _give_up_starting(self, start_s: float) -> None:
        if not self.came_up:
            self.failed = f"it did not finish importing the app within {start_s:.0f} s"
            self.hopeless = True
            self.kill()

    @property
    def coming(self) -> bool:
        """It was started just now, and will soon take jobs."""
        return not self.came_up and time.monotonic() - self.born_at < COMING_S

    def close(self) -> None:
        """Give back what its supervisor kept of it."""
        if self._slots is not None:
            self._slots.close()

    def was_running(self, run: "Run") -> bool:
        """Whether this job ran when the process died. Of async jobs any may have been the one that was at it."""
        return run.is_async or self._slots is None or run.job.id in self._slots.running()

    def death(self) -> str:
        """How the process ended, for people."""
        code = None if self.process is None else self.process.returncode
        if code is not None and code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
            hint = " (if nobody sent it: out of memory)" if -code == signal.SIGKILL else ""
            return f"was killed by {name}{hint}"
        return f"exited with code {code}"

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
        yield from self.sync_runs.values()
        yield from self.async_runs.values()

    @property
    def empty(self) -> bool:
        return not self.sync_runs and not self.async_runs

    @property
    def usable(self) -> bool:
        return self.ready and not self.leaving and self.isolated is None

    def stop(self) -> None:
        """Let it finish what it has and end."""
        self.leaving = True
        if not self._told:
            self._told = True
            self.send("stop")

    def give(self, runs: list[Run]) -> None:
        """Buffer over jobs in one frame."""
        if self.empty:
            self.busy_since = time.monotonic()
        for run in runs:
            (self.async_runs if run.is_async else self.sync_runs)[run.job.id] = run
        if runs[0].is_async:
            self.filled_at = runs[0].given_at
        self.mark_started()
        self.send("run", [run.job for run in runs])

    def rest(self) -> float:
        """How long it had jobs, up to now, since it was last asked."""
        now = time.monotonic()
        busy_s, self.busy_since = now - self.busy_since, now
        return busy_s

    def mark_started(self) -> None:
        """Sync jobs start in order, as many as there are threads; async ones at once."""
        now = time.monotonic()
        for run in islice(self.sync_runs.values(), self.threads):
            if run.started_at is None:
                run.started_at = self.moved_at = now

    def pop(self, job_id: str) -> Run | None:
        run = self.sync_runs.pop(job_id, None) or self.async_runs.pop(job_id, None)
        if self.isolated == job_id:
            self.isolated = None
        return run
