"""Tasks that the tests' real workers run."""

import asyncio
import os
import signal
import sys
import threading
import time
from typing import Any

from psycopg_pool import AsyncConnectionPool
from tenacity import RetryCallState, retry_if_exception_type, retry_if_result, wait_fixed

from pgqueue import Cancel, Retry, Snooze, current_job, task
from tests.untyped import untyped

SOON = wait_fixed(0.05)
pools: dict[asyncio.AbstractEventLoop, AsyncConnectionPool] = {}


@task
def echo(value: Any) -> Any:
    return value


@task(keep=0, max_attempts=1)
def forget(fails: bool = False) -> Any:
    if fails:
        raise ValueError("not this time")
    return object()  # no JSON: nobody wants it


@task(keep=0, atomic=True)
def forget_atomically() -> None:
    current_job().conn.execute("create table shop.proof ()")


@task(atomic=True)
def answer_atomically(value: Any) -> Any:
    return value


@task(atomic=True)
def sleep_atomically(seconds: float) -> None:
    time.sleep(seconds)


@task(max_attempts=1)
def tell(text: str, how: str) -> Any:
    """Make a text that only the task knows: a result, an error, a note."""
    text = text.encode().decode("unicode_escape")
    if how == "error":
        raise ValueError(text)
    if how == "note":
        current_job().progress(0.5, text)
        time.sleep(3)
        return None
    return text


@task(queue="other", priority=3)
def elsewhere(value: int) -> int:
    return value


@task
async def echo_later(value: Any, seconds: float = 0.05) -> Any:
    await asyncio.sleep(seconds)
    return value


@task
def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@task(queue="brief")
def brief(number: int) -> None:
    time.sleep(0.005)


@task(queue="brief")
async def brief_later(number: int) -> None:
    await asyncio.sleep(0.005)


@task
async def sleep_later(seconds: float) -> None:
    await asyncio.sleep(seconds)


@task(priority=1)
async def chatter(marker: str) -> None:
    """Keep its process saying things, as long as there is no marker."""
    while not os.path.exists(marker):
        await brief_later.defer_async(0)
        await asyncio.sleep(0.01)


@task
def block_some(number: int, every: int, marker: str) -> None:
    """As fast as can be, but each so many-th, which waits for the marker."""
    while number % every == 0 and not os.path.exists(marker):
        time.sleep(0.01)


@task
def pass_on(value: Any) -> str:
    return echo.options(queue=current_job().queue).defer(value).id


@task
def now() -> float:
    return time.time()


@task(max_attempts=3, wait=SOON)
def fail_until(attempt: int) -> int:
    if current_job().attempt < attempt:
        raise ValueError(f"attempt {current_job().attempt} fails")
    return current_job().attempt


@task(retry=retry_if_exception_type(OSError), wait=SOON)
def wrong_kind() -> None:
    raise KeyError("not an OSError")


def _too_low(state: RetryCallState) -> bool:
    assert state.outcome is not None and state.fn is not None and state.fn.__name__.startswith("count")
    return not state.outcome.failed and state.outcome.result() < state.args[0]


@task(retry=retry_if_exception_type(OSError) | _too_low, max_attempts=3, wait=SOON)
def count_to(enough: int) -> int:
    return current_job().attempt


@task(retry=_too_low, max_attempts=3, wait=SOON)
async def count_to_async(enough: int) -> int:
    return current_job().attempt


@task(retry=_too_low, max_attempts=3, wait=SOON, atomic=True, keep=0)
def count_to_atomically(enough: int) -> int:
    current_job().conn.execute("insert into shop.seen values (%s)", [current_job().attempt])
    return current_job().attempt


@task(retry=_too_low, max_attempts=3, wait=SOON, atomic=True)
async def count_to_atomically_async(enough: int) -> int:
    await current_job().conn.execute("insert into shop.seen values (%s)", [current_job().attempt])
    return current_job().attempt


@task(retry=retry_if_result(lambda result: result["there is no such key"]), wait=SOON)
def break_its_policy() -> dict[str, int]:
    return {}


@task(max_attempts=2, wait=SOON)
def exit_with(kind: str) -> None:
    raise {"SystemExit": SystemExit, "KeyboardInterrupt": KeyboardInterrupt, "GeneratorExit": GeneratorExit}[kind](
        "bye"
    )


@task(max_attempts=2, wait=SOON)
async def exit_with_async(kind: str) -> None:
    if kind == "CancelledError":
        raise asyncio.CancelledError("from inside")
    raise {"SystemExit": SystemExit, "KeyboardInterrupt": KeyboardInterrupt}[kind]("bye")


@task
def ask_again() -> int:
    if current_job().attempt == 1:
        raise Retry("not yet", delay=0.05)
    return current_job().attempt


@task
def snooze_once(marker: str) -> int:
    if not os.path.exists(marker):
        open(marker, "w").close()
        raise Snooze(0.05)
    return current_job().attempt


@task
def give_up() -> None:
    raise Cancel("no longer wanted")


