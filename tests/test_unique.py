"""One live job per unique key: found, replaced or refused, one by one and in bulk, whoever else inserts."""

import random
import threading
from typing import Any

import psycopg
import pytest

from pgqueue import App, DuplicateJob, Task
from tests.hands import Hands

AnyTask = Task[Any, Any, Any]


def sync_user(user: Any, *, force: Any = False) -> None:
    """The task of these tests; nobody runs it."""


@pytest.fixture
def sync(app: App) -> AnyTask:
    return app.task(name="shop.sync")(sync_user)


@pytest.fixture
def worker(conn: psycopg.Connection, app: App) -> Hands:
    return Hands(conn, app.queries)


def stored(conn: psycopg.Connection) -> list[tuple[str, str]]:
    return conn.execute("select id::text, args from pgqueue.job order by seq").fetchall()


def test_a_second_call_finds_the_first_job(sync: AnyTask, conn: psycopg.Connection) -> None:
    bound = sync.options(unique="user 7")
    first, second, other = bound.defer(1), bound.defer(2), sync.options(unique="user 8").defer(3)
    assert first.created and not second.created and other.created
    assert second.id == first.id and stored(conn) == [(first.id, "[1]"), (other.id, "[3]")]


def test_true_means_the_task_and_its_arguments(app: App, sync: AnyTask, conn: psycopg.Connection) -> None:
    bound = sync.options(unique=True)
    first = bound.defer(1, force={"a": 1, "b": 2})
    assert not bound.defer(1, force={"b": 2, "a": 1}).created
    for other in (bound.defer(1), bound.defer("1"), bound.defer(1, force={"a": 2, "b": 1})):
        assert other.created
    assert app.task(name="shop.other")(sync_user).options(unique=True).defer(1, force={"a": 1, "b": 2}).created
    assert not app.enqueue("shop.sync", [1], {"force": {"a": 1, "b": 2}}, unique=True).created
    assert bound.defer_many([(1,), {"user": 9, "force": 1}, {"force": 1, "user": 9}])[2].created is False
    assert first.state == "queued" and len(stored(conn)) == 6
    assert sync.options(unique=False).defer(1).created and len(stored(conn)) == 7


@pytest.mark.parametrize("end", ["succeeded", "dead", "cancelled while queued", "cancelled while running"])
def test_the_key_is_free_again_once_the_job_has_ended(sync: AnyTask, worker: Hands, end: str) -> None:
    bound = sync.options(unique="key")
    first = bound.defer(1)
    if end == "cancelled while queued":
        first.cancel()
    else:
        (claimed,) = worker.claim()
        assert bound.defer(2).id == first.id  # it lives while it runs
        if end == "succeeded":
            worker.finish([claimed])
        else:
            worker.settle(claimed, end.split()[0], "because")
    second = bound.defer(3)
    assert second.created and second.id != first.id and first.state == end.split()[0]


def test_a_job_that_waits_for_its_next_attempt_keeps_the_key(sync: AnyTask, worker: Hands) -> None:
    first = sync.options(unique="key").defer(1)
    worker.settle(worker.claim()[0], "scheduled", "failed", delay_s=3600)
    assert sync.options(unique="key").defer(2).id == first.id and first.state == "scheduled"


def test_replace_gives_a_waiting_job_these_arguments_and_options(
    sync: AnyTask, conn: psycopg.Connection, worker: Hands
) -> None:
    first = sync.options(unique="key", delay=3600, queue="a", headers={"n": 1}, max_attempts=1).defer(1)
    replace = sync.options(unique="key", on_duplicate="replace", queue="b", priority=5, timeout=7)
    second = replace.defer(2, force=True)
    assert (second.id, second.created) == (first.id, False)
    row = conn.execute(
        "select args, kwargs, queue, priority, timeout_s, headers, max_attempts, state::text, run_at <= now()"
        " from pgqueue.job"
    ).fetchall()
    assert row == [("[2]", '{"force":true}', "b", 5, 7.0, None, None, "queued", True)]
    assert worker.run_all() == [first.id]


@pytest.mark.parametrize("bulk", [False, True])
def test_replace_leaves_a_running_job_alone(sync: AnyTask, conn: psycopg.Connection, worker: Hands, bulk: bool) -> None:
    first = sync.options(unique="key").defer(1)
    (claimed,) = worker.claim()
    bound = sync.options(unique="key", on_duplicate="replace")
    second = bound.defer_many([(2,)])[0] if bulk else bound.defer(2)
    assert (second.id, second.created) == (first.id, False) and stored(conn) == [(first.id, "[1]")]
    worker.finish([claimed])  # its token still counts


def test_raise_names_the_live_job(sync: AnyTask, conn: psycopg.Connection) -> None:
    bound = sync.options(unique="key", on_duplicate="raise")
    first = bound.defer(1)
    with pytest.raises(DuplicateJob, match=f"'key': {first.id}") as caught:
        bound.defer(2)
    assert caught.value.job_id == first.id and stored(conn) == [(first.id, "[1]")]


