"""What one job leaves behind is not met by the next, what it prints is seen, and a copy of its process never speaks for it."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgqueue import App, JobDead
from pgqueue.task import AnyTask
from tests import hostile_tasks as tasks
from tests.conftest import Worker, alive, eventually

Start = Callable[..., Worker]

pytestmark = pytest.mark.usefixtures("task_app")

COPY = "forked a copy of this process"


@pytest.fixture
def start(start_worker: Start) -> Start:
    """A worker that knows the hostile tasks."""
    return lambda *options, **settings: start_worker(*options, app="tests.hostile_tasks", **settings)


# -- contexts --


@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("task", [tasks.look_around, tasks.look_around_async], ids=["sync", "async"])
def test_a_job_sees_the_context_of_the_app_and_of_no_other_job(start: Start, task: Any, threads: str) -> None:
    start("-c", "1", "--threads", threads).ready()
    seen = [task.defer(f"job {n}").result(30) for n in range(4)]
    assert seen == [["nobody", "as the app says", 28]] * 4


PRECISE = """
import decimal
from pgqueue import App
decimal.getcontext().prec = 50
app = App()

def use():
    context = decimal.getcontext()
    seen = context.prec, context.flags[decimal.Inexact]
    context.prec = 3
    decimal.Decimal(1) / 3
    return seen

@app.task(name="shop.divide")
def divide():
    return use()

@app.task(name="shop.divide_async")
async def divide_async():
    return use()