@task(max_attempts=1)
def bad_result() -> Any:
    return object()


@task(max_attempts=1)
def hostile_error() -> None:
    raise ValueError("\0 \ud800 \x1b[31m " + "x" * 200_000)


@task
def crash_at(number: int, at: int) -> int:
    if number == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@task(timeout=0.3, max_attempts=1)
async def too_long_async() -> None:
    await asyncio.sleep(60)


@task(timeout=0.3, max_attempts=1)
def too_long_polite() -> None:
    while True:
        time.sleep(0.01)
        current_job().check()


@task(timeout=0.3, max_attempts=1)
def too_long_deaf() -> None:
    time.sleep(60)


@task
def until_cancelled(marker: str) -> None:
    open(marker, "w").close()
    while not current_job().cancel_requested:
        time.sleep(0.01)
    current_job().check()


@task
async def until_cancelled_async(marker: str) -> None:
    open(marker, "w").close()
    await asyncio.sleep(60)


@task
def report(marker: str) -> str:
    current_job().progress(0.5, "halfway")
    while not os.path.exists(marker):
        time.sleep(0.01)
    return "done"


@task(keep=0)
def report_and_forget(marker: str) -> None:
    current_job().progress(0.5, "halfway")
    while not os.path.exists(marker):
        time.sleep(0.01)


@task(atomic=True, max_attempts=2, wait=SOON)
def pay(amount: int, fail_on: int = 0) -> int:
    current_job().conn.execute("insert into shop.paid (job, amount) values (%s, %s)", [current_job().id, amount])
    if current_job().attempt == fail_on:
        raise ValueError("after the write")
    return amount


@task(atomic=True)
async def pay_async(amount: int) -> int:
    await current_job().conn.execute("insert into shop.paid (job, amount) values (%s, %s)", [current_job().id, amount])
    return amount


@task(atomic=True, wait=SOON)
async def pay_soon(amount: int) -> int:
    return await pay_async(amount)


@task(atomic=True, max_attempts=1)
def pay_and_commit(amount: int) -> int:
    current_job().conn.execute("insert into shop.paid (job, amount) values (%s, %s)", [current_job().id, amount])
    current_job().conn.execute("commit")
    return amount


@task(atomic=True, max_attempts=1)
def pay_slowly(amount: int, marker: str, go: str) -> int:
    current_job().conn.execute("insert into shop.paid (job, amount) values (%s, %s)", [current_job().id, amount])
    open(marker, "w").close()
    while not os.path.exists(go):
        time.sleep(0.01)
    return amount


@task
def whoami() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "thread": threading.get_ident(),
        "main": threading.current_thread() is threading.main_thread(),
    }


@task
def eat(megabytes: int) -> int:
    sys.modules.setdefault("eaten", untyped(bytearray(megabytes << 20)))
    return os.getpid()


@task(atomic=True)
def tally(number: int) -> None:
    current_job().conn.execute("update shop_total set n = n + %s", [number])


@task
async def hold(seconds: float) -> float:
    """Keep one of five connections of its process for a while."""
    loop = asyncio.get_running_loop()
    if loop not in pools:
        pools[loop] = AsyncConnectionPool(os.environ["PGQUEUE_DSN"], min_size=0, max_size=5, open=False)
        await pools[loop].open()
    async with pools[loop].connection() as conn:
        await conn.execute("select pg_sleep(%s)", [seconds])
    return seconds


@task
def run_once(ledger: str, number: int) -> int:
    with open(ledger, "a") as file:
        file.write(f"{number}\n")
    return number


@task(atomic=True, wait=SOON)
def pay_when(marker: str, go: str) -> int:
    """As pay_slowly, and tried again."""
    current_job().conn.execute("insert into shop.paid (job, amount) values (%s, 1)", [current_job().id])
    open(marker, "w").close()
    while not os.path.exists(go):
        time.sleep(0.01)
    return current_job().attempt


@task
def until_told(folder: str) -> int:
    """Run until there is a file with the number of its worker's process."""
    current_job().progress(0.5, "halfway")
    while not os.path.exists(f"{folder}/{os.getppid()}"):
        time.sleep(0.01)
    return os.getppid()


@task(wait=lambda _: "soon")
def wait_for_nonsense() -> None:
    raise ValueError("the task's own")


@task(atomic=True)
def wait_in_the_database(seconds: float) -> None:
    current_job().conn.execute("select pg_sleep(%s)", [seconds])


@task(atomic=True)
def read_slowly(rows: int, seconds: float) -> int:
    query = f"copy (select repeat('x', 1000) from generate_series(1, {rows})) to stdout"
    read = 0
    with current_job().conn.cursor().copy(query) as copy:
        for read, _ in enumerate(copy.rows(), start=1):
            if read == 10:
                time.sleep(seconds)
    return read


@task(atomic=True)
def write_much(rows: int) -> int:
    with current_job().conn.cursor().copy("copy shop.stock from stdin") as copy:
        for number in range(rows):
            copy.write_row(["wait" if number == 10 else "x" * 1000])
    return rows
