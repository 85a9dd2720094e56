"""What a worker's children call at their start and stop, and around jobs, in real processes."""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from pgqueue import App, ConfigError
from tests.conftest import Worker, eventually
from tests.untyped import untyped

Start = Callable[..., Worker]


@pytest.fixture
def events(tmp_path: Path) -> Path:
    file = tmp_path / "events"
    file.touch()
    return file


@pytest.fixture
def start(start_worker: Start, events: Path) -> Start:
    def started(*options: str, **env: str) -> Worker:
        return start_worker(*options, app="tests.hooked_tasks", env={"EVENTS": str(events), **env})

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
    assert "(on_child_stop, atexit) did not finish within 3 s" in worker.output
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
