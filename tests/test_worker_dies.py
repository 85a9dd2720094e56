"""Who owns a job when processes crash, freeze or are told to go. Most of this is in tests/faults; here is what has no row there."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from pgqueue import App, JobDead
from pgqueue.task import AnyTask
from tests import tasks
from tests.answers import one_value
from tests.conftest import Worker, eventually

Start = Callable[..., Worker]

# Of this database only: other test processes have workers on the same server.
SESSIONS = "from pg_stat_activity where application_name like 'pgqueue:%' and datname = current_database()"

pytestmark = pytest.mark.usefixtures("task_app")


def causes(conn: psycopg.Connection, job_id: str) -> list[str]:
    return [
        cause
        for (cause,) in conn.execute("select cause from pgqueue.attempt where job_id = %s order by failed_at", [job_id])
    ]


def test_only_the_job_that_ran_is_blamed(start_worker: Start, conn: psycopg.Connection) -> None:
    start_worker("-c", "1").ready()
    for job in tasks.crash_at.defer_many((n, -1) for n in range(200)):
        job.result(30)  # known as short from now on: many go in one frame
    jobs = tasks.crash_at.defer_many((n, 250) for n in range(500))
    assert [job.result(60) for n, job in enumerate(jobs) if n != 250] == [n for n in range(500) if n != 250]
    with pytest.raises(JobDead, match="quarantined"):
        jobs[250].result(60)
    blamed = conn.execute("select distinct job_id::text from pgqueue.attempt").fetchall()
    assert blamed == [(jobs[250].id,)]


@pytest.mark.parametrize("task", [tasks.too_long_async, tasks.too_long_polite])
def test_a_time_limit_is_an_exception_where_it_can_be(
    start_worker: Start, conn: psycopg.Connection, task: AnyTask
) -> None:
    worker = start_worker("-c", "1").ready()
    children = worker.children()
    job = task.defer()
    with pytest.raises(JobDead, match="TimeLimitExceeded"):
        job.result(30)
    assert causes(conn, job.id) == ["time limit"] and worker.children() == children


def test_a_frozen_worker_loses_its_lease_and_starts_over(
    start_worker: Start, conn: psycopg.Connection, tmp_path: Path
) -> None:
    conn.execute("create schema shop")
    conn.execute("create table shop.paid (job uuid, amount int)")
    frozen = start_worker("-c", "1").ready()
    job = tasks.pay_slowly.defer(5, str(tmp_path / "running"), str(tmp_path / "go"))
    eventually((tmp_path / "running").exists, what="the job runs")
    group = [frozen.process.pid, *frozen.children()]
    for pid in group:
        os.kill(pid, signal.SIGSTOP)
    # The lease would take 15 s to run out; on the database's clock it just did.
    conn.execute("update pgqueue.worker set lease_until = now() - interval '1 second'")
    start_worker("-c", "1").said("rescued")
    (tmp_path / "go").touch()
    for pid in group:
        os.kill(pid, signal.SIGCONT)
    frozen.said("declared dead")
    assert job.result(30) == 5
    assert conn.execute("select count(*) from shop.paid").fetchone() == (1,)
    eventually(
        lambda: conn.execute("select count(*) from pgqueue.worker where state = 'alive'").fetchone() == (2,),
        what="both workers hold a lease, one under a new id",
    )


def test_a_superseded_attempt_changes_nothing(app: App, conn: psycopg.Connection) -> None:
    worker = "00000000-0000-7000-8000-000000000001"
    conn.execute(
        "insert into pgqueue.worker (id, lease_until, pid, concurrency, name, version, app, tasks) "
        "values (%s, now() + interval '1 hour', 1, 1, 'w', '0', 'a', '{}')", [worker],
    )  # fmt: skip
    job = app.enqueue("x")
    ((job_id, token, *_),) = app.run(app.queries.claim(worker=worker, cursors=[("default", 0, 0)], unknown=[], limit=1))
    assert (job_id, token) == (job.id, 1)
    for stale in (0, 2):
        assert app.run(app.queries.finish(worker=worker, ids=[job_id], tokens=[stale], results=["1"])) == []
    other = worker.replace("1", "2")
    assert app.run(app.queries.finish(worker=other, ids=[job_id], tokens=[1], results=["1"])) == []
    assert job.state == "running"
    assert len(app.run(app.queries.finish(worker=worker, ids=[job_id], tokens=[1], results=["1"]))) == 1
    assert app.run(app.queries.finish(worker=worker, ids=[job_id], tokens=[1], results=["2"])) == []
    assert job.result(10) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_deploy_lets_jobs_finish_and_gives_back_the_rest(
    start_worker: Start, conn: psycopg.Connection, tmp_path: Path, number: int
) -> None:
    worker = start_worker("-c", "1").ready()
    running = tasks.report.defer(str(tmp_path / "go"))
    waiting = [tasks.sleep.defer(1) for _ in range(3)]
    # Not when the row says so: from there to its first line the job can still be given back.
    eventually(lambda: running.snapshot().progress, what="the first runs")
    worker.process.send_signal(number)
    worker.said("stopping: 1 jobs may finish")
    (tmp_path / "go").touch()
    assert worker.wait() == 0, worker.output
    assert running.state == "succeeded"
    assert [(job.state, job.snapshot().attempt, job.snapshot().crashes) for job in waiting] == [("queued", 0, 0)] * 3
    assert conn.execute("select count(*) from pgqueue.worker").fetchone() == (0,)


def test_what_outlasts_the_shutdown_timeout_is_given_back_uncharged(start_worker: Start) -> None:
    worker = start_worker("-c", "1", "--shutdown-timeout", "0.2").ready()
    job = tasks.sleep.defer(60)
    eventually(lambda: job.state == "running", what="it runs")
    assert worker.stop() == 0
    assert (job.state, job.snapshot().attempt, job.snapshot().crashes) == ("queued", 0, 0)


def test_fast_jobs_behind_a_slow_one_are_taken_back(start_worker: Start) -> None:
    start_worker("-c", "2").ready()
    for job in tasks.sleep.defer_many([(0,)] * 200):  # sleep() is now known as a short task
        job.result(30)
    slow = [tasks.sleep.defer(seconds) for seconds in (20, 0, 0, 0, 0, 0)]
    began = time.monotonic()
    assert [job.result(30) for job in slow[1:]] == [0] * 5
    assert time.monotonic() - began < 10
    assert slow[0].state == "running"


def test_children_are_replaced_after_so_many_jobs_or_megabytes(start_worker: Start) -> None:
    start_worker("-c", "1", "--max-tasks-per-child", "2").ready()
    pids = [tasks.whoami.defer().result(30)["pid"] for _ in range(6)]
    assert len(set(pids)) == 3
    assert pids[0] == pids[1] and pids[2] == pids[3]


def test_a_child_that_grew_is_replaced(start_worker: Start) -> None:
    start_worker("-c", "1", "--max-memory-per-child", "150").ready()
    fat = tasks.eat.defer(200).result(30)
    assert tasks.whoami.defer().result(30)["pid"] != fat


# -- atomic tasks: the effect and the end of the job commit together --


@pytest.fixture
def paid(conn: psycopg.Connection) -> Callable[[], list[int]]:
    conn.execute("create schema shop")
    conn.execute("create table shop.paid (job uuid, amount int)")
    return lambda: [amount for (amount,) in conn.execute("select amount from shop.paid order by amount")]


def test_an_atomic_task_writes_once(start_worker: Start, paid: Callable[[], list[int]]) -> None:
    start_worker("-c", "1").ready()
    assert [job.result(30) for job in (tasks.pay.defer(1), tasks.pay_async.defer(2))] == [1, 2]
    assert tasks.pay.defer(3, fail_on=1).result(30) == 3  # the first attempt's write was rolled back
    assert paid() == [1, 2, 3]


def test_b49_an_atomic_task_that_commits_itself_is_refused(start_worker: Start, paid: Callable[[], list[int]]) -> None:
    start_worker("-c", "1").ready()
    with pytest.raises(JobDead, match="ended the transaction"):
        tasks.pay_and_commit.defer(1).result(30)


def test_an_atomic_task_that_lost_its_lease_leaves_no_trace(
    start_worker: Start, paid: Callable[[], list[int]], conn: psycopg.Connection, tmp_path: Path
) -> None:
    worker = start_worker("-c", "1").ready()
    job = tasks.pay_slowly.defer(1, str(tmp_path / "running"), str(tmp_path / "go"))
    eventually((tmp_path / "running").exists, what="the job runs")
    conn.execute("update pgqueue.job set state = 'dead', claim_token = claim_token + 1")
    (tmp_path / "go").touch()
    assert tasks.echo.defer(1).result(30) == 1  # the same thread ran it afterwards, so the attempt is over
    assert paid() == []
    worker.said(f"job {job.id}: lease lost")
    assert worker.stop() == 0
    assert conn.execute("select sum(succeeded) from pgqueue.throughput").fetchone() == (1,)


# -- sessions are lost, workers are not --


def test_every_session_of_a_worker_may_be_ended(start_worker: Start, conn: psycopg.Connection) -> None:
    start_worker("-c", "2").ready()
    jobs = tasks.sleep.defer_many([(0.02,)] * 200)
    for _ in range(5):
        conn.execute(f"select pg_terminate_backend(pid) {SESSIONS}")
        eventually(
            lambda: one_value(conn, f"select count(*) {SESSIONS}") >= 2,
            what="the worker reconnects",
        )
    assert [job.result(60) for job in jobs] == [0.02] * 200
    assert conn.execute("select count(*), sum(crashes) from pgqueue.history").fetchone() == (200, 0)


def test_a_claim_whose_answer_was_lost_is_given_back(start_worker: Start, app: App, conn: psycopg.Connection) -> None:
    start_worker("-c", "1").ready()
    job = tasks.echo.options(delay=3600).defer(4)
    # What the database holds after a claim whose answer never arrived: the worker's job, which the worker does not know.
    conn.execute(
        "update pgqueue.job set state = 'running', claim_token = 1, attempt = 1, worker = (select id from pgqueue.worker)"
    )
    conn.execute(f"select pg_terminate_backend(pid) {SESSIONS}")
    assert job.result(40) == 4
