"""One sample: a peer with a store of its own, its client, its worker, and what the tasks have counted."""

import json
import os
import signal
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.peer import PROGRAMS, Peer
from benchmarks.peers.stores import Place, Stores

POLL_S = 0.02
CLIENT_S = 600.0
STOP_S = 20.0  # for an orderly end; then the process group is killed
STALL_S = 60.0  # a worker that has done nothing for so long has failed


class Failed(Exception):
    """A peer did not do what it should; the message is one line."""


@dataclass(frozen=True)
class Sample:
    """peer, place: who and where. folder: the tasks' counters, and what worker and client said."""

    peer: Peer
    place: Place
    folder: Path

    def prepare(self) -> None:
        """Make the tables."""
        if self.peer.prepares:
            self._run("prepare")

    def client(self, *arguments: object) -> dict[str, Any]:
        """What a command of the peer's program answers."""
        answer: dict[str, Any] = json.loads(self._run(*map(str, arguments)))
        return answer

    @contextmanager
    def started(self, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
        """The peer's program at work beside us."""
        command = self.peer.client(*map(str, arguments))
        with (self.folder / "client.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, **self._surroundings())
        try:
            yield process
        finally:
            _stop(process)

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            self.peer.client(*arguments), capture_output=True, text=True, timeout=CLIENT_S, **self._surroundings()
        )
        if done.returncode:
            raise Failed(f"{self.peer.program} {arguments[0]}: {_last_line(done.stderr)}")
        return str(done.stdout)

    def _surroundings(self) -> dict[str, Any]:
        own = {"PEER_TICKS": str(self.folder), "PYTHONPATH": str(PROGRAMS)}
        peer = self.peer.variables | self.peer.environment.variables
        return {"env": os.environ | own | peer | self.place.variables, "cwd": PROGRAMS, "start_new_session": True}

    @contextmanager
    def worker(self, processes: int) -> Iterator[None]:
        """A worker at work; stopped as a service manager would."""
        with ExitStack() as stack:
            log = stack.enter_context((self.folder / "worker.log").open("ab"))
            for command in self.peer.commands(processes):
                process = subprocess.Popen(command, stdout=log, stderr=log, **self._surroundings())
                stack.callback(_stop, process)
            yield

    def ticked(self) -> int:
        """How many jobs have run, by the tasks' own counters."""
        return sum(
            struct.unpack_from("=Q", path.read_bytes().ljust(8, b"\0"))[0] for path in self.folder.glob("*.ticks")
        )

    def stamps(self) -> dict[int, int]:
        """When each numbered job began, in ns."""
        path = self.folder / "stamps"
        lines = path.read_text().splitlines() if path.exists() else []
        return {int(number): int(began) for number, began in map(str.split, lines)}

    def done(self, enqueued: int) -> int:
        """How many jobs the store says are done."""
        return self.peer.done(self.place.number, enqueued)

    def said(self) -> str:
        """The worker's last words."""
        path = self.folder / "worker.log"
        return _last_line(path.read_text("utf-8", "replace") if path.exists() else "")


@contextmanager
def sample(stores: Stores, peer: Peer) -> Iterator[Sample]:
    """An empty store with the peer's tables."""
    with tempfile.TemporaryDirectory(prefix="pgqueue-peers-") as folder, stores.fresh(peer.store) as place:
        this = Sample(peer, place, Path(folder))
        this.prepare()
        yield this


class Watch:
    """Raises Failed if nothing has changed for STALL_S."""

    def __init__(self, this: Sample, what: str) -> None:
        self._this, self._what = this, what
        self._last, self._at = -1, time.monotonic()

    def saw(self, count: int) -> int:
        if count != self._last:
            self._last, self._at = count, time.monotonic()
        elif time.monotonic() - self._at > STALL_S:
            raise Failed(f"{self._what}: stuck at {count}; the worker said: {self._this.said()}")
        return count


def _stop(process: "subprocess.Popen[Any]") -> None:
    """TERM to the process that we started; whatever is left of its group after STOP_S is killed."""
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["nothing"])[-1][:300]
