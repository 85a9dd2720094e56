"""A fault does to a real worker what its name says."""

from collections.abc import Callable

import psycopg
import pytest

from pgqueue import App, ConfigError, State
from pgqueue.testing import WorkerProcess, answer_lost, child_killed, connection_lost
from pgqueue.testing.faults import Fault
from tests.conftest import eventually
from tests.testing import faulty_shop as shop
from tests.testing.tasks import written

Case = tuple[Callable[..., object], Fault, list[str]]
CHARGED, SENT = "charged x", "sent x"


@pytest.mark.parametrize(
    ("task", "fault", "expected"),
    [
        pytest.param(
            shop.buy, child_killed(), [CHARGED, CHARGED, SENT, SENT], id="killed at its end", marks=pytest.mark.long
        ),
        pytest.param(
            shop.buy, child_killed(after="tests.testing.faulty_shop.charge"), [CHARGED, CHARGED, SENT], id="killed amid"
        ),
        pytest.param(shop.buy, connection_lost(), [CHARGED, SENT], id="connection lost", marks=pytest.mark.long),
        pytest.param(shop.buy, answer_lost(), [CHARGED, SENT], id="answer lost", marks=pytest.mark.long),
        pytest.param(shop.book, child_killed(), ["x"], id="atomic, killed", marks=pytest.mark.long),
        pytest.param(shop.book, connection_lost(), ["x"], id="atomic, connection lost", marks=pytest.mark.long),
        pytest.param(shop.book, answer_lost(), ["x"], id="atomic, answer lost"),
        pytest.param(
            shop.book_later, connection_lost(), ["x"], id="async atomic, connection lost", marks=pytest.mark.long
        ),
        pytest.param(shop.book_later, answer_lost(), ["x"], id="async atomic, answer lost", marks=pytest.mark.long),
    ],
)
def test_a_fault(app: App, conn: psycopg.Connection, task: object, fault: Fault, expected: list[str]) -> None:
    job = task.defer("x")  # type: ignore[attr-defined]
    with WorkerProcess(app, fault=fault) as worker:
        assert job.result(timeout=60) == "x"
    assert f"as the test wants it: {fault.harm}" in worker.output
    assert written(conn) == expected
    failures = {attempt.cause for attempt in app.attempts(job.id)}
    lost_commit = task is not shop.buy and fault.harm == "connection lost"
    killed = fault.harm == "child killed" and expected != ["x"]
    assert failures == ({"commit"} if lost_commit else {"crash"} if killed else set())


@pytest.mark.long
def test_the_child_that_runs_a_job_is_killed(app: App, conn: psycopg.Connection) -> None:
    job = shop.hold.defer("began")
    with WorkerProcess(app) as worker:
        eventually(lambda: written(conn), what="it has begun")
        worker.kill_child(job)
        assert job.result(timeout=60) == 2
        assert "killed" in worker.output
    assert written(conn) == ["began", "began"]
    assert worker.stop() == 0 and job.state == State.SUCCEEDED


@pytest.mark.long
def test_a_worker_is_killed_with_its_children(app: App) -> None:
    worker = WorkerProcess(app).ready()
    worker.kill()
    assert worker.children() == []


def test_an_app_that_no_module_holds(app: App) -> None:
    hidden = App()
    with pytest.raises(ConfigError, match="no module holds this App"):
        WorkerProcess(hidden)
