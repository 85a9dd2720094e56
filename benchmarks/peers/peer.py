"""What a peer is: where its code comes from, how its worker is started, and how its store says that jobs are done."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from benchmarks.peers.environment import Environment

PROGRAMS = Path(__file__).parent / "programs"

Kind = Literal["postgres", "redis"]  # of store
Look = Callable[[str], int]  # one question to the store (SQL, or a command of Redis), answered by a number


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One system with one set of settings.

    program: the file in programs/ that enqueues, run inside `environment`. worker: the command of one worker process tree
    for so many processes; copies: whether a worker is one process, so that two processes are two of that command.
    done: how many jobs the store counts as done, given how many were enqueued. keeps: what is left of a job that succeeded.
    settings, source: what was chosen for throughput, and the document that says so. bulk: its own way to enqueue many.
    """

    name: str
    store: Kind
    environment: Environment
    program: str
    worker: Callable[[Environment, int], list[str]]
    done: Callable[[Look, int], int]
    keeps: str
    settings: str
    source: str
    bulk: str | None = None
    copies: bool = False
    prepares: bool = True
    variables: dict[str, str] = field(default_factory=dict)

    def commands(self, processes: int) -> list[list[str]]:
        """The commands that together are a worker of so many processes."""
        if self.copies:
            return [self.worker(self.environment, 1) for _ in range(processes)]
        return [self.worker(self.environment, processes)]

    def client(self, *arguments: str) -> list[str]:
        """The command that runs this peer's program."""
        return [str(self.environment.interpreter), str(PROGRAMS / self.program), *arguments]


class LeftOut(Exception):
    """A peer cannot take part; the message is one line that says why."""