def test_raise_leaves_the_callers_transaction_usable(sync: AnyTask, conn: psycopg.Connection, dsn: str) -> None:
    sync.options(unique="key").defer(1)
    with psycopg.connect(dsn) as caller:
        kept = sync.options(conn=caller).defer("kept")
        for many in (False, True):
            bound = sync.options(conn=caller, unique=True if many else "key", on_duplicate="raise")
            with pytest.raises(DuplicateJob):
                bound.defer_many([("new",), ("kept",), ("kept",)]) if many else bound.defer(2)
        caller.commit()
    assert {args for _, args in stored(conn)} == {"[1]", '["kept"]'} and kept.state == "queued"


@pytest.mark.parametrize("calls", [[(1,), (2,), (1,)], [*((n,) for n in range(2, 1500)), (2,)], [(0,), (5,)]])
def test_a_bulk_raise_inserts_nothing(sync: AnyTask, conn: psycopg.Connection, calls: list[Any]) -> None:
    bound = sync.options(unique=True, on_duplicate="raise")
    live = bound.defer(0)
    with pytest.raises(DuplicateJob):
        bound.defer_many(calls)
    assert stored(conn) == [(live.id, "[0]")]


def test_a_bulk_ignore_finds_what_is_there(sync: AnyTask, conn: psycopg.Connection) -> None:
    bound = sync.options(unique=True)
    live = bound.defer(1)
    jobs = bound.defer_many([(0,), (1,), (2,), (0,)])
    assert [job.created for job in jobs] == [True, False, True, False]
    assert jobs[1] == live and jobs[3] == jobs[0] and len(stored(conn)) == 3
    again = bound.defer_many((n,) for n in range(2500))
    assert [n for n, job in enumerate(again) if not job.created] == [0, 1, 2] and len(set(again)) == 2500


@pytest.mark.parametrize("on_duplicate", ["ignore", "replace"])
def test_the_same_key_for_a_whole_bulk(sync: AnyTask, conn: psycopg.Connection, on_duplicate: Any) -> None:
    jobs = sync.options(unique="one", on_duplicate=on_duplicate).defer_many((n,) for n in range(1500))
    assert len(set(jobs)) == 1 and [job.created for job in jobs].count(True) == 1
    assert stored(conn) == [(jobs[0].id, "[0]" if on_duplicate == "ignore" else "[1499]")]


@pytest.mark.parametrize("key", ["x" * 200, "x" * 201, "x" * 10_000, "🐘" * 5_000, "%s'\"\\;--"])
def test_b51_keys_of_any_length(sync: AnyTask, conn: psycopg.Connection, key: str) -> None:
    first = sync.options(unique=key).defer(1)
    assert sync.options(unique=key).defer(1).id == first.id
    assert sync.options(unique=key[:-1] + "y").defer(1).created
    ((shown,),) = conn.execute("select unique_key from pgqueue.job where id = %s", [first.id]).fetchall()
    assert shown == key if len(key) <= 200 else len(shown) == 64
    sql = "select pgqueue.enqueue('shop.sync', unique_key => %s)::text"
    assert conn.execute(sql, [key]).fetchone() == (first.id,)  # the same key for SQL and for Python


@pytest.mark.parametrize("on_duplicate", ["ignore", "replace"])
@pytest.mark.parametrize(("bulk", "count"), [(True, 200), (True, 3000), (False, 200)])
def test_concurrent_inserters_of_the_same_keys(
    sync: AnyTask, conn: psycopg.Connection, on_duplicate: Any, bulk: bool, count: int
) -> None:
    start = threading.Barrier(4)
    ids: dict[int, dict[str, str]] = {}
    errors: list[BaseException] = []
    created: list[bool] = []

    def insert(number: int) -> None:
        keys = [f"user {n}" for n in range(count)]
        random.Random(number).shuffle(keys)
        start.wait()
        try:
            if bulk:
                jobs = list(sync.options(unique=True, on_duplicate=on_duplicate).defer_many((key,) for key in keys))
            else:
                jobs = [sync.options(unique=key, on_duplicate=on_duplicate).defer(number) for key in keys]
            ids[number] = {key: job.id for key, job in zip(keys, jobs, strict=True)}
            created.extend(job.created for job in jobs)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=insert, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert ids[0] == ids[1] == ids[2] == ids[3] and created.count(True) == count
    assert conn.execute("select count(*), count(distinct unique_key) from pgqueue.job").fetchone() == (count, count)


def test_inserters_while_the_holders_of_the_keys_end(sync: AnyTask, worker: Hands, conn: psycopg.Connection) -> None:
    stop = threading.Event()
    errors: list[BaseException] = []

    def insert() -> None:
        try:
            while not stop.is_set():
                sync.options(unique=True).defer_many((n,) for n in range(20))
                sync.options(unique="one").defer(1)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=insert) for _ in range(2)]
    for thread in threads:
        thread.start()
    done: set[str] = set()
    while len(done) < 500 and not errors:
        batch = worker.run_all()
        assert done.isdisjoint(batch)
        done.update(batch)
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    left = len(stored(conn))
    assert conn.execute("select count(*) from pgqueue.jobs").fetchone() == (len(done) + left,)
