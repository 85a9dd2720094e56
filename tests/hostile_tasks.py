"""Tasks that fail in every way a task can think of, and that show secrets where they can."""

import asyncio
import atexit
import contextlib
import contextvars
import ctypes
import decimal
import functools
import logging
import logging.handlers
import math
import multiprocessing
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

from tenacity import wait_fixed

from pgqueue import Cancel, Retry, Snooze, current_job, task
from tests.untyped import untyped

SOON = wait_fixed(0.05)


@task
def echo(value: Any) -> Any:
    return value


def echo_error() -> None:
    raise ValueError("not this time")


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
    core: Exception = ValueError("core")
    return functools.reduce(lambda inner, _: ExceptionGroup("level", [inner]), range(levels), core)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text for you")


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("holds a lock")
        self.lock = threading.Lock()

    def __reduce__(self) -> Any:
        raise TypeError("cannot be pickled")


class BareSnooze(Snooze):
    def __init__(self) -> None: ...


class BareRetry(Retry):
    def __init__(self) -> None: ...


class BareCancel(Cancel):
    def __init__(self) -> None: ...


def asking(error: Snooze | Retry, delay_s: Any) -> BaseException:
    """A delay that its author has set by hand."""
    error.delay_s = delay_s
    return error


def misbehaving(name: str, base: type[BaseException] = Exception, *, by: type[BaseException] = ValueError) -> Any:
    """An exception class that raises when it is asked for this attribute, or calls this method."""

    def refuse(_: object) -> Any:
        raise by("not for you")

    return type("Misbehaving", (base,), {name: refuse if name in ("__str__", "__repr__") else property(refuse)})


class OddText(str):
    def __format__(self, _: str) -> str:
        raise ValueError("no format for you")

    def __len__(self) -> int:
        raise ValueError("no length for you")


class OddlyTold(Exception):
    def __str__(self) -> str:
        return OddText("told oddly")


class Nameless(type):
    def __getattribute__(cls, name: str) -> Any:
        if name == "__qualname__":
            raise ValueError("no name for you")
        return super().__getattribute__(name)


class OfNoName(Exception, metaclass=Nameless): ...


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
    "bare snooze": BareSnooze,
    "snooze set to text": lambda: asking(Snooze(1), "soon"),
    "snooze set to nan": lambda: asking(Snooze(1), math.nan),
    "snooze set to none": lambda: asking(Snooze(1), None),
    "snooze property": lambda: misbehaving("delay_s", BareSnooze)(),
    "bare retry": BareRetry,
    "retry set to a list": lambda: asking(Retry(), [1]),
    "retry property": lambda: misbehaving("delay_s", BareRetry)(),
    "odd text": OddlyTold,
    "no name": lambda: OfNoName("nobody"),
    **{
        f"{name} of {base.__name__} by {by.__name__}": functools.partial(misbehaving(name, base, by=by))
        for name in ("__class__", "__traceback__", "__str__", "__cause__", "__context__", "__notes__", "__dict__")
        for base, by in ((Exception, ValueError), (BaseException, SystemExit))
    },
}


@task(max_attempts=1)
async def fail_async_with(kind: str) -> None:
    raise ERRORS[kind]()


@task(max_attempts=1, atomic=True)
def fail_atomic_with(kind: str) -> None:
    raise ERRORS[kind]()


@task(max_attempts=1)
def cancel_barely() -> None:
    raise BareCancel


@task(max_attempts=1)
def recurse(n: int = 0) -> int:
    deeper: int = recurse.function(n + 1)
    return deeper + 1


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

    one: Any = 1
    values: dict[str, Callable[[], Any]] = {
        "nan": lambda: math.nan,
        "nul": lambda: ["\0"],
        "surrogate": lambda: "\ud800",
        "too large": lambda: "x" * 1_000_001,
        "object": object,
        "coroutine": coroutine,
        "generator": lambda: (n for n in range(3)),
        "open file": functools.partial(open, __file__),
        "lock": threading.Lock,
        "deep": lambda: functools.reduce(lambda inner, _: [inner], range(5_000), one),
    }
    return values[kind]()


