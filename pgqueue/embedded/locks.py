"""Advisory file locks (flock): the kernel releases them when the last copy of the descriptor is closed, however its
owners died. So they cannot be stale, which no file with a PID in it can promise."""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pgqueue.errors import EmbeddedError

STEP_S = 0.005  # short compared with the 25 ms of a warm start, and a look costs some microseconds
LOCK_LIMIT_S = 90.0  # a starter may hold the lock for initdb and then 60 s of crash recovery


def every_step(limit_s: float) -> Iterator[float]:
    """Yield the seconds gone so far, at once and then every few milliseconds, until `limit_s` is over."""
    start_s = time.monotonic()
    while (gone_s := time.monotonic() - start_s) < limit_s:
        yield gone_s
        time.sleep(STEP_S)


def make_private(path: Path) -> int:
    """A descriptor to write at the end of a file that only its owner reads, made if missing; never through a planted link."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise EmbeddedError(f"{path} is a symbolic link, which is not ours: remove it") from None
    os.fchmod(fd, 0o600)
    return fd


def try_lock(path: Path, *, shared: bool = False) -> int | None:
    """A descriptor that holds the lock, or None. Closing it (and every inherited copy) unlocks.

    The file must exist: a watcher that looked once more would otherwise put a file into a folder being deleted.
    """
    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


@contextmanager
def locked(path: Path, *, shared: bool = False, limit_s: float = LOCK_LIMIT_S) -> Iterator[None]:
    for _ in every_step(limit_s):
        fd = try_lock(path, shared=shared)
        if fd is None:
            continue
        try:
            # The user may have deleted the folder between our open and our flock: such a lock guards nothing.
            if _is_same_file(fd, path):
                yield
                return
        finally:
            os.close(fd)
    raise EmbeddedError(f"another process has held {path} for {limit_s:.0f} seconds: is it stuck?")


def _is_same_file(fd: int, path: Path) -> bool:
    return path.exists() and os.path.samestat(os.fstat(fd), path.stat())
