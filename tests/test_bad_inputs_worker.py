"""Whatever a task does, its job ends with the reason stored and its worker goes on."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgqueue import App, JobCancelled, JobDead
from tests import hostile_tasks as tasks
from tests.conftest import Worker, eventually

Start = Callable[..., Worker]

pytestmark = pytest.mark.usefixtures("task_app")


@pytest.fixture
def start(start_worker: Start) -> Start:
    """A worker that knows the hostile tasks."""
    return lambda *options, **settings: start_worker(*options, app="tests.hostile_tasks", **settings)


def failure(conn: psycopg.Connection, job_id: str) -> tuple[str, str, str]:
    """(cause, error, traceback) of the job's only failed attempt."""
    ((cause, error, trace),) = conn.execute(
        "select cause, error, coalesce(traceback, '') from pgqueue.attempt where job_id = %s", [job_id]
    ).fetchall()
    return cause, error, trace


def died_of(job: Any) -> str:
    with pytest.raises(JobDead) as dead:
        job.result(60)
    return str(dead.value)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        pytest.param("huge message", "(100,000,012 characters in all)", id="b38-100-mb-message"),
        pytest.param("deep traceback", "ValueError: at the bottom", id="b38-10000-frames"),
        pytest.param("cyclic cause", "ValueError: one", id="b38-cyclic-cause"),
        pytest.param("nested groups", "ExceptionGroup: level (1 sub-exception)", id="b38-groups-500-deep"),
        pytest.param("deep groups", "ExceptionGroup: level (1 sub-exception)", id="b38-groups-5000-deep"),
        pytest.param("wide group", "ExceptionGroup: wide (20000 sub-exceptions)", id="b38-group-of-20000"),
        pytest.param("unprintable", "Unprintable: <its text is not available: RuntimeError>", id="b38-no-text"),
        pytest.param("unpicklable", "Unpicklable: holds a lock", id="b42-unpicklable-exception"),
        pytest.param("ansi", "ValueError: \x1b[2J\x1b]0;owned\x07 \\x00 \\udcff \u202e", id="b39-ansi-nul-surrogate"),
    ],
)
def test_an_exception_is_stored_cut_and_clean(start: Start, conn: psycopg.Connection, kind: str, told: str) -> None:
    worker = start("-c", "1").ready()
    children = worker.children()
    job = tasks.fail_with.defer(kind)
    died_of(job)
    cause, error, trace = failure(conn, job.id)
    assert cause == "exception" and told in error and len(error) < 65_000 and len(trace) < 65_000
    assert tasks.echo.defer(1).result(30) == 1 and worker.children() == children
    assert all(len(line) < 5_000 for line in worker.lines)


@pytest.mark.parametrize("task", [tasks.fail_with, tasks.fail_async_with, tasks.fail_atomic_with], ids=lambda t: t.name)
def test_an_exception_that_cannot_be_asked_is_a_failed_attempt(
    start: Start, conn: psycopg.Connection, task: Any
) -> None:
    """Its class is user code, and what a task raises is looked at in a child that others share."""
    told = {
        "bare snooze": "BadDelay: BareSnooze has no delay_s: its __init__ must call super().__init__(delay)",
        "snooze set to text": "BadDelay: Snooze.delay_s cannot be used: delay takes seconds or a timedelta, not a str",
        "snooze set to nan": "BadDelay: Snooze.delay_s cannot be used: delay takes seconds or a timedelta, not NaN",
        "snooze set to none": "BadDelay: Snooze has no delay_s: its __init__ must call super().__init__(delay)",
        "snooze property": "BadDelay: Misbehaving.delay_s cannot be used: not for you",
        "bare retry": "BareRetry",
        "retry set to a list": "BadDelay: Retry.delay_s cannot be used: delay takes seconds or a timedelta, not a list",
        "retry property": "BadDelay: Misbehaving.delay_s cannot be used: not for you",
        "odd text": "OddlyTold: told oddly",
        "no name": "RuntimeError: OfNoName cannot be handled: ValueError: no name for you",
    }
    kinds = [*told, *(kind for kind in tasks.ERRORS if kind.startswith("__"))]
    worker = start("-c", "1").ready()
    children = worker.children()
    jobs = {kind: task.defer(kind) for kind in kinds}
    for kind, job in jobs.items():
        died_of(job)
        cause, error, trace = failure(conn, job.id)
        assert (cause, job.snapshot().crashes) == ("exception", 0), kind
        # What surrounds the task may ask it too, as a transaction does, and raise what that gave.
        assert error == told[kind] if kind in told else "Misbehaving" in error or "not for you" in error, (kind, error)
        assert "hostile_tasks" in trace or "is not available" in trace, (kind, trace)
    assert tasks.echo.defer(1).result(30) == 1 and worker.children() == children


