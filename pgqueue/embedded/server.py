"""The life of one server: join it, start it, stop it.

Two locks carry it. start.lock is held shared while a process joins and exclusively while one starts or stops it, so
a server never stops between "it answers" and "it was marked as used". run.lock is taken by the starter and inherited
by the postmaster and all its children: the kernel releases it with the last of them, so a process that gets it knows that
nothing runs in the data directory, and only it may delete the files a dead server left. No PID in a file is taken
as a proof of life.

Starting, with start.lock held, meets one of these:
    run.lock is free, nobody listens         start
    it answers as ours                       join: another process was faster
    it listens, does not answer yet          wait: a long crash recovery
    it listens, its data is gone             the folder under it was deleted: end it, then start
    run.lock is held, nobody listens         backends whose postmaster was killed: end them, then start
"""

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgqueue.db import connect
from pgqueue.embedded import cluster, processes, search_path
from pgqueue.embedded.binaries import Binaries
from pgqueue.embedded.locks import every_step, locked, make_private, try_lock
from pgqueue.embedded.places import Account, Place, has_sockets, make_folder, read_environment
from pgqueue.errors import DatabaseUnavailable, EmbeddedError

START_LIMIT_S = 60.0  # crash recovery of a large write-ahead log; the server keeps recovering after that
STOP_LIMIT_S = 60.0  # the shutdown checkpoint
# Between the postmaster's fork and its listening socket lie some milliseconds, and between closing that socket and its
# end too: only a longer silence means that it is dead.
SERVER_SILENCE_S = 0.3
STUBBORN_S = 5.0  # PostgreSQL itself gives its children this long after SIGQUIT
IDLE_S = 600.0  # a coffee break must not cost a start; not measured

logger = logging.getLogger("pgqueue.embedded")

EMBEDDED_SQL = Path(__file__).parents[1] / "sql" / "embedded"


