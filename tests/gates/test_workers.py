"""Real workers hold limits, all together."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from pgqueue import App
from tests.conftest import Worker, eventually
from tests.gates import tasks

LEDGER = """
create schema shop;
create table shop.ledger (
  id bigint generated always as identity, what text, job text, attempt integer, began timestamptz, ended timestamptz
)
"""
# How many ran at once at the beginning of each.
AT_ONCE = """
select one.what, max((
  select count(*) from shop.ledger as other
  where other.what = one.what and other.began <= one.began and coalesce(other.ended, 'infinity') > one.began
))
from shop.ledger as one
group by 1
"""

Start = Callable[..., Worker]


@pytest.fixture
def ledger(conn: psycopg.Connection, dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[psycopg.Connection]:
    """The table in which jobs note that they run."""
    conn.execute(LEDGER)
    monkeypatch.setenv("LEDGER", dsn)
    yield conn


@pytest.fixture
def shop(dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The tasks, with an App on the test database."""
    app = App(dsn)
    for task in (tasks.two, tasks.each, tasks.both, tasks.fails, tasks.atomically, tasks.free):
        monkeypatch.setattr(task, "app", app)
    yield tasks
    app.close()


def ended(conn: psycopg.Connection, count: int) -> bool:
    return conn.execute("select count(*) from pgqueue.history").fetchone() == (count,)


def test_two_workers_run_no_more_than_the_limit_at_once(
    shop: Any, ledger: psycopg.Connection, start_worker: Start
) -> None:
    workers = [start_worker("-c", "3", app="tests.gates.tasks") for _ in range(2)]
    for worker in workers:
        worker.ready()
    shop.two.defer_many([()] * 10)
    for _ in range(3):
        shop.two.defer(0.01)
        shop.each.defer("a")
    shop.each.defer_many([("b",)] * 3)
    shop.both.defer_many([(tenant,) for tenant in "abcdabcd"])
    jobs = [shop.fails.defer(), shop.atomically.defer(), shop.atomically.defer(), shop.free.defer()]
    eventually(lambda: ended(ledger, 31), what="all jobs have ended")
    at_once: dict[str, int] = dict(ledger.execute(AT_ONCE).fetchall())
    assert at_once.pop("two") == 2
    assert set(at_once.values()) == {1} and len(at_once) == 6
    assert [job.state for job in jobs] == ["dead", "succeeded", "succeeded", "succeeded"]
    assert ledger.execute("select name, slots, keyed, source from pgqueue.gate order by 1").fetchall() == [
        ("fair:queue:shared", None, True, "code"),
        ("fair:task:tests.gates.tasks.turns", None, True, "code"),
        ("order:tests.gates.tasks.in_order", 1, True, "code"),
        ("task:tests.gates.tasks.atomically", 1, False, "code"),
        ("task:tests.gates.tasks.both", 3, False, "code"),
        ("task:tests.gates.tasks.each", 1, True, "code"),
        ("task:tests.gates.tasks.fails", 1, False, "code"),
        ("task:tests.gates.tasks.many", 1000, False, "code"),
        ("task:tests.gates.tasks.two", 2, False, "code"),
        ("tenant", 1, True, "code"),
    ]


def test_a_job_that_came_without_its_gates_waits_there(
    shop: Any, ledger: psycopg.Connection, start_worker: Start
) -> None:
    worker = start_worker("-c", "4", app="tests.gates.tasks").ready()
    stranger = App(worker.dsn)
    for _ in range(4):
        stranger.enqueue("tests.gates.tasks.two")
        stranger.enqueue("tests.gates.tasks.both", ["a"])
    wrong = stranger.enqueue("tests.gates.tasks.both", [""], max_attempts=1)
    eventually(lambda: ended(ledger, 9), what="all jobs have ended")
    assert dict(ledger.execute(AT_ONCE).fetchall()) == {"two": 2, "both a": 1}
    (error,) = [attempt.error for attempt in stranger.attempts(wrong.id)]
    assert error.startswith("InvalidOption: tests.gates.tasks.both: the function of key= raised IndexError")
    assert {row[0] for row in ledger.execute("select attempt from pgqueue.history")} == {1}
    stranger.close()


def test_a_limit_on_a_queue_at_run_time(shop: Any, ledger: psycopg.Connection, start_worker: Start) -> None:
    start_worker("-c", "4", app="tests.gates.tasks").ready()
    ledger.execute("insert into pgqueue.gate (name, slots, source) values ('queue:default', 1, 'person')")
    for tenant in "abab":
        shop.each.defer(tenant)
    shop.free.defer()
    eventually(lambda: ended(ledger, 5), what="all jobs have ended")
    passed = ledger.execute("select distinct gates from pgqueue.history order by 1").fetchall()
    assert passed == [
        (["queue:default"],),
        (["task:tests.gates.tasks.each=a", "queue:default"],),
        (["task:tests.gates.tasks.each=b", "queue:default"],),
    ]


def test_a_burst_waits_for_jobs_at_open_gates_alone(shop: Any, ledger: psycopg.Connection, start_worker: Start) -> None:
    shop.two.defer_many([(0.001,)] * 5)
    shop.each.defer_many([("a",), ("b",)])
    ledger.execute(
        "insert into pgqueue.gate (name, slots, source) values ('task:tests.gates.tasks.each=b', 0, 'person')"
    )
    worker = start_worker("-c", "2", "--burst", app="tests.gates.tasks")
    assert worker.wait() == 0
    assert ended(ledger, 6)


def test_a_worker_knows_when_a_pause_ends(shop: Any, ledger: psycopg.Connection, start_worker: Start) -> None:
    """Though it was made, or made shorter, after the job was looked at; the sweep would find it within 15 seconds."""
    gate = f"task:{shop.two.name}"
    shop.two.app.pause(gate, for_=3600)
    start_worker("-c", "1", app="tests.gates.tasks").ready()
    job = shop.two.defer(0)
    looked_at = "select gate from pgqueue.job where state = 'waiting'"
    eventually(lambda: ledger.execute(looked_at).fetchone() == (1,), what="somebody has looked at it")
    ledger.execute("update pgqueue.pace set tat = now() where gate = ''")  # a sweep was made just now
    shop.two.app.pause(gate, for_=0.5)
    eventually(lambda: job.state == "succeeded", what="it has run", within_s=10)


def test_a_worker_ends_what_has_expired_at_a_closed_gate(
    shop: Any, ledger: psycopg.Connection, start_worker: Start
) -> None:
    job = shop.two.options(expires=3600).defer()
    ledger.execute("update pgqueue.job set expires_at = now() - interval '1 second', gate = 1")
    ledger.execute("insert into pgqueue.gate (name, slots, source) values ('task:tests.gates.tasks.two', 0, 'person')")
    start_worker("-c", "1", app="tests.gates.tasks").ready()
    eventually(lambda: job.state == "cancelled", what="it is cancelled")
    assert ledger.execute("select error from pgqueue.history").fetchall() == [("expired before it could start",)]