def unaware(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that knows nothing of asyncio."""

    @functools.wraps(function)
    def inner(*args: Any) -> Any:
        return [function(*args)].pop()  # so that nobody can tell at import

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
    ways: dict[str, Callable[[], object]] = {
        "commit": lambda: conn.execute("commit"),
        "rollback": lambda: conn.execute("rollback"),
        "conn.commit": lambda: conn.commit(),
        "conn.rollback": lambda: conn.rollback(),
        "conn.close": lambda: conn.close(),
        "swallowed error": lambda: swallow(lambda: conn.execute("select 1 / 0")),
        "commit and begin": lambda: (conn.execute("commit"), conn.execute("begin")),
        "commit and chain": lambda: conn.execute("commit and chain"),
    }
    ways[how]()


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


def of_numpy(kind: str, number: float) -> Any:
    """Imported for these alone: it takes each child a tenth of a second."""
    import numpy

    return getattr(numpy, kind)(number)


ASKS: dict[str, Callable[[], BaseException]] = {
    "int": lambda: Snooze(300),
    "timedelta": lambda: Snooze(timedelta(minutes=5)),
    "decimal": lambda: Snooze(untyped(Decimal("300.5"))),
    "fraction": lambda: Snooze(untyped(Fraction(601, 2))),
    "numpy int": lambda: Snooze(of_numpy("int64", 300)),
    "numpy float": lambda: Snooze(of_numpy("float32", 300)),
    "endless": lambda: Snooze(math.inf),
    "long int": lambda: Snooze(10**400),
    "retry int": lambda: Retry(delay=300),
    "retry numpy": lambda: Retry(delay=of_numpy("int32", 300)),
    "text": lambda: Snooze(untyped("300")),
    "bool": lambda: Snooze(True),
    "nan": lambda: Snooze(math.nan),
    "retry nan": lambda: Retry(delay=math.nan),
    "retry list": lambda: Retry(delay=untyped([300])),
}


@task(max_attempts=3, wait=wait_fixed(400))
def ask_for(kind: str) -> None:
    raise ASKS[kind]()


WAITS: dict[str, Callable[[Any], Any]] = {
    "int": lambda _: 300,
    "decimal": lambda _: Decimal(300),
    "timedelta": lambda _: timedelta(minutes=5),
    "numpy": lambda _: of_numpy("int64", 300),
    "endless": lambda _: math.inf,
    "float": lambda _: 300.0,
}
waits = {kind: task(name=f"wait.{kind}", wait=wait)(echo_error) for kind, wait in WAITS.items()}

FRACTIONS: dict[str, Any] = {
    "int": 1, "float": 0.5, "decimal": Decimal("0.5"), "fraction": Fraction(1, 2), "numpy": "float32", "none": None,
}  # fmt: skip


@task
def report_oddly(kind: str, marker: str) -> None:
    fraction = of_numpy(FRACTIONS[kind], 0.5) if kind == "numpy" else FRACTIONS[kind]
    current_job().progress(fraction, untyped(5) if kind == "int" else "\0 \udcff \u20ac")
    while not os.path.exists(marker):
        time.sleep(0.01)


@task(max_attempts=1)
def report_wrongly(kind: str) -> None:
    wrong: dict[str, Any] = {
        "text": "half",
        "bool": True,
        "nan": math.nan,
        "large": 2,
        "decimal nan": Decimal("nan"),
        "list": [1],
    }
    wrong["long int"] = 10**400
    current_job().progress(wrong[kind])


@task(max_attempts=1)
def say_euro(how: str) -> str:
    current_job().progress(0.5, "\u20ac")
    if how == "raise":
        raise ValueError("100 \u20ac")
    return "100 \u20ac" if how == "return" else "nothing"


@task
def now_in_the_database() -> str:
    """Through the worker's own statements only."""
    return "done"


@task(atomic=True)
def read_their_table() -> int:
    ((value,),) = current_job().conn.execute("select value from belongings").fetchall()
    return int(value)


# -- what one job leaves to the next --

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")
region: ContextVar[str] = ContextVar("region", default="nowhere")
region.set("as the app says")


def look(name: str) -> list[Any]:
    seen = [tenant.get(), region.get(), decimal.getcontext().prec]
    tenant.set(name)
    region.set(name)
    decimal.getcontext().prec = 99
    return seen


@task
def look_around(name: str) -> list[Any]:
    return look(name)


@task
async def look_around_async(name: str) -> list[Any]:
    return look(name)


# -- copies --


def in_the_copy(how: str, marker: str) -> None:
    """What the code of a task does after it has forked."""
    Path(marker).write_text(str(os.getpid()))
    current_job().progress(1.0, "in the copy")
    match how:
        case "raise":
            raise RuntimeError("in the copy")
        case "exit":
            sys.exit(3)
        case "_exit":
            os._exit(4)
        case "kill":
            os.kill(os.getpid(), 9)
        case "snooze":
            raise Snooze(60)
        case "atexit":
            atexit.register(lambda: Path(marker).with_suffix(".atexit").touch())


def fork(how: str, marker: str) -> int:
    """Fork, let the copy run on in the task's code, and tell how it ended."""
    pid = os.fork()
    if pid == 0:
        in_the_copy(how, marker)
        return -1
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@task(max_attempts=1)
def fork_and(how: str, marker: str) -> int:
    return fork(how, marker)


@task(max_attempts=1)
async def fork_async_and(how: str, marker: str) -> int:
    if how != "await":
        return fork(how, marker)
    pid = os.fork()
    if pid == 0:
        in_the_copy(how, marker)
        await asyncio.sleep(0)
        Path(marker).write_text("awaited")
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])  # noqa: ASYNC222 (the copy ends at once)


