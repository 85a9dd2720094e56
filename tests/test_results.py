"""Waiting for results, with a worker's statements sent by hand."""

import asyncio
import contextlib
import logging
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

import psycopg
import pytest

from pgqueue import App, InvalidResult, Job, JobCancelled, JobDead, JobNotFound, PgQueueError, ResultTimeout
from tests.conftest import eventually
from tests.hands import Hands
from tests.untyped import untyped


@dataclass
class Invoice:
    number: int
    due: date


def invoice(number: int) -> Invoice:
    """The task of these tests; nobody runs it."""
    return Invoice(number, date.min)


@pytest.fixture
def worker(conn: psycopg.Connection, app: App) -> Hands:
    return Hands(conn, app.queries)


class Waiting:
    """Somebody who waits for a result in a thread of his own."""

    def __init__(self, job: Job[Any], timeout: float | None = 60) -> None:
        self.outcome: Any = None
        self._thread = threading.Thread(target=self._wait, args=[job, timeout], daemon=True)
        self._thread.start()

    def _wait(self, job: Job[Any], timeout: float | None) -> None:
        try:
            self.outcome = job.result(timeout)
        except Exception as error:
            self.outcome = error

    def get(self) -> Any:
        self._thread.join(60)
        assert not self._thread.is_alive(), "still waiting"
        return self.outcome


def awaited(conn: psycopg.Connection) -> set[str]:
    return {id_ for (id_,) in conn.execute("select job_id::text from pgqueue.awaited")}


def both(job: Job[Any], timeout: float | None = 60) -> Iterator[Any]:
    """What result and result_async give: a value or an exception."""
    for wait in (job.result, lambda timeout: asyncio.run(job.result_async(timeout))):
        try:
            yield wait(timeout)
        except Exception as error:
            yield error


def test_an_unknown_job(app: App, dsn: str) -> None:
    unknown = app.job(str(uuid.uuid4()))
    with psycopg.connect(dsn) as caller:
        uncommitted = app.enqueue("t", conn=caller)
        for job in (unknown, uncommitted):
            for error in both(job):
                assert isinstance(error, JobNotFound) and error.job_id == job.id
                assert "rolled back or is still open" in str(error)
        caller.rollback()
    with pytest.raises(JobNotFound):
        _ = unknown.state


@pytest.mark.parametrize(
    "job_id", ["", "x", "0", "01a208e7-51ed-7198-a687-0270704ff6c", "'; drop", "é" * 5000, None, 7]
)
def test_a_malformed_id(app: App, job_id: Any) -> None:
    job = app.job(job_id)
    questions = (job.result, job.snapshot, job.cancel, job.retry, lambda: asyncio.run(job.result_async()))
    for ask in (*questions, lambda: job.state, lambda: app.attempts(job_id)):
        with pytest.raises(JobNotFound, match="is not a valid job id: ids look like") as caught:
            ask()
        assert len(str(caught.value)) < 200


def test_ids_in_capitals_are_the_same(app: App, worker: Hands) -> None:
    job = app.enqueue("t")
    worker.run_all("5")
    assert app.job(job.id.upper()).result(60) == 5 and asyncio.run(app.job(job.id.upper()).result_async(60)) == 5


def test_how_it_ended(app: App, worker: Hands, conn: psycopg.Connection) -> None:
    for state, kind, match in (
        ("dead", JobDead, r"job .* \(t\) is dead: ValueError: no"),
        ("cancelled", JobCancelled, r"job .* \(t\) was cancelled: ValueError: no"),
    ):
        job = app.enqueue("t")
        worker.settle(worker.claim()[0], state, "ValueError: no")
        for error in both(job):
            assert isinstance(error, kind) and error.job_id == job.id
            with pytest.raises(kind, match=match):
                raise error
            assert not isinstance(error, JobDead) or error.error == "ValueError: no"
    assert awaited(conn) == set()


def test_a_result_is_read_by_the_annotations(app: App, worker: Hands) -> None:
    task = app.task(name="shop.invoice")(invoice)
    job = task.defer(1)
    worker.run_all('{"number": 1, "due": "2024-02-29"}')
    assert list(both(job)) == [Invoice(1, date(2024, 2, 29))] * 2
    by_name = App(app.dsn)  # does not know the task: plain JSON
    assert by_name.job(job.id).result(60) == {"number": 1, "due": "2024-02-29"}
    by_name.close()
    broken = task.defer(2)
    worker.run_all('{"number": 2, "due": "never"}')
    assert all(isinstance(error, InvalidResult) for error in both(broken))
    forgotten = task.defer(3)
    worker.run_all(None)
    assert all(isinstance(error, JobNotFound) for error in both(forgotten))


def test_the_time_is_over_and_the_job_goes_on(app: App, worker: Hands) -> None:
    job = app.enqueue("t")
    for timeout in (0.02, 0, -1):
        for error in both(job, timeout):
            assert isinstance(error, ResultTimeout) and isinstance(error, TimeoutError)
            assert f"not finished after {timeout} s; it continues" in str(error) and error.job_id == job.id
    assert job.state == "queued" and app._database.hub._waiters == {}
    worker.run_all("1")
    assert job.result(60) == 1


def test_a_wait_that_is_broken_off_leaves_nobody_waiting(app: App) -> None:
    job = app.enqueue("t")
    with pytest.raises(TypeError):
        job.result(untyped("soon"))
    assert app._database.hub._waiters == {}


