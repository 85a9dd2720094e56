"""A deploy in steps: workers of two versions of an application at once, on one database."""

import time
from collections.abc import Callable

import psycopg

from pgqueue import App
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
