"""What one may ask of a job and do to it: state, snapshot, cancel, retry, lists, purge, pause."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from pgqueue import App, DuplicateJob, InvalidOption, Job, JobNotFound, Page, Snapshot, State
from pgqueue.job import first_id
from pgqueue.ops.listing import STATE_WINDOW, WINDOW
from pgqueue.ops.purge import OLDER_THAN_ALL, deletions, window
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
    assert [(row.attempt, row.worker, row.cause, row.error, row.traceback) for row in rows] == [
        (n, "by hand", "exception", f"ValueError: {n}", None) for n in (1, 2)
    ]
    assert all(row.started_at and row.started_at <= row.failed_at for row in rows)
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
        (lambda app: app.jobs(since=datetime(2026, 1, 1)), "since=2026-01-01T00:00:00 has no time zone"),
        (lambda app: app.jobs(since="1h"), "since takes seconds or a timedelta, not a str"),
        (lambda app: app.jobs(since=-1), "since=-1 is negative"),
        (lambda app: app.jobs(since=float("nan")), "since=nan is not a valid duration"),
        (lambda app: app.jobs(after="x"), "after='x' is not a valid job id"),
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


def test_purge_of_what_lies_behind_many_others(app: App, conn: psycopg.Connection) -> None:
    """A look goes through ten thousand at most: it goes on where it stopped, and the caller's settings stay as they are."""
    conn.execute("select pgqueue.enqueue('t', queue => 'q0') from generate_series(1, 10001)")
    conn.execute("select pgqueue.enqueue('t', queue => 'q1') from generate_series(1, 1500)")
    conn.execute("select pgqueue.enqueue('t', queue => 'q0') from generate_series(1, 10000)")
    conn.execute("select pgqueue.enqueue('t', queue => 'q1')")
    with conn.transaction(), app.using(conn):
        assert app.purge(state="queued", queue="q1") == 1501
        assert conn.execute("show enable_sort").fetchone() == ("on",)
    assert conn.execute("select distinct queue, count(*) from pgqueue.job group by 1").fetchall() == [("q0", 20_001)]


def test_purge_leaves_what_somebody_locks_and_what_has_changed(app: App, dsn: str, conn: psycopg.Connection) -> None:
    locked, moved, gone = (app.enqueue("t") for _ in range(3))
    rows = app.run(window(app.queries, State.QUEUED, after=OLDER_THAN_ALL, queue=None, task=None))
    conn.execute("update pgqueue.job set state = 'waiting' where id = %s", [moved.id])
    with psycopg.connect(dsn) as other:
        other.execute("select from pgqueue.job where id = %s for update", [locked.id])
        (statement,) = deletions(app.queries, State.QUEUED, rows, queue=None, task=None)
        assert app.run(statement) == [gone.id]
    assert {job.id for job in app.jobs()} == {locked.id, moved.id}


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


# -- how far a list looks --


def fill(conn: psycopg.Connection, jobs: int, **columns: str) -> list[str]:
    """Rows with ids in the order in which they are made; returns them newest first."""
    given = {"task": "t", "state": "queued", **columns}
    rows = conn.execute(
        f"insert into pgqueue.job (id, {', '.join(given)}) "
        f"select pgqueue.uuid7(), {', '.join(['%s'] * len(given))} from generate_series(1, %s) returning id::text",
        [*given.values(), jobs],
    ).fetchall()
    return sorted((id_ for (id_,) in rows), reverse=True)


def pages(app: App, **wanted: Any) -> list[Page]:
    """All pages of a list."""
    found = [app.jobs(**wanted)]
    while found[-1].next is not None:
        found.append(app.jobs(after=found[-1].next, **wanted))
    return found


def test_a_list_that_saw_everything_says_so(app: App, worker: Hands) -> None:
    made = [a_job(app, worker, state) for state in STATES]
    for state in (None, *STATES):
        page = app.jobs(state=state)
        assert (page.next, page.looked_back_to) == (None, None)
    assert app.jobs(limit=len(made)).next is None
    assert app.jobs().looked_at == len(made) and app.jobs(state="waiting") == []


@pytest.mark.parametrize("state", [None, *STATES])
def test_pages_have_every_job_once_newest_first(app: App, worker: Hands, state: str | None) -> None:
    made = [a_job(app, worker, each).id for each in (STATES if state is None else [state]) for _ in range(7)]
    shown = pages(app, state=state, limit=3)
    assert [job.id for page in shown for job in page] == sorted(made, reverse=True)
    assert all(len(page) == 3 and page.looked_back_to == page[-1].created_at for page in shown[:-1])


