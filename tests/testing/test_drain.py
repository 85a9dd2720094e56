"""drain() leaves what a worker leaves, and tells what ran."""

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from pgqueue import App, Cancel, ConfigError, InvalidOption, PgQueueError, Snooze, State
from pgqueue.job import Verdict
from pgqueue.testing import drain, drain_async
from tests.conftest import Worker
from tests.testing import hooked_app, tasks


def test_what_is_due_runs(app: App) -> None:
    first, second = tasks.add.defer(1, 2), tasks.add_later.defer(3, 4)
    done = drain(app=app)
    assert [(ran.id, ran.task, ran.result, ran.state) for ran in done] == [
        (first.id, "tests.testing.tasks.add", 3, State.SUCCEEDED),
        (second.id, "tests.testing.tasks.add_later", 7, State.SUCCEEDED),
    ]
    assert first.result(timeout=10) == 3


def test_in_an_event_loop_too(app: App) -> None:
    async def test() -> None:
        first, second = await tasks.add.defer_async(1, 2), await tasks.add_later.defer_async(3, 4)
        assert [ran.id for ran in await drain_async(app=app)] == [first.id, second.id]
        with pytest.raises(ConfigError, match="await drain_async"):
            drain(app=app)

    asyncio.run(test())


COMPARED = """
select task, args, kwargs, state::text, attempt, crashes, max_attempts, queue, priority, unique_key, headers, result, error,
  started_at is not null as started, worker is not null as had_worker, claim_token,
  run_at > statement_timestamp() as is_later,
  array(
    select (attempt, cause, error, regexp_replace(traceback, 'line \\d+', '', 'g'), claim_token)::text
    from pgqueue.attempt
    where job_id = jobs.id
    order by failed_at
  ) as failed
from pgqueue.jobs
order by task, args, kwargs, max_attempts, expires_at, state
"""


def defer_all_kinds(app: App) -> None:
    tasks.add.options(unique="once", headers={"a": 1}).defer(1, 2)
    tasks.add_later.options(queue="other", priority=3).defer(3, 4)
    tasks.add.defer(-1, 2)
    tasks.add.options(max_attempts=1).defer(-1, 2)
    tasks.give_up.defer("snooze")
    tasks.give_up.defer("cancel")
    tasks.write.defer("kept")
    tasks.write.options(max_attempts=1).defer("lost", fails=True)
    tasks.write_later.defer("kept too")
    tasks.add.options(expires=0).defer(1, 1)
    app.enqueue("tests.testing.tasks.add", ["no", "number"], max_attempts=1)
    tasks.fan_out.defer(2)


def test_the_rows_are_those_of_a_worker(
    app: App, conn: psycopg.Connection, start_worker: Callable[..., Worker]
) -> None:
    defer_all_kinds(app)
    assert start_worker("-c", "1", "--burst", app="tests.testing.tasks").wait() == 0
    by_worker = conn.execute(COMPARED).fetchall()
    conn.execute("truncate pgqueue.job, pgqueue.history, pgqueue.attempt, written")
    defer_all_kinds(app)
    drain(app=app, raises=False)
    assert conn.execute(COMPARED).fetchall() == by_worker
    assert tasks.written(conn) == ["kept", "kept too"]
    assert conn.execute("select count(*) from pgqueue.worker where name like 'drain@%'").fetchone() == (0,)


def test_a_failure_is_recorded_and_raised(app: App) -> None:
    bad, good = tasks.add.defer(-1, 2), tasks.add.defer(1, 2)
    with pytest.raises(ValueError, match="no negative") as caught:
        drain(app=app)
    assert f"job {bad.id} (tests.testing.tasks.add), attempt 1" in caught.value.__notes__[0]
    assert (bad.state, good.state) == (State.SCHEDULED, State.QUEUED)


def test_or_is_in_what_ran(app: App) -> None:
    bad, good = tasks.add.defer(-1, 2), tasks.add.defer(1, 2)
    done = drain(app=app, raises=False)
    assert [ran.id for ran in done] == [bad.id, good.id] and [ran.id for ran in done.failed] == [bad.id]
    (ran,) = done.of(bad)
    assert isinstance(ran.error, ValueError) and ran.result is None and ran.outcome.verdict == Verdict.RETRY


def test_to_give_way_is_no_failure(app: App) -> None:
    tasks.give_up.defer("snooze")
    tasks.give_up.defer("cancel")
    first, second = drain(app=app)
    assert isinstance(first.error, Snooze) and first.state == State.SCHEDULED
    assert isinstance(second.error, Cancel) and second.state == State.CANCELLED


def test_jobs_of_jobs_run_too(app: App) -> None:
    tasks.fan_out.defer(2)
    tasks.fan_out_later.defer(1)
    assert len(drain(app=app)) == 5