@task(max_attempts=1, atomic=True)
def fork_atomic_and(how: str, marker: str) -> int:
    current_job().conn.execute("insert into shop.paid values (1)")
    code = fork(how, marker)
    current_job().conn.execute("insert into shop.paid values (2)")
    return code


@task(max_attempts=1, atomic=True)
async def fork_atomic_async_and(how: str, marker: str) -> int:
    await current_job().conn.execute("insert into shop.paid values (1)")
    code = fork(how, marker)
    await current_job().conn.execute("insert into shop.paid values (2)")
    return code


@task(max_attempts=1)
def fork_in_a_thread_and(how: str, marker: str) -> int:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(fork(how, marker)))
    context = contextvars.copy_context()
    untyped(thread).run = functools.partial(context.run, thread.run)
    thread.start()
    thread.join()
    return codes[0]


@task(max_attempts=1)
def fork_by_multiprocessing(how: str, marker: str) -> int:
    process = multiprocessing.get_context("fork").Process(target=in_the_copy, args=(how, marker))
    process.start()
    process.join()
    return int(process.exitcode or 0)


@task(max_attempts=1)
def fork_before_exec(how: str, marker: str) -> int:
    return subprocess.run(["true"], preexec_fn=lambda: Path(marker).write_text(how) and None).returncode


@task
async def count_up(marker: str) -> int:
    """How often this ran on: beside a copy of the loop, twice as often."""
    for _ in range(100):
        await asyncio.sleep(0.01)
        with Path(marker).open("a") as file:
            file.write("x")
    return Path(marker).stat().st_size


# -- what is printed, and the end of a process --


@task
def print_and_wait_for(text: str, marker: str) -> None:
    sys.stdout.write(text)
    sys.stderr.write(text.upper())
    if marker:
        wait_for.function(marker)


@task
def close_stdout() -> None:
    sys.stdout.close()


@task
def register_at_exit(folder: str, how: str) -> None:
    def last() -> None:
        Path(folder, "atexit").touch()
        if how == "hang":
            time.sleep(600)
        if how == "hold":
            ctypes.PyDLL(None).sleep(600)
        if how == "raise":
            raise ValueError("at the very end")

    atexit.register(last)
    untyped(threading)._register_atexit(Path(folder, "threading").touch)
    if how == "thread":
        threading.Thread(target=time.sleep, args=(600,)).start()
    handler = logging.handlers.MemoryHandler(1000, target=logging.FileHandler(Path(folder, "log")))
    logging.getLogger("shop").addHandler(handler)
    logging.getLogger("shop").warning("the last word")


# -- errors after which a process is of no more use --


