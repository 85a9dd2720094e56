"""Calls of one key that come soon after another make one job: the last one's, due when it is quiet, or after the most."""

import asyncio
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest

from pgqueue import App, InvalidOption, Task, db
from pgqueue.client.debounce import SLOTS, keys_of
from pgqueue.client.enqueue import enqueue_again, enqueue_one
from pgqueue.client.options import Options
from pgqueue.job import new_id
from pgqueue.testing import Clock, drain
from tests.doors.callers import ASYNC, SYNC
from tests.hands import Hands

AnyTask = Task[Any, Any, Any]
THREADS = 8
CALLS = 40  # of each thread

ran: list[tuple[str, int]] = []


def note(key: str, value: int = 0) -> None:
    ran.append((key, value))


@pytest.fixture
def task(app: App) -> Iterator[AnyTask]:
    ran.clear()
    yield app.task(name="shop.index")(note)


@pytest.fixture
def worker(conn: psycopg.Connection, app: App) -> Hands:
    return Hands(conn, app.queries)


def stored(conn: psycopg.Connection) -> list[tuple[str, str, str]]:
    return conn.execute("select state::text, unique_key, args from pgqueue.job order by unique_key").fetchall()


def times(conn: psycopg.Connection) -> tuple[datetime, datetime]:
    """When the only job was made, and when it is due."""
    ((created, due),) = conn.execute("select created_at, run_at from pgqueue.job").fetchall()
    return created, due


def fall_due(conn: psycopg.Connection, app: App, worker: Hands) -> None:
    conn.execute("update pgqueue.job set run_at = now() where state = 'scheduled'")
    db.run(conn, app.queries.promote(worker=worker.id))


@pytest.mark.parametrize("most", [60, 3600])
def test_many_calls_of_many_threads_make_one_job(task: AnyTask, conn: psycopg.Connection, most: int) -> None:
    """The last one's: it is due a minute after the last call, unless that were later than the most after the first."""
    start, errors, ids = threading.Barrier(THREADS), list[BaseException](), set[str]()
    created = list[bool]()

    def call(number: int) -> None:
        try:
            start.wait()
            for value in range(CALLS):
                job = task.options(unique="doc", debounce=60, debounce_max=most).defer("doc", number * CALLS + value)
                ids.add(job.id)
                created.append(job.created)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=[number]) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and len(created) == THREADS * CALLS == 320
    assert len(ids) == 1 and created.count(True) == 1 and len(stored(conn)) == 1
    last = task.options(unique="doc", debounce=60, debounce_max=most).defer("doc", -1)
    made, due = times(conn)
    (now,) = conn.execute("select now()").fetchone() or ()
    assert last.id in ids and stored(conn) == [("scheduled", "doc", '["doc",-1]')]
    if most == 60:
        # created_at is when its transaction began, a moment before the statement.
        assert due <= made + timedelta(seconds=60)
    else:
        assert timedelta(seconds=59) < due - now <= timedelta(seconds=60)


def test_calls_that_are_the_same_are_of_one_key(task: AnyTask, conn: psycopg.Connection) -> None:
    bound = task.options(debounce="2m")
    assert bound.defer("a").id == bound.defer("a").id != bound.defer("b").id
    assert [state for state, *_ in stored(conn)] == ["scheduled", "scheduled"]


@pytest.mark.parametrize(("options", "most"), [({"debounce": 6}, 60), ({"debounce": 6, "debounce_max": "90s"}, 90)])
def test_at_the_most_it_is_due(
    task: AnyTask, conn: psycopg.Connection, worker: Hands, options: dict[str, Any], most: int
) -> None:
    """Without another word ten times the quiet time. From then on calls only change what it does."""
    bound = task.options(unique="a", **options)
    first = bound.defer("a", 1)
    conn.execute("update pgqueue.job set created_at = now() - %s * interval '1 second'", [most - 3])
    bound.defer("a", 2)
    made, due = times(conn)
    assert due == made + timedelta(seconds=most)
    conn.execute("update pgqueue.job set created_at = created_at - interval '4 seconds'")
    for value in (3, 4):
        assert bound.defer("a", value).id == first.id
        assert stored(conn) == [("queued", "a", f'["a",{value}]')]
    assert worker.run_all() == [first.id]


