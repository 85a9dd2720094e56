"""Django's Tasks in the process that enqueues: one INSERT in the caller's transaction, and results read back."""

from datetime import timedelta
from typing import Any

from django.db import connection
from django.test import TestCase

from pgqueue.contrib.django.api import (
    TaskResultStatus,
)
from tests.django.website.shop import tasks


def rows() -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(
            "select id::text, task, queue, priority, args, kwargs, max_attempts, timeout_s from pgqueue.job order by seq"
        )
        return list(cursor.fetchall())


class Enqueue(TestCase):
    def test_a_job_is_one_statement(self) -> None:
        with self.assertNumQueries(1):
            result = tasks.add.enqueue(1, y=2)
        self.assertEqual(
            rows(), [(result.id, "tests.django.website.shop.tasks.add", "default", 0, "[1]", '{"y":2}', None, None)]
        )

    def test_what_it_returns_is_what_is_read(self) -> None:
        result = tasks.send.enqueue("me")
        read = tasks.send.get_result(result.id)
        self.assertEqual((result.status, read.status), (TaskResultStatus.READY, TaskResultStatus.READY))
        self.assertEqual((read.task, read.args, read.kwargs, read.backend), (tasks.send, ["me"], {}, "default"))
        self.assertEqual((read.errors, read.worker_ids, read.attempts), ([], [], 0))
        self.assertIsNone(read.started_at or read.finished_at or read.last_attempted_at)
        assert result.enqueued_at and read.enqueued_at
        self.assertLess(abs(result.enqueued_at - read.enqueued_at), timedelta(seconds=5))
        self.assertFalse(read.is_finished)
        with self.assertRaisesRegex(ValueError, "not finished"):
            _ = read.return_value
