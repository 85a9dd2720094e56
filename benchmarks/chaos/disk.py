"""A small file system of its own for a part of a server, to be filled up, emptied and made larger. Only root may mount one."""

import errno
import os
import subprocess
from pathlib import Path
from typing import Self

from benchmarks.chaos.cluster import Cluster

BLOCK = bytes(1 << 16)


class Disk:
    """Mounted at `path`, empty, owned by the server's account. A context manager; raises OSError where mounting is forbidden."""

    def __init__(self, cluster: Cluster, path: Path, *, megabytes: int) -> None:
        self._account = cluster.account
        self._megabytes = megabytes
        self.path = path

    def __enter__(self) -> Self:
        self.path.mkdir(exist_ok=True)
        self._mount(f"size={self._megabytes}m,mode=0700,uid={self._account.uid},gid={self._account.gid}")
        return self

    def __exit__(self, *_: object) -> None:
        # Lazily: the server may still use it.
        subprocess.run(["umount", "-l", self.path], check=True)

    def fill(self) -> None:
        """Leave no room at all."""
        with (self.path / "filling").open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(BLOCK)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def empty(self) -> None:
        """Take back what fill() took."""
        (self.path / "filling").unlink()

    def grow(self, megabytes: int) -> None:
        """Make it larger, as one does with a volume."""
        self._mount(f"remount,size={megabytes}m")

    def _mount(self, options: str) -> None:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.path], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise OSError(errno.EPERM, done.stderr.strip())


def why_not(folder: Path) -> str | None:
    """Why there can be none here."""
    if os.geteuid() != 0:
        return "only root may mount a small file system to fill up"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return f"this machine does not let root mount a file system: {done.stderr.strip()}"
    subprocess.run(["umount", folder], check=True)
    return None
