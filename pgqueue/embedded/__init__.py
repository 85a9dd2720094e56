"""The project's own PostgreSQL for development and tests: start it or join it, look at it, stop it.

One server per project and PostgreSQL major. A process that needs it calls `ensure()`; none owns it: a detached watcher stops
it when it has had no client for a while. So there is nothing to clean up in the calling process, and `kill -9` of any
participant leaves the others working.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pgqueue.config import project_root
from pgqueue.errors import EmbeddedError

if TYPE_CHECKING:
    from pgqueue.embedded.binaries import Binaries
    from pgqueue.embedded.server import Server

__all__ = ["Status", "ensure", "project", "psql_command", "status", "stop"]


@dataclass(frozen=True)
class Status:
    """What `status()` saw. `data_dir` is what `show data_directory` answers; `dsn` is valid while the server runs."""

    running: bool
    data_dir: Path
    socket_dir: Path
    dsn: str
    version: str
    binaries: Path
    clients: int


def ensure(
    root: Path | None = None, *, data_dir: Path | None = None, idle_s: float | None = None, fsync: bool = True
) -> str:
    """Start or join the server of the project at `root` and return the DSN of its database.

    `root` defaults to the nearest parent with a pyproject.toml or .git, else the current folder. `data_dir` (or
    PGQUEUE_DATA_DIR) is the folder that holds `pg<major>/` instead of the user's data folder. `idle_s` is how long the
    server outlives its last client, 600 seconds by default and never less than one; the last caller to name it decides.
    `fsync=False` is for test suites only: it loses data at a power cut, and counts only for the call that starts.
    Raises EmbeddedError.
    """
    with _one_line():
        server, binaries = _locate(root, data_dir)
        return server.ensure(binaries, idle_s=idle_s, fsync=fsync)


def status(root: Path | None = None, *, data_dir: Path | None = None) -> Status:
    """Look without starting or creating anything."""
    with _one_line():
        server, binaries = _locate(root, data_dir)
        clients, place = server.count_clients(), server.place
        return Status(
            running=clients is not None,
            data_dir=place.data,
            socket_dir=place.sockets,
            dsn=place.dsn(),
            version=binaries.version,
            binaries=binaries.folder,
            clients=clients or 0,
        )


def project() -> str:
    """For people: whose server it is, the project's folder, or the data's where PGQUEUE_DATA_DIR says so."""
    from pgqueue.embedded import places

    return places.read_environment().data_dir or str(project_root())


def stop(root: Path | None = None, *, data_dir: Path | None = None) -> bool:
    """Stop the server, clients or not; return when its last process is gone. False: it was not running."""
    with _one_line():
        server, _ = _locate(root, data_dir)
        return server.stop()


def psql_command(root: Path | None = None, *, data_dir: Path | None = None) -> list[str]:
    """The command line of a psql connected to the project's database; starts nothing."""
    with _one_line():
        server, binaries = _locate(root, data_dir)
        return [binaries.psql(), server.place.dsn()]


def _locate(root: Path | None, data_dir: Path | None) -> tuple[Server, Binaries]:
    if os.name != "posix":
        raise EmbeddedError("the embedded server runs on Linux and macOS only: give a DSN (--dsn or PGQUEUE_DSN)")
    # Imported late: these modules import fcntl and pwd, which Windows lacks, and this package must import everywhere.
    from pgqueue.embedded import binaries, places, server

    found = binaries.find()
    account = places.server_account()
    return server.Server(places.locate(root, data_dir, major=found.major, uid=account.uid), account), found


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise EmbeddedError(
            f"the embedded server cannot be used: {where}{error.strerror or error} (PGQUEUE_DATA_DIR moves its data)"
        ) from error
