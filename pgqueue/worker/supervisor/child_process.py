"""A process of user code and the socket pair to it: started, spoken to, killed, and seen to its end."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Set
from typing import Any

from pgqueue.worker.link.frames import Unpacker, pack
from pgqueue.worker.link.greeting import ChildSetup, HelperSetup, RelaySetup
from pgqueue.worker.link.running_slots import RunningSlots, blank

HANG_UP_S = 0.2  # a process that the task started may hold the socket open after the child's end


class ChildProcess(asyncio.Protocol):
    """`heard` takes each message; `hung_up` is called once, when the connection has ended. `program`: a room of worker/."""

    def __init__(
        self,
        *,
        threads: int,
        heard: Callable[[list[Any]], None],
        hung_up: Callable[[], None],
        program: str = "child",
    ) -> None:
        self._program = f"pgqueue.worker.{program}.main"
        self._threads = threads
        self._heard = heard
        self._hung_up = hung_up
        self._process: asyncio.subprocess.Process | None = None
        self._slots: RunningSlots | None = None
        self._unpacker = Unpacker()
        self._transport: asyncio.Transport | None = None
        self._closed = asyncio.get_running_loop().create_future()

    # -- the wire --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        for message in self._unpacker.feed(data):
            self._heard(message)

    def connection_lost(self, error: Exception | None) -> None:
        self._hung_up()
        if not self._closed.done():
            self._closed.set_result(None)

    def send(self, *message: Any) -> None:
        """Nothing happens if it has hung up."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(pack(list(message)))

    # -- the process --

    async def launch(self, setup: ChildSetup | HelperSetup | RelaySetup) -> None:
        """Start the process and tell it what it is for; raises OSError if the system refuses one."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                await self._spawn(theirs.fileno())
            except OSError:
                ours.close()
                raise
        await asyncio.get_running_loop().create_connection(lambda: self, sock=ours)
        self.send("setup", setup.as_json())

    async def _spawn(self, fd: int) -> None:
        slots = blank(slots=self._threads)
        try:
            self._slots = RunningSlots(slots, slots=self._threads)
            fds = [fd, slots]
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", self._program, *map(str, fds), str(os.getpid()),
                pass_fds=fds, start_new_session=True, stdin=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
        finally:
            os.close(slots)

    async def ended(self) -> None:
        """Wait until the process has ended and everything it still said was heard."""
        assert self._process is not None
        await self._process.wait()
        await asyncio.wait([self._closed], timeout=HANG_UP_S)
        if self._transport is not None:
            self._transport.abort()

    def running(self) -> Set[str] | None:
        """The ids of the sync jobs that ran when it was last seen; None if nothing is known of that."""
        return None if self._slots is None else self._slots.running()

    def death(self) -> str:
        """How the process ended, for people."""
        code = None if self._process is None else self._process.returncode
        if code is not None and code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
            hint = " (probably out of memory, unless it was sent by hand)" if -code == signal.SIGKILL else ""
            return f"was killed by {name}{hint}"
        return f"exited with code {code}"

    def kill(self) -> None:
        """End the process now, whatever it runs, together with what it started in its session."""
        if self._process is not None and self._process.returncode is None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:  # it has just ended by itself
                return

    def close(self) -> None:
        """Give back what the supervisor kept of it."""
        if self._slots is not None:
            self._slots.close()
