"""The tests of the program, as its authors would write them."""

from collections.abc import Callable, Iterator

import psycopg
import pytest

from examples.tested_app import billing
from examples.tested_app.billing import MONTH_S, BankAway, Receipt, charge, mail, subscribe
from pgqueue import State
from pgqueue.testing import Clock, WorkerProcess, assert_deferred, captured, child_killed, drain, eager


@pytest.fixture
def conn(pgqueue_app: object, pgqueue_db: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(pgqueue_db) as conn:
        yield conn
        conn.rollback()
        conn.execute("truncate customer, payment")


@pytest.fixture
def bank(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A bank that answers; what it was asked to charge."""
    charged: list[int] = []
    monkeypatch.setattr(billing, "charge_card", lambda email, cents: charged.append(cents))
    return charged


def test_a_customer_is_charged_and_told(conn: psycopg.Connection, bank: list[int]) -> None:
    subscribe(conn, 1, "a@b.c", 999)
    conn.commit()
    done = drain()
    assert [ran.result for ran in done] == [Receipt("a@b.c", 999), "to a@b.c: we have charged 9.99"]
    assert bank == [999]
    assert_deferred(charge, 1, _delay=MONTH_S)


def test_a_customer_who_is_rolled_back_is_not_charged(conn: psycopg.Connection, bank: list[int]) -> None:
    subscribe(conn, 1, "a@b.c", 999)
    conn.rollback()
    assert drain() == [] and bank == []


def test_all_of_it_in_the_transaction_of_the_test(conn: psycopg.Connection, bank: list[int]) -> None:
    subscribe(conn, 1, "a@b.c", 999)
    assert len(drain(conn=conn)) == 2
    assert conn.execute("select subscription from payment").fetchall() == [(1,)]


def test_every_month(conn: psycopg.Connection, bank: list[int], pgqueue_clock: Clock) -> None:
    subscribe(conn, 1, "a@b.c", 999)
    conn.commit()
    for month in range(1, 4):
        drain()
        assert bank == [999] * month
        pgqueue_clock.advance(MONTH_S)


def test_a_bank_that_is_away_is_asked_three_times(conn: psycopg.Connection, pgqueue_clock: Clock) -> None:
    subscribe(conn, 1, "a@b.c", 999)
    conn.commit()
    for attempt in range(1, 4):
        (ran,) = drain(raises=False)
        assert ran.attempt == attempt and isinstance(ran.error, BankAway)
        pgqueue_clock.advance(60)
    assert ran.state == State.DEAD


def test_what_is_deferred_without_a_database() -> None:
    with captured() as jobs:
        mail.options(queue="slow").defer(Receipt("a@b.c", 5))
    jobs.assert_deferred(mail, Receipt("a@b.c", 5), _queue="slow")


def test_the_mail_goes_through_json() -> None:
    with eager():
        assert mail.defer(Receipt("a@b.c", 5)).result() == "to a@b.c: we have charged 0.05"


def test_a_worker_that_dies_after_the_mail_writes_it_again(
    conn: psycopg.Connection, pgqueue_worker: Callable[..., WorkerProcess]
) -> None:
    pgqueue_worker(fault=child_killed())
    job = mail.defer(Receipt("a@b.c", 5))
    assert job.result(timeout=60) == "to a@b.c: we have charged 0.05"
    assert job.snapshot().crashes == 1
