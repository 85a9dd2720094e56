"""What a real worker does with jobs that end well or fail by themselves."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest

from pgqueue import App, JobCancelled, JobDead, JobNotFound
from pgqueue.job import Claimed, new_id
from pgqueue.worker.child.executor import Attempt
from tests import hostile_tasks, tasks
from tests.answers import one_row, one_value
from tests.conftest import Worker, eventually
from tests.untyped import untyped

Start = Callable[..., Worker]


pytestmark = pytest.mark.usefixtures("task_app")


def attempts(conn: psycopg.Connection, job_id: str) -> list[tuple[int, str, str]]:
    return conn.execute(
        "select attempt, cause, error from pgqueue.attempt where job_id = %s order by failed_at", [job_id]
    ).fetchall()


def test_sync_async_and_threaded_jobs_return_what_they_return(start_worker: Start) -> None:
    start_worker("-c", "2", "--threads", "3").ready()
    jobs = [tasks.echo.defer({"n": n, "text": "ü\u2028\U0001f600"}) for n in range(30)]
    later = [tasks.echo_later.defer(n) for n in range(300)]
    assert [job.result(30)["n"] for job in jobs] == list(range(30))
    assert [job.result(30) for job in later] == list(range(300))


def test_async_jobs_run_at_once_and_sync_jobs_do_not_share_a_thread(start_worker: Start) -> None:
    start_worker("-c", "1").ready()
    began = time.monotonic()
    for job in [tasks.echo_later.defer(n, 0.5) for n in range(50)]:
        job.result(30)
    assert time.monotonic() - began < 10  # one after the other they take 25 s
    who = [tasks.whoami.defer().result(30) for _ in range(3)]
    assert all(each["main"] for each in who) and len({each["pid"] for each in who}) == 1


def test_a_job_that_was_locked_when_the_bell_rang_starts_soon_after(
    start_worker: Start, app: App, conn: psycopg.Connection
) -> None:
    """As by a promote of another worker, which came too late and holds what it looked at until its end."""
    app.pause("default")
    start_worker("-c", "1").ready()
    eventually(lambda: conn.execute("select sleeping from pgqueue.worker").fetchone() == (True,), what="it sleeps")
    time.sleep(5)  # its looks become rare; nothing else tells of that
    job = tasks.now.defer()
    with conn.transaction():
        conn.execute("select from pgqueue.job for update")
        app.resume("default")
        time.sleep(0.03)  # it looks, and finds nothing that is free
        released = time.time()
    assert job.result(30) - released < 1


def test_of_a_task_that_keeps_nothing_only_failures_are_seen(start_worker: Start, conn: psycopg.Connection) -> None:
    conn.execute("create schema shop")
    forgotten = [tasks.forget.defer(), tasks.forget_atomically.defer()]
    dead = tasks.forget.defer(fails=True)
    worker = start_worker("-c", "1", "--burst")
    assert worker.wait() == 0
    assert conn.execute("select id::text, state::text from pgqueue.jobs").fetchall() == [(dead.id, "dead")]
    assert conn.execute("select to_regclass('shop.proof') is not null").fetchone() == (True,)
    assert conn.execute("select sum(succeeded), sum(dead) from pgqueue.throughput").fetchone() == (2, 1)
    for job in forgotten:
        with pytest.raises(JobNotFound, match="keep=0"):
            job.result(10)


def test_whoever_waits_for_a_job_that_keeps_nothing_hears_of_its_end(start_worker: Start) -> None:
    start_worker("-c", "1").ready()
    with pytest.raises(JobNotFound, match="keep=0"):
        tasks.forget.defer().result(30)


def test_a_failing_job_is_retried_with_each_failure_recorded(start_worker: Start, conn: psycopg.Connection) -> None:
    start_worker("-c", "1").ready()
    job = tasks.fail_until.defer(3)
    assert job.result(30) == 3
    assert attempts(conn, job.id) == [
        (1, "exception", "ValueError: attempt 1 fails"),
        (2, "exception", "ValueError: attempt 2 fails"),
    ]
    trace, worker = one_row(conn, "select traceback, worker_name from pgqueue.attempt limit 1")
    assert trace.startswith("Traceback") and "fail_until" in trace and "executor.py" not in trace and worker


def test_attempts_run_out(start_worker: Start, conn: psycopg.Connection) -> None:
    start_worker("-c", "1").ready()
    job = tasks.fail_until.defer(99)
    with pytest.raises(JobDead, match="attempt 3 fails"):
        job.result(30)
    assert len(attempts(conn, job.id)) == 3
    assert job.state == "dead" and job.retry()
    with pytest.raises(JobDead):
        job.result(30)
    assert len(attempts(conn, job.id)) == 6


def test_the_policy_and_the_job_decide_about_retries(start_worker: Start, conn: psycopg.Connection) -> None:
    start_worker("-c", "1").ready()
    wrong, once = tasks.wrong_kind.defer(), tasks.fail_until.options(max_attempts=1).defer(9)
    for job in (wrong, once):
        with pytest.raises(JobDead):
            job.result(30)
        assert len(attempts(conn, job.id)) == 1


def test_retry_snooze_and_cancel_can_be_raised(start_worker: Start, conn: psycopg.Connection, tmp_path: Path) -> None:
    start_worker("-c", "1").ready()
    assert tasks.ask_again.defer().result(30) == 2
    assert tasks.snooze_once.defer(str(tmp_path / "snoozed")).result(30) == 1
    with pytest.raises(JobCancelled, match="no longer wanted"):
        tasks.give_up.defer().result(30)
    assert conn.execute("select count(*) from pgqueue.attempt where task like '%%snooze%%'").fetchone() == (0,)


@pytest.mark.parametrize("kind", ["SystemExit", "KeyboardInterrupt", "GeneratorExit"])
def test_b40_whatever_a_task_raises_is_a_failed_attempt(
    start_worker: Start, conn: psycopg.Connection, kind: str
) -> None:
    worker = start_worker("-c", "1").ready()
    children = worker.children()
    job = tasks.exit_with.defer(kind)
    with pytest.raises(JobDead, match=f"{kind}: bye"):
        job.result(30)
    assert len(attempts(conn, job.id)) == 2
    assert tasks.echo.defer(1).result(30) == 1 and worker.children() == children


@pytest.mark.parametrize("kind", ["SystemExit", "KeyboardInterrupt", "CancelledError"])
def test_b40_whatever_an_async_task_raises_is_a_failed_attempt(
    start_worker: Start, conn: psycopg.Connection, kind: str
) -> None:
    worker = start_worker("-c", "1").ready()
    children = worker.children()
    job = tasks.exit_with_async.defer(kind)
    with pytest.raises(JobDead, match=kind):
        job.result(30)
    assert len(attempts(conn, job.id)) == 2
    assert tasks.echo_later.defer(1).result(30) == 1 and worker.children() == children


def test_b43_a_result_that_cannot_be_stored_fails_the_attempt_with_that_reason(
    start_worker: Start, conn: psycopg.Connection
) -> None:
    start_worker("-c", "1").ready()
    job = tasks.bad_result.defer()
    with pytest.raises(JobDead, match="InvalidResult"):
        job.result(30)
    ((_, cause, _),) = attempts(conn, job.id)
    assert cause == "result"


def test_b39_an_error_text_that_postgres_cannot_hold_is_cleaned(start_worker: Start, conn: psycopg.Connection) -> None:
    start_worker("-c", "1").ready()
    job = tasks.hostile_error.defer()
    with pytest.raises(JobDead):
        job.result(30)
    ((_, _, error),) = attempts(conn, job.id)
    assert error.startswith("ValueError: \\x00 \\ud800") and len(error) < 70_000


def test_b36_arguments_that_no_longer_fit_fail_with_both_shapes(
    start_worker: Start, app: App, conn: psycopg.Connection
) -> None:
    start_worker("-c", "1").ready()
    job = app.enqueue("tests.tasks.sleep", args=[0, "surplus"], max_attempts=1)
    with pytest.raises(JobDead, match="signature changed"):
        job.result(30)
    ((_, cause, _),) = attempts(conn, job.id)
    assert cause == "arguments"


def test_b35_an_unknown_task_stays_queued_and_others_run(start_worker: Start, app: App) -> None:
    worker = start_worker("-c", "1").ready()
    unknown = [app.enqueue("no.such.task") for _ in range(3)]
    assert tasks.echo.defer(7).result(30) == 7
    worker.said("no task named 'no.such.task'")
    eventually(lambda: all(job.state == "queued" for job in unknown), what="unknown jobs are queued again")
    assert [job.snapshot().attempt for job in unknown] == [0, 0, 0]
    assert sum("no task named" in line for line in worker.lines) == 1


def test_larger_priority_runs_first_then_order_of_becoming_runnable(start_worker: Start) -> None:
    jobs = {n: tasks.now.options(priority=priority).defer() for n, priority in enumerate([0, 5, 0, 5, -1])}
    start_worker("-c", "1").ready()
    started = {n: job.result(30) for n, job in jobs.items()}
    assert sorted(started, key=started.__getitem__) == [1, 3, 0, 2, 4]


def test_only_the_queues_that_are_named(start_worker: Start) -> None:
    here, there = tasks.echo.defer(1), tasks.elsewhere.defer(2)
    start_worker("-c", "1", "-Q", "other").ready()
    assert there.result(30) == 2
    assert here.state == "queued"


def test_a_paused_queue_waits(start_worker: Start, app: App) -> None:
    app.pause("default")
    start_worker("-c", "1").ready()
    waiting = tasks.echo.defer(1)
    assert tasks.elsewhere.defer(2).result(30) == 2
    assert waiting.state == "queued"
    assert app.resume("default") and waiting.result(30) == 1


def test_delayed_jobs_start_on_time_whatever_the_worker_does_when_they_come(
    start_worker: Start, conn: psycopg.Connection
) -> None:
    """The bell for a job due in a moment may ring between two looks, at the mark of sleep, or during a claim."""
    start_worker("-c", "1").ready()
    for n in range(40):
        tasks.echo.defer(n).result(30)
        tasks.now.options(delay=0.02 + n / 400).defer().result(30)
    late = one_value(conn, "select max(extract(epoch from started_at - run_at))::float8 from pgqueue.history")
    assert (
        0 <= late < 1
    )  # missed once, it would be the poll's 5 s or the heartbeat's 1.5; benchmarks measure it closely


def test_delayed_jobs_that_come_while_the_worker_falls_asleep(start_worker: Start, conn: psycopg.Connection) -> None:
    for _ in range(4):
        worker = start_worker("-c", "1").ready()
        for job in [tasks.now.options(delay=delay).defer() for delay in (0.3, 0.6, 0.9)]:
            job.result(30)
        worker.stop()
    late = one_value(conn, "select max(extract(epoch from started_at - run_at))::float8 from pgqueue.history")
    assert 0 <= late < 1


def test_an_expired_job_is_cancelled_unstarted(start_worker: Start) -> None:
    job = tasks.echo.options(expires=0).defer(1)
    start_worker("-c", "1").ready()
    with pytest.raises(JobCancelled, match="expired"):
        job.result(30)


def test_progress_is_seen_while_it_runs(start_worker: Start, tmp_path: Path) -> None:
    start_worker("-c", "1").ready()
    job = tasks.report.defer(str(tmp_path / "go"))
    eventually(lambda: job.snapshot().progress_note == "halfway", what="progress in the row")
    assert job.snapshot().progress == 0.5
    (tmp_path / "go").touch()
    assert job.result(30) == "done"


def test_cancel_before_and_during(start_worker: Start, tmp_path: Path) -> None:
    early = tasks.echo.options(delay=600).defer(1)
    assert early.cancel("changed our mind") and not early.cancel()
    with pytest.raises(JobCancelled, match="changed our mind"):
        early.result(30)
    start_worker("-c", "2").ready()
    for task, marker in ((tasks.until_cancelled, tmp_path / "a"), (tasks.until_cancelled_async, tmp_path / "b")):
        job = task.defer(str(marker))
        eventually(marker.exists, what="the task runs")
        assert job.cancel("stop it")
        with pytest.raises(JobCancelled, match="stop it"):
            job.result(30)


def test_a_burst_ends_when_nothing_is_left(start_worker: Start, conn: psycopg.Connection) -> None:
    tasks.echo.defer_many((n,) for n in range(2000))
    tasks.echo.options(delay=600).defer(1)
    worker = start_worker("-c", "2", "--burst")
    assert worker.wait() == 0, worker.output
    assert conn.execute("select count(*) from pgqueue.history where state = 'succeeded'").fetchone() == (2000,)
    assert conn.execute("select count(*) from pgqueue.worker").fetchone() == (0,)


def test_polling_alone_is_enough(start_worker: Start, app: App) -> None:
    start_worker("-c", "1", "--no-listen").ready()
    silent = App(app.dsn, notify="never")
    assert silent.enqueue("tests.tasks.echo", [5]).result(30) == 5
    silent.close()


def test_many_waiters_share_one_connection(start_worker: Start, conn: psycopg.Connection) -> None:
    start_worker("-c", "2").ready()

    async def wait_for_all() -> list[int]:
        jobs = [await tasks.echo_later.defer_async(n, 0.2) for n in range(200)]
        return list(await asyncio.gather(*(job.result_async(30) for job in jobs)))

    assert asyncio.run(wait_for_all()) == list(range(200))
    hubs = "application_name = 'pgqueue results' and datname = current_database()"
    assert conn.execute(f"select count(*) from pg_stat_activity where {hubs}").fetchone() == (1,)
    assert conn.execute("select count(*) from pgqueue.awaited").fetchone() == (0,)


@pytest.mark.parametrize("name", ["count_to", "count_to_async", "count_to_atomically", "count_to_atomically_async"])
def test_a_result_that_the_policy_refuses_is_a_failed_attempt(
    start_worker: Start, app: App, conn: psycopg.Connection, name: str
) -> None:
    conn.execute("create schema shop create table seen (attempt int)")
    task = getattr(tasks, name)
    accepted, refused = task.defer(2), task.defer(4)
    start_worker("-c", "1").ready()
    with pytest.raises(JobDead, match="another attempt after this result"):
        refused.result(30)
    if task.keeps:
        assert accepted.result(30) == 2
    eventually(lambda: conn.execute("select count(*) from pgqueue.job").fetchone() == (0,), what="both ended")
    error = "ResultRefused: retry= asks for another attempt after this result (a int)"
    assert attempts(conn, accepted.id) == [(1, "result", error)]
    assert attempts(conn, refused.id) == [(attempt, "result", error) for attempt in (1, 2, 3)]
    assert conn.execute("select count(*) from pgqueue.history").fetchone() == (1 + task.keeps,)
    # What a refused attempt of an atomic task wrote is rolled back.
    assert conn.execute("select attempt from shop.seen").fetchall() == ([(2,)] if task.atomic else [])


def test_a_policy_that_breaks_on_an_error_hides_it_from_nobody(start_worker: Start, conn: psycopg.Connection) -> None:
    job = tasks.wait_for_nonsense.defer()
    start_worker("-c", "1", "--burst").wait()
    error = (
        "TypeError: delay takes seconds or a timedelta, not a str; it was asked because of ValueError: the task's own"
    )
    assert attempts(conn, job.id) == [(1, "retry policy", error)]
    assert "in wait_for_nonsense" in one_value(conn, "select traceback from pgqueue.attempt")


def test_a_policy_that_breaks_on_a_result_is_told(start_worker: Start, conn: psycopg.Connection) -> None:
    job = tasks.break_its_policy.defer()
    start_worker("-c", "1", "--burst").wait()
    with pytest.raises(JobDead, match="KeyError: 'there is no such key'"):
        job.result(10)
    assert attempts(conn, job.id) == [(1, "retry policy", "KeyError: 'there is no such key'")]


@pytest.mark.parametrize(("attempt", "otherwise"), [(1, "retry"), (2, "dead")])
def test_a_commit_without_an_answer_that_did_not_happen_is_judged_by_the_policy(attempt: int, otherwise: str) -> None:
    """By what the child said, not by whether there is a traceback: the last attempt was run once more."""
    task = tasks.count_to.app.task(name="t", atomic=True, max_attempts=2)(tasks.now.function)
    job = Claimed(new_id(), 1, "t", "[]", "{}", attempt, None, 0, "default", 0, 1, None, None, 0.1, None)
    ran = Attempt(job, task, untyped(SimpleNamespace()), worker="w")
    ran.committing = True
    try:
        raise ConnectionError("no answer")
    except ConnectionError as error:
        outcome = ran.failed(error)
    del task.app.tasks["t"]
    assert (outcome.verdict, outcome.otherwise) == ("unsure", otherwise) and outcome.traceback is not None


# -- jobs that wait for jobs --

STUCK = "and every slot of this worker is taken"


@pytest.mark.parametrize("sync", [True, False], ids=["sync", "async"])
def test_a_job_that_waits_for_one_that_finds_no_place_is_warned_of_once(
    start_worker: Start, tmp_path: Path, sync: bool
) -> None:
    worker = start_worker("-c", "1", app="tests.hostile_tasks").ready()
    if sync:
        jobs = [hostile_tasks.wait_for_another.defer(3) for _ in range(2)]
        for job in jobs:
            with pytest.raises(JobDead, match=r"not finished after 3\.0 s"):
                job.result(60)
    else:  # an async job takes no place from what it waits for; something else does here
        blocking = hostile_tasks.wait_for.defer(str(tmp_path / "go"))
        eventually((tmp_path / "go.running").exists, what="the only place is taken")
        waiting = hostile_tasks.wait_for_another_async.defer(60)
        worker.said(STUCK)
        (tmp_path / "go").touch()
        assert blocking.result(30) == "done" and waiting.result(30) == "waited for"
    warning = worker.said(STUCK)
    assert "task tests.hostile_tasks.wait_for_another" in warning and "(-Q)" in warning
    assert worker.output.count(STUCK) == 1


def test_a_job_that_waits_for_one_that_runs_or_for_a_free_place_is_not_warned_of(
    start_worker: Start, tmp_path: Path
) -> None:
    worker = start_worker("-c", "2", app="tests.hostile_tasks").ready()
    assert hostile_tasks.wait_for_another.defer(30).result(30) == "waited for"
    awaited = hostile_tasks.wait_for.defer(str(tmp_path / "go"))
    eventually((tmp_path / "go.running").exists, what="it runs")
    waiting = hostile_tasks.wait_for_running.defer(awaited.id, 2.5)
    with pytest.raises(JobDead, match=r"not finished after 2\.5 s"):
        waiting.result(60)
    assert STUCK not in worker.output


def test_a_burst_that_ends_amid_a_chore_says_nothing_of_it(
    start_worker: Start, conn: psycopg.Connection, dsn: str
) -> None:
    with psycopg.connect(dsn) as other:
        other.execute("lock pgqueue.audit in access exclusive mode")  # the first chore of a worker waits for it
        worker = start_worker("-c", "1", "--burst")
        assert worker.wait() == 0
    assert [line for line in worker.lines if "WARNING" in line or "Error" in line or "psycopg" in line] == []


def test_a_burst_says_nothing_of_a_chore_that_fails_as_it_is_called_off(
    start_worker: Start, conn: psycopg.Connection
) -> None:
    """As a statement does that is refused its lock at the moment in which the worker calls it off."""
    conn.execute("""
        create function fail_when_called_off() returns trigger language plpgsql as $$
        begin
          perform pg_sleep(60);
          return null;
        exception when query_canceled then
          raise lock_not_available;
        end $$
    """)
    conn.execute("""
        create trigger slow before delete on pgqueue.audit
        for each statement execute function fail_when_called_off()
    """)
    try:
        worker = start_worker("-c", "1", "--burst")
        assert worker.wait() == 0
    finally:
        conn.execute("drop function fail_when_called_off cascade")
    assert [line for line in worker.lines if "WARNING" in line or "Error" in line or "psycopg" in line] == []
