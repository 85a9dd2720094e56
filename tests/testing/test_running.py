"""run() makes one attempt now, and a Clock makes others due."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest

from pgqueue import App, Cancel, ConfigError, InvalidOption, JobCancelled, JobNotFound, PgQueueError, Snooze, State
from pgqueue.testing import Clock, drain, run, run_async
from tests.answers import one_value
from tests.conftest import Worker
from tests.testing import tasks


def test_one_job_runs_and_no_other(app: App) -> None:
    other, job, later = tasks.add.defer(1, 1), tasks.add.defer(1, 2), tasks.add_later.options(delay=3600).defer(3, 4)
    assert run(job) == 3 and job.state == State.SUCCEEDED
    assert run(later) == 7
    assert other.state == State.QUEUED
    assert run(other.id, app=app) == 2


def test_the_error_is_the_tasks(app: App) -> None:
    job = tasks.add.defer(-1, 2)
    for attempt in (1, 2):
        with pytest.raises(ValueError, match="no negative") as caught:
            run(job)
        assert f"attempt {attempt}, drained" in caught.value.__notes__[0] and job.state == State.SCHEDULED
    with pytest.raises(ValueError):
        run(job)
    assert job.state == State.DEAD
    with pytest.raises(PgQueueError, match="cannot run: it is dead"):
        run(job)
    for how, error in ("snooze", Snooze), ("cancel", Cancel):
        with pytest.raises(error):
            run(tasks.give_up.defer(how))


def test_a_job_that_cannot_run(app: App, dsn: str) -> None:
    with pytest.raises(JobCancelled, match="expired before it could start"):
        run(tasks.add.options(expires=0).defer(1, 2))
    with pytest.raises(JobNotFound, match="Give conn="):
        run("00000000-0000-7000-8000-000000000000")
    with pytest.raises(PgQueueError, match=r"no task named 'not\.imported'; import its module"):
        run(app.enqueue("not.imported"))
    app.pause("default")
    with pytest.raises(PgQueueError, match="its queue 'default' is paused"):
        run(tasks.add.defer(1, 2))


def test_in_an_event_loop_and_in_a_transaction(app: App, dsn: str, conn: psycopg.Connection) -> None:
    async def test() -> None:
        async with await psycopg.AsyncConnection.connect(dsn) as own:
            job = await tasks.add_later.options(conn=own).defer_async(1, 2)
            assert await run_async(job, conn=own) == 3
            await own.rollback()

    asyncio.run(test())
    assert one_value(conn, "select count(*) from pgqueue.jobs") == 0


def test_time_passes(app: App) -> None:
    clock = Clock(app=app)
    retried, later, expiring = (
        tasks.add.defer(-1, 2), tasks.add.options(delay=3600).defer(1, 2), tasks.add.options(queue="x", expires=60).defer(1, 2),
    )  # fmt: skip
    drain(app=app, raises=False, queues=["default"])
    assert drain(app=app, queues=["default"]) == []
    clock.advance(10)
    (again,) = drain(app=app, raises=False, queues=["default"])
    assert again.id == retried.id and again.attempt == 2
    assert later.snapshot().state == "scheduled"
    clock.advance(timedelta(hours=1))
    assert later.snapshot().state == "queued"
    states = {ran.id: ran.state for ran in drain(app=app, raises=False)}
    assert states == {retried.id: State.DEAD, later.id: State.SUCCEEDED, expiring.id: State.CANCELLED}
    ended = later.snapshot()
    assert ended.finished_at is not None and ended.finished_at - ended.created_at >= timedelta(hours=1)
    with pytest.raises(InvalidOption, match="negative"):
        clock.advance(-1)


def test_time_passes_in_a_transaction(app: App, dsn: str, conn: psycopg.Connection) -> None:
    with psycopg.connect(dsn) as own, app.using(own):
        tasks.add.options(delay=60).defer(1, 2)
        assert drain(app=app) == []
        Clock(app=app, conn=own).advance(61)
        assert [ran.result for ran in drain(app=app)] == [3]
        own.rollback()


def test_a_sleeping_worker_hears_that_time_has_passed(app: App, start_worker: Callable[..., Worker]) -> None:
    job = tasks.add.options(delay=36_000).defer(1, 2)
    start_worker("-c", "1", app="tests.testing.tasks").ready()
    Clock(app=app).advance(36_000)
    assert job.result(timeout=30) == 3


def test_jobs_in_production_are_left_alone(app: App, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGQUEUE_ENV", "production")
    with pytest.raises(ConfigError, match="PGQUEUE_ENV is production"):
        drain(app=App(dsn))
    with pytest.raises(ConfigError, match="PGQUEUE_ENV is production"):
        Clock(app=App(dsn)).advance(60)
    assert drain(app=app) == []