def test_a_list_looks_at_so_many_jobs_and_says_how_far_back(app: App, conn: psycopg.Connection) -> None:
    (wanted,) = fill(conn, 1, queue="old", task="other")
    others = fill(conn, WINDOW + 5)
    page = app.jobs(task="other")
    assert page == [] and page.looked_at == WINDOW and page.next == others[WINDOW - 1]
    assert page.looked_back_to == app.job(page.next).snapshot().created_at
    assert [[job.id for job in each] for each in pages(app, task="other")] == [[], [wanted]]
    assert [job.id for job in app.jobs(task="other", limit=WINDOW + 6)] == [wanted]  # so many may be looked at, then
    assert len(app.jobs(limit=WINDOW + 3)) == WINDOW + 3
    everything = app.jobs(limit=100_000)
    assert len(everything) == WINDOW + 6 and everything.next is None


def test_few_jobs_of_a_live_state_are_found_below_a_backlog(app: App, worker: Hands, conn: psycopg.Connection) -> None:
    made = {state: a_job(app, worker, state, queue=state) for state in ("running", "scheduled", "queued")}
    fill(conn, WINDOW, state="waiting")
    for state, job in made.items():
        for page in app.jobs(state=state), app.jobs(state=state, queue=state), app.jobs(state=state, since=3600):
            assert [each.id for each in page] == [job.id] and page.next is None
        assert app.jobs(state=state, queue="nobody") == app.jobs(state=state, after=job.id) == []


def test_of_many_below_a_backlog_some_are_shown_and_all_are_reached(app: App, conn: psycopg.Connection) -> None:
    old = fill(conn, STATE_WINDOW + 1)
    newest = fill(conn, WINDOW - 2, state="waiting")
    page = app.jobs(state="queued")
    assert len(page) == 100 and {job.id for job in page} < set(old) and page.looked_at == WINDOW
    assert page.next is not None
    assert page.looked_back_to == app.job(page.next).snapshot().created_at and page.next == old[1] < newest[-1]
    assert {job.id for each in pages(app, state="queued", limit=3000) for job in each} == set(old)


def test_since_is_created_for_live_jobs_and_finished_for_ended_ones(
    app: App, worker: Hands, conn: psycopg.Connection
) -> None:
    made = {state: a_job(app, worker, state).id for state in STATES}
    conn.execute("update pgqueue.job set created_at = now() - interval '2 hours'")
    conn.execute("update pgqueue.history set created_at = now() - interval '9 days'")
    ended = {made[state] for state in ENDED}
    for hour in (3600, timedelta(hours=1), datetime.now(UTC) - timedelta(hours=1)):
        assert {job.id for job in app.jobs(since=hour)} == ended
    assert {job.id for job in app.jobs(since=10_000)} == set(made.values())
    assert [job.id for job in app.jobs(state="dead", since=60)] == [made["dead"]] and app.jobs(
        state="queued", since=60
    ) == []
    conn.execute("update pgqueue.history set finished_at = now() - interval '30 hours'")
    assert app.jobs(since=86_400 / 2, state="succeeded") == [] and len(app.jobs(since=timedelta(days=2))) == len(STATES)
    assert app.jobs(since=datetime.now(UTC) + timedelta(days=400)) == []


def test_since_finds_what_clients_with_slow_clocks_made(app: App, conn: psycopg.Connection) -> None:
    slow = first_id(datetime.now(UTC) - timedelta(minutes=55))[:-1] + "1"
    conn.execute("insert into pgqueue.job (id, task) values (%s, 't')", [slow])
    for state in (None, "queued"):
        assert [job.id for job in app.jobs(since=60, state=state)] == [slow]


def test_a_list_in_the_callers_transaction_leaves_it_as_it_was(app: App, dsn: str) -> None:
    settings = "select current_setting('enable_sort'), current_setting('enable_seqscan')"
    for autocommit in (False, True):
        with psycopg.connect(dsn, autocommit=autocommit) as caller, app.using(caller):
            before = caller.execute(settings).fetchone()
            job = app.enqueue("t")
            assert job.id in [each.id for each in app.jobs()]
            assert caller.execute(settings).fetchone() == before
            caller.rollback()
            assert len(app.jobs()) == autocommit


def test_a_list_in_a_pipeline(app: App, dsn: str) -> None:
    app.enqueue("t")
    with psycopg.connect(dsn) as caller, app.using(caller), caller.pipeline():
        assert len(app.jobs()) == 1