def test_only_the_first_call_rings_and_the_one_that_makes_it_due(
    app: App, conn: psycopg.Connection, worker: Hands
) -> None:
    """A worker that sleeps would be woken by each, for nothing: it looks when the job would have been due."""
    worker.sleep()
    options = Options.make("t", unique="a", debounce=5, debounce_max=60)

    def bells() -> int:
        steps = enqueue_one(app.queries, "t", ("[]", "{}"), job_id=new_id(), options=options, ring="idle")
        (made,) = db.run(conn, next(steps))
        count: int = made.bells
        return count

    assert [bells() for _ in range(3)] == [1, 0, 0]
    conn.execute("update pgqueue.job set created_at = now() - interval '1 minute'")
    assert bells() == 1 and stored(conn) == [("queued", "a", "[]")]


def test_what_has_fallen_due_keeps_its_place(task: AnyTask, app: App, conn: psycopg.Connection, worker: Hands) -> None:
    bound = task.options(unique="a", debounce=60)
    bound.defer("a", 1)
    fall_due(conn, app, worker)
    app.enqueue("another")
    bound.defer("a", 2)
    assert [(job.task, job.args) for job in worker.claim()] == [("shop.index", '["a",2]'), ("another", "[]")]


def test_while_one_runs_calls_make_the_next(task: AnyTask, app: App, conn: psycopg.Connection, worker: Hands) -> None:
    """Which is one again, and stays it when the first ends; its arguments are its own."""
    bound = task.options(unique="a", debounce=60)
    first = bound.defer("a", 1)
    fall_due(conn, app, worker)
    (claimed,) = worker.claim()
    second = bound.defer("a", 2)
    assert second.created and bound.defer("a", 3).id == second.id != first.id
    assert stored(conn) == [("running", "a", '["a",1]'), ("scheduled", "a:next", '["a",3]')]
    worker.finish([claimed])
    assert bound.defer("a", 4).id == second.id
    assert stored(conn) == [("scheduled", "a:next", '["a",4]')]
    fall_due(conn, app, worker)
    assert [job.args for job in worker.claim()] == ['["a",4]']
    assert bound.defer("a", 5).created and stored(conn)[0] == ("scheduled", "a", '["a",5]')


def test_however_many_run_no_call_is_lost(task: AnyTask, app: App, conn: psycopg.Connection, worker: Hands) -> None:
    bound = task.options(unique="a", debounce=60)
    for _ in range(SLOTS + 2):
        assert bound.defer("a").created
        fall_due(conn, app, worker)
        assert len(worker.claim()) == 1
    keys = [key for _, key, _ in stored(conn)]
    assert set(keys_of("a")) < set(keys) and len(keys) == SLOTS + 2


def test_while_jobs_begin_and_end_the_last_call_is_never_lost(
    app: App, task: AnyTask, dsn: str, conn: psycopg.Connection, worker: Hands
) -> None:
    stop, errors = threading.Event(), list[BaseException]()

    def call(number: int) -> None:
        try:
            while not stop.is_set():
                task.options(unique="a", debounce=0).defer("a", number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=[number]) for number in range(3)]
    for thread in threads:
        thread.start()
    done: list[str] = []
    while len(done) < 200 and not errors:
        jobs = worker.claim()
        done += [job.id for job in jobs]
        worker.finish(jobs)
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == [] and len(set(done)) == len(done)
    last = task.options(unique="a", debounce=0).defer("a", -1)
    left = worker.claim()
    assert (last.id, '["a",-1]') in [(job.id, job.args) for job in left] and len(left) <= 2


