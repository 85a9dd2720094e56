"""One attempt at a batch of events: read the lane, call, and move the lane with the end of the job; see events/batch.py.

A batch ends in one transaction, as an atomic job does, whether its task is atomic or not: its outcome is COMMITTED. What is read
and noted goes over a connection of our own: in that of an atomic task the transaction may have failed.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from pgqueue import db
from pgqueue.context import _current
from pgqueue.events.batch import Batch, LaneName, read_batch
from pgqueue.job import Outcome, Verdict
from pgqueue.queries import Steps, ask
from pgqueue.retry import Retry, Skip
from pgqueue.worker.child.executor import Attempt, describe

logger = logging.getLogger("pgqueue.worker")

NO_ARGS = "[]"  # of the job of a lane; that of an event which is alone has some
FAILED = Verdict.RETRY, Verdict.DEAD, Verdict.CANCELLED, Verdict.MISFIT

Connect = Callable[[], db.Connection]
ConnectAsync = Callable[[], Awaitable[db.AsyncConnection]]


class LaneMoved(Exception):
    """The lane is no longer where the batch was read: somebody replays, or changed the number of lanes."""


class BatchAttempt(Attempt):
    """An attempt at the job of a lane, or of an event of one that is alone. line, line_async: open a connection of our own."""

    def __init__(self, *args: Any, lane: LaneName, line: Connect, line_async: ConnectAsync, **options: Any) -> None:
        super().__init__(*args, **options)
        self._lane = lane
        self._line = line
        self._line_async = line_async
        self._own: db.AsyncConnection | None = None
        self._of_lane = self.job.args == NO_ARGS
        self._batch: Batch | None = None
        self._raised: BaseException | None = None
        self._begun = False

    # -- the two colours --

    def execute(self, connection: Connect) -> Outcome:
        """As Attempt.execute; it is also what the middleware surrounds, and then the batch has been read."""
        return self._call(connection) if self._begun else self._whole(self._call, connection)

    def execute_inside(self, connection: Connect) -> Outcome:
        """As Attempt.execute_inside."""
        return self._whole(super().execute_inside, connection)

    def _whole(self, execute: Callable[[Connect], Outcome], connection: Connect) -> Outcome:
        self._begun = True
        try:
            outcome = db.run(self._line(), self._read())
            if outcome is None and self._empty:
                outcome = self._end(self._line(), self._nothing)
        except BaseException as error:
            return self.failed(error)
        outcome = outcome or execute(connection)
        if outcome.verdict not in FAILED:
            return outcome
        try:
            return db.run(self._line(), self._noted(outcome))
        except Exception as error:
            return self._unnoted(outcome, error)

    def _call(self, connection: Connect) -> Outcome:
        try:
            _current.set(self.current)
            args, kwargs = self._arguments()
            if not self.task.atomic:
                return self._end(self._line(), self._encode(self.task.function(*args, **kwargs)))
            conn = connection()
            with conn.transaction():
                db.run(conn, self._begin())
                self.current.connection = conn
                result = self._encode(self.task.function(*args, **kwargs))
                self._finished(db.run(conn, self._moved(conn, result)))
            return self._outcome(Verdict.COMMITTED)
        except BaseException as error:
            return self.failed(error)

    def _end(self, conn: db.Connection, result: str | None) -> Outcome:
        with conn.transaction():
            db.run(conn, self._begin())
            self._finished(db.run(conn, self._moved(conn, result)))
        return self._outcome(Verdict.COMMITTED)

    async def execute_async(self, connection: ConnectAsync) -> Outcome:
        """As `execute`, of an async task."""
        if self._begun:
            return await self._call_async(connection)
        return await self._whole_async(self._call_async, connection)

    async def execute_inside_async(self, connection: ConnectAsync) -> Outcome:
        """As `execute_inside`, of an async task."""
        return await self._whole_async(super().execute_inside_async, connection)

    async def _whole_async(
        self, execute: Callable[[ConnectAsync], Awaitable[Outcome]], connection: ConnectAsync
    ) -> Outcome:
        self._begun = True
        outcome: Outcome | None
        try:
            async with await self._line_async() as self._own:
                outcome = await db.run_async(self._own, self._read())
                if outcome is None and self._empty:
                    outcome = await self._end_async(self._own, self._nothing)
                outcome = outcome or await execute(connection)
        except BaseException as error:
            outcome = self.failed(error)
        if outcome.verdict not in FAILED:
            return outcome
        try:
            async with await self._line_async() as line:
                return await db.run_async(line, self._noted(outcome))
        except Exception as error:
            return self._unnoted(outcome, error)

    async def _call_async(self, connection: ConnectAsync) -> Outcome:
        assert self._own is not None
        try:
            _current.set(self.current)
            args, kwargs = self._arguments()
            if not self.task.atomic:
                return await self._end_async(self._own, self._encode(await self.task.function(*args, **kwargs)))
            async with await connection() as conn, conn.transaction():
                await db.run_async(conn, self._begin())
                self.current.connection = conn
                result = self._encode(await self.task.function(*args, **kwargs))
                self._finished(await db.run_async(conn, self._moved(conn, result)))
            return self._outcome(Verdict.COMMITTED)
        except BaseException as error:
            return self.failed(error)

    async def _end_async(self, conn: db.AsyncConnection, result: str | None) -> Outcome:
        async with conn.transaction():
            await db.run_async(conn, self._begin())
            self._finished(await db.run_async(conn, self._moved(conn, result)))
        return self._outcome(Verdict.COMMITTED)

    # -- steps --

    @property
    def _empty(self) -> bool:
        return self._of_lane and (self._batch is None or not self._batch.rows)

    @property
    def _nothing(self) -> str | None:
        return "null" if self.task.keeps else None

    def _read(self) -> Steps[Outcome | None]:
        """Read the batch; an outcome where it is not to be called."""
        if not self._of_lane:
            return None
        job = self.job
        self._batch = yield from read_batch(
            self.task.app.queries, self._lane, job=job.id, token=job.token, worker=self.worker
        )
        if self._batch is None or not self._batch.rows:
            return None
        if job.crashes:  # that is of the batch, and this one is to be another
            yield from self._halve("its process died")
            return self._outcome(Verdict.RELEASE)
        self.job = job._replace(args=self._batch.args)
        return None

    def _halve(self, error: str | None) -> Steps[bool]:
        """The next batch is half of this one, or the one event that it had."""
        assert self._batch is not None
        queries = self.task.app.queries
        if len(self._batch.rows) > 1:
            return (yield from self._batch.failed(queries, error))
        return (yield from self._batch.alone(queries, error, ended=False))

    def _moved(self, conn: db.AnyConnection, result: str | None) -> Steps[list[Any]]:
        """Move the lane, or let it continue, and finish the job, in one transaction."""
        queries = self.task.app.queries
        finish = self._finish(conn, result)
        if self._batch is not None:
            if not (yield from self._batch.done(queries)):
                raise LaneMoved(f"lane {self._lane.lane} of {self._lane.subscription} was moved while it was worked on")
        elif not self._of_lane:
            yield queries.batch_freed(**self._lane._asdict(), job=self.job.id, given_up=False)
        return (yield from ask(finish))

    def _noted(self, outcome: Outcome) -> Steps[Outcome]:
        """What the end of the call becomes, once that is noted in the lane."""
        cancelled = outcome.verdict == Verdict.CANCELLED and self.current.cancel_requested
        if outcome.verdict not in FAILED or (self._of_lane and (self._empty or cancelled)):
            return outcome
        if not self._of_lane:
            if outcome.verdict != Verdict.RETRY:
                yield self.task.app.queries.batch_freed(**self._lane._asdict(), job=self.job.id, given_up=True)
            return outcome
        if isinstance(self._raised, Skip) and (yield from self._skipped(self._raised)):
            return self._outcome(Verdict.RELEASE)
        assert self._batch is not None
        if len(self._batch.rows) > 1:
            if isinstance(self._raised, Retry) and outcome.verdict == Verdict.RETRY:
                return outcome  # the whole batch, when it wants to
            told = f"a batch of {len(self._batch.rows)} events failed, and is halved: {outcome.error}"
            yield from self._halve(told)
            return self._outcome(
                Verdict.RELEASE, cause=outcome.cause or "exception", error=told, traceback=outcome.traceback
            )
        if self.job.attempt > 1 and self._raised is not None and outcome.verdict != Verdict.CANCELLED:
            # Those before were of other batches.
            self.job = self.job._replace(attempt=1)
            outcome = self.by_policy(self._raised, cause=outcome.cause or "exception")
        ended = outcome.verdict != Verdict.RETRY
        alone = yield from self._batch.alone(self.task.app.queries, outcome.error, ended=ended)
        return outcome if alone else self._outcome(Verdict.RELEASE)

    def _skipped(self, skip: Skip) -> Steps[bool]:
        assert self._batch is not None
        error = self.mask(describe(skip, name=False))
        jobs = yield from self._batch.skip(self.task.app.queries, skip.events, error)
        for job in jobs:
            logger.error("%s put an event aside as dead job %s: %s", self.task.name, job, error)
        return bool(jobs)

    def _unnoted(self, outcome: Outcome, error: Exception) -> Outcome:
        """It could not be noted. Nothing is lost: the lane is where it was, and another job of it begins there."""
        logger.warning(
            "job %s (%s): what became of its batch could not be noted: %s", self.job.id, self.task.name, describe(error)
        )
        return outcome

    def _meaning(self, error: BaseException) -> Outcome:
        self._raised = error
        if isinstance(error, LaneMoved):
            return self._outcome(Verdict.RELEASE)
        return super()._meaning(error)

    def killed(self, error: BaseException, *, cause: str) -> Outcome:
        """The process that ran this was killed: what that means, in another one, in a thread that may wait for the database."""
        self._raised = error
        outcome = self.by_policy(error, cause=cause)
        try:
            with self._line() as conn:
                return db.run(conn, self._read()) or db.run(conn, self._noted(outcome))
        except Exception as broken:
            return self._unnoted(outcome, broken)
