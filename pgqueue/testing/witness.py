"""One attempt, as a worker makes it, that keeps what a test wants to see of it."""

import asyncio
import json
from typing import Any

from pgqueue.app import App
from pgqueue.context import parted
from pgqueue.job import Claimed, Outcome
from pgqueue.testing.awaited import DrainedJob
from pgqueue.worker.child.executor import Attempt


class Witness(Attempt):
    """Keeps the exception itself, and the result as it was stored, which an atomic task's outcome does not carry."""

    def __init__(self, job: Claimed, app: App, *, worker: str) -> None:
        self.reports: list[tuple[float | None, str | None]] = []
        headers, own = parted(json.loads(job.headers) if job.headers else {})
        self.seen = DrainedJob(
            job.id, job.token, job.task, job.queue, job.attempt, headers,
            lambda fraction, note: self.reports.append((fraction, note)), own_headers=own,
        )  # fmt: skip
        super().__init__(job, app.tasks[job.task], self.seen, worker=worker)
        self.error: BaseException | None = None
        self.stored: str | None = None

    def failed(self, error: BaseException) -> Outcome:
        self.error = self._why_cancelled(error) if isinstance(error, asyncio.CancelledError) else error
        return super().failed(error)

    def _encode(self, value: object) -> str | None:
        self.stored = super()._encode(value)
        return self.stored

    @property
    def result(self) -> Any:
        """What the task returned, through JSON and back; None where nothing is kept or it failed."""
        return None if self.stored is None else self.task.codec.decode_result(self.stored)

    @property
    def timeout_s(self) -> float | None:
        """Seconds that it may take."""
        return self.job.timeout_s or self.task.timeout_s
