"""Statements of Django's Tasks."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from pgqueue.queries.statement import Statement, Texts


class TaskRow(NamedTuple):
    """A job and its failed attempts, in the column order of result.sql; what is plural has an item for each attempt."""

    state: str
    task: str
    queue: str
    priority: int
    args: str
    kwargs: str
    created_at: datetime
    run_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    worker: str | None
    result: str | None
    error: str | None
    workers: Sequence[str | None]
    starts: Sequence[datetime | None]
    causes: Sequence[str]
    errors: Sequence[str]
    tracebacks: Sequence[str | None]


class DjangoQueries(Texts):
    """The files of sql/django."""

    def task_result(self, job_id: str) -> Statement[TaskRow]:
        return self._say("django/result", TaskRow, id=job_id)
