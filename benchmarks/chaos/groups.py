"""A program behind a network of its own: a worker group, which is one `pgqueue worker` with its children, or the reader."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pgqueue
from benchmarks.chaos.proxy import Proxy

ROOT = Path(__file__).parents[2]
PACKAGE = Path(pgqueue.__file__).parents[1]
STOP_S = 40


def worker(children: int) -> list[str]:
    """The words of a worker's command line, after Python's own."""
    return ["pgqueue", "worker", "-A", "benchmarks.chaos.tasks", "-c", str(children)]


READER = ["benchmarks.chaos.reader"]


class Group:
    """Started and started again by the run, with the package that this process has: ours or a mutant."""

    def __init__(
        self, name: str, proxy: Proxy, *, dsn: str, module: Sequence[str], folder: Path, environment: Mapping[str, str],
    ) -> None:  # fmt: skip
        self.name = name
        self.proxy = proxy
        self._command = [sys.executable, "-m", *module]
        self._environment = {**os.environ, **environment, "PGQUEUE_DSN": dsn}
        # The package first, so that a mutant hides the original; then this checkout for the tasks.
        self._environment["PYTHONPATH"] = f"{PACKAGE}{os.pathsep}{ROOT}"
        self._log = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; a moment later it works, if the database is there."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, env=self._environment, cwd=PACKAGE, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True,
            )  # fmt: skip

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def pids(self) -> list[int]:
        """The supervisor and its children, supervisor first."""
        if self.process is None:
            return []
        pid = self.process.pid
        with suppress(OSError):
            return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
        return [pid]

    def children(self) -> list[int]:
        """Those that run jobs."""
        return [pid for pid in self.pids()[1:] if not _is_relay(pid)]

    def relays(self) -> list[int]:
        """Those that relay."""
        return [pid for pid in self.pids()[1:] if _is_relay(pid)]

    def signal(self, number: signal.Signals, pids: list[int]) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """kill -9 of the supervisor, and wait for its end."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> int:
        """TERM, and its exit code."""
        if self.process is None:
            return 0
        self.signal(signal.SIGCONT, self.pids())
        self.process.terminate()
        return self.process.wait(STOP_S)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""


def _is_relay(pid: int) -> bool:
    with suppress(OSError):
        return b"pgqueue.worker.relay" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False