def test_one_that_has_failed_keeps_its_back_off(
    task: AnyTask, app: App, conn: psycopg.Connection, worker: Hands
) -> None:
    """Else a stream of calls would try it again at each of them."""
    bound = task.options(unique="a", debounce=60, debounce_max=60)
    first = bound.defer("a", 1)
    fall_due(conn, app, worker)
    worker.settle(worker.claim()[0], "scheduled", "failed", delay_s=1000)
    before = times(conn)
    assert bound.defer("a", 2).id == first.id
    assert times(conn) == before and stored(conn) == [("scheduled", "a", '["a",2]')]


def test_a_rollback_takes_the_call_back(task: AnyTask, conn: psycopg.Connection, dsn: str) -> None:
    task.options(unique="a", debounce=60).defer("a", 1)
    before = times(conn)
    with psycopg.connect(dsn) as caller:
        task.options(unique="a", debounce=3600, conn=caller).defer("a", 2)
        task.options(unique="b", debounce=3600, conn=caller).defer("b", 3)
        caller.rollback()
    assert stored(conn) == [("scheduled", "a", '["a",1]')] and times(conn) == before


@pytest.mark.parametrize("kind", SYNC)
def test_through_every_door(task: AnyTask, conn: psycopg.Connection, dsn: str, kind: str) -> None:
    with SYNC[kind](dsn) as caller:
        bound = task.options(unique="a", debounce=60, debounce_max=600, conn=caller.conn)
        assert bound.defer("a", 1).id == bound.defer("a", 2).id
        caller.commit()
    assert stored(conn) == [("scheduled", "a", '["a",2]')]


@pytest.mark.parametrize("kind", ASYNC)
def test_through_every_async_door(task: AnyTask, conn: psycopg.Connection, dsn: str, kind: str) -> None:
    async def test() -> None:
        async with ASYNC[kind](dsn) as caller:
            bound = task.options(unique="a", debounce=60, debounce_max=600, conn=caller.conn)
            assert (await bound.defer_async("a", 1)).id == (await bound.defer_async("a", 2)).id
            await caller.commit()

    asyncio.run(test())
    assert stored(conn) == [("scheduled", "a", '["a",2]')]


def test_by_name_and_without_a_connection(app: App, conn: psycopg.Connection) -> None:
    async def later() -> str:
        job = await app.enqueue_async("t", [2], unique="a", debounce=60)
        return job.id

    assert app.enqueue("t", [1], unique="a", debounce=60).id == asyncio.run(later())
    assert stored(conn) == [("scheduled", "a", "[2]")]


def test_not_in_bulk(task: AnyTask, conn: psycopg.Connection) -> None:
    bound = task.options(unique="a", debounce=60)
    with pytest.raises(
        InvalidOption, match=r"^shop\.index: debounce= is about calls .* use defer\(\), not defer_many\(\)$"
    ):
        bound.defer_many([("a",)])
    with pytest.raises(InvalidOption, match="debounce="):
        asyncio.run(bound.defer_many_async([("a",)]))
    assert stored(conn) == []


def test_in_the_testing_kit(app: App, task: AnyTask) -> None:
    bound = task.options(unique="a", debounce=60)
    for value in range(5):
        bound.defer("a", value)
    assert drain(app=app) == [] and ran == []
    Clock(app=app).advance(61)
    assert len(drain(app=app)) == 1 and ran == [("a", 4)]


@pytest.mark.parametrize("end", ["waits", "runs", "has ended"])
def test_a_call_whose_answer_was_lost_makes_no_second_job(
    app: App, conn: psycopg.Connection, worker: Hands, end: str
) -> None:
    job_id, options = new_id(), Options.make("t", unique="a", debounce=0)
    call = "[]", "{}"
    with db.connect(app.dsn) as line, line.transaction():
        db.run(line, enqueue_one(app.queries, "t", call, job_id=job_id, options=options, ring="never"))
    if end != "waits":
        jobs = worker.claim()
        if end == "has ended":
            worker.finish(jobs)
    with db.connect(app.dsn) as line, line.transaction():
        steps = enqueue_again(app.queries, "t", call, job_id=job_id, options=options, ring="never")
        assert db.run(line, steps) == (job_id, True)
    assert conn.execute("select count(*) from pgqueue.jobs").fetchone() == (1,)
