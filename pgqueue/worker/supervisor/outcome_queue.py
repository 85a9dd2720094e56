"""What is still to be written down: outcomes and progress on their way to the finisher, which alone takes them out."""

import asyncio
from collections.abc import Sequence

from pgqueue.job import Outcome

BATCH = 1000  # outcomes in one statement: about 10 ms of the server's time
BATCH_BYTES = 2_000_000  # of texts in one statement, and the most that may wait before no more jobs are claimed

Report = tuple[str, int, float | None, str | None]  # job, token, fraction, note


class OutcomeQueue:
    """`came` is set when there is something new."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.reports: dict[str, Report] = {}
        self.came = asyncio.Event()
        self._bytes = 0  # of texts, here and being written

    def deliver(self, outcomes: Sequence[Outcome]) -> None:
        """Outcomes, which are written soon."""
        self.outcomes += outcomes
        self._bytes += sum(map(_size, outcomes))
        self.came.set()

    def report(self, job_id: str, token: int, fraction: float | None, note: str | None) -> None:
        """A progress report; the latest of a job is written soon."""
        self.reports[job_id] = job_id, token, fraction, note
        self.came.set()

    @property
    def full(self) -> bool:
        """More waits to be written than should be added to: large results come faster than the database takes them."""
        return self._bytes > BATCH_BYTES

    def take_batch(self) -> Sequence[Outcome]:
        """Take out the next outcomes: at least one if there is any, and no more than a statement should carry."""
        count = min(len(self.outcomes), BATCH)
        if self.full:
            size, count = 0, 0
            for outcome in self.outcomes[:BATCH]:
                size += _size(outcome)
                if count and size > BATCH_BYTES:
                    break
                count += 1
        batch, self.outcomes = self.outcomes[:count], self.outcomes[count:]
        return batch

    def put_back(self, batch: Sequence[Outcome]) -> None:
        """What was taken out and could not be written comes first again."""
        self.outcomes[:0] = batch

    def take_reports(self) -> dict[str, Report]:
        """Take out all progress reports."""
        reports, self.reports = self.reports, {}
        return reports

    def put_reports_back(self, reports: dict[str, Report]) -> None:
        """But for those that newer ones have replaced."""
        self.reports = reports | self.reports

    def settled(self, outcomes: Sequence[Outcome]) -> bool:
        """Of these nothing is left to be written. True: it was full, and is no longer."""
        was_full, self._bytes = self.full, self._bytes - sum(map(_size, outcomes))
        return was_full and not self.full

    def forget(self, *, writing: Sequence[Outcome]) -> None:
        """Drop everything but what is being written: the worker was declared dead, and nothing of this would count."""
        self.outcomes.clear()
        self.reports.clear()
        self._bytes = sum(map(_size, writing))


def _size(outcome: Outcome) -> int:
    try:
        return len(outcome.result or "") + len(outcome.traceback or "")
    except TypeError:  # no texts: the database will refuse them
        return 0
