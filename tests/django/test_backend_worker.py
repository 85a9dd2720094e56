"""Django's Tasks and pgqueue's own in one real worker."""

import json
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.conftest import Worker, eventually
from tests.django.projects import WORKER, environment, script

ERRORS = "tests.django.website.shop.errors"
TOLD = """
import json, time
import pgqueue
from tests.django.website.shop import tasks

def until(what, result):
    deadline = time.monotonic() + 30
    while not what(result):
        assert time.monotonic() < deadline, result
        time.sleep(0.01)
        result.refresh()
    return result

def ended(*results):
    return [until(lambda each: each.is_finished, result) for result in results]

def again(result):
    "Do not wait for the time of the next attempt."
    until(lambda each: each.status == "READY" and each.errors, result)
    assert pgqueue.app.job(result.id).retry()
    return result

def told(result):
    return {
        "status": result.status, "value": result.return_value if result.status == "SUCCESSFUL" else None,
        "attempts": result.attempts, "workers": sorted(set(result.worker_ids)),
        "errors": [error.exception_class_path for error in result.errors],
        "classes": [error.exception_class.__qualname__ for error in result.errors],
        "traces": [error.traceback for error in result.errors],
        "in order": result.enqueued_at <= result.started_at <= result.last_attempted_at <= result.finished_at,
        "again": result.started_at < result.last_attempted_at,
    }
"""


@pytest.fixture
def heard(tmp_path: Path) -> Path:
    return tmp_path / "signals"


@pytest.fixture
def worker(dsn: str, start_worker: Callable[..., Worker], heard: Path) -> Worker:
    env = {**environment(dsn), "SITE_SIGNALS": str(heard), "SITE_CONN_MAX_AGE": "none"}
    return start_worker("-c", "1", app=WORKER, env=env).ready()


def test_both_kinds_in_one_worker(dsn: str, worker: Worker) -> None:
    code = """
job = tasks.native.defer(1)
results = ended(
    tasks.add.enqueue(2, 3), tasks.slowly.enqueue("async"), tasks.context_of.enqueue(), tasks.plain.enqueue("2026-01-01", ["a"])
)
print(json.dumps([job.result(10), [told(each) for each in results], results[2].id]))
"""
    native, (added, slow, context, plain), job_id = script(dsn, TOLD + code)
    assert native == 2 and added["value"] == 5 and slow["value"] == "ASYNC"
    assert context["value"] == [1, job_id, "RUNNING"] and plain["value"] == ["2026-01-01", ["a"]]
    for each in added, slow, context, plain:
        assert each["status"] == "SUCCESSFUL" and each["attempts"] == 1 and each["in order"] and not each["again"]
        assert each["errors"] == [] and worker.process.pid == int(each["workers"][0].split(":")[1])


def test_attempts_and_errors(dsn: str, worker: Worker) -> None:
    code = """
once = tasks.fails.using(max_attempts=1)
results = ended(
    again(tasks.twice.enqueue(name="tea")), again(tasks.fails.enqueue("validation")), once.enqueue("effect"),
    once.enqueue("builtin"), once.enqueue("cancel"), tasks.no_json.using(max_attempts=1).enqueue(),
)
print(json.dumps([told(each) for each in results]))
"""
    twice, validation, effect, builtin, cancelled, no_json = script(dsn, TOLD + code)
    assert twice["value"] == {"attempt": 2, "status": "RUNNING", "errors": [f"{ERRORS}.SoldOut"]}
    assert twice["status"] == "SUCCESSFUL" and twice["attempts"] == 2 and twice["again"] and twice["in order"]
    assert "no tea\nat all" in twice["traces"][0] and "in twice" in twice["traces"][0]
    assert validation["status"] == "FAILED" and validation["attempts"] == 2
    assert validation["errors"] == ["django.core.exceptions.ValidationError"] * 2
    assert (
        effect["errors"] == [f"{ERRORS}.SoldOut"]
        and "the cause" in effect["traces"][0]
        and effect["classes"] == ["SoldOut"]
    )
    assert builtin["errors"] == ["builtins.ValueError"] and builtin["classes"] == ["ValueError"]
    assert cancelled["status"] == "FAILED" and cancelled["errors"] == ["pgqueue.errors.JobCancelled"]
    assert cancelled["traces"] == ["not needed any longer"]
    assert no_json["errors"] == ["builtins.TypeError"] and "Unsupported type" in no_json["traces"][0]


def test_signals_say_what_has_become_of_it(dsn: str, worker: Worker, heard: Path) -> None:
    code = """
results = []
for enqueue in (
    lambda: tasks.native.defer(1), lambda: tasks.add.enqueue(2), lambda: tasks.slowly.enqueue("x"),
    lambda: again(tasks.twice.enqueue("tea")), lambda: tasks.fails.using(max_attempts=1).enqueue("builtin"),
    lambda: tasks.fails.enqueue("cancel"), lambda: tasks.again_later.enqueue(),
):
    job = enqueue()
    job.result(30) if hasattr(job, "result") else ended(job)
print("[]")
"""
    script(dsn, TOLD + code)
    lines = [json.loads(line) for line in heard.read_text().splitlines()]
    found = [(each["what"], each["task"], each["status"], each["attempts"], each["value"]) for each in lines]
    told = {"attempt": 2, "status": "RUNNING", "errors": [f"{ERRORS}.SoldOut"]}
    assert found == [
        ("started", "add", "RUNNING", 1, None),
        ("finished", "add", "SUCCESSFUL", 1, 3),
        ("started", "slowly", "RUNNING", 1, None),
        ("finished", "slowly", "SUCCESSFUL", 1, "X"),
        ("started", "twice", "RUNNING", 1, None),
        ("finished", "twice", "READY", 1, None),
        ("started", "twice", "RUNNING", 2, None),
        ("finished", "twice", "SUCCESSFUL", 2, told),
        ("started", "fails", "RUNNING", 1, None),
        ("finished", "fails", "FAILED", 1, None),
        ("started", "fails", "RUNNING", 1, None),
        ("finished", "fails", "FAILED", 1, None),
        ("started", "again_later", "RUNNING", 1, None),
        ("finished", "again_later", "READY", 1, None),
        ("started", "again_later", "RUNNING", 1, None),
        ("finished", "again_later", "SUCCESSFUL", 1, 2),
    ]
    assert [each["finished"] for each in lines] == [each["status"] in ("SUCCESSFUL", "FAILED") for each in lines]
    assert [each["exception"] for each in lines if each["exception"]] == ["SoldOut", "ValueError", "Cancel", "Snooze"]
    assert [each["errors"] for each in lines if each["errors"]] == [
        *[[f"{ERRORS}.SoldOut"]] * 3, ["builtins.ValueError"], ["pgqueue.errors.JobCancelled"],
    ]  # fmt: skip


def test_a_session_that_was_cut_between_jobs_costs_nothing(dsn: str, worker: Worker, conn: psycopg.Connection) -> None:
    session = script(dsn, f"{TOLD}print(json.dumps(ended(tasks.session.enqueue())[0].return_value))")
    assert conn.execute("select pg_terminate_backend(%s)", [session]).fetchone() == (True,)
    eventually(
        lambda: not conn.execute("select from pg_stat_activity where pid = %s", [session]).fetchall(), what="its end"
    )
    other, attempts = script(
        dsn, f"{TOLD}(end,) = ended(tasks.session.enqueue())\nprint(json.dumps([end.return_value, end.attempts]))"
    )
    assert other != session and attempts == 1
