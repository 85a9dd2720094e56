"""What the kernel knows of a worker's processes (Linux)."""

import os
from pathlib import Path

HAS_PROC = Path("/proc/self/smaps_rollup").exists()
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


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