def named(name: str, *bases: type) -> type[Exception]:
    """An exception class of another library, which is not here."""
    module, _, qualname = name.rpartition(".")
    return cast(
        "type[Exception]", type(qualname, bases or (RuntimeError,), {"__module__": module, "__qualname__": qualname})
    )


DeviceError = named("torch.AcceleratorError")
spoiled: list[str] = []


class LicenceLost(Exception): ...


def spoil(how: str) -> None:
    """Spoil the process as a device does: from now on every call fails with the same error."""
    if how == "snooze" and Path(current_job().headers["marker"]).exists():
        return  # its second attempt, in another process, which it leaves as it is
    spoiled.append(how)
    match how:
        case "device":
            raise DeviceError("CUDA error: device-side assert triggered")
        case "wrapped":
            try:
                raise DeviceError("CUDA error: device-side assert triggered")
            except DeviceError:
                raise ValueError("cannot render") from None
        case "snooze":
            try:
                raise DeviceError("CUDA error: device-side assert triggered")
            except DeviceError as error:
                Path(current_job().headers["marker"]).touch()
                raise Snooze(0.01) from error
        case "own":
            raise LicenceLost("no seat")
        case "asked":
            current_job().replace_process("holds 85 GB of the device")


@task(max_attempts=1, spoils=[LicenceLost])
def spoil_with(how: str) -> int:
    spoil(how)
    return os.getpid()


@task(max_attempts=1)
def use_device(seconds: float) -> int:
    if seconds < 0:
        spoil("device")
    time.sleep(seconds)
    if spoiled:
        raise DeviceError("CUDA error: device-side assert triggered")
    return os.getpid()


@task(max_attempts=1)
async def use_device_async(seconds: float) -> int:
    await asyncio.sleep(seconds)
    process: int = use_device.function(0)
    return process


@task(max_attempts=1)
async def spoil_async(seconds: float) -> None:
    await asyncio.sleep(seconds)
    spoil("device")


# -- tasks that heed no cancel --


@task(max_attempts=1)
def sleep_deaf(marker: str) -> None:
    Path(marker).touch()
    time.sleep(600)


@task(max_attempts=1)
def hold_the_interpreter(marker: str) -> None:
    Path(marker).touch()
    ctypes.PyDLL(None).sleep(600)


@task(max_attempts=1)
async def swallow_cancels(marker: str) -> None:
    Path(marker).touch()
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(600)


@task(max_attempts=1)
def stop_when_asked(marker: str) -> None:
    Path(marker).touch()
    while True:
        time.sleep(0.01)
        current_job().check()


@task(max_attempts=1)
def wait_beside(marker: str) -> int:
    """Wait until the file is gone; its process."""
    while Path(marker).exists():
        time.sleep(0.01)
    return os.getpid()


@task(max_attempts=1)
async def wait_beside_async(marker: str) -> int:
    while Path(marker).exists():  # noqa: ASYNC110 (a file is all that reaches it from outside)
        await asyncio.sleep(0.01)
    return os.getpid()


# -- orphans --


@task
def leave_an_orphan(marker: str) -> int:
    """Its process id; it ends when the file is there."""
    script = '(while [ ! -e "$1" ]; do sleep 0.05; done) >/dev/null & echo $!'
    return int(subprocess.check_output(["sh", "-c", script, "sh", marker]))


@task
def parent_and_state(pid: int) -> list[str]:
    """As the kernel counts processes here: (its parent, its state), of a worker's child; empty when it is gone."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except FileNotFoundError:
        return []
    return ["the worker" if int(parent) == os.getppid() else parent, state]


@task(max_attempts=1)
def exit_with(code: int) -> None:
    os._exit(code)


# -- jobs that wait for jobs --


@task(max_attempts=1)
def wait_for_another(timeout: float) -> Any:
    return echo.defer("waited for").result(timeout)


@task(max_attempts=1)
async def wait_for_another_async(timeout: float) -> Any:
    return await (await echo.defer_async("waited for")).result_async(timeout)


@task(max_attempts=1)
def wait_for_running(job_id: str, timeout: float) -> Any:
    return wait_for_another.app.job(job_id).result(timeout)


@task
def close_all() -> None:
    """As daemons do at their start; they do it in a copy."""
    os.closerange(3, 256)
