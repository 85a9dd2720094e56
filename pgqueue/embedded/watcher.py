"""The process that stops an unused server: `python -m pgqueue.embedded.watcher FOLDER SOCKETS LOCK_FD`.

It keeps one connection, looks now and then for other clients, and asks the postmaster for a fast shutdown when there
were none for the idle time. It ends with its server. It holds watch.lock, and lets go of it only while it holds
start.lock and the server is dead: otherwise a process could restart the server, find the lock taken, and rely on a
watcher about to leave.
"""

import os
import select
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pgqueue.db import connect
from pgqueue.embedded.locks import locked
from pgqueue.embedded.places import Place, server_account
from pgqueue.embedded.server import Server, read_statement
from pgqueue.errors import DatabaseUnavailable, EmbeddedError

LEAST_IDLE_S = 1.0  # between ensure() and its caller's first connection
LEAST_LOOK_S = 0.1
MOST_LOOK_S = 15.0  # four looks a minute cost nothing to notice
RETRY_S = 1.0  # the server lives and does not let us in: it recovers, or is full


class Use(NamedTuple):
    """How much the server is used. Two equal looks mean that no client came in between."""

    clients: int
    sessions: int
    marked_ns: int


@dataclass
class Watch:
    """One connection's watch. `step` looks once and returns the seconds until the next look, None when it is over."""

    server: Server
    look: Callable[[], Use]
    last: Use | None = None
    since_s: float = field(default_factory=time.monotonic)

    def step(self) -> float | None:
        use, now_s = self.look(), time.monotonic()
        # We compare changes, never clocks: a file's time against ours would be wrong after a clock step.
        if use.clients or use != self.last:
            self.last, self.since_s = use, now_s
        idle_s = max(LEAST_IDLE_S, float(self.server.place.used.read_text()))
        if now_s - self.since_s >= idle_s and self._stop():
            return None
        return min(max(idle_s / 10, LEAST_LOOK_S), MOST_LOOK_S)

    def _stop(self) -> bool:
        """Nobody can join while we hold start.lock: look once more, then stop."""
        with locked(self.server.place.start_lock):
            return self.look() == self.last and self.server.shut_down()


def watch(server: Server) -> None:
    """Until the server stops, by us or otherwise."""
    with connect(f"{server.place.dsn(database='postgres')} application_name=pgqueue-watcher") as connection:

        def look() -> Use:
            clients, sessions = connection.execute(read_statement("clients")).fetchone() or (0, 0)
            return Use(clients, sessions, server.place.used.stat().st_mtime_ns)

        steps = Watch(server, look)
        try:
            while (pause_s := steps.step()) is not None:
                select.select([connection], [], [], pause_s)  # wakes at once when the server says goodbye
        except connection.Error:
            return


def leave(server: Server, lock_fd: int) -> bool:
    """Let go of watch.lock if the server is dead."""
    with locked(server.place.start_lock):
        if not server.is_dead():
            return False
        os.close(lock_fd)
        return True


def main(folder: str, sockets: str, lock_fd: str) -> None:
    server = Server(Place(Path(folder), Path(sockets)), server_account())
    try:
        while True:
            try:
                watch(server)
            except DatabaseUnavailable:
                time.sleep(RETRY_S)
            if leave(server, int(lock_fd)):
                return
    except FileNotFoundError:
        return  # the folder was deleted; postgres notices that within a minute and stops by itself
    except EmbeddedError as error:
        sys.exit(f"pgqueue watcher: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
