"""`pgqueue why`: each reason, produced for real."""

import json
from typing import Any

import psycopg
import pytest

from pgqueue import App, Job, db
from pgqueue.ops.why import span
from tests.hands import Hands
from tests.shell import Shell


@pytest.fixture
def worker(conn: psycopg.Connection, app: App) -> Hands:
    hands = Hands(conn, app.queries, queues=["default"])
    conn.execute("update pgqueue.worker set tasks = '{t}', concurrency = 3")
    return hands


def first(app: App, job: Job[Any]) -> str:
    return app.why(job.id).reasons[0]


def test_nobody_is_there(app: App) -> None:
    assert first(app, app.enqueue("t")) == "no worker is alive: start one with `pgqueue worker`"


def test_nobody_serves_the_queue(app: App, worker: Hands) -> None:
    assert first(app, app.enqueue("t", queue="mail")).startswith(
        "no live worker serves queue mail (1 worker serve others)"
    )


def test_nobody_knows_the_task(app: App, worker: Hands) -> None:
    assert first(app, app.enqueue("new")).startswith("no worker knows the task new (1 live worker serve the queue)")


def test_everybody_is_shutting_down(app: App, worker: Hands, conn: psycopg.Connection) -> None:
    conn.execute("update pgqueue.worker set state = 'draining'")
    assert first(app, app.enqueue("t")) == "every worker that could run it is shutting down"


def test_a_lease_that_ran_out_is_no_worker(app: App, worker: Hands, conn: psycopg.Connection) -> None:
    conn.execute("update pgqueue.worker set lease_until = now() - interval '1 second'")
    assert first(app, app.enqueue("t")).startswith("no worker is alive")


def test_the_queue_is_paused(app: App, worker: Hands) -> None:
    app.pause("default")
    assert "queue default is paused, since 0." in first(app, app.enqueue("t"))


def test_it_is_not_due(app: App, worker: Hands) -> None:
    assert "not due before 2 h from now: scheduled" in first(app, app.enqueue("t", delay=8000))


def test_it_waits_for_another_try(app: App, worker: Hands) -> None:
    job = app.enqueue("t")
    worker.settle(worker.claim()[0], "scheduled", "no luck", delay_s=300)
    assert first(app, job).startswith("it is not due before 5 min from now: attempt 1 failed 0.")
    assert "(exception: no luck)" in first(app, job)


def test_a_worker_of_other_code_gave_it_back(app: App, worker: Hands, conn: psycopg.Connection) -> None:
    said = (
        "released 0.0 s ago by a worker whose code does not take its arguments: it waits for a worker with other code"
    )
    new = Hands(conn, app.queries, queues=["default"])
    conn.execute("update pgqueue.worker set tasks = '{t}', code = id::text")
    job = app.enqueue("t")
    (claimed,) = worker.claim()
    db.run(conn, app.queries.hand_back(worker=worker.id, job_id=claimed.id, token=claimed.token))
    due, given_back = app.why(job.id).reasons
    assert due in ("it is not due before 1.0 s from now", "it is not due before 0.9 s from now")
    assert given_back.split(" ago ")[1] == said.split(" ago ")[1] and given_back.startswith("it was first released 0.")
    conn.execute("update pgqueue.job set run_at = now()")
    assert "it waits for a worker with other code" in first(app, job), "due, and not yet promoted"
    conn.execute("update pgqueue.job set state = 'queued'")
    assert first(app, job).startswith("it is next in line")
    (claimed,) = new.claim()
    new.settle(claimed, "scheduled", "no luck", delay_s=300)
    assert "no luck" in first(app, job) and "released" not in str(app.why(job.id).reasons)


def test_others_come_first(app: App, worker: Hands) -> None:
    for _ in range(3):
        app.enqueue("t", priority=5)
    app.enqueue("t")
    job = app.enqueue("t", expires=100)
    assert app.why(job.id).reasons == [
        "it waits behind 3 jobs of higher priority and 1 earlier job of priority 0, for 3 slots at 1 worker",
        "it expires in 100 s",
    ]


