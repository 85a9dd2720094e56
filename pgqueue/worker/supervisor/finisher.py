"""Write down how attempts ended, in batches: while one batch travels the next one gathers.

An outcome counts only if the database still gives this worker and this claim token the job; what does not come back
belongs to another worker by now. Outcomes are kept through a loss of the database and written when it is back: if the
lease stood that long they count, else they are refused, and in both cases nothing runs twice unseen.

Refusals. Most failures pass: the server is away, a lock is held, a disk is full. The same batch is sent until it does. What no
repeat can cure must not stop all others, and not be blamed on those who did nothing wrong. So:

* The client cannot write a value, or the server does not take it (`db.is_of_values`): the batch is sent in halves until the one
  outcome is alone, and all others are recorded.
* Any other refusal, as of a right that was revoked or a table that is just being renamed, may concern every outcome alike. So
  the statement is first sent without any: if that is refused too, the whole batch waits, and no outcome is blamed. Else it is
  halved, and what is left over has an error of its own if at least one other passed before it was refused once more, or
  itself passes in plain words.
* What was found is recorded as a failed attempt in plain words, of values that no database refuses: the same texts in ASCII
  first, then a sentence of ours. If that is refused as well while others pass, it is given up with an error in the log: the job
  counts as running until it is rescued, or released as one that no worker has. If nothing at all passes, everything waits.
* Each kind of statement is separate: while one is refused the others are written. Progress comes last, as it may be lost.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence, Set
from typing import Any, TypeVar

from pgqueue.job import Outcome, State, Verdict
from pgqueue.queries import Queries, Row, Statement, texts
from pgqueue.queries.worker import Settled
from pgqueue.retry import clamp_delay
from pgqueue.worker.supervisor.admission import Admission
from pgqueue.worker.supervisor.avoided import AvoidedTasks
from pgqueue.worker.supervisor.connection import TRANSIENT, RetryPacing, WorkConnection
from pgqueue.worker.supervisor.outcome_queue import OutcomeQueue, Report
from pgqueue.worker.supervisor.sieve import REFUSED, Refused, in_ascii, run_or_refuse, sift
from pgqueue.worker.supervisor.tally import Tally
from pgqueue.worker.supervisor.wakeups import Wakeups

logger = logging.getLogger("pgqueue.worker")

R = TypeVar("R")

# Jobs that end in crowds are recorded no more often than this: a fast supervisor would otherwise send a statement for every few
# of them, and each costs both sides as much as some twenty outcomes do.
GATHER_S = 0.005
CROWD = 20

# What a verdict makes of the row: the state, whether the attempt is given back, whether it counts as a crash.
AFTER = {
    Verdict.RETRY: (State.SCHEDULED, 0, 0),
    Verdict.SNOOZE: (State.SCHEDULED, 1, 0),
    Verdict.RELEASE: (State.QUEUED, 1, 0),
    Verdict.CRASH: (State.QUEUED, 1, 1),
    Verdict.PARK: (State.WAITING, 1, 0),
    Verdict.QUARANTINE: (State.DEAD, 1, 1),
    Verdict.DEAD: (State.DEAD, 0, 0),
    Verdict.CANCELLED: (State.CANCELLED, 0, 0),
}


# Of a failed attempt; all others run again anyway, or ended as was asked.
_FAILED = (Verdict.RETRY, Verdict.DEAD, Verdict.CANCELLED, Verdict.CRASH, Verdict.QUARANTINE)

_LEVELS = {State.DEAD: logging.ERROR, State.CANCELLED: logging.INFO}


class Finisher:
    """Writes what is put into the outcome queue, again and again, and counts it by kind."""

    def __init__(
        self, connection: WorkConnection, queries: Queries, outcome_queue: OutcomeQueue, wakeups: Wakeups, avoided: AvoidedTasks,
        tally: Tally, admission: Admission, *, worker_name: str,
    ) -> None:  # fmt: skip
        self._connection = connection
        self._queries = queries
        self._outcome_queue = outcome_queue
        self._wakeups = wakeups
        self.admission = admission
        self._avoided = avoided
        self._identity = wakeups.identity
        self._worker_name = worker_name
        self._writing: Sequence[Outcome] = ()
        self._repeated = False  # the batch was sent before, and its answer may have been lost
        self._given_up = 0
        self._reason = ""  # why the last batch was not written
        self.counts = tally.counts

    def holds(self) -> set[str]:
        """The jobs whose outcome is not yet recorded."""
        return {outcome.job_id for outcome in (*self._outcome_queue.outcomes, *self._writing)}

    @property
    def unrecorded(self) -> str | None:
        """What could not be recorded so far and why, for people."""
        count = self._given_up + len(self._outcome_queue.outcomes) + len(self._writing)
        reason = self._reason or "there was no time for it"
        return f"could not record the end of {count} job{'s' * (count != 1)}: {reason}" if count else None

    @property
    def idle(self) -> bool:
        """Everything is written."""
        return not self._outcome_queue.outcomes and not self._writing

    def forget(self) -> None:
        """Drop what is to be written: the worker was declared dead, and nothing of this would count."""
        self._outcome_queue.forget(writing=self._writing)
        self.admission.forget()

    async def run(self) -> None:
        """Write batch after batch."""
        pacing, outcome_queue = RetryPacing(self._connection.troubles), self._outcome_queue
        crowded, began = False, 0.0
        while True:
            await outcome_queue.came.wait()
            outcome_queue.came.clear()
            while outcome_queue.outcomes or outcome_queue.reports:
                if crowded:
                    await asyncio.sleep(began + GATHER_S - time.monotonic())
                began = time.monotonic()
                self._writing = outcome_queue.take_batch()
                crowded = len(self._writing) >= CROWD
                try:
                    await self._write()
                    self._repeated = False
                    pacing.passed()
                except (*TRANSIENT, Refused) as error:
                    outcome_queue.put_back(self._writing)
                    # A refusal is an answer: nothing of it was written.
                    self._repeated |= not isinstance(error, Refused)
                    self._reason = (str(error).splitlines() or [type(error).__name__])[0]
                    await pacing.wait("recording results", error)
                finally:
                    self._writing = ()

    async def _write(self) -> None:
        """Write what is in _writing, kind by kind; what a failure leaves there is tried again."""
        refusals: list[Refused] = []
        if {outcome.verdict for outcome in self._writing} != {Verdict.SUCCEEDED}:
            if ended := self._of({Verdict.COMMITTED, Verdict.LOST}):
                self._note(ended)
            for ask, kind in ((self._resolve, Verdict.UNSURE), (self._hand_back, Verdict.MISFIT)):
                for outcome in self._of({kind}):
                    try:
                        await ask(outcome)
                    except Refused as error:
                        refusals.append(error)
        for write, kinds in ((self._finish, {Verdict.SUCCEEDED}), (self._settle, AFTER.keys())):
            for outcomes in self.admission.apart(self._of(kinds)):
                try:
                    await self._record(write, outcomes)
                except Refused as error:
                    refusals.append(error)
        await self._write_progress()
        for refused in refusals:
            raise refused
        for outcome in self._writing:
            self._give_up(outcome, Refused(ValueError(f"there is no verdict {outcome.verdict!r:.100}")))

    async def _record(self, write: "Write", outcomes: Sequence[Outcome]) -> None:
        """Write all of one kind; raises Refused if none of them passes, not even in plain words."""
        found = await sift(write, outcomes)
        passed = len(found) < len(outcomes)
        if found and not passed and write != self._settle and not any(refused.of_values for _, refused in found):
            raise found[0][1]  # what is plain goes by another statement, and would prove nothing
        left = []
        for outcome, refused in found:
            # What was wrong may have ended just now, and be what let the others pass.
            again = refused.of_values or await sift(write, [outcome])
            if not again or await self._plainly(outcome, refused):
                passed = True
            else:
                left.append((outcome, refused))
        if left and not passed:
            raise left[0][1]
        for outcome, refused in left:
            self._give_up(outcome, refused)

    async def _plainly(self, outcome: Outcome, refused: Refused) -> bool:
        """Record an outcome that was refused as a failed attempt, in words that no database refuses."""
        for words in in_plain_words(outcome, refused):
            try:
                rows = await self._settled([words])
            except Refused:
                continue
            if rows:
                logger.warning(
                    "job %s: the database refused the end of its attempt (%s): %s; it is recorded as a failed one",
                    outcome.job_id, outcome.verdict, refused.line,
                )  # fmt: skip
            await self._came_back([outcome], rows)
            return True
        return False

    def _give_up(self, outcome: Outcome, refused: Refused) -> None:
        logger.error(
            "job %s: the end of its attempt (%s) cannot be recorded: %s; it counts as running until it is rescued",
            outcome.job_id, outcome.verdict, refused.line,
        )  # fmt: skip
        self._given_up += 1
        self._reason = refused.line
        self._written([outcome])

    def _note(self, ended: Sequence[Outcome]) -> None:
        """Of these nothing is left to be written."""
        self._wakeups.look_at(self.admission.gates_of(ended))
        for outcome in ended:
            if outcome.verdict == Verdict.LOST:
                _tell_lost(outcome)
            else:
                self.counts["succeeded"] += 1
        self._written(ended)

    def _of(self, kinds: Set[Verdict]) -> list[Outcome]:
        return [outcome for outcome in self._writing if outcome.verdict in kinds]

    def _written(self, outcomes: Sequence[Outcome]) -> None:
        if self._outcome_queue.settled(outcomes):
            self._wakeups.capacity.set()
        self.admission.written(outcomes)
        if len(outcomes) == len(self._writing):
            self._writing = ()
            return
        attempts = {(outcome.job_id, outcome.token) for outcome in outcomes}
        self._writing = [outcome for outcome in self._writing if (outcome.job_id, outcome.token) not in attempts]

    async def _finish(self, done: Sequence[Outcome]) -> None:
        # By id: two statements that lock the same rows take them in one order.
        rows = await self._run(lambda: self._finishing(sorted(done)), done)
        self.counts["succeeded"] += len(rows)
        await self._came_back(done, rows)

    async def _run(self, statement: Callable[[], Statement[R]], outcomes: Sequence[Outcome]) -> list[R]:
        """Write outcomes, and let others through the gates at which that makes room."""
        if gates := self.admission.gates_of(outcomes):
            return await self.admission.write(statement, gates, ended=len(outcomes))
        return await run_or_refuse(self._connection, statement)

    def _finishing(self, done: Sequence[Outcome]) -> Statement[Any]:
        return self._queries.finish(
            worker=self._identity.worker,
            ids=[outcome.job_id for outcome in done],
            tokens=[outcome.token for outcome in done],
            results=[outcome.result for outcome in done],
        )

    async def _settle(self, ended: Sequence[Outcome]) -> None:
        await self._came_back(ended, await self._settled(ended))

    async def _settled(self, ended: Sequence[Outcome]) -> Sequence[Settled]:
        rows = await self._run(
            lambda: self._queries.settle(
                worker=self._identity.worker, worker_name=self._worker_name, columns=settle_columns(ended)
            ),
            ended,
        )
        settled = {row.id: row for row in rows}
        for outcome in ended:
            if outcome.job_id in settled:
                self._count(outcome, settled[outcome.job_id])
        return rows

    async def _came_back(self, batch: Sequence[Outcome], rows: Sequence[Row]) -> None:
        """These are recorded, each by its id first; account for those of the batch that are not among them."""
        if len(rows) < len(batch):
            kept = {row[0] for row in rows}
            self._written([outcome for outcome in batch if outcome.job_id in kept])
            batch = [outcome for outcome in batch if outcome.job_id not in kept]
            await self._account_for(batch, recorded=self._repeated)
        self._written(batch)

    def _count(self, outcome: Outcome, settled: Settled) -> None:
        state = settled.state
        if outcome.cause is not None:
            self.counts["failed"] += 1
        if state in (State.SCHEDULED, State.QUEUED):  # the doorbell is rung for others only
            self._wakeups.due_in(float(outcome.delay_s))
        if state in (State.DEAD, State.CANCELLED):
            self.counts[state] += 1
            # A reason that was given with the cancel is in the row.
            why = f": {outcome.error}" if outcome.error else ""
            logger.log(_LEVELS[State(state)], "job %s (%s) is %s%s", outcome.job_id, settled.task, state, why)
        elif outcome.cause is not None:
            logger.info(
                "job %s (%s) failed, again in %.1f s: %s", outcome.job_id, settled.task, outcome.delay_s, outcome.error
            )

    async def _resolve(self, outcome: Outcome) -> None:
        """An atomic task's COMMIT got no answer. If the row is still ours it did not happen, and the attempt failed."""
        rows = await run_or_refuse(
            self._connection,
            lambda: self._queries.revoke(worker=self._identity.worker, job_id=outcome.job_id, token=outcome.token),
        )
        if rows:
            failed = outcome._replace(token=rows[0], verdict=outcome.otherwise or Verdict.DEAD)
            # It is settled with the others, and goes by its new token, also if that has to be repeated.
            self._writing = [failed if other is outcome else other for other in self._writing]
        else:
            await self._account_for([outcome], recorded=True)
            self._written([outcome])

    async def _hand_back(self, outcome: Outcome) -> None:
        """Our code does not take the arguments. Where no other worker's may, the attempt failed and is settled with the others."""
        rows = await run_or_refuse(
            self._connection,
            lambda: self._queries.hand_back(worker=self._identity.worker, job_id=outcome.job_id, token=outcome.token),
        )
        if rows:
            (waits,) = rows
            logger.info(
                "job %s (%s) is released for %.1f s to workers with other code: %s",
                outcome.job_id, waits.task, waits.delay_s, outcome.error,
            )  # fmt: skip
            # This worker is the first to know of the release, and would claim the job again before others hear the bell.
            self._avoided.give_way(waits.task, waits.delay_s)
            self._wakeups.look_at(self.admission.gates_of([outcome]))
            self._wakeups.due_in(waits.delay_s)
            self._written([outcome])
        else:
            failed = outcome._replace(verdict=outcome.otherwise or Verdict.DEAD)
            self._writing = [failed if other is outcome else other for other in self._writing]

    async def _write_progress(self) -> None:
        if reports := self._outcome_queue.take_reports():
            try:
                found = await sift(self._progressed, sorted(reports.values()))
            except Refused as error:
                self._connection.troubles.log("progress reports", error, then="they are left out")
            except TRANSIENT:
                self._outcome_queue.put_reports_back(reports)
                raise
            else:
                for (job_id, *_), refused in found:
                    self._connection.troubles.log(f"job {job_id}: its progress report", refused, then="it is left out")

    async def _progressed(self, reports: Sequence[Report]) -> None:
        ids, tokens, fractions, notes = map(list, zip(*reports, strict=True)) if reports else ([], [], [], [])
        await run_or_refuse(
            self._connection,
            lambda: self._queries.progress(
                worker=self._identity.worker, ids=ids, tokens=tokens, fractions=fractions, notes=notes
            ),
        )

    async def _account_for(self, missing: Sequence[Outcome], *, recorded: bool) -> None:
        """Log the outcomes that were not taken. recorded: they may be, by a statement or a COMMIT whose answer was lost."""
        kept = set()
        if recorded:
            found = await run_or_refuse(
                self._connection,
                lambda: self._queries.recorded(
                    worker=self._identity.worker,
                    ids=[outcome.job_id for outcome in missing],
                    tokens=[outcome.token for outcome in missing],
                    kept=[outcome.keeps for outcome in missing],
                ),
            )
            for end in found:
                kept.add(end.id)
                self.counts[end.state] += 1
        for outcome in missing:
            if outcome.job_id not in kept:
                _tell_lost(outcome)


