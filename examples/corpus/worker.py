"""A real `pgqueue worker` for the corpus, in a process of its own, with its log in a file."""

import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

STOP_S = 40.0  # longer than the worker's own shutdown timeout, after which it ends whatever runs
TAIL = 30  # lines of the log that are shown


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


@dataclass
class Worker:
    """The running process. `check` in every waiting loop, so that a dead worker is told and never waited for."""

    process: subprocess.Popen[bytes]
    log: IO[bytes]

    def check(self) -> None:
        """Raise DemoError with the end of the log if the worker has ended."""
        code = self.process.poll()
        if code is not None:
            raise self.failed(f"the worker ended by itself (exit code {code})")

    def failed(self, what: str) -> DemoError:
        """An error with the end of the worker's log, where the reason may stand."""
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").splitlines()
        return DemoError("\n  ".join([f"{what}; the end of its log:", *lines[-TAIL:]]))

    def stop(self) -> int:
        """Stop it as a deploy would, with SIGTERM, and return its exit code. If this is interrupted it is killed."""
        self.process.terminate()
        try:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_S)
        finally:
            self.process.kill()  # does nothing to a process that has ended
            code = self.process.wait()
        return code


@contextmanager
def running_worker(*, children: int) -> Iterator[Worker]:
    """Start a worker, and stop it at the end of the block if it still runs."""
    with tempfile.TemporaryFile() as log:
        command = [pgqueue_command(), "worker", "-A", "examples.corpus.tasks", "-c", str(children)]
        # A session of its own: Ctrl-C reaches us alone, and we stop the worker once and in order.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        worker = Worker(process, log)
        try:
            yield worker
        finally:
            if process.poll() is None:
                worker.stop()


def pgqueue_command() -> str:
    """The console script of the environment that runs us, on PATH or not."""
    return str(Path(sysconfig.get_path("scripts")) / "pgqueue")
