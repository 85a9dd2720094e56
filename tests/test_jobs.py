"""What one may ask of a job and do to it: state, snapshot, cancel, retry, lists, purge, pause."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from pgqueue import App, DuplicateJob, InvalidOption, Job, JobNotFound, Snapshot, State
from tests.conftest import eventually
from tests.hands import Hands

ENDED = ("succeeded", "dead", "cancelled")
STATES = ("scheduled", "queued", "running", *ENDED)


@pytest.fixture
def worker(conn: psycopg.Connection, app: App) -> Hands:
    return Hands(conn, app.queries)


def a_job(app: App, worker: Hands, state: str, **options: Any) -> Job[Any]:
    """A job in any state."""
    job = app.enqueue("t", [state], **options, delay=3600 if state == "scheduled" else None)
    if state not in ("scheduled", "queued"):
        (claimed,) = (each for each in worker.claim() if each.id == job.id)
        if state == "succeeded":
            worker.finish([claimed], '"done"')
        elif state != "running":
            worker.settle(claimed, state, "because")
    return job


@pytest.mark.parametrize("state", STATES)
def test_state_and_snapshot(app: App, worker: Hands, state: str) -> None:
    job = a_job(app, worker, state, queue="q", priority=4, headers={"h": 1}, unique="key", max_attempts=3)
    seen = job.snapshot()
    assert job.state is State(state) and State(state).ended == (state in ENDED)
    assert seen[:7] == (job.id, state, "q", 4, "t", f'["{state}"]', "{}")
    assert (seen.max_attempts, seen.crashes, seen.unique_key, seen.headers) == (3, 0, "key", '{"h":1}')
    started = state not in ("scheduled", "queued")
    assert seen.attempt == started and (seen.started_at is not None) == started
    assert seen.worker == (worker.id if started else None)
    assert (seen.finished_at is not None) == (state in ENDED) and not seen.cancel_requested
    assert seen.result == ('"done"' if state == "succeeded" else None)
    assert seen.error == ("because" if state in ("dead", "cancelled") else None)
    assert all(moment is None or moment.tzinfo for moment in (seen.created_at, seen.run_at, seen.finished_at))
    assert app.job(job.id) == job and app.job(job.id).snapshot() == seen


@pytest.mark.parametrize("state", ["scheduled", "queued"])
def test_cancel_before_it_starts(app: App, worker: Hands, state: str) -> None:
    job = a_job(app, worker, state)
    assert job.cancel("not 'wanted' %s") and job.state == "cancelled"
    seen = job.snapshot()
    assert seen.error == "not 'wanted' %s" and seen.attempt == 0 and seen.finished_at and seen.started_at is None
    assert not job.cancel() and worker.claim() == []


def test_cancel_while_it_runs_leaves_word(app: App, worker: Hands) -> None:
    job = app.enqueue("t")
    (claimed,) = worker.claim()
    assert job.cancel("stop") and job.state == "running" and job.snapshot().cancel_requested
    assert job.cancel("stop again")
    worker.settle(claimed, "scheduled", "ValueError", delay_s=60)  # it failed meanwhile: no further attempt
    assert job.state == "cancelled" and job.snapshot().error == "stop again" and len(app.attempts(job.id)) == 1


def test_a_job_that_succeeds_all_the_same_has_succeeded(app: App, worker: Hands) -> None:
    job = app.enqueue("t")
    (claimed,) = worker.claim()
    assert job.cancel()
    worker.finish([claimed])
    assert job.state == "succeeded"


@pytest.mark.parametrize("state", ENDED)
def test_what_has_ended_cannot_be_cancelled(app: App, worker: Hands, state: str) -> None:
    job = a_job(app, worker, state)
    before = job.snapshot()
    assert job.cancel("too late") is False and job.snapshot() == before


def test_unknown_jobs(app: App) -> None:
    for ask in (Job.cancel, Job.retry, Job.snapshot, lambda job: job.state):
        with pytest.raises(JobNotFound, match="no job 01a208e7"):
            ask(app.job("01a208e7-51ed-7198-a687-0270704ff6cf"))
    with pytest.raises(RuntimeError, match=r"belongs to no App; get it by app\.job"):
        Job("01a208e7-51ed-7198-a687-0270704ff6cf").snapshot()


@pytest.mark.parametrize("reason", ["", "a\0b", 5, "x" * 10_000])
def test_a_reason_that_cannot_be_stored(app: App, dsn: str, reason: Any) -> None:
    job = app.enqueue("t")
    with psycopg.connect(dsn) as caller, app.using(caller):
        caller.execute("select 1")
        with pytest.raises(InvalidOption, match=r"^reason "):
            job.cancel(reason)
        assert job.state == "queued"


@pytest.mark.parametrize("state", ENDED)
def test_retry_runs_an_ended_job_again_from_its_first_attempt(
    app: App, worker: Hands, conn: psycopg.Connection, state: str
) -> None:
    job = a_job(app, worker, state, priority=2, headers={"h": 1}, max_attempts=3, timeout=9, unique="key", queue="q")
    before = job.snapshot()
    assert job.retry() and job.state == "queued"
    seen = job.snapshot()
    assert (seen.attempt, seen.crashes, seen.started_at, seen.finished_at, seen.worker) == (0, 0, None, None, None)
    assert (seen.result, seen.error, seen.cancel_requested) == (None, None, False)
    for field in ("id", "queue", "priority", "task", "args", "headers", "max_attempts", "unique_key", "created_at"):
        assert getattr(seen, field) == getattr(before, field)
    assert conn.execute("select count(*) from pgqueue.history").fetchone() == (0,)
    assert worker.run_all("2") == [job.id] and job.result(60) == 2


@pytest.mark.parametrize("state", ["queued", "running"])
def test_retry_of_what_is_under_way_does_nothing(app: App, worker: Hands, state: str) -> None:
    job = a_job(app, worker, state)
    before = job.snapshot()
    assert job.retry() is False and job.snapshot() == before


def test_retry_of_a_scheduled_job_makes_it_due_now(app: App, worker: Hands) -> None:
    first, job = app.enqueue("t"), a_job(app, worker, "scheduled")
    assert worker.claim(0) == [] and job.retry() and job.state == "queued"
    assert job.snapshot().run_at < datetime.now(UTC) + timedelta(minutes=30)  # it was an hour
    assert worker.run_all() == [first.id, job.id]  # it stands at the end of the queue


def test_retry_while_another_job_has_the_unique_key(app: App, worker: Hands) -> None:
    job = a_job(app, worker, "dead", unique="key")
    other = app.enqueue("t", unique="key")
    with pytest.raises(DuplicateJob, match="another live job has its unique key 'key'") as caught:
        job.retry()
    assert caught.value.job_id in (job.id, other.id) and job.state == "dead"
    other.cancel()
    assert job.retry()


def test_retry_while_another_job_is_taking_the_unique_key(app: App, worker: Hands, dsn: str) -> None:
    job = a_job(app, worker, "dead", unique="key")
    with psycopg.connect(dsn) as other, ThreadPoolExecutor(1) as threads:
        app.enqueue("t", conn=other, unique="key")
        waiting = threads.submit(job.retry)
        with psycopg.connect(dsn, autocommit=True) as watcher:
            blocked = "select count(*) from pg_stat_activity where %s = any (pg_blocking_pids(pid))"
            eventually(lambda: watcher.execute(blocked, [other.info.backend_pid]).fetchone() == (1,), what="it waits")
        other.commit()
        with pytest.raises(DuplicateJob, match="another live job has its unique key 'key'"):
            waiting.result()
    assert job.state == "dead"


def test_the_claim_token_only_grows(app: App, worker: Hands, conn: psycopg.Connection) -> None:
    job = app.enqueue("t")
    tokens = []
    for end in ("dead", "succeeded", "cancelled", "scheduled", "queued", "succeeded"):
        (claimed,) = worker.claim()
        tokens.append(claimed.token)
        if end == "succeeded":
            worker.finish([claimed])
        else:
            worker.settle(claimed, end, "because", delay_s=60)
        if end != "queued":
            assert job.retry()
    assert tokens == sorted(set(tokens)) and claimed.attempt >= 1
    assert conn.execute("select claim_token from pgqueue.job").fetchone() == (tokens[-1],)


def test_a_superseded_attempt_changes_nothing(app: App, worker: Hands) -> None:
    job = app.enqueue("t")
    (old,) = worker.claim()
    worker.settle(old, "dead", "presumed")
    job.retry()
    (new,) = worker.claim()
    with pytest.raises(AssertionError):
        worker.finish([old], '"late"')
    assert job.state == "running"
    worker.finish([new], '"right"')
    assert job.result(60) == "right"


def test_attempts_lists_the_failures_first_to_last(app: App, worker: Hands) -> None:
    job = app.enqueue("t")
    for n in (1, 2):
        worker.settle(worker.claim()[0], "scheduled", f"ValueError: {n}", delay_s=60)
        job.retry()
    worker.run_all()
    rows = app.attempts(job.id)
    assert [(row[0], *row[3:]) for row in rows] == [
        (n, "by hand", "exception", f"ValueError: {n}", None) for n in (1, 2)
    ]
    assert all(started <= failed for _, started, failed, *_ in rows)
    assert app.attempts("01a208e7-51ed-7198-a687-0270704ff6cf") == []


def test_lists(app: App, worker: Hands) -> None:
    made = {state: a_job(app, worker, state, queue=f"q {state}") for state in STATES if state != "queued"}
    made["queued"] = app.enqueue("other", queue="q queued")
    everything = app.jobs()
    assert [job.id for job in everything] == sorted((job.id for job in made.values()), reverse=True)  # newest first
    assert all(isinstance(job, Snapshot) for job in everything)
    for state, job in made.items():
        assert (
            [each.id for each in app.jobs(state=state)]
            == [job.id]
            == [each.id for each in app.jobs(queue=f"q {state}")]
        )
        assert app.jobs(state=State(state), queue="q nobody") == []
    assert [job.id for job in app.jobs(task="other")] == [made["queued"].id]
    assert len(app.jobs(limit=2)) == 2 and app.jobs(limit=0) == [] and app.jobs(task="'; drop table") == []


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda app: app.jobs(state="failed"), "state must be one of waiting, scheduled, .*, not 'failed'"),
        (lambda app: app.jobs(state=""), "state must be one of"),
        (lambda app: app.jobs(limit=-1), "limit=-1 is out of range"),
        (lambda app: app.jobs(limit="5"), "limit takes a whole number, not a str"),
        (lambda app: app.jobs(queue="a\0"), "queue contains a control character"),
        (lambda app: app.jobs(task="a\0"), "task contains a control character"),
        (lambda app: app.purge(state="failed"), "state must be one of"),
        (lambda app: app.purge(state="running"), "running jobs cannot be purged: cancel them"),
        (lambda app: app.purge(state="dead", queue="a\0"), "queue contains a control character"),
        (lambda app: app.purge(state="dead", task=5), "task takes a string"),
    ],
)
def test_wrong_questions_leave_the_transaction_usable(app: App, dsn: str, call: Any, match: str) -> None:
    with psycopg.connect(dsn) as caller, app.using(caller):
        caller.execute("select 1")
        with pytest.raises(InvalidOption, match=match):
            call(app)
        assert app.jobs() == []


def test_purge(app: App, worker: Hands) -> None:
    for state in (*STATES, *STATES):
        a_job(app, worker, state, queue="a" if len(app.jobs()) < 6 else "b")
    for state in ("scheduled", "queued", *ENDED):
        before = len(app.jobs(state=state))
        assert app.purge(state=state, queue="nobody") == app.purge(state=state, task="nobody") == 0
        assert app.purge(state=state, queue="a") + app.purge(state=state, task="t") == before
        assert app.jobs(state=state) == []
    assert {job.state for job in app.jobs()} <= {"running"}


def test_purge_of_thousands(app: App, conn: psycopg.Connection) -> None:
    conn.execute("select pgqueue.enqueue('t', queue => 'q' || n % 2) from generate_series(1, 4500) as n")
    assert app.purge(state="queued", queue="q1") == 2250 and app.purge(state="queued") == 2250


def test_pause_and_resume(app: App, worker: Hands, conn: psycopg.Connection) -> None:
    job = app.enqueue("t", queue="mail")
    other = app.enqueue("t", queue="other")
    app.pause("mail")
    app.pause("mail")
    assert conn.execute("select name, paused_by, paused_at is not null from pgqueue.queue").fetchall() == [
        ("mail", conn.info.user, True)
    ]
    assert worker.run_all() == [other.id] and job.state == "queued"
    assert app.resume("mail") is True and app.resume("mail") is False and app.resume("never paused") is False
    assert worker.run_all() == [job.id]
