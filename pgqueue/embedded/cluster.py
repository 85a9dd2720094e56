"""The data directory: made by initdb, served by a postmaster. The caller holds start.lock and run.lock."""

import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

from pgqueue.embedded.binaries import Binaries
from pgqueue.embedded.places import PORT, USER, Account, Place, make_sockets, read_environment
from pgqueue.embedded.processes import detach
from pgqueue.errors import EmbeddedError


def prepare(place: Place, account: Account, binaries: Binaries, *, fsync: bool) -> None:
    """Make what is missing, and delete what a dead server left."""
    _check_reach(place, account)
    if not place.data.exists():
        _make_data(place, account, binaries, fsync=fsync)
    make_sockets(place, account)
    for remains in (place.pid_file, place.socket, place.socket_lock):
        remains.unlink(missing_ok=True)


def launch(place: Place, account: Account, binaries: Binaries, run_fd: int, *, fsync: bool) -> None:
    settings = {
        "listen_addresses": "",
        "port": PORT,
        "unix_socket_directories": place.sockets,
        "unix_socket_permissions": "0700",
        "max_connections": 100,
        "log_min_messages": "warning",
        "fsync": "on" if fsync else "off",
        # The system would keep what backends write for 30 s and then write it all at once, and every commit waits for that: at
        # 29,000 jobs/s 22 and 36 ms at p99 over a minute, 14 and 18 ms in turn with them when it is written as it comes.
        "backend_flush_after": "256kB",
    }
    # Not pg_ctl: it looks every 100 ms, four times what a start takes.
    detach(
        [binaries.program("postgres"), "-D", place.data, *(f"--{name}={settings[name]}" for name in settings)],
        log=place.log,
        keep_fd=run_fd,
        env=read_environment().for_postgres,
        account=account,
    )


def last_words(output: str) -> str:
    """The line of a program's output that says why it gave up."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    reasons = [line for line in lines if any(word in line for word in ("FATAL", "PANIC", "error:"))]
    return (reasons or lines or ["it printed nothing"])[-1]


def _check_reach(place: Place, account: Account) -> None:
    if account.is_other and not account.can("/bin/sh", "-c", 'cd "$1"', "sh", place.folder):
        raise EmbeddedError(
            f"the server runs as user {account.name}, who cannot enter {place.folder}: move the data_dir"
        )


def _make_data(place: Place, account: Account, binaries: Binaries, *, fsync: bool) -> None:
    """initdb into a folder of another name, then rename: what is called `data` is complete."""
    _check_entry(account)
    for left_over in place.folder.glob("init-*"):
        shutil.rmtree(left_over, ignore_errors=True)  # a killed starter's initdb may still write: next time then
    work = Path(tempfile.mkdtemp(prefix="init-", dir=place.folder))
    account.own(work)
    failure = _initdb(work, account, binaries, fsync=fsync)
    if failure is not None:
        shutil.rmtree(work, ignore_errors=True)
        raise EmbeddedError(f"initdb failed: {failure}")
    work.rename(place.data)


def _check_entry(account: Account) -> None:
    try:
        pwd.getpwuid(account.uid)
    except KeyError:
        raise EmbeddedError(
            f"initdb needs an entry for user id {account.uid} in /etc/passwd: add one (or nss_wrapper), or give a DSN"
        ) from None


def _initdb(work: Path, account: Account, binaries: Binaries, *, fsync: bool) -> str | None:
    """None, or the reason of its failure."""
    # No locale: the same sort order on every machine, and macOS' locale calls start threads, which postgres refuses.
    options = ["-U", USER, "-E", "UTF8", "--no-locale", "--auth=trust", "--no-instructions"]
    done = subprocess.run(
        [binaries.program("initdb"), "-D", work, *options, *([] if fsync else ["--no-sync"])],
        cwd="/",
        env=read_environment().for_postgres,
        capture_output=True,
        text=True,
        **account.popen,
    )
    return last_words(done.stderr) if done.returncode else None