def test_it_is_next(app: App, worker: Hands) -> None:
    assert first(app, app.enqueue("t")).startswith("it is next in line: 3 slots at 1 worker")


def test_what_holds_the_places_and_for_how_long(app: App, worker: Hands, conn: psycopg.Connection) -> None:
    for _ in range(3):
        app.enqueue("shop.slow")
    worker.claim()
    job = app.enqueue("t")
    assert app.why(job.id).reasons == ["it is next in line: 3 slots at 1 worker, all busy, or it starts now"], (
        "they may only have been claimed ahead"
    )
    conn.execute("update pgqueue.job set started_at = now() - interval '250 s' where state = 'running'")
    assert app.why(job.id).reasons[1] == "all 3 slots of worker by hand are held by shop.slow, for 4 min"
    conn.execute("update pgqueue.job set task = 'shop.slower' where id = (select min(id::text)::uuid from pgqueue.job)")
    said = "all 3 slots of worker by hand are held by shop.slow and 1 other task, for 4 min"
    assert app.why(job.id).reasons[1] == said
    conn.execute("update pgqueue.worker set concurrency = 1")
    said = "worker by hand runs 3 jobs of shop.slow and 1 other task, and has begun no other for 4 min"
    assert app.why(job.id).reasons[1] == said
    conn.execute("update pgqueue.worker set concurrency = 4")
    assert len(app.why(job.id).reasons) == 1, "there is a free place"


def test_the_one_place(app: App, worker: Hands, conn: psycopg.Connection) -> None:
    app.enqueue("shop.slow")
    worker.claim()
    conn.execute("update pgqueue.job set started_at = now() - interval '3 h'")
    conn.execute("update pgqueue.worker set concurrency = 1")
    job = app.enqueue("t")
    assert app.why(job.id).reasons[1] == "the slot of worker by hand is held by shop.slow, for 3 h"


def test_it_runs(app: App, worker: Hands, conn: psycopg.Connection) -> None:
    job = app.enqueue("t")
    worker.claim()
    conn.execute("update pgqueue.job set progress = 0.5, progress_note = 'halfway', crashes = 2")
    job.cancel()
    found = app.why(job.id)
    assert found.state == "running" and found.reasons[0].startswith("worker by hand runs it, since 0.")
    assert ": 50% halfway; its lease is valid for 60 min" in found.reasons[0]
    assert found.reasons[1].startswith("cancellation was requested")
    assert found.reasons[2].startswith("it crashed its process 2 times")


@pytest.mark.parametrize("how", ["dead", "gone"])
def test_its_worker_is_gone(app: App, worker: Hands, conn: psycopg.Connection, how: str) -> None:
    job = app.enqueue("t")
    worker.claim()
    conn.execute("update pgqueue.worker set state = 'dead'" if how == "dead" else "delete from pgqueue.worker")
    said = first(app, job)
    assert "is gone: the next heartbeat" in said if how == "dead" else "pgqueue doctor --fix" in said


@pytest.mark.parametrize(
    ("state", "error", "said"),
    [
        ("dead", "boom", "it was given up at 20"),
        ("dead", "quarantined: its process died 3 times", "it is quarantined: its process died 3 times"),
        ("cancelled", "no longer wanted", ": no longer wanted"),
    ],
)
def test_it_ended(app: App, worker: Hands, state: str, error: str, said: str) -> None:
    job = app.enqueue("t")
    worker.settle(worker.claim()[0], state, error)
    assert said in first(app, job)


def test_it_succeeded(app: App, worker: Hands) -> None:
    job = app.enqueue("t")
    worker.run_all()
    assert first(app, job).startswith("it succeeded at 20")


def test_on_the_command_line(app: App, dsn: str, shell: Shell) -> None:
    job = app.enqueue("t")
    done = shell.text("why", job.id, "--json", dsn=dsn)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"id": job.id, "state": "queued", "reasons": [first(app, job)]}


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59, "59 s"), (130, "2 min"), (7300, "2 h"), (200_000, "2 d")]
)
def test_spans(seconds: float, text: str) -> None:
    assert span(seconds) == text
