"""What a worker's children call at their start and stop, and around jobs, in real processes."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from pgqueue import App, ConfigError
from tests.conftest import Worker, alive, eventually
from tests.shell import ROOT
from tests.untyped import untyped

Start = Callable[..., Worker]


@pytest.fixture
def events(tmp_path: Path) -> Path:
    file = tmp_path / "events"
    file.touch()
    return file


@pytest.fixture
def start(start_worker: Start, events: Path) -> Start:
    def started(*options: str, cwd: Path = ROOT, **env: str) -> Worker:
        return start_worker(*options, app="tests.hooked_tasks", cwd=cwd, env={"EVENTS": str(events), **env})

    return started


def test_they_are_called_in_order_and_stop_in_reverse(app: App, start: Start, events: Path) -> None:
    worker = start("-c", "1").ready()
    jobs = [app.enqueue(name) for name in ("sync", "async", "atomic")]
    assert [job.result(30) for job in jobs] == ["set at the start", "set at the start", "in the transaction"]
    assert worker.stop() == 0
    noted = events.read_text().splitlines()
    assert noted[:2] == ["start 1", "start 2"] and noted[-2:] == ["stop 2", "stop 1"]
    assert sorted(noted[2:-2]) == ["async before async", "async succeeded", "atomic committed", "sync succeeded"]
    assert "on_child_stop tests.hooked_tasks.fails failed" in worker.output and "OSError: cannot stop" in worker.output


def test_a_child_that_is_replaced_stops_as_any_other(app: App, start: Start, events: Path) -> None:
    start("-c", "1", "--max-tasks-per-child", "1").ready()
    for _ in range(2):
        assert app.enqueue("sync").result(30) == "set at the start"
    eventually(lambda: events.read_text().count("stop 1") == 2, what="both have stopped")


def test_a_start_that_fails_ends_a_worker_that_has_never_started(start: Start, events: Path) -> None:
    worker = start("-c", "1", FAIL_START="no pool today")
    assert worker.wait() == 2
    last = worker.lines[-1]
    assert last == "pgqueue: on_child_start tests.hooked_tasks.second failed: ConnectionError: no pool today"
    assert "in second" in worker.output  # the traceback
    assert "stop" not in events.read_text()


def test_a_stop_that_hangs_is_left_to_itself(start: Start, events: Path) -> None:
    worker = start("-c", "1", SLOW_STOP="3600").ready()
    assert worker.stop() == 0
    assert "(stop hooks, atexit) did not finish within 3 s" in worker.output
    assert events.read_text().splitlines()[-1] == "stop 1"


def test_middleware_sees_a_commit_without_an_answer(
    app: App, conn: psycopg.Connection, start: Start, events: Path
) -> None:
    conn.execute("""
        create schema shop;
        create table shop.cut (id int generated always as identity);
        create function shop.cut() returns trigger language plpgsql as $$
        begin
          perform pg_terminate_backend(pg_backend_pid());
          perform pg_sleep(60);
          return null;
        end $$
    """)
    start("-c", "1").ready()
    assert app.enqueue("cut").result(30) is None
    assert [line for line in events.read_text().splitlines() if "cut" in line] == ["cut unsure", "cut committed"]


@pytest.fixture
def configured(tmp_path: Path, start: Start) -> Start:
    """Start a worker in a project whose pyproject.toml names these functions."""

    def started(*, first: list[str], last: list[str], **env: str) -> Worker:
        settings = f"[tool.pgqueue]\non_worker_start = {first}\non_worker_stop = {last}\n"
        (tmp_path / "pyproject.toml").write_text(settings)
        return start("-c", "2", cwd=tmp_path, **env)

    return started


WARM, WARM_ASYNC = "tests.hooked_tasks:warm", "tests.hooked_tasks:warm_async"
COOL, COOL_ASYNC = "tests.hooked_tasks:cool", "tests.hooked_tasks:cool_async"


def test_a_worker_calls_its_own_functions_once_in_a_process_without_jobs(
    app: App, configured: Start, events: Path
) -> None:
    worker = configured(first=[WARM, WARM_ASYNC], last=[COOL, COOL_ASYNC]).ready()
    assert len(worker.children()) == 3
    assert app.enqueue("sync").result(30) == "set at the start"
    assert worker.stop() == 0
    noted = events.read_text().splitlines()
    of_worker = [line for line in noted if "worker" in line]
    pids = {line.split()[-1] for line in of_worker}
    assert [line.rsplit(" ", 1)[0] for line in of_worker] == [
        "worker warms", "worker warms async", "worker cools async", "worker cools",
    ]  # fmt: skip
    assert len(pids) == 1 and pids != {str(worker.process.pid)}
    assert noted.index(of_worker[1]) < noted.index("sync succeeded") and noted[-1] == of_worker[-1]


@pytest.mark.parametrize(
    ("first", "last", "says"),
    [
        ("tests.hooked_tasks:fails", COOL, "pgqueue: on_worker_start failed: OSError: cannot stop"),
        (
            "tests.hooked_tasks:missing",
            COOL,
            "pgqueue: on_worker_start failed: tests.hooked_tasks:missing is not a function",
        ),
        (WARM, "tests.hooked_tasks:app", "pgqueue: on_worker_start failed: tests.hooked_tasks:app is not a function"),
        (WARM, "nowhere:cool", "pgqueue: on_worker_start failed: ModuleNotFoundError: No module named 'nowhere'"),
        ("tests.hooked_tasks:die", COOL, "pgqueue: the helper process died while it called the on_worker_start"),
        ("warm", COOL, "pgqueue: on_worker_start takes a list of names as in ['shop.hooks:warm_up'], not ('warm',)"),
    ],
)
def test_a_worker_whose_functions_fail_does_not_start(
    configured: Start, events: Path, first: str, last: str, says: str
) -> None:
    worker = configured(first=[first], last=[last])
    assert worker.wait() == 2
    assert worker.lines[-1].startswith(says) and "is ready" not in worker.output
    assert "cools" not in events.read_text()


def test_a_worker_can_be_stopped_while_it_calls_them(configured: Start, events: Path) -> None:
    worker = configured(first=["tests.hooked_tasks:warm_long"], last=[COOL])
    eventually(lambda: "worker warms long" in events.read_text(), what="it warms")
    assert worker.stop() == 0
    assert "cools" not in events.read_text()


def test_a_worker_goes_on_without_its_helper_and_says_what_will_not_run(
    app: App, configured: Start, events: Path
) -> None:
    worker = configured(first=[WARM], last=[COOL]).ready()
    os.kill(int(events.read_text().split("worker warms ")[1].split()[0]), signal.SIGKILL)
    worker.said("the helper process died: the on_worker_stop functions of this worker will not be called")
    assert app.enqueue("sync").result(30) == "set at the start"
    assert worker.stop() == 0


def test_a_helper_ends_with_a_worker_that_is_killed(configured: Start, events: Path) -> None:
    worker = configured(first=[WARM], last=[COOL]).ready()
    helper = int(events.read_text().split("worker warms ")[1].split()[0])
    worker.process.kill()
    eventually(lambda: not alive(helper), what="the helper ends")
    assert "cools" not in events.read_text()


def takes_something(child: object) -> None: ...


def yields() -> object:
    yield


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (3, "takes a function, not 3"),
        (takes_something, "is called without arguments"),
        (yields, "yields: register one function for the start and one for the stop"),
    ],
)
def test_what_cannot_be_called_is_refused(function: object, message: str) -> None:
    app = App()
    for register in app.on_child_start, app.on_child_stop:
        with pytest.raises(ConfigError, match=message):
            register(untyped(function))
    assert app.hooks.child_start == app.hooks.child_stop == []