def test_a_cancel_without_a_reason_is_told_by_its_name(start: Start) -> None:
    start("-c", "1")
    job = tasks.cancel_barely.defer()
    with pytest.raises(JobCancelled, match="was cancelled: BareCancel"):
        job.result(60)


def test_b41_a_recursion_without_end_is_a_failed_attempt(start: Start, conn: psycopg.Connection) -> None:
    worker = start("-c", "1").ready()
    children = worker.children()
    job = tasks.recurse.defer()
    assert "RecursionError" in died_of(job)
    assert tasks.pid.defer().result(30) in children and worker.children() == children


@pytest.mark.parametrize("task", [tasks.run_out_of_memory, tasks.run_out_of_memory_async], ids=["sync", "async"])
def test_b41_a_child_that_ran_out_of_memory_is_replaced(start: Start, conn: psycopg.Connection, task: Any) -> None:
    worker = start("-c", "1").ready()
    (child,) = worker.children()
    job = task.defer()
    assert "MemoryError" in died_of(job)
    assert job.snapshot().crashes == 0 and failure(conn, job.id)[0] == "exception"
    worker.said("ran out of memory and is replaced")
    assert tasks.pid.defer().result(30) != child


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        pytest.param("nan", "result is NaN or infinite", id="b43-nan"),
        pytest.param("nul", "result[0] contains NUL", id="b43-nul"),
        pytest.param("surrogate", "result contains a lone surrogate", id="b43-surrogate"),
        pytest.param("too large", "result: 1,000,003 bytes of JSON are more than the limit", id="b43-too-large"),
        pytest.param("object", "result is an object, which JSON cannot hold", id="b43-object"),
        pytest.param("deep", "nested more than 100 levels deep", id="b43-nested"),
        pytest.param("lock", "result is a lock, which JSON cannot hold", id="b42-unpicklable-result"),
        pytest.param("coroutine", "returned a coroutine: declare it with async def", id="b44-coroutine"),
        pytest.param("generator", "result is a generator, which JSON cannot hold", id="b44-generator"),
        pytest.param("open file", "result is a TextIOWrapper, which JSON cannot hold", id="b44-open-file"),
    ],
)
def test_a_result_that_cannot_be_stored_fails_the_attempt(
    start: Start, conn: psycopg.Connection, kind: str, told: str
) -> None:
    start("-c", "1").ready()
    job = tasks.return_.defer(kind)
    assert told in died_of(job)
    cause, error, _ = failure(conn, job.id)
    assert cause == "result" and error.startswith("InvalidResult: ") and "xxx" not in error
    assert tasks.echo.defer(1).result(30) == 1


def test_b45_an_async_function_in_disguise_is_told(start: Start) -> None:
    start("-c", "1").ready()
    assert "declare it with async def" in died_of(tasks.async_in_disguise.defer())


def test_b45_a_blocked_loop_is_warned_of_once(start: Start) -> None:
    worker = start("-c", "1").ready()
    for job in [tasks.breathe.defer(0.5), tasks.block_the_loop.defer(2.5)]:
        job.result(60)
    warning = worker.said("has blocked the event loop")
    assert "async task tests.hostile_tasks.block_the_loop" in warning and "hostile_tasks.py line" in warning
    assert tasks.block_the_loop.defer(2.5).result(60) == 2.5
    assert tasks.breathe.defer(1.5).result(60) == 1.5
    assert sum("has blocked the event loop" in line for line in worker.lines) == 1


DEPLOY = """
from tenacity import wait_fixed
from pgqueue import App
app = App()

@app.task(name="shop.send", wait=wait_fixed(0.5))
def send({parameters}):
    return [{names}]
"""


def test_b36_a_job_of_the_old_signature_fails_until_the_deploy(
    start_worker: Start, app: App, conn: psycopg.Connection, tmp_path: Path
) -> None:
    def deploy(names: str) -> Worker:
        (tmp_path / "shop.py").write_text(DEPLOY.format(parameters=names, names=names))
        return start_worker("-c", "1", app="shop", cwd=tmp_path).ready()

    old = deploy("to")
    job = app.enqueue("shop.send", args=["a@b.c"], kwargs={"subject": "hi"})
    old.said("signature changed")
    cause, error = conn.execute("select cause, error from pgqueue.attempt limit 1").fetchone() or ("", "")
    assert cause == "arguments"
    assert "signature changed: stored (to, subject), task takes (to)" in error
    assert "a@b.c" not in error and old.stop() == 0
    deploy("to, subject")
    assert job.result(60) == ["a@b.c", "hi"]


