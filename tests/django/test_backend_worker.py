"""Django's Tasks and pgqueue's own in one real worker."""

from collections.abc import Callable

import pytest

from tests.conftest import Worker
from tests.django.projects import WORKER, environment, script

WAIT = """
import json, time
from tests.django.website.shop import tasks

def ended(*results):
    deadline = time.monotonic() + 30
    while any(not result.is_finished for result in results):
        assert time.monotonic() < deadline, results
        time.sleep(0.02)
        for result in results:
            result.refresh()
    return results

def told(result):
    return {
        "status": result.status, "value": result.return_value if result.status == "SUCCESSFUL" else None,
        "attempts": result.attempts, "errors": [[e.exception_class_path, e.traceback] for e in result.errors],
        "classes": [e.exception_class.__qualname__ for e in result.errors],
    }
"""


@pytest.fixture
def worker(dsn: str, start_worker: Callable[..., Worker]) -> Worker:
    return start_worker("-c", "1", app=WORKER, env=environment(dsn)).ready()


def test_both_kinds_in_one_worker(dsn: str, worker: Worker) -> None:
    code = """
job = tasks.native.defer(1)
results = ended(
    tasks.add.enqueue(2, 3), tasks.slowly.enqueue("async"), tasks.context_of.enqueue(), tasks.plain.enqueue("2026-01-01", ["a"])
)
print(json.dumps([job.result(10), [told(each) for each in results], results[2].id]))
"""
    native, (added, slow, context, plain), job_id = script(dsn, WAIT + code)
    assert native == 2 and added["value"] == 5 and slow["value"] == "ASYNC"
    assert context["value"] == [1, job_id, "RUNNING"] and plain["value"] == ["2026-01-01", ["a"]]
