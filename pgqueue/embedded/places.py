"""Where a project's server lives, and the account it runs under.

    <data home>/pgqueue/<project>-<hash>/pg18/     one folder per server: start.lock, run.lock, watch.lock, used,
                                                   postgres.log, data/
    /tmp/pgq-<uid>-<hash>/                         its socket

The socket cannot live next to the data: its path may have 107 bytes on Linux and 103 on macOS. It is not in
XDG_RUNTIME_DIR either: a login shell has that variable and a cron job of the same user does not, and both must find the
same socket; and the directory is emptied at logout while the server runs on.
"""

import hashlib
import os
import pwd
import re
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgqueue.config import project_root
from pgqueue.errors import EmbeddedError

USER = DATABASE = "pgqueue"
PORT = 5432  # only names the socket file
SOCKETS = Path("/tmp")  # not tempfile.gettempdir(): processes of one user may differ in TMPDIR, and macOS' is too long


@dataclass(frozen=True)
class Environment:
    """All that the embedded server reads from the environment."""

    pg_bin: str | None
    data_dir: str | None
    data_home: Path
    for_postgres: dict[str, str]
    for_python: dict[str, str]


def read_environment() -> Environment:
    # PostgreSQL gets only what it needs: as another account it must not inherit root's secrets, and PG* would steer it.
    kept = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TZ")
    return Environment(
        pg_bin=os.environ.get("PGQUEUE_PG_BIN") or None,
        data_dir=os.environ.get("PGQUEUE_DATA_DIR") or None,
        data_home=_data_home(os.environ.get("XDG_DATA_HOME", "")),
        for_postgres={name: os.environ[name] for name in kept if name in os.environ} | {"LC_ALL": "C"},
        # All of ours, and our import path: entries relative to the working directory lose their meaning elsewhere.
        for_python=os.environ | {"PYTHONPATH": os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)},
    )


def _data_home(xdg_data_home: str) -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib")  # not in root's home, which the server's account cannot and must not enter
    if xdg_data_home.startswith("/"):  # the XDG specification says that relative paths are to be ignored
        return Path(xdg_data_home)
    try:
        home = Path.home()
    except RuntimeError:
        raise EmbeddedError("this user has no home folder: set PGQUEUE_DATA_DIR to a folder it may write") from None
    return home / ("Library/Application Support" if sys.platform == "darwin" else ".local/share")


@dataclass(frozen=True)
class Place:
    """The paths of one server."""

    folder: Path
    sockets: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def pid_file(self) -> Path:
        return self.data / "postmaster.pid"

    @property
    def log(self) -> Path:
        return self.folder / "postgres.log"

    @property
    def start_lock(self) -> Path:
        """Held shared while joining, exclusively while starting and stopping."""
        return self.folder / "start.lock"

    @property
    def run_lock(self) -> Path:
        """Held by the postmaster and every process it forked: free means that nothing lives in the data directory."""
        return self.folder / "run.lock"

    @property
    def watch_lock(self) -> Path:
        """Held by the watcher."""
        return self.folder / "watch.lock"

    @property
    def used(self) -> Path:
        """Replaced at each `ensure()`; holds the idle seconds after which the watcher stops the server."""
        return self.folder / "used"

    @property
    def socket(self) -> Path:
        return self.sockets / f".s.PGSQL.{PORT}"

    @property
    def socket_lock(self) -> Path:
        return self.sockets / f".s.PGSQL.{PORT}.lock"

    def dsn(self, *, database: str = DATABASE) -> str:
        return f"host={self.sockets} port={PORT} user={USER} dbname={database}"


def locate(root: Path | None, data_dir: Path | None, *, major: int, uid: int) -> Place:
    environment = read_environment()
    chosen = data_dir or environment.data_dir
    home = Path(chosen) if chosen else environment.data_home / "pgqueue" / _project_name(root or project_root())
    folder = home.expanduser().resolve() / f"pg{major}"
    # The major is in the hash: two majors of one project may run side by side and must not meet on one socket.
    return Place(folder, SOCKETS / f"pgq-{uid}-{_digest(folder)}")


def _project_name(root: Path) -> str:
    root = root.resolve()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", root.name).strip("-.")[:40]
    return f"{name or 'project'}-{_digest(root)}"


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]


@dataclass(frozen=True)
class Account:
    """Whom the server runs as: ourselves, or, as PostgreSQL refuses to run as root, an account to drop to."""

    uid: int
    gid: int
    name: str

    @property
    def is_other(self) -> bool:
        return self.uid != os.geteuid()

    @property
    def popen(self) -> dict[str, Any]:
        """Keyword arguments for subprocess."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.is_other else {}

    def can(self, *command: str | Path) -> bool:
        """Try a command as this account: mode bits alone do not tell who may enter where."""
        try:
            return subprocess.run(command, cwd="/", capture_output=True, **self.popen).returncode == 0
        except PermissionError:
            return False

    def own(self, path: Path) -> None:
        if self.is_other:
            os.chown(path, self.uid, self.gid)


def server_account() -> Account:
    uid = os.geteuid()
    if uid != 0:
        return Account(uid, os.getegid(), str(uid))
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid, name)
    raise EmbeddedError(
        "PostgreSQL refuses to run as root, and there is no account 'postgres' or 'nobody' to run it as"
    )


def make_folder(folder: Path) -> None:
    """Make a folder and its missing parents, private; as root enterable, because the server runs as another account."""
    mode = 0o711 if os.geteuid() == 0 else 0o700
    for path in (*reversed(folder.parents), folder):
        if not path.exists():
            path.mkdir(exist_ok=True)
            path.chmod(mode)  # the umask counts for mkdir's own mode


def has_sockets(place: Place, account: Account) -> bool:
    """The socket directory exists and is ours. Anybody may make that name in /tmp and answer there for our server: so
    this comes before every connection. What is ours cannot be replaced, as /tmp is sticky."""
    try:
        found = place.sockets.lstat()
    except FileNotFoundError:
        return False
    if found.st_uid not in (account.uid, os.geteuid()) or not stat.S_ISDIR(found.st_mode):
        raise EmbeddedError(f"{place.sockets} belongs to another user (id {found.st_uid}): remove it")
    return True


def make_sockets(place: Place, account: Account) -> None:
    place.sockets.mkdir(mode=0o700, exist_ok=True)
    if has_sockets(place, account):
        place.sockets.chmod(0o700)
        account.own(place.sockets)
