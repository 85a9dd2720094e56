"""A worker as people start it, and what the kernel knows of its processes (Linux)."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
HAS_PROC = Path("/proc/self/smaps_rollup").exists()
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@contextmanager
def worker(concurrency: int) -> Iterator[int]:
    """`pgqueue worker -c N` over our tasks; yields its process id once it says that it is ready."""
    options = ["-A", "benchmarks.tasks", "-c", str(concurrency), "-l", "warning"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pgqueue", "worker", *options], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        if "is ready" not in process.stdout.readline():
            raise RuntimeError("the worker did not start; see above")
        yield process.pid
    finally:
        process.terminate()
        process.communicate(timeout=30)


def children(pid: int) -> list[int]:
    """The processes that this one started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def memory_mb(pid: int, kind: str) -> float:
    """Rss, or Pss: what is shared with other processes counted in parts."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:")) / 1024


def peak_mb(pid: int) -> float:
    """The most that was ever resident. Not ru_maxrss: it begins with the peak of the process that started this one."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def cpu_s(pids: list[int]) -> float:
    """Processor time that these have used, user and system."""
    return sum(sum(map(int, _stat(pid)[11:13])) for pid in pids) / _TICKS_PER_S


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name, which may hold blanks and brackets itself."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