def test_many_wait_for_one_job_and_for_many(app: App, worker: Hands, conn: psycopg.Connection) -> None:
    jobs = [app.enqueue("t", [n]) for n in range(5)]
    threads = [Waiting(job) for job in jobs for _ in range(10)]
    eventually(lambda: awaited(conn) == {job.id for job in jobs}, what="all of them are awaited")
    assert conn.execute(
        "select count(*) from pg_stat_activity"
        " where application_name = 'pgqueue results' and datname = current_database()"
    ).fetchone() == (1,)
    for n, claimed in enumerate(worker.claim()):
        worker.finish([claimed], str(n))
    assert [waiting.get() for waiting in threads] == [n for n in range(5) for _ in range(10)]
    eventually(lambda: awaited(conn) == set(), what="nothing is awaited any more")


def test_a_thousand_wait_in_one_loop(app: App, worker: Hands, conn: psycopg.Connection) -> None:
    jobs = app.task(name="shop.invoice")(number).defer_many((n,) for n in range(1000))

    async def scenario() -> list[int]:
        waiters = [asyncio.create_task(job.result_async(60)) for job in jobs]
        await asyncio.to_thread(eventually, lambda: len(awaited(conn)) == 1000, what="all of them are awaited")
        await asyncio.to_thread(worker.run_all, "7")
        return list(await asyncio.gather(*waiters))

    assert asyncio.run(scenario()) == [7] * 1000
    assert awaited(conn) == set()


def number(n: int) -> int:
    return n


def test_a_job_that_is_retried_by_hand_is_waited_for_again(app: App, worker: Hands) -> None:
    job = app.enqueue("t")
    worker.run_all("1")
    assert job.result(60) == 1 and job.retry()
    again = Waiting(job)
    worker.run_all("2")
    assert again.get() == 2


def test_a_bell_that_nobody_rang_is_made_up_by_the_poll(app: App, worker: Hands, conn: psycopg.Connection) -> None:
    job = app.enqueue("t")
    waiting = Waiting(job)
    eventually(lambda: awaited(conn) == {job.id}, what="it is awaited")
    conn.execute("delete from pgqueue.awaited")  # as if the finisher had looked just before
    worker.run_all("3")
    assert waiting.get() == 3


def results_session(conn: psycopg.Connection) -> int | None:
    row = conn.execute(
        "select pid from pg_stat_activity where application_name = 'pgqueue results' and datname = current_database()"
    ).fetchone()
    return None if row is None else int(row[0])


def test_waiters_survive_the_end_of_their_session(
    app: App, worker: Hands, conn: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = [app.enqueue("t", [n]) for n in range(2)]
    waiting = [Waiting(job) for job in jobs]
    eventually(lambda: len(awaited(conn)) == 2, what="they are awaited")

    def is_another(pid: int) -> bool:
        return results_session(conn) not in (None, pid)

    with caplog.at_level(logging.WARNING, "pgqueue.results"):
        for _ in range(2):
            pid = eventually(lambda: results_session(conn), what="a session for results")
            conn.execute("select pg_terminate_backend(%s, 10000)", [pid])
            eventually(partial(is_another, pid), what="a new session")
    assert "waiting for results: " in caplog.text and "trying again" in caplog.text
    worker.run_all("4")
    assert [each.get() for each in waiting] == [4, 4]


def test_a_loop_that_closed_while_it_waited_harms_no_other_waiter(
    app: App, worker: Hands, conn: psycopg.Connection
) -> None:
    jobs = [app.enqueue("t", [n]) for n in range(2)]
    loop = asyncio.new_event_loop()
    forgotten = loop.create_task(jobs[0].result_async())
    loop.run_until_complete(asyncio.wait([forgotten], timeout=0.01))
    while awaited(conn) != {jobs[0].id}:
        loop.run_until_complete(asyncio.sleep(0))
    waiting = Waiting(jobs[1])
    eventually(lambda: len(awaited(conn)) == 2, what="both are awaited")
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    worker.run_all("5")
    assert waiting.get() == 5
    # Close the coroutine by hand: its loop is gone, and a pending task would complain when collected.
    untyped(forgotten)._log_destroy_pending = False
    coroutine = forgotten.get_coro()
    assert coroutine is not None
    with contextlib.suppress(RuntimeError):
        coroutine.close()


def test_cancelling_an_asyncio_waiter_stops_the_wait(app: App, worker: Hands) -> None:
    job = app.enqueue("t")

    async def scenario() -> None:
        task = asyncio.create_task(job.result_async())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
    assert app._database.hub._waiters == {} and job.state == "queued"


def test_the_session_ends_with_the_app(app: App, conn: psycopg.Connection) -> None:
    with pytest.raises(ResultTimeout):
        app.enqueue("t").result(0.05)
    assert results_session(conn)
    app.close()
    eventually(lambda: results_session(conn) is None, what="the session ended")
    with pytest.raises(ResultTimeout):
        app.enqueue("t").result(0.05)


def test_closing_the_app_ends_every_wait(app: App, worker: Hands) -> None:
    jobs = [app.enqueue("t") for _ in range(2)]
    with ThreadPoolExecutor(2) as threads:
        waits = [threads.submit(job.result) for job in jobs]
        eventually(lambda: len(app._database.hub._waiters) == 2, what="both wait")
        app.close()
        for wait in waits:
            with pytest.raises(PgQueueError, match=r"App.close\(\) was called while"):
                wait.result(10)
    worker.run_all("1")
    assert [job.result(10) for job in jobs] == [1, 1]
