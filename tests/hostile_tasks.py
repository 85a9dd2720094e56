"""Tasks that fail in every way a task can think of, and that show secrets where they can."""

import asyncio
import functools
import logging
import math
import multiprocessing
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tenacity import wait_fixed

from pgqueue import current_job, task

SOON = wait_fixed(0.05)


@task
def echo(value: Any) -> Any:
    return value


@task(max_attempts=1)
def fail_with(kind: str) -> None:
    raise ERRORS[kind]()


def deep_traceback() -> Exception:
    def sink(levels: int) -> None:
        if levels == 0:
            raise ValueError("at the bottom")
        sink(levels - 1)

    sys.setrecursionlimit(20_000)
    try:
        sink(10_000)
    except ValueError as error:
        return error
    finally:
        sys.setrecursionlimit(1_000)
    raise AssertionError


def cyclic_cause() -> Exception:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    return one


def nested_groups(levels: int) -> Exception:
    return functools.reduce(lambda inner, _: ExceptionGroup("level", [inner]), range(levels), ValueError("core"))


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text for you")


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("holds a lock")
        self.lock = threading.Lock()

    def __reduce__(self) -> Any:
        raise TypeError("cannot be pickled")


ERRORS: dict[str, Callable[[], BaseException]] = {
    "huge message": lambda: ValueError("x" * 100_000_000),
    "deep traceback": deep_traceback,
    "cyclic cause": cyclic_cause,
    "nested groups": lambda: nested_groups(500),
    "deep groups": lambda: nested_groups(5_000),
    "wide group": lambda: ExceptionGroup("wide", [ValueError(str(n)) for n in range(20_000)]),
    "unprintable": Unprintable,
    "unpicklable": Unpicklable,
    "recursion": RecursionError,
    "ansi": lambda: ValueError("\x1b[2J\x1b]0;owned\x07 \0 \udcff \u202e"),
}


@task(max_attempts=1)
def recurse(n: int = 0) -> int:
    return recurse.function(n + 1) + 1


@task(max_attempts=1)
def run_out_of_memory() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 50_000_000, resource.RLIM_INFINITY))
    bytearray(1 << 30)


@task(max_attempts=1)
async def run_out_of_memory_async() -> None:
    run_out_of_memory.function()


@task
def pid() -> int:
    return os.getpid()


@task(max_attempts=1)
def return_(kind: str) -> Any:
    async def coroutine() -> None: ...

    return {
        "nan": lambda: math.nan,
        "nul": lambda: ["\0"],
        "surrogate": lambda: "\ud800",
        "too large": lambda: "x" * 1_000_001,
        "object": object,
        "coroutine": coroutine,
        "generator": lambda: (n for n in range(3)),
        "open file": lambda: open(__file__),
        "lock": threading.Lock,
        "deep": lambda: functools.reduce(lambda inner, _: [inner], range(5_000), 1),
    }[kind]()


def unaware(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that knows nothing of asyncio."""

    @functools.wraps(function)
    def inner(*args: Any) -> Any:
        return function(*args)

    return inner


@task(max_attempts=1)
@unaware
async def async_in_disguise() -> int:
    return 1


@task
async def block_the_loop(seconds: float) -> float:
    time.sleep(seconds)  # noqa: ASYNC251 (that is the point)
    return seconds


@task
async def breathe(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@task(atomic=True, max_attempts=1)
def end_the_transaction(how: str) -> None:
    conn = current_job().conn
    conn.execute("insert into shop.paid values (1)")
    {
        "commit": lambda: conn.execute("commit"),
        "rollback": lambda: conn.execute("rollback"),
        "conn.commit": lambda: conn.commit(),
        "conn.rollback": lambda: conn.rollback(),
        "conn.close": lambda: conn.close(),
        "swallowed error": lambda: swallow(lambda: conn.execute("select 1 / 0")),
        "commit and begin": lambda: (conn.execute("commit"), conn.execute("begin")),
        "commit and chain": lambda: conn.execute("commit and chain"),
    }[how]()


def swallow(call: Callable[[], object]) -> None:
    try:
        call()
    except Exception:
        return


@task
def wait_for(marker: str) -> str:
    open(f"{marker}.running", "w").close()
    while not os.path.exists(marker):
        time.sleep(0.01)
    return "done"


@task
def terminate_what_it_started(how: str) -> int:
    """The exit code, which is the signal."""
    if how == "fork":
        process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        process.start()
        process.terminate()
        process.join(5)
        return int(process.exitcode or 0)
    started = subprocess.Popen(["sleep", "60"])
    started.terminate()
    return started.wait(5)


@task
def modules() -> list[str]:
    return sorted(sys.modules)


@task(max_attempts=2, wait=SOON, redact=["iban"])
def login(user: str, password: str, iban: str, options: dict[str, Any], *, api_key: str = "") -> None:
    shown = current_job()
    shown.progress(0.5, f"logging in with {password}")
    logging.getLogger("shop").info("job %r", shown)
    raise ValueError(
        f"cannot log in as {user} with {password!r}, {iban}, {options['token']}, {api_key}: postgresql://u:{iban}@h/db"
    )


@task(max_attempts=1)
def log_and_raise(text: str) -> None:
    logging.getLogger("shop").warning("task says: %s", text)
    try:
        raise KeyError(text)
    except KeyError:
        logging.getLogger("shop").exception("and here is why")
    raise ValueError(text)


@task
def now_in_the_database() -> str:
    """Through the worker's own statements only."""
    return "done"


@task(atomic=True)
def read_their_table() -> int:
    ((value,),) = current_job().conn.execute("select value from belongings").fetchall()
    return int(value)
