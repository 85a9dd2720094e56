"""Starting processes that no parent waits for, and finding out which processes are behind a socket or a lock.

A PID in a file proves nothing: after a reboot it belongs to another process. Here a PID comes from the kernel in the
moment it is used: from the listening end of a socket, or from a process that has both our data directory as its
working directory and our run.lock open.
"""

import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pgqueue.embedded.locks import make_private
from pgqueue.embedded.places import Account, Place, has_sockets
from pgqueue.errors import EmbeddedError

LOG_LIMIT_BYTES = 10_000_000  # a log above this starts over with the next start

# `test -ef` follows the links in /proc to the files themselves, without starting a process for each.
FIND_HOLDERS = """
for process in /proc/[0-9]*; do
  [ "$process/cwd" -ef "$1" ] || continue
  for fd in "$process"/fd/*; do
    if [ "$fd" -ef "$2" ]; then echo "${process#/proc/}"; break; fi
  done
done
"""


def detach(
    command: Sequence[str | Path], *, log: Path, keep_fd: int, env: Mapping[str, str], account: Account | None = None
) -> None:
    """Start a process in a session of its own, with `keep_fd` open and output into the log.

    A shell sits in between, which ends at once: so our caller, which may wait for its own children or count SIGCHLDs, gets
    no child it does not know, and no zombie when the server is killed.
    """
    with os.fdopen(make_private(log), "ab") as output:  # it holds statements that failed, with their errors
        if output.tell() > LOG_LIMIT_BYTES:
            output.truncate(0)
        subprocess.run(
            ["/bin/sh", "-c", '"$@" &', "sh", *command],
            cwd="/",
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(keep_fd,),
            start_new_session=True,
            **(account.popen if account else {}),
        )


def listener(place: Place, account: Account) -> int | None:
    """The PID that listens on the socket; None if nobody does, 0 if it lives where we cannot see it (a container)."""
    if not has_sockets(place, account):
        return None
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)  # a frozen postmaster's queue may be full
        try:
            client.connect(str(place.socket))
        except TimeoutError:
            return 0
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        if sys.platform == "linux":
            credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            return int(struct.unpack("3i", credentials)[0])
    # macOS names the peer that spoke last. But somebody listens in a directory only we can write to, and PostgreSQL
    # lets nobody listen there who did not write this file.
    return _first_number(place.socket_lock)


def holders(place: Place, account: Account) -> set[int]:
    """The processes that live in the data directory and hold run.lock.

    Asked as the server's account: even root may not look into another user's /proc entries inside a container.
    """
    if not Path("/proc/self").exists():
        return _holders_by_lsof(place)
    command = ["/bin/sh", "-c", FIND_HOLDERS, "sh", str(place.data), str(place.run_lock)]
    return _pids(subprocess.run(command, cwd="/", capture_output=True, text=True, **account.popen).stdout)


def postmaster_among(pids: set[int], place: Place) -> int | None:
    pid = _first_number(place.pid_file)
    return pid if pid in pids else None


def send(pid: int, which: signal.Signals) -> None:
    if pid <= 1:  # 0 would be our own process group
        raise EmbeddedError("the embedded server cannot be signalled from here: stop it where it was started")
    try:
        os.kill(pid, which)
    except ProcessLookupError:
        return  # it went by itself


def _holders_by_lsof(place: Place) -> set[int]:
    """For macOS, which has no /proc and ships lsof."""
    return _open_by("-a", "-d", "cwd", str(place.data)) & _open_by(str(place.run_lock))


def _open_by(*selection: str) -> set[int]:
    return _pids(subprocess.run(["lsof", "-t", *selection], capture_output=True, text=True).stdout)


def _pids(text: str) -> set[int]:
    return {int(word) for word in text.split()}


def _first_number(path: Path) -> int:
    """The first line of a PostgreSQL lock file; 0 when it is missing or was cut off by a crash."""
    try:
        return int(path.read_text().partition("\n")[0])
    except (OSError, ValueError):
        return 0
