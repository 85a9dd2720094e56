"""What a type checker knows: defer has the function's own signature, and a result its type."""

import re
import subprocess
import sys
from pathlib import Path

from tests.shell import ROOT

RIGHT = """
import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, assert_type

from pgqueue import App, Job, Jobs, Task, task
from pgqueue.ops import stats
from pgqueue.queries.ops import FailedAttempt, UpcomingJob

app = App("dbname=shop")


@task
def bare(to: str, n: int = 1) -> dict[str, int]:
    return {to: n}


@app.task(queue="mail", max_attempts=5, timeout=timedelta(seconds=3))
def optioned(to: str) -> bytes:
    return to.encode()


@task
async def later(seconds: float) -> list[int]:
    return [int(seconds)]


@task(atomic=True)
async def later_optioned(*, seconds: float) -> None:
    return None


assert_type(bare("a"), dict[str, int])
assert_type(bare.defer("a", n=2), Job[dict[str, int]])
assert_type(bare.delay("a"), Job[dict[str, int]])
assert_type(bare.defer("a").result(timeout=1), dict[str, int])
assert_type(bare.options(priority=5).defer("a"), Job[dict[str, int]])
assert_type(bare.defer_many([("a",), {"to": "b"}]), Jobs[dict[str, int]])
assert_type(bare.defer_many([("a",)])[0], Job[dict[str, int]])
assert_type(optioned("a"), bytes)
assert_type(optioned.defer("a"), Job[bytes])


async def scenario() -> None:
    assert_type(await later(1.5), list[int])
    assert_type(await later_optioned(seconds=1.5), None)
    assert_type(later.defer(1.5), Job[list[int]])
    assert_type(await later.defer_async(1.5), Job[list[int]])
    assert_type(await (await later.defer_async(1.5)).result_async(), list[int])
    assert_type(await bare.options(queue="x").defer_async("a"), Job[dict[str, int]])
    assert_type(later_optioned.defer(seconds=2), Job[None])


assert_type(app.run(app.queries.stats_upcoming(limit=1)), list[UpcomingJob])
assert_type(app.run(app.queries.alive()), list[int])
assert_type(app.run(stats.gather(app.queries)), stats.Stats)
assert_type(app.look(stats.gather(app.queries)), stats.Stats)
assert_type(app.attempts("id"), list[FailedAttempt])
"""

WRONG = """
import asyncio

from pgqueue import App, task

app = App()


@task
def bare(to: str, n: int = 1) -> int:
    return n


@app.task(queue="mail")
async def optioned(to: str) -> None: ...


bare.defer()  # error: call-arg
bare.defer(5)  # error: arg-type
bare.defer("a", n="b")  # error: arg-type
bare.defer("a", m=1)  # error: call-arg
bare.delay(b"a")  # error: arg-type
bare.options(delay=1).defer(None)  # error: arg-type
bare.defer("a").result().upper()  # error: attr-defined
bare.defer_many([5])  # error: list-item
optioned.defer(1)  # error: arg-type
asyncio.run(optioned.defer_async())  # error: call-arg
app.task(quue="x")  # error: call-overload
app.task(queue=5)  # error: call-overload
"""


def mypy(file: Path, source: str) -> list[tuple[int, str]]:
    """The errors mypy finds in a source: line and code. What it knows of libraries is kept, and looked through again."""
    file.write_text(source)
    kept = ["--cache-dir", str(ROOT / ".mypy_cache" / "tests")]
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--follow-imports=silent", *kept, file.name],
        cwd=file.parent, env={"MYPYPATH": str(ROOT), "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert not ran.stderr, ran.stderr
    return [
        (int(line), code) for line, code in re.findall(rf"^{file.name}:(\d+): error: .*\[(.+)\]$", ran.stdout, re.M)
    ]


def test_what_is_right_passes(tmp_path: Path) -> None:
    assert mypy(tmp_path / "right.py", RIGHT) == []


def test_what_is_wrong_is_caught(tmp_path: Path) -> None:
    expected = [
        (number, line.partition("# error: ")[2])
        for number, line in enumerate(WRONG.splitlines(), start=1)
        if "# error: " in line
    ]
    assert mypy(tmp_path / "wrong.py", WRONG) == expected
