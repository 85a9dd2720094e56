"""A task whose runs fail too often is held up, tried with one job, and let through again."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from pgqueue import App
from tests.conftest import Worker, eventually
from tests.gates import fragile

Start = Callable[..., Worker]

CALL = "task:tests.gates.fragile.call"


@pytest.fixture
def shop(dsn: str, conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The tasks, with an App on the test database."""
    conn.execute(fragile.SHOP)
    monkeypatch.setenv("LEDGER", dsn)
    app = App(dsn)
    for task in fragile.call, fragile.store:
        monkeypatch.setattr(task, "app", app)
    yield fragile
    app.close()


def runs(conn: psycopg.Connection) -> int:
    (count,) = conn.execute("select count(*) from shop.ledger").fetchone() or (0,)
    return int(count)


def test_two_workers_stop_try_and_go_again(shop: Any, conn: psycopg.Connection, start_worker: Start) -> None:
    workers = [start_worker("-c", "2", app="tests.gates.fragile").ready() for _ in range(2)]
    shop.call.defer_many([(0.05,)] * 300)

    def told(text: str) -> bool:
        return any(text in worker.output for worker in workers)

    eventually(lambda: told("the breaker closes the gate for 1 s: "), what="the breaker closes the gate")
    eventually(lambda: told("the breaker closes the gate again: its trial failed"), what="a trial fails")
    before = runs(conn)
    assert before < 100
    conn.execute("update shop.weather set bad = false")
    eventually(lambda: told("the breaker opens the gate: its trial succeeded"), what="the gate opens")
    eventually(lambda: conn.execute("select count(*) from pgqueue.job").fetchone() == (0,), what="all have ended")
    assert runs(conn) == 300
    assert "".join(worker.output for worker in workers).count("the breaker closes the gate for") == 1