Write = Callable[[Sequence[Outcome]], Awaitable[None]]


def in_plain_words(outcome: Outcome, refused: Refused) -> Iterator[Outcome]:
    """The same attempt as a failed one, of values that no database refuses; the most telling first. None of one that never ran."""
    if outcome.verdict in (Verdict.RELEASE, Verdict.PARK):
        return
    if outcome.verdict in _FAILED:
        yield outcome._replace(
            result=None,
            delay_s=clamp_delay(outcome.delay_s) if isinstance(outcome.delay_s, int | float) else 0.0,
            cause=None if outcome.cause is None else in_ascii(outcome.cause),
            error=None if outcome.error is None else in_ascii(outcome.error),
            traceback=None if outcome.traceback is None else in_ascii(outcome.traceback),
        )
    what = "the task succeeded, but its result" if outcome.verdict == Verdict.SUCCEEDED else "the end of this attempt"
    error = f"{what} could not be recorded: the database refused it ({refused.line})"
    yield Outcome(outcome.job_id, outcome.token, Verdict.DEAD, cause=REFUSED, error=error)


def _tell_lost(outcome: Outcome) -> None:
    logger.warning("job %s: lease lost; outcome %s discarded", outcome.job_id, outcome.verdict)


def settle_columns(ended: Sequence[Outcome]) -> dict[str, list[Any]]:
    """The parameters of settle.sql: one list per column."""
    after = [AFTER[Verdict(outcome.verdict)] for outcome in ended]
    return {
        "ids": [outcome.job_id for outcome in ended],
        "tokens": [outcome.token for outcome in ended],
        "states": [str(state) for state, _, _ in after],
        "delays": [float(outcome.delay_s) for outcome in ended],
        "refunds": [refund for _, refund, _ in after],
        "crashes": [crash for _, _, crash in after],
        "causes": [outcome.cause for outcome in ended],
        "errors": [outcome.error for outcome in ended],
        "tracebacks": [outcome.traceback for outcome in ended],
        "gates": [None if outcome.gates is None else texts(outcome.gates) for outcome in ended],
    }
