"""drain() lets jobs through gates, and one()'s jobs run whatever the limits are."""

import asyncio
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from pgqueue import App, Limit
from pgqueue.testing import Clock, drain, drain_async, run

ran: list[Any] = []


@pytest.fixture
def shop(dsn: str) -> Any:
    """An app with limits."""
    app = App(dsn)
    ran.clear()

    @app.task(name="one", limit=1)
    def one(number: int) -> int:
        ran.append(number)
        if number == 3:
            one.defer(4)
        return number

    @app.task(name="each", limit=[Limit(1, key="tenant", name="tenant"), 2])
    def each(tenant: str) -> None:
        ran.append(tenant)

    yield app
    app.close()


def test_all_run_one_after_the_other(shop: App) -> None:
    one, each = shop.tasks.values()
    for number in (1, 2, 3):
        one.defer(number)
    each.defer_many([("a",), ("b",), ("a",)])
    shop.enqueue(each.name, ["c"])
    assert len(drain(app=shop)) == 8 and sorted(map(str, ran)) == ["1", "2", "3", "4", "a", "a", "b", "c"]
    one.defer(5)
    assert [done.result for done in asyncio.run(drain_async(app=shop))] == [5]


def test_a_limit_of_nothing_lets_nothing_through(shop: App) -> None:
    one, _ = shop.tasks.values()
    shop.limit(f"task:{one.name}", 0)
    job = one.defer(1)
    assert list(drain(app=shop)) == [] and job.state == "waiting"
    assert run(job, app=shop) == 1


def test_in_the_transaction_of_the_test(shop: App, dsn: str, conn: psycopg.Connection) -> None:
    one, each = shop.tasks.values()
    with psycopg.connect(dsn) as line:
        with shop.using(line):
            one.defer(1)
            one.defer(2)
            each.defer("a")
        assert len(drain(app=shop, conn=line)) == 3
        line.rollback()
    assert conn.execute("select count(*) from pgqueue.gate").fetchone() == (0,)


def test_the_clock_moves_rates(shop: App) -> None:
    call = shop.task(name="call", rate="1/m")(lambda number: ran.append(number))
    call.defer_many([(1,), (2,), (3,)])
    clock = Clock(app=shop)
    assert len(drain(app=shop)) == 1 and len(drain(app=shop)) == 0
    clock.advance(30)
    assert len(drain(app=shop)) == 0
    clock.advance(30)
    assert len(drain(app=shop)) == 1
    clock.advance(timedelta(hours=1))  # what a rate saves up is its burst
    assert len(drain(app=shop)) == 1 and ran == [1, 2, 3]


def test_the_clock_ends_a_pause_of_a_task(shop: App) -> None:
    one, _ = shop.tasks.values()
    shop.pause("task:one", for_=timedelta(minutes=10))
    one.defer(1)
    clock = Clock(app=shop)
    clock.advance(540)
    assert len(drain(app=shop)) == 0
    clock.advance(60)
    assert len(drain(app=shop)) == 1


def test_a_worker_hears_of_a_rate_that_the_clock_moved(shop: App, conn: psycopg.Connection) -> None:
    """It knows when the next one may pass, and would wait until then; one that nobody has looked at is found at once."""
    call = shop.task(name="call", rate="1/m")(lambda number: ran.append(number))
    call.defer_many([(1,), (2,)])
    assert len(drain(app=shop)) == 1
    waits = "select gate from pgqueue.job where state = 'waiting'"
    assert conn.execute(waits).fetchall() == [(1,)]
    Clock(app=shop).advance(60)
    assert conn.execute(waits).fetchall() == [(0,)]