def test_it_stops_where_it_is_told(app: App) -> None:
    jobs = [tasks.add.options(queue=queue).defer(n, 1) for n, queue in enumerate(["a", "b", "a", "b"])]
    assert [ran.id for ran in drain(app=app, queues=["b"], limit=1)] == [jobs[1].id]
    assert [ran.id for ran in drain(app=app, until=lambda ran: ran.result == 1)] == [jobs[0].id]
    assert [ran.id for ran in drain(app=app, queues=["b"], until=jobs[2])] == [jobs[3].id]
    assert [ran.id for ran in drain(app=app, until=jobs[2])] == [jobs[2].id]
    assert drain(app=app) == []


def test_a_task_that_defers_itself(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgqueue.testing.draining.MOST", 5)
    tasks.again.defer()
    with pytest.raises(PgQueueError, match=r"does a task defer itself\? Give limit= or until="):
        drain(app=app)


def test_a_task_that_the_app_does_not_have(app: App, caplog: pytest.LogCaptureFixture) -> None:
    job = app.enqueue("shop.not_imported")
    assert drain(app=app).unknown == {"shop.not_imported"}
    assert job.state == State.QUEUED and job.snapshot().attempt == 0 and "import its module" in caplog.text


def test_a_timeout_ends_an_async_task_and_reaches_a_safe_point(app: App) -> None:
    tasks.too_long.options(timeout=0.01, max_attempts=1).defer()
    tasks.too_long_later.options(timeout=0.01, max_attempts=1).defer()
    for ran in drain(app=app, raises=False):
        assert ran.outcome.cause == "time limit" and ran.state == State.DEAD


def test_each_job_has_a_context_of_its_own(app: App) -> None:
    tasks.mark.set("of the test")
    tasks.say_mark.defer()
    tasks.say_mark.defer()
    assert [ran.result for ran in drain(app=app)] == ["of the app", "of the app"]


def test_progress_is_seen(app: App) -> None:
    tasks.report.defer()
    (ran,) = drain(app=app)
    assert ran.progress == [(0.5, "half"), (1.0, None)]


def test_what_it_refuses(app: App) -> None:
    wrong: Any = "mail"
    with pytest.raises(InvalidOption, match=r"queues takes a list of names, as in queues=\['mail'\]"):
        drain(app=app, queues=wrong)
    with pytest.raises(InvalidOption, match="limit takes a whole number"):
        drain(app=app, limit=wrong)


def test_ctrl_c_is_no_end_of_a_job(app: App) -> None:
    tasks.interrupt.defer()
    with pytest.raises(KeyboardInterrupt):
        drain(app=app, raises=False)


def test_middleware_is_around_each_job(app: App) -> None:
    tasks.heard.clear()
    tasks.overheard.defer(1)
    tasks.overheard_later.defer(2)
    assert [ran.result for ran in drain(app=app)] == [1, 2]
    assert tasks.heard == ["before [1]", "after succeeded", "before [2]", "after succeeded"]


def test_a_job_that_waits_for_another(app: App) -> None:
    ended = tasks.add.defer(1, 2)
    drain(app=app)
    for task in tasks.wait_for, tasks.wait_for_later:
        task.defer(ended.id)
        task.defer(tasks.add.options(delay=60).defer(3, 4).id)
        answered, refused = drain(app=app, raises=False)
        assert answered.result == 3
        assert isinstance(refused.error, PgQueueError) and "a drain runs one job after the other" in str(refused.error)


def test_a_job_that_waits_in_an_event_loop(app: App, dsn: str) -> None:
    async def test(conn: psycopg.AsyncConnection) -> None:
        ended = await tasks.add.options(conn=conn).defer_async(1, 2)
        await drain_async(app=app, conn=conn)
        for task in tasks.wait_for, tasks.wait_for_later:
            await task.options(conn=conn).defer_async(ended.id)
        assert [ran.result for ran in await drain_async(app=app, conn=conn)] == [3, 3]
        await conn.rollback()

    async def connected() -> None:
        async with await psycopg.AsyncConnection.connect(dsn) as conn:
            await test(conn)

    asyncio.run(connected())


def test_what_an_app_does_at_a_childs_start_and_stop(app: App, dsn: str) -> None:
    async def test() -> None:
        await hooked_app.use.defer_async()
        await drain_async(app=hooked_app.app)

    heard = ["opened", "opened in the loop", "used", "closed in the loop"]
    with hooked_app.app._database.elsewhere(dsn):
        hooked_app.use.defer()
        drain(app=hooked_app.app)
        assert hooked_app.heard == heard
        asyncio.run(test())
        assert hooked_app.heard == 2 * heard