@dataclass(frozen=True)
class Server:
    """One server. Methods that say so need start.lock held by the caller."""

    place: Place
    account: Account

    def ensure(self, binaries: Binaries, *, idle_s: float | None, fsync: bool) -> str:
        self._refuse_other_major(binaries)
        make_folder(self.place.folder)
        for lock in (self.place.start_lock, self.place.run_lock, self.place.watch_lock):
            os.close(make_private(lock))
        with locked(self.place.start_lock, shared=True):
            if self._join(idle_s):
                return self.place.dsn()
        with locked(self.place.start_lock):
            run_fd = self._claim()
            if run_fd is not None:
                idle_s = IDLE_S if idle_s is None else idle_s
                self._tell()
                self._start(binaries, run_fd, idle_s=idle_s, fsync=fsync)
            self._join_new(idle_s)
        return self.place.dsn()

    def stop(self) -> bool:
        if not self.place.start_lock.exists():
            return False
        with locked(self.place.start_lock):
            return self.shut_down()

    def shut_down(self) -> bool:
        """With start.lock held: ask for a fast shutdown, wait for its end. False: nothing was running."""
        asked = False
        for listener, silent_s in self._looks(STOP_LIMIT_S):
            if listener is None and self.is_dead():
                with suppress(OSError):  # missing, or somebody put something into it: it does no harm
                    self.place.sockets.rmdir()
                return asked
            if listener is not None and not asked:
                processes.send(listener, signal.SIGINT)
                asked = True
            elif silent_s > SERVER_SILENCE_S:
                asked = True
                self._end_silent(silent_s, stopping=True)
        raise EmbeddedError(f"the server did not stop within {STOP_LIMIT_S:.0f} seconds: see {self.place.log}")

    def is_dead(self) -> bool:
        """With start.lock held: nothing lives in the data directory."""
        fd = try_lock(self.place.run_lock)
        if fd is not None:
            os.close(fd)
        return fd is not None

    def count_clients(self) -> int | None:
        """The clients connected now; None if the server does not answer."""
        row = self._ask("clients") if self._identity() else None
        return row[0] if row else None

    def _refuse_other_major(self, binaries: Binaries) -> None:
        others = [data.parent.name for data in self.place.folder.parent.glob("pg*/data")]
        if others and self.place.folder.name not in others and not binaries.named:
            raise EmbeddedError(
                f"{self.place.folder.parent} has data of {', '.join(sorted(others))}, but PostgreSQL"
                f" {binaries.version} was found in {binaries.folder}: set PGQUEUE_PG_BIN to the one to use"
            )

    # -- joining --

    def _join(self, idle_s: float | None, *, settled: bool = False) -> bool:
        """With start.lock held, shared or not. settled: what had to be settled was, or cannot be now."""
        identity = self._identity()
        if identity is None or not identity.has_database or not (identity.has_path or settled):
            return False
        self._mark_used(idle_s)
        self._keep_watched()
        return True

    def _join_new(self, idle_s: float | None) -> None:
        if self._join(idle_s):
            return
        self._ask("create_database")
        search_path.settle(self.place)
        if not self._join(idle_s, settled=True):
            raise EmbeddedError(f"the server stopped while it was being joined: see {self.place.log}")

    def _identity(self) -> "ServerIdentity | None":
        """What answers behind our socket, None if nothing does. A folder moved away under it does not count as ours."""
        row = self._ask("identity")
        if row is None:
            return None
        identity = ServerIdentity(Path(row[0]), row[1], row[2])
        if identity.data_dir != self.place.data:
            raise EmbeddedError(
                f"{self.place.socket} belongs to a server with other data, {identity.data_dir}: stop that"
            )
        return identity

    def _ask(self, statement: str) -> tuple[Any, ...] | None:
        """The one row of a statement in sql/embedded, () if it has none, None if the server does not answer."""
        if not has_sockets(self.place, self.account):
            return None
        try:
            connection = connect(self.place.dsn(database="postgres"))
        except DatabaseUnavailable:
            return None
        with connection:
            try:
                cursor = connection.execute(read_statement(statement))
                return cursor.fetchone() if cursor.description else ()
            except connection.Error:
                return None  # it stopped in between

    def _mark_used(self, idle_s: float | None) -> None:
        """Tell the watcher that a client is about to connect; a new file, as two joiners may write at the same time."""
        if idle_s is None and self.place.used.exists():
            os.utime(self.place.used)
            return
        with tempfile.NamedTemporaryFile("w", prefix="used-", dir=self.place.folder, delete=False) as file:
            file.write(str(IDLE_S if idle_s is None else idle_s))
        Path(file.name).rename(self.place.used)

    def _keep_watched(self) -> None:
        """Start a watcher unless one holds its lock; so the next caller replaces one that was killed."""
        fd = try_lock(self.place.watch_lock)
        if fd is None:
            return
        try:
            processes.detach(
                # -P: without it, `-m` would import from whatever lies in the working directory
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "pgqueue.embedded.watcher",
                    self.place.folder,
                    self.place.sockets,
                    str(fd),
                ],
                log=self.place.log,
                keep_fd=fd,
                env=read_environment().for_python,
            )
        finally:
            os.close(fd)

    # -- starting --

    def _tell(self) -> None:
        """Say why the first job takes some seconds, and that a server keeps running."""
        what = "starting" if self.place.data.exists() else "creating and starting (once, takes some seconds)"
        logger.info("%s this project's own PostgreSQL in %s; `pgqueue server stop` ends it", what, self.place.folder)

    def _claim(self) -> int | None:
        """Get run.lock (a descriptor), or None if the server answers; waits, or ends what is left of a server."""
        for listener, silent_s in self._looks(START_LIMIT_S):
            if listener is None:
                run_fd = try_lock(self.place.run_lock)
                if run_fd is not None:
                    return run_fd
                if silent_s > SERVER_SILENCE_S:
                    self._end_silent(silent_s, stopping=False)
            elif self._lost_its_data():
                processes.send(listener, signal.SIGQUIT)
            elif self._is_ready() and self._identity():
                return None
        raise EmbeddedError(
            f"something is running in {self.place.data} but does not answer on {self.place.socket}: it may be recovering"
            f" from a crash (see {self.place.log}), or run in another container"
        )

    def _start(self, binaries: Binaries, run_fd: int, *, idle_s: float, fsync: bool) -> None:
        """Consumes `run_fd`."""
        try:
            cluster.prepare(self.place, self.account, binaries := binaries.for_account(self.account), fsync=fsync)
            # The watcher first: if we are killed right after the launch, nobody else would stop this server. It waits
            # for start.lock before it decides that there is nothing to watch.
            self._mark_used(idle_s)
            self._keep_watched()
            cluster.launch(self.place, self.account, binaries, run_fd, fsync=fsync)
        finally:
            os.close(run_fd)
        self._await_answer()

    def _await_answer(self) -> None:
        for _ in every_step(START_LIMIT_S):
            if self._is_ready():
                return
            if self.is_dead():
                words = cluster.last_words(self.place.log.read_text(errors="replace"))
                raise EmbeddedError(f"PostgreSQL did not start: {words} (all of it: {self.place.log})")
        raise EmbeddedError(
            f"PostgreSQL does not answer after {START_LIMIT_S:.0f} seconds; it may still be recovering from a crash:"
            f" try again later, or see {self.place.log}"
        )

    # -- looking --

    def _looks(self, limit_s: float) -> Iterator[tuple[int | None, float]]:
        """Every few milliseconds: who listens, and for how many seconds nobody has."""
        heard_s = 0.0
        for gone_s in every_step(limit_s):
            listener = processes.listener(self.place, self.account)
            heard_s = gone_s if listener is not None else heard_s
            yield listener, gone_s - heard_s

    def _is_ready(self) -> bool:
        """The postmaster writes so into line 8: asking it by connections would fill its log during a long recovery."""
        try:
            return self.place.pid_file.read_text().splitlines()[7].strip() == "ready"
        except (FileNotFoundError, IndexError):
            return False

    def _lost_its_data(self) -> bool:
        """The listener wrote the socket's lock file for our data, but its own lock file is no longer there."""
        try:
            return (
                self.place.socket_lock.read_text().splitlines()[1] == str(self.place.data)
                and not self.place.pid_file.exists()
            )
        except (FileNotFoundError, IndexError):
            return False

    def _end_silent(self, silent_s: float, *, stopping: bool) -> None:
        """run.lock is held and nobody listens: a killed postmaster's children, or a server that lost its socket."""
        found = processes.holders(self.place, self.account)
        postmaster = processes.postmaster_among(found, self.place)
        if postmaster is None:
            for pid in found:
                processes.send(pid, signal.SIGQUIT if silent_s < STUBBORN_S else signal.SIGKILL)
        elif stopping:
            processes.send(postmaster, signal.SIGINT)
        elif silent_s > STUBBORN_S:  # not ended here: it may serve others who see another /tmp, as systemd services do
            raise EmbeddedError(
                f"the server (process {postmaster}) runs, but its socket {self.place.socket} cannot be seen from here:"
                " stop it first"
            )


@dataclass(frozen=True)
class ServerIdentity:
    """Who answered."""

    data_dir: Path
    has_database: bool
    has_path: bool


def read_statement(name: str) -> bytes:
    return (EMBEDDED_SQL / f"{name}.sql").read_bytes()
