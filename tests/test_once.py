"""One job in a period: the first call's, also when it has ended; the others find it, and a rollback leaves nothing."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from pgqueue import App, InvalidOption, Task, db
from pgqueue.client.enqueue import enqueue_again, enqueue_one
from pgqueue.client.handle import Job
from pgqueue.client.options import Options
from pgqueue.job import new_id
from pgqueue.schema import retention
from pgqueue.testing import Clock, drain
from tests.answers import one_value
from tests.conftest import eventually
from tests.doors.callers import ASYNC, SYNC
from tests.hands import Hands

AnyTask = Task[Any, Any, Any]
THREADS = 8
CALLS = 50  # of each thread
KEYS = 5

ran: list[str] = []


def remind(user: str, text: str = "") -> None:
    ran.append(user)


@pytest.fixture
def task(app: App) -> Iterator[AnyTask]:
    ran.clear()
    yield app.task(name="shop.remind")(remind)


@pytest.fixture
def worker(conn: psycopg.Connection, app: App) -> Hands:
    return Hands(conn, app.queries)


def jobs(conn: psycopg.Connection) -> int:
    """How many there are, alive or ended."""
    count: int = one_value(conn, "select count(*) from pgqueue.jobs")
    return count


def test_many_calls_of_many_threads_make_a_job_of_each_key(
    task: AnyTask, conn: psycopg.Connection, worker: Hands
) -> None:
    """Though they end at once, so that nothing lives by which a second call could know."""
    start, errors = threading.Barrier(THREADS + 1), list[BaseException]()
    made = list[tuple[str, str, bool]]()

    def call(number: int) -> None:
        try:
            start.wait()
            for turn in range(CALLS):
                key = f"user {(number + turn) % KEYS}"
                job = task.options(once_per="1h", once_key=key).defer(key, str(turn))
                made.append((key, job.id, job.created))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=[number]) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    start.wait()
    while any(thread.is_alive() for thread in threads):
        worker.run_all()
    worker.run_all()
    assert errors == [] and len(made) == THREADS * CALLS == 400
    assert jobs(conn) == KEYS == len({(key, id_) for key, id_, _ in made})
    assert Counter(key for key, _, created in made if created) == Counter(f"user {number}" for number in range(KEYS))


@pytest.mark.parametrize("span", [3600, timedelta(hours=1), "1h", "60m"])
def test_calls_that_are_the_same_are_of_one_period(task: AnyTask, worker: Hands, span: Any) -> None:
    bound = task.options(once_per=span)
    first = bound.defer("a")
    worker.run_all()
    again, other = bound.defer("a"), bound.defer("b")
    assert (again.id, again.created, other.created) == (first.id, False, True)
    assert again.state == "succeeded"


def test_when_it_is_over_the_next_call_makes_a_job(task: AnyTask, app: App) -> None:
    bound = task.options(once_per="1h")
    for created in (True, False):
        assert bound.defer("a").created is created
    drain(app=app)
    Clock(app=app).advance(3599)
    assert not bound.defer("a").created
    Clock(app=app).advance(2)
    assert bound.defer("a").created and not bound.defer("a").created
    drain(app=app)
    assert ran == ["a", "a"]


@pytest.mark.parametrize(("span", "unit"), [("1h", "hour"), ("1d", "day"), (60, "minute")])
def test_aligned_it_ends_with_the_clocks(task: AnyTask, conn: psycopg.Connection, span: Any, unit: str) -> None:
    task.options(once_per=span, aligned=True).defer("a")
    ends = f"select until = date_trunc('{unit}', at, 'UTC') + interval '1 {unit}' from pgqueue.period, clock_timestamp() as at"
    # Between the two the clock may have passed the end.
    now = f"select until <= clock_timestamp() or ({ends}) from pgqueue.period"
    assert conn.execute(now).fetchone() == (True,)


def test_other_options_are_the_jobs(task: AnyTask, conn: psycopg.Connection) -> None:
    task.options(once_per="1h", delay=60, queue="mail", priority=3).defer("a")
    found = conn.execute("select state::text, queue, priority, unique_key from pgqueue.job").fetchall()
    assert found == [("scheduled", "mail", 3, None)]


def test_a_rollback_leaves_no_period(task: AnyTask, conn: psycopg.Connection, dsn: str) -> None:
    with psycopg.connect(dsn) as caller:
        assert task.options(once_per="1h", conn=caller).defer("a").created
        assert not task.options(once_per="1h", conn=caller).defer("a").created
        caller.rollback()
    assert conn.execute("select count(*) from pgqueue.period").fetchone() == (0,)
    assert task.options(once_per="1h").defer("a").created


@pytest.mark.parametrize("commits", [True, False])
def test_callers_of_one_key_wait_for_each_other(
    task: AnyTask, conn: psycopg.Connection, dsn: str, commits: bool
) -> None:
    """The second gets the job only once it is certain, or makes one."""
    found: list[Job[Any]] = []
    with psycopg.connect(dsn) as caller:
        first = task.options(once_per="1h", conn=caller).defer("a")
        thread = threading.Thread(target=lambda: found.append(task.options(once_per="1h").defer("a")))
        thread.start()
        eventually(lambda: one_value(conn, "select exists (select from pg_locks where not granted)"), what="it waits")
        caller.commit() if commits else caller.rollback()
    thread.join()
    assert (found[0].id == first.id, found[0].created) == (commits, not commits) and jobs(conn) == 1


@pytest.mark.parametrize("kind", SYNC)
def test_through_every_door(task: AnyTask, conn: psycopg.Connection, dsn: str, kind: str) -> None:
    with SYNC[kind](dsn) as caller:
        bound = task.options(once_per="1h", aligned=True, conn=caller.conn)
        assert bound.defer("a").id == bound.defer("a").id
        caller.commit()
    assert jobs(conn) == 1


@pytest.mark.parametrize("kind", ASYNC)
def test_through_every_async_door(task: AnyTask, conn: psycopg.Connection, dsn: str, kind: str) -> None:
    async def test() -> None:
        async with ASYNC[kind](dsn) as caller:
            bound = task.options(once_per="1h", conn=caller.conn)
            assert (await bound.defer_async("a")).id == (await bound.defer_async("a")).id
            await caller.commit()

    asyncio.run(test())
    assert jobs(conn) == 1


def test_by_name(app: App, conn: psycopg.Connection) -> None:
    first = app.enqueue("t", [1], once_per="1h")
    assert asyncio.run(app.enqueue_async("t", [1], once_per="1h")).id == first.id and jobs(conn) == 1


def test_not_in_bulk(task: AnyTask, conn: psycopg.Connection) -> None:
    with pytest.raises(
        InvalidOption, match=r"^shop\.remind: once_per= is about calls .* use defer\(\), not defer_many\(\)$"
    ):
        task.options(once_per="1h").defer_many([("a",)])
    assert jobs(conn) == 0


@pytest.mark.parametrize("ended", [False, True])
def test_a_call_whose_answer_was_lost_has_made_the_job(
    app: App, conn: psycopg.Connection, worker: Hands, ended: bool
) -> None:
    job_id, options, call = new_id(), Options.make("t", once_per="1h"), ("[]", "{}")
    with db.connect(app.dsn) as line, line.transaction():
        db.run(line, enqueue_one(app.queries, "t", call, job_id=job_id, options=options, ring="never"))
    if ended:
        worker.run_all()
    with db.connect(app.dsn) as line, line.transaction():
        steps = enqueue_again(app.queries, "t", call, job_id=job_id, options=options, ring="never")
        assert db.run(line, steps) == (job_id, True)
    assert jobs(conn) == 1


def test_periods_that_are_over_are_forgotten(
    app: App, conn: psycopg.Connection, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some at a time, and none that a call in an open transaction has renewed."""
    monkeypatch.setattr(retention, "AT_ONCE_PERIODS", 10)
    for number in range(25):
        app.enqueue("t", [number], once_per=0.001)
    app.enqueue("t", ["kept"], once_per="1h")
    while one_value(
        conn, "select exists (select from pgqueue.period where until > now() and until < now() + interval '1 minute')"
    ):
        pass
    with psycopg.connect(dsn) as caller:
        app.enqueue("t", [0], once_per="1h", conn=caller)
        app.run(retention.forget_periods(app.queries))
        caller.commit()
    assert conn.execute("select count(*) from pgqueue.period").fetchone() == (2,)
