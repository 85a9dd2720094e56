"""A deploy in steps: workers of two versions of an application at once, on one database."""

import signal
import time
from collections.abc import Callable

import psycopg
import pytest

from pgqueue import App, JobDead
from tests.conftest import Worker, eventually
from tests.faults.conftest import Figure

OLD, NEW = "tests.faults.versions.old", "tests.faults.versions.new"


def test_f57_a_rolling_deploy_fails_no_job(
    app: App, start_worker: Callable[..., Worker], conn: psycopg.Connection, figure: Figure
) -> None:
    olds = [start_worker("-c", "1", app=OLD).ready() for _ in range(2)]
    jobs = [(app.enqueue("shop.part", args=["before"]), "goodbye before")]  # the web processes were deployed first
    olds[0].said("this app has no task named 'shop.part'")
    began = time.monotonic()
    for old in olds:
        for number in range(50):
            jobs.append((app.enqueue("shop.greet", args=[number]), f"hello {number}"))
            jobs.append((app.enqueue("shop.part", args=[number]), f"goodbye {number}"))
        if old is olds[0]:
            assert jobs[1][0].result(30) == "hello 0"
            assert {job.state for job, _ in jobs if job.snapshot().task == "shop.part"} == {"queued"}
            start_worker("-c", "1", app=NEW).ready()
        assert old.stop() == 0
    assert [job.result(30) for job, _ in jobs] == [result for _, result in jobs]
    figure(f"{len(jobs)} jobs over two deploys in", time.monotonic() - began, "s", at_most=10)
    eventually(lambda: conn.execute("select count(*) from pgqueue.job").fetchone() == (0,), what="nothing is left")
    skewed = "select count(*) from pgqueue.history where state <> 'succeeded' or attempt > 1 or crashes > 0"
    ((failed,),) = conn.execute(skewed).fetchall()
    figure("failed for the deploy", failed, "", at_most=0)
    assert conn.execute("select count(*) from pgqueue.attempt").fetchone() == (0,)
    ran = "select worker from pgqueue.history where task = "
    took_part = f"select count(*) from ({ran} 'shop.greet' intersect {ran} 'shop.part') as new"
    assert conn.execute(took_part).fetchone() == (1,)


def test_f57_an_argument_that_old_workers_do_not_know_costs_nothing(
    app: App, start_worker: Callable[..., Worker], conn: psycopg.Connection, figure: Figure
) -> None:
    old, new = (start_worker("-c", "1", "-l", "info", app=version).ready() for version in (OLD, NEW))
    jobs = []
    for number in range(40):
        jobs.append((app.enqueue("shop.shout", [f"a{number}"], {"loudly": True}), f"A{number}!"))
        jobs.append((app.enqueue("shop.shout", [f"a{number}"]), f"a{number}!"))
        jobs.append((app.enqueue("shop.whisper", ["b"], {"softly": True}), ""))
    assert old.said("is released for 1.0 s to workers with other code: SignatureChanged: shop.")
    began = time.monotonic()
    assert [job.result(60) for job, _ in jobs] == [result for _, result in jobs]
    figure("taken by new code after", time.monotonic() - began, "s", at_most=20)
    assert conn.execute("select count(*) from pgqueue.attempt").fetchone() == (0,)
    assert conn.execute("select distinct state::text, attempt, crashes from pgqueue.history").fetchall() == [
        ("succeeded", 1, 0)
    ]
    assert "failed" not in old.output and new.stop() == 0
    # What no live worker can take is a failed attempt, by the task's policy.
    shout = app.enqueue("shop.shout", ["a"], {"loudly": True})
    whisper = app.enqueue("shop.whisper", ["b"], {"softly": True})
    wrong = "signature changed: stored \\({0}\\), task takes \\(name\\)"
    for job in shout, whisper:
        with pytest.raises(JobDead, match=wrong.format("name, (loudly|softly)")):
            job.result(30)
    failed = conn.execute("select task, attempt, cause, left(error, 17) from pgqueue.attempt order by task, attempt")
    assert failed.fetchall() == [
        ("shop.shout", 1, "arguments", "SignatureChanged:"),
        ("shop.whisper", 1, "arguments", "SignatureChanged:"),
        ("shop.whisper", 2, "arguments", "SignatureChanged:"),
    ]


def test_f57_after_an_hour_it_is_a_failed_attempt(
    app: App, start_worker: Callable[..., Worker], conn: psycopg.Connection
) -> None:
    old, new = (start_worker("-c", "1", "-l", "info", app=version).ready() for version in (OLD, NEW))
    new.process.send_signal(signal.SIGSTOP)  # it lives, and takes nothing
    job = app.enqueue("shop.shout", ["a"], {"loudly": True})
    old.said(f"job {job.id} (shop.shout) is released for 1.0 s")
    conn.execute("update pgqueue.job set handed_back_at = handed_back_at - interval '1 hour'")
    with pytest.raises(JobDead, match="signature changed"):
        job.result(30)
    assert conn.execute("select attempt, cause from pgqueue.attempt").fetchall() == [(1, "arguments")]


def test_f57_workers_of_the_same_code_say_so(
    app: App, start_worker: Callable[..., Worker], conn: psycopg.Connection
) -> None:
    start_worker("-c", "1", "-l", "info", app=OLD).ready()
    fingerprints = "select count(distinct code), count(code) from pgqueue.worker"
    assert conn.execute(fingerprints).fetchone() == (1, 1)
    start_worker("-c", "1", "-l", "info", app=OLD).ready()
    assert conn.execute(fingerprints).fetchone() == (1, 2)
    start_worker("-c", "1", "-l", "info", app=NEW).ready()
    assert conn.execute(fingerprints).fetchone() == (2, 3)