def test_b35_a_job_that_no_worker_knows_is_never_discarded(start: Start, app: App) -> None:
    worker = start("-c", "1").ready()
    strangers = [app.enqueue("nobody.knows", max_attempts=1) for _ in range(20)]
    for n in range(50):
        assert tasks.echo.defer(n).result(30) == n
    eventually(lambda: all(job.state == "queued" for job in strangers), what="unknown jobs are queued again")
    assert all((job.snapshot().attempt, job.snapshot().crashes) == (0, 0) for job in strangers)
    assert sum("no task named 'nobody.knows'" in line for line in worker.lines) == 1


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("commit", "ended the transaction of its atomic connection itself"),
        ("rollback", "ended the transaction of its atomic connection itself"),
        ("commit and begin", "ended the transaction of its atomic connection itself"),
        ("commit and chain", "ended the transaction of its atomic connection itself"),
        ("conn.commit", "Explicit commit() forbidden within a Transaction context"),
        ("conn.rollback", "Explicit rollback() forbidden within a Transaction context"),
        ("conn.close", "the connection is closed"),
        ("swallowed error", "current transaction is aborted"),
    ],
)
def test_b49_a_task_that_ends_its_transaction_itself_fails_with_the_reason(
    start: Start, conn: psycopg.Connection, how: str, told: str
) -> None:
    conn.execute("create schema shop")
    conn.execute("create table shop.paid (job int)")
    start("-c", "1").ready()
    assert told in died_of(tasks.end_the_transaction.defer(how))
    kept = 1 if "commit" in how and "conn" not in how else 0  # what it committed by itself nobody can take back
    assert conn.execute("select count(*) from shop.paid").fetchone() == (kept,)
    assert tasks.echo.defer(1).result(30) == 1


@pytest.mark.parametrize(
    "edit",
    [
        "delete from pgqueue.job",
        "update pgqueue.job set state = 'queued', worker = null, claim_token = claim_token + 1, queue = 'nobody'",
        "update pgqueue.job set worker = gen_random_uuid()",
        "update pgqueue.job set state = 'waiting'",
        "update pgqueue.job set claim_token = claim_token + 1",
    ],
)
def test_b55_a_row_changed_by_hand_while_it_runs_is_a_lost_lease(
    start: Start, conn: psycopg.Connection, tmp_path: Path, edit: str
) -> None:
    worker = start("-c", "2", "-Q", "default").ready()
    job = tasks.wait_for.defer(str(tmp_path / "go"))
    eventually((tmp_path / "go.running").exists, what="the job runs")
    conn.execute(edit)
    (tmp_path / "go").touch()
    worker.said(f"job {job.id}: lease lost; outcome succeeded discarded")
    assert tasks.echo.defer(1).result(30) == 1
    assert conn.execute("select count(*) from pgqueue.history where id = %s", [job.id]).fetchone() == (0,)
    assert worker.stop() == 0


def test_b43_headers_that_are_no_json_stop_no_child(start: Start, app: App, conn: psycopg.Connection) -> None:
    worker = start("-c", "1").ready()
    children = worker.children()
    for headers in ("{", "[1]", "[" * 100_000, "null", '"x"'):
        conn.execute(
            "insert into pgqueue.job (id, task, args, headers) values (gen_random_uuid(), 'tests.hostile_tasks.echo', '[1]', %s)",
            [headers],
        )
    app.run(app.queries.ring("default", ring="always"))
    eventually(lambda: len(app.jobs(state="succeeded")) == 5, what="all have run")
    assert worker.children() == children


def test_b13_a_row_nested_100000_deep_fails_alone(start: Start, app: App, conn: psycopg.Connection) -> None:
    start("-c", "1").ready()
    conn.execute(
        "insert into pgqueue.job (id, task, args, max_attempts) values (gen_random_uuid(), 'tests.hostile_tasks.echo', %s, 1)",
        ["[" * 100_000 + "]" * 100_000],
    )
    app.run(app.queries.ring("default", ring="always"))
    (dead,) = eventually(lambda: app.jobs(state="dead"), what="it is dead")
    assert "the stored arguments are not JSON: nested too deeply" in (dead.error or "")
    began = time.monotonic()
    assert tasks.echo.defer(1).result(30) == 1 and time.monotonic() - began < 10


@pytest.mark.parametrize("how", ["fork", "exec"])
def test_a_process_that_a_task_started_can_be_terminated(start: Start, how: str) -> None:
    """Children are deaf to TERM; what they start is not."""
    start("-c", "1").ready()
    assert tasks.terminate_what_it_started.options(max_attempts=1).defer(how).result(30) == -signal.SIGTERM