"""


@pytest.mark.parametrize("name", ["shop.divide", "shop.divide_async"])
def test_the_precision_that_the_app_has_set_is_that_of_each_job(
    start_worker: Start, app: App, tmp_path: Path, name: str
) -> None:
    (tmp_path / "shop.py").write_text(PRECISE)
    start_worker("-c", "1", app="shop", cwd=tmp_path).ready()
    assert [app.enqueue(name).result(30) for _ in range(3)] == [[50, False]] * 3


# -- copies --

CODES = {"return": 0, "raise": 1, "exit": 3, "_exit": 4, "kill": -9, "snooze": 1}
FORKS: dict[str, AnyTask] = {"sync": tasks.fork_and, "async": tasks.fork_async_and}


def copy_is_gone(marker: Path) -> bool:
    return not alive(int(marker.read_text()))


@pytest.mark.parametrize("kind", list(FORKS))
def test_a_copy_never_answers_for_the_job(start: Start, conn: psycopg.Connection, tmp_path: Path, kind: str) -> None:
    worker = start("-c", "1").ready()
    (child,) = worker.children()
    for how, code in CODES.items():
        job = FORKS[kind].defer(how, str(tmp_path / how))
        assert job.result(30) == code and job.snapshot().attempt == 1
        assert copy_is_gone(tmp_path / how)
    assert conn.execute("select count(*) from pgqueue.attempt").fetchone() == (0,)
    assert tasks.pid.defer().result(30) == child and worker.stop() == 0
    warned = [line for line in worker.lines if COPY in line]
    assert len(warned) == 4  # two of six were ended before they came back
    assert worker.output.count("RuntimeError: in the copy") == 1


@pytest.mark.parametrize("task", [tasks.fork_atomic_and, tasks.fork_atomic_async_and], ids=["sync", "async"])
def test_a_copy_does_not_touch_the_transaction_of_the_job(
    start: Start, conn: psycopg.Connection, tmp_path: Path, task: Any
) -> None:
    conn.execute("create schema shop")
    conn.execute("create table shop.paid (n int)")
    worker = start("-c", "1").ready()
    # Without its connection the copy of an atomic task can only fail.
    for how, code in ("return", 1), ("raise", 1), ("_exit", 4):
        assert task.defer(how, str(tmp_path / how)).result(30) == code
        assert copy_is_gone(tmp_path / how)
    assert conn.execute("select n from shop.paid order by n").fetchall() == [(1,)] * 3 + [(2,)] * 3
    assert worker.stop() == 0


def test_a_copy_of_an_async_task_cannot_await_and_runs_no_other_job_on(start: Start, tmp_path: Path) -> None:
    worker = start("-c", "1").ready()
    neighbour = tasks.count_up.defer(str(tmp_path / "count"))
    eventually((tmp_path / "count").exists, what="the neighbour runs")
    assert tasks.fork_async_and.defer("await", str(tmp_path / "copy")).result(30) == 1
    assert neighbour.result(30) == 100
    assert (tmp_path / "copy").read_text() != "awaited" and copy_is_gone(tmp_path / "copy")
    assert "awaited something in it: a copy has no event loop" in worker.said(COPY)


def test_a_copy_made_in_a_thread_of_the_task_ends_with_it(start: Start, tmp_path: Path) -> None:
    worker = start("-c", "1").ready()
    # As Python has it: what a thread raises is no end of the process.
    for how, code in ("return", 0), ("raise", 0), ("exit", 0), ("_exit", 4):
        assert tasks.fork_in_a_thread_and.defer(how, str(tmp_path / how)).result(30) == code
        assert copy_is_gone(tmp_path / how)
    assert worker.stop() == 0


def test_processes_that_python_forks_for_a_task_are_as_ever(start: Start, tmp_path: Path) -> None:
    worker = start("-c", "1").ready()
    codes = {
        how: tasks.fork_by_multiprocessing.defer(how, str(tmp_path / how)).result(30)
        for how in ("return", "raise", "exit", "_exit")
    }
    assert codes == {"return": 0, "raise": 1, "exit": 3, "_exit": 4}
    assert tasks.fork_before_exec.defer("before exec", str(tmp_path / "exec")).result(30) == 0
    assert (tmp_path / "exec").read_text() == "before exec" and worker.stop() == 0
    assert COPY not in worker.output


def test_a_job_that_closes_the_descriptors_of_its_process_is_quarantined(start: Start) -> None:
    jobs = [tasks.close_all.defer(), tasks.close_all.defer()]
    worker = start("-c", "1").ready()
    for job in jobs:
        with pytest.raises(JobDead, match="quarantined"):
            job.result(60)
    worker.said("a task has closed file descriptors that are not its own")
    assert isinstance(tasks.pid.defer().result(30), int) and worker.stop() == 0
    assert "Traceback" not in worker.output


def test_a_copy_runs_what_it_has_registered_for_its_end_and_not_what_the_original_has(
    start: Start, tmp_path: Path
) -> None:
    worker = start("-c", "1").ready()
    tasks.register_at_exit.defer(str(tmp_path), "").result(30)
    assert tasks.fork_and.defer("atexit", str(tmp_path / "copy")).result(30) == 0
    assert (tmp_path / "copy.atexit").exists() and not (tmp_path / "atexit").exists()
    assert worker.stop() == 0 and (tmp_path / "atexit").exists()


# -- what is printed, and the end of a process --


def test_what_a_job_printed_is_seen_when_it_has_ended_though_it_goes_into_a_pipe(start: Start, tmp_path: Path) -> None:
    worker = start("-c", "1", env={"PYTHONUNBUFFERED": ""}).ready()
    tasks.print_and_wait_for.defer("said by a job\n", "").result(30)
    worker.said("said by a job", within_s=5)
    worker.said("SAID BY A JOB", within_s=5)
    tasks.close_stdout.defer().result(30)
    assert tasks.echo.defer(1).result(30) == 1


@pytest.mark.parametrize("how", ["", "thread", "raise"])
@pytest.mark.parametrize("end", ["stop", "replaced"])
def test_a_child_that_ends_politely_runs_what_is_registered_for_it(
    start: Start, tmp_path: Path, how: str, end: str
) -> None:
    worker = start("-c", "1", *(["--max-tasks-per-child", "1"] if end == "replaced" else [])).ready()
    tasks.register_at_exit.defer(str(tmp_path), how).result(30)
    if end == "stop":
        assert worker.stop() == 0
    eventually((tmp_path / "atexit").exists, what="atexit")
    assert (tmp_path / "threading").exists()
    eventually(lambda: (tmp_path / "log").read_text() == "the last word\n", what="logging.shutdown")
    assert tasks.echo.defer(1).result(30) == 1 if end == "replaced" else True


@pytest.mark.parametrize("how", ["hang", "hold"])
def test_an_exit_function_without_an_end_is_not_waited_for(start: Start, tmp_path: Path, how: str) -> None:
    worker = start("-c", "1", "--max-tasks-per-child", "1").ready()
    (child,) = worker.children()
    tasks.register_at_exit.defer(str(tmp_path), how).result(30)
    eventually(lambda: not alive(child), what="it ends", within_s=20)
    assert tasks.echo.defer(1).result(30) == 1
    if how == "hang":
        worker.said("did not finish within 3 s")


# -- logging --

LOGS = """
import logging, logging.config, os, time
os.environ["TZ"] = "Asia/Tokyo"
time.tzset()
from pgqueue import App
{setup}
app = App()

