"""The corpus example: its arithmetic, and the whole demo with a real worker, also when it is cut short."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from examples.corpus.demo import corpus
from examples.corpus.tasks import Function, add_up, count_tokens, longest_function, measure
from tests.conftest import PATIENCE_S, eventually
from tests.shell import ROOT

SOURCE = b'''@decorator
def short(): pass

class Thing:
    async def long(self):
        """One, two,

        three."""
'''


class Demo:
    """`python -m examples.corpus.demo` as a process; what it prints is kept."""

    def __init__(self, dsn: str, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "examples.corpus.demo", *options],
            env={**os.environ, "PGQUEUE_DSN": dsn}, cwd=ROOT, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as out:
            self._lines.extend(out)

    @property
    def output(self) -> str:
        return "".join(self._lines)

    def wait(self) -> int:
        code = self.process.wait(2 * PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return code


@pytest.fixture
def start_demo(dsn: str, conn: psycopg.Connection) -> Iterator[Callable[..., Demo]]:
    """Start demos on the test database; those still running at the end are ended with their workers."""
    started: list[Demo] = []

    def start(*options: str) -> Demo:
        started.append(Demo(dsn, *options))
        return started[-1]

    yield start
    for demo in started:
        if demo.process.poll() is None:
            demo.process.terminate()
            demo.wait()


def worker_pid(conn: psycopg.Connection) -> int | None:
    row = conn.execute("select pid from pgqueue.worker").fetchone()
    return row[0] if row else None


def states(conn: psycopg.Connection) -> dict[str, int]:
    return dict(conn.execute("select state::text, count(*) from pgqueue.jobs group by state").fetchall())


def is_at_work(conn: psycopg.Connection) -> bool:
    return states(conn).get("succeeded", 0) > 10


# -- the arithmetic --


def test_a_file_is_measured(tmp_path: Path) -> None:
    file = tmp_path / "thing.py"
    file.write_bytes(SOURCE)
    found = measure(file)
    assert (found.path, found.lines, found.problem) == (str(file), 8, None)
    assert found.sha256 == hashlib.sha256(SOURCE).hexdigest()
    assert found.longest == Function(4, "long", str(file))
    assert found.tokens == count_tokens(SOURCE)


def test_tokens_are_counted_by_kind() -> None:
    assert count_tokens(b"x = 1  # one\n") == {
        "ENDMARKER": 1, "NAME": 1, "NUMBER": 1, "NEWLINE": 1, "OP": 1, "COMMENT": 1, "ENCODING": 1,
    }  # fmt: skip


def test_of_functions_with_equal_length_one_is_the_longest() -> None:
    source = b"def a():\n  pass\ndef b():\n  pass\n"
    assert longest_function(source, path="x") == Function(2, "b", "x")
    assert longest_function(b"lambda: 1\n", path="x") is None


@pytest.mark.parametrize(
    "source", [b"\xff\xfe = 1\n", b"# coding: klingon\n", b"def f(:\n", b"x = 'y\n", b"x = 1\0\n", b"(\n"]
)
def test_what_is_no_python_is_said_to_be_so(tmp_path: Path, source: bytes) -> None:
    file = tmp_path / "bad.py"
    file.write_bytes(source)
    found = measure(file)
    assert found.problem and found.tokens == {} and found.longest is None
    assert found.lines == 1 and found.sha256 == hashlib.sha256(source).hexdigest()
    assert add_up([found]).unreadable == [str(file)]


def test_the_sum_does_not_depend_on_the_order() -> None:
    files = [measure(path) for path in corpus(30)]
    total = add_up(files)
    assert total == add_up(reversed(files))
    assert total.files == 30 and total.lines == sum(each.lines for each in files)
    assert total.tokens["ENCODING"] == 30
    assert total.longest == max(each.longest for each in files if each.longest)
    assert total != add_up(files[1:])
    assert add_up([]).longest is None


def test_the_corpus_is_the_standard_library_alone() -> None:
    paths = corpus()
    assert Path(os.__file__) in paths
    assert len(paths) > 500 and Path(pytest.__file__) not in paths


# -- the whole --


def test_the_demo_runs_through_twice(start_demo: Callable[..., Demo], conn: psycopg.Connection) -> None:
    for run in (1, 2):
        demo = start_demo("--limit", "25", "-c", "2")
        assert demo.wait() == 0, demo.output
        assert "25 files, 25 jobs that succeeded, none lost, none doubled" in demo.output
        assert "both sums are equal" in demo.output and "cut short" not in demo.output
        assert states(conn) == {"succeeded": 26 * run} and worker_pid(conn) is None
        tries = conn.execute("select attempt, count(*) from pgqueue.jobs group by attempt order by attempt").fetchall()
        assert tries == [(1, 21 * run), (3, 5 * run)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing_alive_and_can_be_run_again(
    start_demo: Callable[..., Demo], conn: psycopg.Connection, number: signal.Signals
) -> None:
    demo = start_demo("-c", "2")
    eventually(lambda: is_at_work(conn), what="some files are measured")
    demo.process.send_signal(number)
    assert demo.wait() == 130, demo.output
    assert "this run was cut short: cancelled" in demo.output and "Traceback" not in demo.output
    assert states(conn).keys() == {"succeeded", "cancelled"} and worker_pid(conn) is None
    again = start_demo("--limit", "25", "-c", "2")
    assert again.wait() == 0, again.output


@pytest.mark.long
def test_a_worker_that_dies_ends_the_demo(start_demo: Callable[..., Demo], conn: psycopg.Connection) -> None:
    demo = start_demo("-c", "2")
    eventually(lambda: is_at_work(conn), what="some files are measured")
    pid = worker_pid(conn)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert demo.wait() == 1, demo.output
    assert "the worker ended by itself (exit code -9)" in demo.output and "Traceback" not in demo.output
    again = start_demo("--limit", "25", "-c", "2")
    assert again.wait() == 0, again.output


@pytest.mark.long
def test_what_a_killed_demo_left_is_cancelled_by_the_next(
    start_demo: Callable[..., Demo], conn: psycopg.Connection
) -> None:
    demo = start_demo("-c", "1")
    eventually(lambda: is_at_work(conn), what="some files are measured")
    pid = worker_pid(conn)
    demo.process.kill()
    demo.wait()
    assert pid is not None
    again = start_demo("--limit", "25", "-c", "1")
    assert again.wait() == 0, again.output
    assert "an earlier run was cut short: cancelled the" in again.output
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: worker_pid(conn) is None, what="the first worker signs out")


@pytest.mark.long
def test_two_demos_at_once_do_not_meet(start_demo: Callable[..., Demo], conn: psycopg.Connection) -> None:
    start_demo("-c", "1")
    eventually(lambda: is_at_work(conn), what="some files are measured")
    second = start_demo("--limit", "25")
    assert second.wait() == 1 and "another demo runs on this database" in second.output
