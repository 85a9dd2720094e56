"""A PgBouncer in transaction mode before a server: each transaction of a client may meet another session than the last."""

import shutil
import subprocess
import time
from pathlib import Path
from typing import Self

import psycopg

from benchmarks.chaos.cluster import Cluster, free_port

START_S = 60
SBIN = "/usr/sbin"  # where Debian puts it, which is not on everybody's PATH

CONFIG = """
[databases]
* = host=127.0.0.1 port={server} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {sessions}
max_client_conn = 200
"""


class Pooler:
    """Listens on 127.0.0.1:`port`, and has `sessions` of the server for all its clients. A context manager."""

    def __init__(self, cluster: Cluster, *, sessions: int = 2) -> None:
        self._cluster = cluster
        self.port = free_port()
        self._folder = cluster.home
        self._config = self._folder / f"pgbouncer-{self.port}.ini"
        self._config.write_text(
            CONFIG.format(server=cluster.port, user=cluster.user, port=self.port, sessions=sessions)
        )
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        program = find()
        assert program is not None, "there is no pgbouncer"
        with self.log.open("wb") as log:
            # It refuses to be root, as the server does.
            self._process = subprocess.Popen(
                [program, self._config], cwd=self._folder, stdout=log, stderr=log, **self._cluster.account.popen
            )
        deadline = time.monotonic() + START_S
        while True:
            try:
                psycopg.connect(self._cluster.dsn(port=self.port)).close()
                return self
            except psycopg.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"pgbouncer did not start: {self.log.read_text()}") from error
                time.sleep(0.01)

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    @property
    def log(self) -> Path:
        """What it wrote."""
        return self._folder / f"pgbouncer-{self.port}.log"


def find() -> str | None:
    """Its program, if it is installed."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path=SBIN)