@app.task(name="shop.talk")
def talk():
    logging.getLogger("shop").debug("a debug line")
    logging.getLogger("shop").info("an info line")
    logging.getLogger("pgqueue.worker").warning("a line of ours")
"""
DICT = {
    "version": 1,
    "formatters": {"f": {"format": "APP %(levelname)s %(message)s"}},
    "handlers": {"h": {"class": "logging.StreamHandler", "formatter": "f"}},
    "root": {"level": "DEBUG", "handlers": ["h"]},
}


@pytest.mark.parametrize(
    ("setup", "options", "seen", "unseen"),
    [
        pytest.param("", [], ["Z INFO    shop: an info line"], ["a debug line"], id="nothing"),
        pytest.param("", ["-l", "debug"], ["Z DEBUG   shop: a debug line"], [], id="nothing-but-asked"),
        pytest.param(
            "logging.basicConfig(level='DEBUG', format='APP %(levelname)s %(message)s')", [],
            ["APP DEBUG a debug line", "APP INFO an info line", "APP WARNING a line of ours"], [], id="basicConfig",
        ),
        pytest.param(
            "logging.basicConfig(level='DEBUG', format='APP %(levelname)s %(message)s')", ["-l", "warning"],
            ["APP WARNING a line of ours"], ["an info line"], id="basicConfig-but-asked",
        ),
        pytest.param(
            "logging.basicConfig(level='WARNING')", [],
            ["WARNING:pgqueue.worker:a line of ours"], ["an info line"], id="level-alone",
        ),
        pytest.param(
            f"logging.config.dictConfig({DICT!r})", [],
            ["APP DEBUG a debug line", "APP WARNING a line of ours"], [], id="dictConfig",
        ),
        pytest.param(
            "logging.info('while it is imported')", [],
            ["Z INFO    shop: an info line", "while it is imported"], ["INFO:"], id="by-accident",
        ),
    ],
)  # fmt: skip
def test_what_the_app_says_about_logging_holds_in_the_child(
    start_worker: Start, app: App, tmp_path: Path, setup: str, options: list[str], seen: list[str], unseen: list[str]
) -> None:
    (tmp_path / "shop.py").write_text(LOGS.format(setup=setup))
    worker = start_worker("-c", "1", *options, app="shop", cwd=tmp_path).ready()
    app.enqueue("shop.talk").result(30)
    for text in seen:
        worker.said(text)
    worker.said("a line of ours")
    assert not [text for text in unseen if text in worker.output.replace("INFO:root:while", "")]


def test_supervisor_and_child_log_in_utc_whatever_zone_the_app_sets(
    start_worker: Start, app: App, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(LOGS.format(setup=""))
    worker = start_worker("-c", "1", app="shop", cwd=tmp_path, env={"TZ": "America/New_York"}).ready()
    app.enqueue("shop.talk").result(30)
    app.enqueue("shop.unknown")
    now = time.strftime("%Y-%m-%d", time.gmtime())
    for line in worker.said("an info line"), worker.said("no task named 'shop.unknown'"):
        stamp = subprocess.run(
            ["date", "-u", "-d", " ".join(line.split()[:2]).replace(",", "."), "+%s"], capture_output=True, text=True
        )
        assert abs(int(stamp.stdout) - time.time()) < 300 and line.startswith(now) and line.split()[1].endswith("Z")
