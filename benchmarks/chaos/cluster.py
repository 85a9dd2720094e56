"""A PostgreSQL server of one's own, to be stopped, frozen, killed, filled up and replaced by its standby."""

import atexit
import functools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from pgqueue.embedded import binaries, places

USER = "pgqueue"
START_S = 60  # a server that recovers from a crash on a busy machine

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "logging_collector": "off",
    "log_min_messages": "warning",
    "wal_level": "replica",
    "max_wal_size": "128MB",
}


class Cluster:
    """A server in a folder under /tmp, on a TCP port of 127.0.0.1 (what a proxy or a namespace stands before).

    `settings` go onto its command line; change them between stop() and start(). As root it runs as another account.
    """

    user = USER

    def __init__(self, **settings: str) -> None:
        self.account = places.server_account()
        self._binaries = binaries.find().for_account(self.account)
        self.folder = Path(tempfile.mkdtemp(prefix="pgqueue-chaos-"))
        self.folder.chmod(0o711)
        self.home = self.folder / "home"  # sockets, and whatever the account must write
        self.home.mkdir()
        self.account.own(self.home)
        self.data = self.folder / "data"
        self.address = "127.0.0.1"  # for dsn(); the folder of its socket leads to it from every network namespace
        self.port = free_port()
        self.settings = SETTINGS | settings
        self.environment: dict[str, str] = {}  # beside our own

    # -- a life --

    def make(self) -> "Cluster":
        """What initdb makes, without a password: it listens on the loopback of a test machine only."""
        self._own(self.data)
        subprocess.run(["cp", "-a", f"{_pattern()}/.", self.data], check=True)
        return self

    def initialize(self) -> Path:
        """initdb, once for all; the data directory."""
        self._own(self.data)
        self._run("initdb", "-D", self.data, "-U", USER, "-E", "UTF8", "--no-locale", "--auth=trust", "--no-sync")
        with (self.data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all samenet trust\n")
        return self.data

    def start(self, *, wait: bool = True) -> "Cluster":
        """Start it and wait until it answers."""
        options = " ".join(f"-c {name}='{value}'" for name, value in self.settings.items())
        options += f" -p {self.port} -k {self.home}"
        flags = ["-w", "-t", str(START_S)] if wait else ["-W"]
        self._run("pg_ctl", "-D", self.data, "-l", self.home / "log", "-o", options, *flags, "start")
        return self

    def stop(self, mode: str = "fast") -> None:
        """smart, fast or immediate; returns when it is down."""
        self._run("pg_ctl", "-D", self.data, "-m", mode, "-w", "-t", str(START_S), "stop")

    def restart(self, mode: str = "fast") -> None:
        """Down and up again."""
        self.stop(mode)
        self.start()

    def promote(self) -> None:
        """Make a standby the primary."""
        self._run("pg_ctl", "-D", self.data, "-w", "-t", str(START_S), "promote")

    def reset_wal(self, *options: str) -> None:
        """pg_resetwal, while it is down."""
        self._run("pg_resetwal", *options, "-D", self.data)

    def standby(self, **settings: str) -> "Cluster":
        """A running streaming standby of this one. application_name of its receiver: standby."""
        other = Cluster(**(self.settings | settings))
        other._own(other.data)
        where = make_conninfo(host="127.0.0.1", port=self.port, user=USER, application_name="standby")
        self._run("pg_basebackup", "-D", other.data, "-d", where, "-R", "-X", "stream", "-c", "fast", "--no-sync")
        return other.start()

    def follow(self, primary: "Cluster") -> None:
        """Be a standby of another, which has all that this one wrote, from the next start on."""
        signal_file = self.data / "standby.signal"
        signal_file.touch()
        self.account.own(signal_file)
        where = make_conninfo(host="127.0.0.1", port=primary.port, user=USER, application_name="standby")
        with (self.data / "postgresql.auto.conf").open("a") as file:
            file.write(f"primary_conninfo = '{where}'\n")

    def destroy(self) -> None:
        """End it at once and remove its folder."""
        self.thaw()
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> "Cluster":
        return self.make().start()

    def __exit__(self, *_: object) -> None:
        self.destroy()

    # -- harm --

    def kill(self) -> None:
        """kill -9 of the postmaster and all its processes, as when the power goes."""
        pids = self.pids()
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while any(map(_is_alive, pids)):
            pass  # the kernel is about to take them; a start before that would find the data directory in use
        # Where nobody waits for orphans they stay zombies, which the next start takes for a running server.
        for lock in (self.data / "postmaster.pid", *self.home.glob(".s.PGSQL.*.lock")):
            lock.unlink(missing_ok=True)

    def freeze(self) -> None:
        """SIGSTOP to every process: connections stay open, packets are acknowledged, nobody answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after a freeze."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.pids():
            with suppress(ProcessLookupError):  # a backend whose client just left
                os.kill(pid, number)

    def pids(self) -> list[int]:
        """The postmaster and its processes, postmaster first so that it starts none while it is being stopped."""
        postmaster = self.postmaster
        return [] if postmaster is None else [postmaster, *_children(postmaster)]

    @property
    def postmaster(self) -> int | None:
        """Its process id; None if it is down."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return None
        return pid if _is_alive(pid) else None

    # -- the way in --

    def dsn(self, dbname: str = "postgres", **overrides: str | int) -> str:
        """How to reach it; overrides such as host and port lead through a proxy. Plain text, as proxies read along."""
        where = {"host": self.address, "port": self.port, "user": USER, "sslmode": "disable", "gssencmode": "disable"}
        return make_conninfo(dbname=dbname, **(where | overrides))

    def connect(self, dbname: str = "postgres") -> psycopg.Connection:
        """An autocommit connection."""
        return psycopg.connect(self.dsn(dbname), autocommit=True)

    @property
    def log(self) -> str:
        """What the server wrote."""
        return (self.home / "log").read_text(errors="replace")

    def _own(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        self.account.own(folder)

    def _run(self, program: str, *arguments: str | Path) -> None:
        # Output into a file: a server started by pg_ctl keeps a pipe open for ever.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                [self._binaries.program(program), *arguments], cwd="/", stdin=subprocess.DEVNULL, stdout=output,
                stderr=output, check=False, env=os.environ | self.environment, **self.account.popen,
            )  # fmt: skip
            if done.returncode:
                output.seek(0)
                raise RuntimeError(f"{program} failed: {output.read().strip()}")


@functools.cache
def _pattern() -> Path:
    """A data directory in which no server ever ran: to copy it takes a tenth of the time of initdb."""
    pattern = Cluster()
    atexit.register(shutil.rmtree, pattern.folder, ignore_errors=True)
    return pattern.initialize()


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _is_alive(pid: int) -> bool:
    """Runs, or is stopped; a zombie is dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
