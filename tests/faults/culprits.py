"""Tasks that hang, hog, leak or die, and tasks that leave a trace of each time they ran."""

import ctypes
import os
import signal
import threading
import time
from pathlib import Path
from typing import NamedTuple

from pgqueue import current_job, task
from tests import tasks  # the worker shall know these too

__all__ = ["tasks"]


class Trace(NamedTuple):
    """One run of a job, as it told of itself when it began."""

    job: str
    token: int
    pid: int


def traces(folder: Path) -> list[Trace]:
    """Every run so far, in the order in which they began."""
    lines = (folder / "traces").read_text().splitlines() if (folder / "traces").exists() else []
    # A line across two pages is seen half while it is written, and stays so if its writer is killed just then.
    whole = [line.split() for line in lines if line.endswith(" .")]
    return [Trace(job, int(token), int(pid)) for job, token, pid, _ in whole]


def leave_trace(folder: str) -> None:
    job = current_job()
    with open(f"{folder}/traces", "a") as file:
        file.write(f"\n{job.id} {job.token} {os.getpid()} .")


@task
def hold(folder: str) -> int:
    """Runs until there is a file `go`; the result is the process that ran it."""
    leave_trace(folder)
    while not os.path.exists(f"{folder}/go"):
        time.sleep(0.005)
    return os.getpid()


@task
def brief(folder: str, seconds: float) -> None:
    leave_trace(folder)
    time.sleep(seconds)


@task(atomic=True)
def hold_and_pay(folder: str, number: int) -> int:
    current_job().conn.execute("insert into shop.paid values (%s)", [number])
    process: int = hold.function(folder)
    return process


@task(atomic=True)
def pay(number: int) -> None:
    current_job().conn.execute("insert into shop.paid values (%s)", [number])


@task
def die(how: str) -> None:
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "segfault":
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        ctypes.string_at(0)
    if how == "abort":
        os.abort()
    os._exit(int(how))


@task(timeout=0.3, max_attempts=1)
def spin() -> None:
    while True:
        pass


def fatal(_: object) -> float:
    """A retry policy that ends whoever asks it."""
    os._exit(7)


@task(timeout=0.3, wait=fatal)
def spin_with_a_fatal_policy() -> None:
    spin.function()


@task(timeout=0.3, max_attempts=1)
def hold_the_interpreter() -> int:
    """One operation in C that lasts minutes and lets no other thread run."""
    return (3**100_000_000) % 7


@task
def leave_thread() -> int:
    threading.Thread(target=time.sleep, args=(3600,), name="forgotten").start()
    return os.getpid()


LEAKED: list[int] = []


@task(max_attempts=1)
def leak_descriptors() -> None:
    while True:
        LEAKED.append(os.open(os.devnull, os.O_RDONLY))
