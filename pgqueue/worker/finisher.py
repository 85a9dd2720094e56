"""Write down how attempts ended, in batches: while one batch travels the next one gathers.

An outcome counts only if the database still gives this worker and this claim token the job; what does not come back
belongs to somebody else by now. Outcomes are kept through a loss of the database and written when it is back: if the
lease stood that long they count, else they are refused, and in both cases nothing runs twice unseen.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from pgqueue.job import Outcome, State, Verdict
from pgqueue.queries import Queries
from pgqueue.worker.line import Line, Patience, Trouble

logger = logging.getLogger("pgqueue.worker")

BATCH = 1000  # outcomes in one statement: about 10 ms of the server's time
BATCH_BYTES = 2_000_000  # of texts in one statement, and the most that may wait before no more jobs are claimed

# What a verdict makes of the row: the state, whether the attempt is given back, whether it counts as a crash.
AFTER = {
    Verdict.RETRY: (State.SCHEDULED, 0, 0),
    Verdict.SNOOZE: (State.SCHEDULED, 1, 0),
    Verdict.RELEASE: (State.QUEUED, 1, 0),
    Verdict.CRASH: (State.QUEUED, 1, 1),
    Verdict.QUARANTINE: (State.DEAD, 1, 1),
    Verdict.DEAD: (State.DEAD, 0, 0),
    Verdict.CANCELLED: (State.CANCELLED, 0, 0),
}


_LEVELS = {State.DEAD: logging.ERROR, State.CANCELLED: logging.INFO}


class Finisher:
    """Takes outcomes at any time and writes them for ever. `counts` adds up what was recorded, by kind."""

    def __init__(
        self,
        line: Line,
        queries: Queries,
        *,
        worker: Callable[[], str],
        worker_name: str,
        due_in: Callable[[float], None],
        give_way: Callable[[str, float], None],
        on_room: Callable[[], None],
    ) -> None:
        self._line = line
        self._queries = queries
        self._worker = worker
        self._worker_name = worker_name
        self._due_in = due_in
        self._give_way = give_way
        self._on_room = on_room
        self._pending: list[Outcome] = []
        self._bytes = 0  # of texts, pending and being written
        self._progress: dict[str, tuple[int, float | None, str | None]] = {}
        self._writing: Sequence[Outcome] = ()
        self._repeated = False  # the batch was sent before, and its answer may have been lost
        self._came = asyncio.Event()
        self.counts: Counter[str] = Counter()

    def deliver(self, outcomes: Sequence[Outcome]) -> None:
        """Take outcomes; they are written soon."""
        self._pending += outcomes
        self._bytes += sum(map(_size, outcomes))
        self._came.set()

    def report(self, job_id: str, token: int, fraction: float | None, note: str | None) -> None:
        """Take a progress report; the latest of a job is written soon."""
        self._progress[job_id] = token, fraction, note
        self._came.set()

    def holds(self) -> set[str]:
        """The jobs whose outcome is not yet recorded."""
        return {outcome.job_id for outcome in (*self._pending, *self._writing)}

    @property
    def full(self) -> bool:
        """More waits to be written than should be added to: large results come faster than the database takes them."""
        return self._bytes > BATCH_BYTES

    @property
    def idle(self) -> bool:
        """Everything is written."""
        return not self._pending and not self._writing

    def forget(self) -> None:
        """Drop what is pending: the worker was declared dead, and nothing of this would count."""
        self._pending.clear()
        self._progress.clear()
        self._bytes = sum(map(_size, self._writing))

    async def run(self) -> None:
        """Write for ever, batch after batch."""
        patience = Patience(self._line.troubles)
        while True:
            await self._came.wait()
            self._came.clear()
            while self._pending or self._progress:
                self._take_batch()
                try:
                    await self._write()
                    self._repeated = False
                    patience.passed()
                except Trouble as error:
                    self._pending[:0] = self._writing
                    self._repeated = True
                    await patience.wait("recording results", error)
                finally:
                    self._writing = ()

    def _take_batch(self) -> None:
        """Begin with the next outcomes: at least one, and no more than a statement should carry."""
        count, size = 0, 0
        for outcome in self._pending[:BATCH]:
            size += _size(outcome)
            if count and size > BATCH_BYTES:
                break
            count += 1
        self._writing, self._pending = self._pending[:count], self._pending[count:]

    async def _write(self) -> None:
        """Write what stands in _writing, kind by kind; what a failure leaves there is tried again."""
        await self._write_progress()
        for outcome in self._of(Verdict.UNSURE):
            await self._resolve(outcome)
            self._written([outcome])
        for outcome in self._of(Verdict.MISFIT):
            await self._hand_back(outcome)
        for write, kinds in ((self._finish, [Verdict.SUCCEEDED]), (self._settle, list(AFTER))):
            if outcomes := self._of(*kinds):
                await write(outcomes)
                self._written(outcomes)
        self.counts["succeeded"] += len(self._of(Verdict.COMMITTED))
        for outcome in self._of(Verdict.LOST):
            _tell_lost(outcome)

    def _of(self, *kinds: Verdict) -> list[Outcome]:
        return [outcome for outcome in self._writing if outcome.verdict in kinds]

    def _written(self, outcomes: Sequence[Outcome]) -> None:
        was_full, self._bytes = self.full, self._bytes - sum(map(_size, outcomes))
        if was_full and not self.full:
            self._on_room()
        attempts = {(outcome.job_id, outcome.token) for outcome in outcomes}
        self._writing = [outcome for outcome in self._writing if (outcome.job_id, outcome.token) not in attempts]

    async def _finish(self, done: Sequence[Outcome]) -> None:
        done = sorted(done)  # by id: two statements that lock the same rows take them in one order
        rows = await self._line.run(
            self._queries.finish(
                worker=self._worker(),
                ids=[outcome.job_id for outcome in done],
                tokens=[outcome.token for outcome in done],
                results=[outcome.result for outcome in done],
            )
        )
        self.counts["succeeded"] += len(rows)
        if len(rows) < len(done):
            await self._account_for(done, rows, recorded=self._repeated)

    async def _settle(self, ended: Sequence[Outcome]) -> None:
        rows = await self._line.run(
            self._queries.settle(worker=self._worker(), worker_name=self._worker_name, columns=_columns(ended))
        )
        settled = {row[0]: row[1:3] for row in rows}
        for outcome in ended:
            if outcome.job_id in settled:
                self._count(outcome, *settled[outcome.job_id])
        if len(rows) < len(ended):
            await self._account_for(ended, rows, recorded=self._repeated)

    def _count(self, outcome: Outcome, state: str, task: str) -> None:
        if outcome.cause is not None:
            self.counts["failed"] += 1
        if state in (State.SCHEDULED, State.QUEUED):  # the doorbell is rung for others only
            self._due_in(outcome.delay_s)
        if state in (State.DEAD, State.CANCELLED):
            self.counts[state] += 1
            logger.log(_LEVELS[State(state)], "job %s (%s) is %s: %s", outcome.job_id, task, state, outcome.error)
        elif outcome.cause is not None:
            logger.info("job %s (%s) failed, again in %.1f s: %s", outcome.job_id, task, outcome.delay_s, outcome.error)

    async def _resolve(self, outcome: Outcome) -> None:
        """An atomic task's COMMIT got no answer. If the row still stands as ours it did not happen, and the attempt failed."""
        rows = await self._line.run(
            self._queries.revoke(worker=self._worker(), job_id=outcome.job_id, token=outcome.token)
        )
        if rows:
            await self._settle([outcome._replace(token=rows[0][0], verdict=outcome.otherwise or Verdict.DEAD)])
        else:
            await self._account_for([outcome], rows, recorded=True)

    async def _hand_back(self, outcome: Outcome) -> None:
        """Our code does not take the arguments. Where no other worker's may, the attempt failed and is settled with the others."""
        rows = await self._line.run(
            self._queries.hand_back(worker=self._worker(), job_id=outcome.job_id, token=outcome.token)
        )
        if rows:
            task, delay_s = rows[0]
            logger.info(
                "job %s (%s) is given back for %.1f s to workers with other code: %s",
                outcome.job_id, task, delay_s, outcome.error,
            )  # fmt: skip
            self._give_way(task, delay_s)
            self._written([outcome])
        else:
            failed = outcome._replace(verdict=outcome.otherwise or Verdict.DEAD)
            self._writing = [failed if other is outcome else other for other in self._writing]

    async def _write_progress(self) -> None:
        reports, self._progress = self._progress, {}
        if reports:
            ids = sorted(reports)
            tokens, fractions, notes = zip(*(reports[id_] for id_ in ids), strict=True)
            await self._line.run(
                self._queries.progress(
                    worker=self._worker(), ids=ids, tokens=list(tokens), fractions=list(fractions), notes=list(notes)
                )
            )

    async def _account_for(self, batch: Sequence[Outcome], rows: Sequence[Sequence[Any]], *, recorded: bool) -> None:
        """Tell of outcomes that were refused. recorded: they may be, by a statement or a COMMIT whose answer was lost."""
        kept = {row[0] for row in rows}
        missing = [outcome for outcome in batch if outcome.job_id not in kept]
        if recorded:
            found = await self._line.run(
                self._queries.recorded(
                    worker=self._worker(),
                    ids=[outcome.job_id for outcome in missing],
                    tokens=[outcome.token for outcome in missing],
                    kept=[outcome.keeps for outcome in missing],
                )
            )
            for job_id, state in found:
                kept.add(job_id)
                self.counts[state] += 1
        for outcome in missing:
            if outcome.job_id not in kept:
                _tell_lost(outcome)


def _tell_lost(outcome: Outcome) -> None:
    logger.warning("job %s: lease lost; this attempt's end (%s) counts for nothing", outcome.job_id, outcome.verdict)


def _size(outcome: Outcome) -> int:
    return len(outcome.result or "") + len(outcome.traceback or "")


def _columns(ended: Sequence[Outcome]) -> dict[str, list[Any]]:
    """The parameters of settle.sql: one list per column."""
    after = [AFTER[Verdict(outcome.verdict)] for outcome in ended]
    return {
        "ids": [outcome.job_id for outcome in ended],
        "tokens": [outcome.token for outcome in ended],
        "states": [str(state) for state, _, _ in after],
        "delays": [outcome.delay_s for outcome in ended],
        "refunds": [refund for _, refund, _ in after],
        "crashes": [crash for _, _, crash in after],
        "causes": [outcome.cause for outcome in ended],
        "errors": [outcome.error for outcome in ended],
        "tracebacks": [outcome.traceback for outcome in ended],
    }
