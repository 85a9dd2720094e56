"""Tasks whose every execution is seen outside of the database, so that one too many is."""

import os
import time
from collections import Counter
from pathlib import Path

from pgqueue import current_job, task


@task
def note(file: str, number: int) -> int:
    handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(handle, f"{number}\n".encode())
    os.close(handle)
    return number


@task
def hold(file: str) -> int:
    """Run for ever, the first time; tells the process id of its worker."""
    if current_job().token == 1:
        Path(file).write_text(str(os.getppid()))
        time.sleep(3600)
    return current_job().token


def noted(file: Path) -> Counter[int]:
    """How often each number was noted."""
    return Counter(map(int, file.read_text().split()))
