"""The app of the shop: writes down what it hears of its tasks, where it is told to."""

import json
import os
import sys
from typing import Any

from django.apps import AppConfig

from pgqueue.contrib.django.api import TaskResultStatus, task_finished, task_started


class ShopConfig(AppConfig):
    name = "tests.django.website.shop"

    def ready(self) -> None:
        if "SITE_SIGNALS" in os.environ:
            task_started.connect(started)
            task_finished.connect(finished)


def started(sender: Any, task_result: Any, **_: Any) -> None:
    write("started", task_result)


def finished(sender: Any, task_result: Any, **_: Any) -> None:
    write("finished", task_result)
    if task_result.task.name == "add":
        raise RuntimeError("a receiver that is broken")


def write(what: str, result: Any) -> None:
    successful = result.status == TaskResultStatus.SUCCESSFUL
    error = sys.exc_info()[0]
    told = {
        "what": what, "task": result.task.name, "id": result.id, "status": result.status, "attempts": result.attempts,
        "errors": [error.exception_class_path for error in result.errors], "value": result.return_value if successful else None,
        "finished": result.finished_at is not None, "exception": error and error.__qualname__,
    }  # fmt: skip
    with open(os.environ["SITE_SIGNALS"], "a") as file:
        file.write(f"{json.dumps(told)}\n")
