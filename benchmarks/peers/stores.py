"""Where jobs are kept: a fresh database of one PostgreSQL server for each sample, or an emptied Redis."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Protocol

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from benchmarks.bench import database
from benchmarks.peers.peer import Kind, LeftOut
from pgqueue import App, db

# Debian's own configuration file; where it cannot be read, Redis starts with its built-in defaults, which are the same in
# what matters here: snapshots after 3600 s, 300 s or 60 s if 1, 100 or 10,000 keys changed, and no append-only file.
DEBIAN_CONFIG = Path("/etc/redis/redis.conf")
START_S = 10.0
LIBPQ = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE"}


class Place(Protocol):
    """One sample's store: empty when it is given, gone or emptied after. variables: how programs find it."""

    @property
    def variables(self) -> dict[str, str]: ...

    def number(self, question: str) -> int:
        """What one SQL query or Redis command answers."""

    def settle(self) -> None:
        """After jobs were loaded: what any store in use would have done long ago."""


class Database:
    """A database made for one sample."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._conn = psycopg.connect(dsn, autocommit=True)

    @property
    def variables(self) -> dict[str, str]:
        found = {LIBPQ[key]: str(value) for key, value in conninfo_to_dict(self.dsn).items() if key in LIBPQ}
        return found | {"PGQUEUE_DSN": self.dsn}

    def number(self, question: str) -> int:
        row = self._conn.execute(question.encode()).fetchone()
        assert row is not None
        return int(row[0])

    def settle(self) -> None:
        """Statistics, which autovacuum would make within a minute: a plan made without them would be an accident."""
        self._conn.execute("analyze")

    def close(self) -> None:
        self._conn.close()


class Postgres:
    """The server that all peers on PostgreSQL share, with its settings as they are."""

    def __init__(self, dsn: str | None) -> None:
        self.dsn = App(dsn).dsn
        self.admin = psycopg.connect(self.dsn, autocommit=True)

    @contextmanager
    def fresh(self) -> Iterator[Database]:
        with database(self.admin, prefix="pgqueue_peers") as name:
            place = Database(make_conninfo(self.dsn, dbname=name))
            try:
                yield place
            finally:
                place.close()

    def settings(self) -> dict[str, str]:
        return {each.name: each.value for each in db.run(self.admin, App().queries.bench_settings())}

    def close(self) -> None:
        self.admin.close()


class Redis:
    """A server of our own on a unix socket, as durable as Debian ships it: snapshots, no append-only file."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "redis.sock"
        options = ["--port", "0", "--unixsocket", str(self.socket), "--dir", str(folder), "--daemonize", "no"]
        readable = DEBIAN_CONFIG.is_file() and os.access(DEBIAN_CONFIG, os.R_OK)
        self.config = str(DEBIAN_CONFIG) if readable else "built-in defaults"
        command = [_redis_server(), *([str(DEBIAN_CONFIG)] if readable else [])]
        self._log = (folder / "redis.log").open("wb")
        quiet = ["--logfile", "", "--pidfile", "", "--supervised", "no"]
        self._process = subprocess.Popen([*command, *options, *quiet], stdout=self._log, stderr=subprocess.STDOUT)
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + START_S
        while not self.socket.exists() or self._command("ping") != "PONG":
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise LeftOut(f"redis-server does not start: {_last_line(Path(self._log.name))}")
            time.sleep(0.02)

    def _command(self, text: str) -> str:
        command = ["redis-cli", "-s", str(self.socket), *text.split()]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    @contextmanager
    def fresh(self) -> Iterator["Redis"]:
        self._command("flushall")
        yield self

    @property
    def variables(self) -> dict[str, str]:
        return {"PEER_REDIS": str(self.socket), "RQ_REDIS_URL": f"unix://{self.socket}?db=0"}

    def number(self, question: str) -> int:
        return int(self._command(question))

    def settle(self) -> None:
        """Redis plans nothing."""

    def settings(self) -> dict[str, str]:
        names = ("save", "appendonly", "appendfsync")
        found = {name: self._command(f"config get {name}").partition("\n")[2] for name in names}
        return found | {
            "config": self.config,
            "server": self._command("info server").split("redis_version:")[1].split()[0],
        }

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._log.close()


class Stores:
    """Each store is started when the first peer needs it, and stopped with the run."""

    def __init__(self, dsn: str | None, stack: ExitStack) -> None:
        self._dsn = dsn
        self._stack = stack

    @cached_property
    def postgres(self) -> Postgres:
        return self._stack.enter_context(closing(Postgres(self._dsn)))

    @cached_property
    def redis(self) -> Redis:
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="pgqueue-peers-"))
        return self._stack.enter_context(closing(Redis(Path(folder))))

    def fresh(self, kind: Kind) -> AbstractContextManager[Place]:
        """A context whose value is a Place. Raises LeftOut if there is no such store here."""
        return (self.postgres if kind == "postgres" else self.redis).fresh()

    def settings(self) -> dict[str, dict[str, str]]:
        """Of those that were used."""
        return {kind: self.__dict__[kind].settings() for kind in ("postgres", "redis") if kind in self.__dict__}


def _redis_server() -> str:
    """Debian's package, installed if we may."""
    if not shutil.which("redis-server") and os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for step in (["update", "-qq"], ["install", "-qq", "--no-install-recommends", "redis-server"]):
            subprocess.run(["apt-get", *step], env=quiet, capture_output=True, check=False)
    found = shutil.which("redis-server")
    if found is None:
        raise LeftOut("there is no redis-server: apt-get install redis-server")
    return found


def _last_line(path: Path) -> str:
    return (path.read_text("utf-8", "replace").strip().splitlines() or ["it said nothing"])[-1]
