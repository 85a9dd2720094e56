"""One attempt at one job: decode, call, encode, and turn whatever happened into an Outcome. Writes nothing anywhere."""

import asyncio
import contextlib
import inspect
import io
import logging
import os
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, cast

from pgqueue import db
from pgqueue.codec.redact import Secrets
from pgqueue.context import CurrentJob, _current
from pgqueue.errors import InvalidArguments, InvalidResult, LeaseLost, SignatureChanged, TimeLimitExceeded
from pgqueue.job import Claimed, Outcome, Verdict
from pgqueue.queries import Statement
from pgqueue.retry import (
    BadDelay,
    Cancel,
    Invocation,
    ResultRefused,
    Retry,
    Skip,
    Snooze,
    asked_s,
    snoozed_s,
    traceback_of,
)
from pgqueue.spoils import MEMORY, culprit
from pgqueue.task import AnyTask
from pgqueue.worker.child import layers
from pgqueue.worker.child.exhausted import hint
from pgqueue.worker.child.layers import Layers

logger = logging.getLogger("pgqueue.worker")

MAX_TEXT = 64_000  # characters of an error or traceback that are kept
OURS = (__file__, layers.__file__)
# Then the end of the attempt is no longer for this process to say.
WRITTEN = Verdict.COMMITTED, Verdict.UNSURE, Verdict.LOST
ENDED = "the task ended the transaction of its atomic connection itself: leave commit and rollback to pgqueue"


class Attempt:
    """A claimed job together with its task and what the task sees of it. `worker` is the id that fences its writes.

    `async_jobs`: how many of those the process runs at once.
    """

    def __init__(self, job: Claimed, task: AnyTask, current: CurrentJob, *, worker: str, async_jobs: int = 1) -> None:
        self.job = job
        self.task = task
        self.current = current
        self.worker = worker
        self.async_jobs = async_jobs if task.async_limit is None else min(async_jobs, task.async_limit)
        self.committing = False
        self.copied = False
        """Set in a copy of the process that the task forked: what happens there is no end of this attempt."""
        self.spoiled: str | None = None
        """Why the process is of no more use after this attempt, as the end of a sentence."""
        self._secrets: Secrets | None = None
        self._given: tuple[list[object], dict[str, object]] | None = None
        self._broken: BaseException | None = None  # what the policy raised when it was shown the result

    # -- the two colours: they differ in `await` and in the connection's class --

    def execute(self, connection: Callable[[], db.Connection]) -> Outcome:
        """Run a sync task, in a context of its own. `connection` opens one, for atomic tasks only."""
        try:
            _current.set(self.current)
            args, kwargs = self._arguments()
            if not self.task.atomic:
                return self._succeeded(self.task.function(*args, **kwargs))
            conn = connection()
            with conn.transaction():
                db.run(conn, self._begin())
                self.current.connection = conn
                result = self._encode(self.task.function(*args, **kwargs))
                self._finished(db.run(conn, self._finish(conn, result)))
            return self._outcome(Verdict.COMMITTED)
        except BaseException as error:
            return self.failed(error)

    async def execute_async(self, connection: Callable[[], Awaitable[db.AsyncConnection]]) -> Outcome:
        """Run an async task, in a context of its own."""
        try:
            _current.set(self.current)
            args, kwargs = self._arguments()
            if not self.task.atomic:
                return self._succeeded(await self.task.function(*args, **kwargs))
            async with await connection() as conn, conn.transaction():
                await db.run_async(conn, self._begin())
                self.current.connection = conn
                result = self._encode(await self.task.function(*args, **kwargs))
                self._finished(await db.run_async(conn, self._finish(conn, result)))
            return self._outcome(Verdict.COMMITTED)
        except BaseException as error:
            return self.failed(error)

    def execute_inside(self, connection: Callable[[], db.Connection]) -> Outcome:
        """As `execute`, inside the task's middleware."""
        _current.set(self.current)
        self._show_arguments()
        entered, outcome = Layers(self.current), None
        try:
            for middleware in self.task.middleware:
                entered.enter(middleware)
        except BaseException as error:
            outcome = self.failed(error)
        outcome = outcome or self.execute(connection)
        while entered and not self.copied:
            try:
                entered.leave(outcome)
            except BaseException as error:
                outcome = self._disturbed(outcome, error)
        self.current.exception = None  # it holds the frames that hold this
        return outcome

    async def execute_inside_async(self, connection: Callable[[], Awaitable[db.AsyncConnection]]) -> Outcome:
        """As `execute_async`, inside the task's middleware."""
        _current.set(self.current)
        self._show_arguments()
        entered, outcome = Layers(self.current), None
        try:
            for middleware in self.task.middleware:
                await entered.enter_async(middleware)
        except BaseException as error:
            outcome = self.failed(error)
        outcome = outcome or await self.execute_async(connection)
        while entered and not self.copied:
            try:
                await entered.leave_async(outcome)
            except BaseException as error:
                outcome = self._disturbed(outcome, error)
        self.current.exception = None
        return outcome

    def _arguments(self) -> tuple[list[object], dict[str, object]]:
        if self._given is None:
            self._given = self.task.codec.decode(self.job.args, self.job.kwargs)
            self.current.args, self.current.kwargs = self._given
        return self._given

    def _show_arguments(self) -> None:
        """To middleware. Those that cannot be read fail the attempt inside of it, when the task is to get them."""
        with contextlib.suppress(Exception):
            self._arguments()

    def _disturbed(self, outcome: Outcome, error: BaseException) -> Outcome:
        """Middleware raised after the task: that is the attempt's end, unless an end is written or may be."""
        if outcome.verdict not in WRITTEN or self.copied:
            return self.failed(error)
        logger.error(
            "job %s (%s) has ended (%s), and after that its middleware raised an exception:\n%s",
            self.job.id, self.task.name, outcome.verdict, self.mask(format_trace(error)),
        )  # fmt: skip
        return outcome

    def _encode(self, value: object) -> str | None:
        """The result as it is stored; None: nothing of a success is kept."""
        if inspect.iscoroutine(value):
            value.close()
            raise InvalidResult(
                f"task {self.task.name} returned a coroutine: declare it with async def, or await what it calls"
            )
        if self.task.policy.judges_results:
            self._ask_policy(value)
        if not self.task.keeps:
            return None
        if value is None:
            return "null"
        return self.task.codec.encode_result(value, max_bytes=self.task.app.config.max_payload_bytes)

    def _ask_policy(self, value: object) -> None:
        """Raises what makes this a failed attempt: the policy refuses the result, or is broken."""
        job = self.job
        try:
            self.task.policy.check_result(value, attempt=job.attempt, age_s=job.age_s, call=self._invocation())
        except ResultRefused:
            raise
        except BaseException as broken:
            self._broken = broken
            raise

    def _succeeded(self, value: object) -> Outcome:
        return Outcome(self.job.id, self.job.token, Verdict.SUCCEEDED, self._encode(value))

    def _begin(self) -> Statement[Any]:
        return self.task.app.queries.atomic_begin(attempt=self._attempt_key)

    @property
    def _attempt_key(self) -> str:
        return f"{self.job.id}:{self.job.token}"

    def _finish(self, conn: db.AnyConnection, result: str | None) -> Statement[Any]:
        """The last statement of an atomic task: it takes the row's lock and keeps it to the commit.

        A rescue either sees the job finished, or came first; then this matches nothing and everything rolls back.
        """
        if db.is_idle(conn):
            raise RuntimeError(ENDED)
        return self.task.app.queries.finish(
            worker=self.worker, ids=[self.job.id], tokens=[self.job.token], results=[result]
        )

    def _finished(self, rows: list[Any]) -> None:
        if not rows:
            raise LeaseLost("this attempt was replaced by another while it ran; its transaction is rolled back")
        if rows[0][-1] != self._attempt_key:  # another transaction, begun by the task
            raise RuntimeError(ENDED)
        self.committing = True

    # -- what an exception means --

    def failed(self, error: BaseException) -> Outcome:
        """The outcome of an attempt that raised. What a task raises is user code: one that cannot be asked is a failure too."""
        if self.copied:
            raise error
        if self.task.middleware:
            self.current.exception = error
        try:
            return self._meaning(error)
        except BaseException as broken:
            told: Exception = RuntimeError(f"{kind(error)} cannot be handled: {describe(broken)}")
            if isinstance(broken, BadDelay):
                told = broken
            return self._meaning(told.with_traceback(traceback_of(error)))

    def _meaning(self, error: BaseException) -> Outcome:
        if self.committing and not db.is_refusal(error):
            # Either it committed or this is what becomes of it: the finisher asks the database.
            unsure = self.by_policy(error, cause="commit")
            return unsure._replace(
                verdict=Verdict.UNSURE, otherwise=unsure.verdict, result="null" if self.task.keeps else None
            )
        self.spoiled = self.spoiled or self._spoiled_by(error)
        if isinstance(error, asyncio.CancelledError):
            error = self._why_cancelled(error)
        match error:
            case LeaseLost():
                return self._outcome(Verdict.LOST)
            case Snooze():
                return self._outcome(Verdict.SNOOZE, delay_s=snoozed_s(error))
            case Retry():
                asked_s(error)  # not by the policy, which would end the job for what is no fault of its own
                return self.by_policy(error, cause="exception")
            case Cancel():
                return self._outcome(Verdict.CANCELLED, error=self.mask(describe(error, name=False)))
            case Skip():
                return self._outcome(Verdict.DEAD, cause="skipped", error=self.mask(describe(error)))
            case TimeLimitExceeded():
                return self.by_policy(error, cause="time limit")
            case SignatureChanged():
                failed = self.by_policy(error, cause="arguments")
                return failed._replace(verdict=Verdict.MISFIT, otherwise=failed.verdict)
            case InvalidArguments():
                return self.by_policy(error, cause="arguments")
            case InvalidResult() | ResultRefused():
                return self.by_policy(error, cause="result")
            case _:
                return self.by_policy(error, cause="exception")

    def _spoiled_by(self, error: BaseException) -> str | None:
        """Descriptors are tried: libraries report that none is left in texts of their own."""
        found = culprit(error, self.task.spoils)
        if found == MEMORY:
            return "ran out of memory"
        if found is not None:
            return f"was spoiled by {found} in job {self.job.id} ({self.task.name})"
        try:
            os.close(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            return "ran out of file descriptors"
        return None

    def by_policy(self, error: BaseException, *, cause: str) -> Outcome:
        """A failed attempt, by the task's policy: another one after a delay, or dead."""
        job = self.job
        trace, after = None, ""
        try:
            if error is self._broken:
                raise error
            delay_s = self.task.policy.next_delay_s(
                error, attempt=job.attempt, max_attempts=job.max_attempts, age_s=job.age_s, call=self._invocation()
            )
            # Of a result there is none: the task returned.
            told = traceback_of(error) is not None and not isinstance(error, ResultRefused)
            trace = format_trace(error) if told else None
            after = hint(error, at_once=self.async_jobs) if self.task.is_async else ""
        except BaseException as broken:  # a policy is user code
            if error is not self._broken:
                after = f"; it was asked because of {describe(error)}"
                trace = None if traceback_of(error) is None else format_trace(error)
            delay_s, cause, error = None, "retry policy", broken
        return self._outcome(
            Verdict.DEAD if delay_s is None else Verdict.RETRY,
            delay_s=delay_s or 0.0, cause=cause, error=self.mask(describe(error) + after),
            traceback=None if trace is None else self.mask(trace),
        )  # fmt: skip

    def _invocation(self) -> Invocation:
        """The call as strategies may look at it. A job whose child was killed was not decoded in this process."""
        if self._given is None:
            try:
                self._arguments()
            except (
                Exception
            ):  # they no longer fit the task, or its classes refuse them: that is what is judged, or it does not matter
                self._given = [], {}
        assert self._given is not None
        return Invocation(self.task.function, *self._given)

    def mask(self, text: str) -> str:
        """The text without what is secret among the arguments."""
        if self._secrets is None:
            job, names = self.job, self.task.app.config.secret_names
            self._secrets = Secrets(job.args, job.kwargs, job.headers, secret_names=names)
        return self._secrets.mask(text)

    def _why_cancelled(self, error: BaseException) -> BaseException:
        if self.current.time_over:
            return TimeLimitExceeded("the task's timeout is over").with_traceback(traceback_of(error))
        if self.current.cancel_requested:
            return Cancel("cancelled while running")
        return error

    def _outcome(self, verdict: Verdict, **fields: Any) -> Outcome:
        return Outcome(self.job.id, self.job.token, verdict, **fields)


def describe(error: BaseException, *, name: bool = True) -> str:
    """An exception as one storable line: `ValueError: what it said`."""
    try:
        text = str.__str__(str(error))  # of its own class it may be still
    except BaseException as broken:
        text = f"<its text is not available: {kind(broken)}>"
    if name or not text:
        text = f"{kind(error)}: {text}" if text else kind(error)
    return storable(text)


def kind(error: BaseException) -> str:
    """The name of its class, whatever a metaclass makes of it."""
    name: str = _QUALNAME.__get__(type(error))
    return name


_QUALNAME = vars(type)["__qualname__"]


def format_trace(error: BaseException) -> str:
    """The traceback from the task's own frame on, without values of variables."""
    try:
        return _trace(error)
    except RecursionError:
        return "<the traceback is too deep to be written down>"
    except BaseException as broken:  # it looks at what the class may have made its own
        return f"<the traceback is not available: {kind(broken)}>"


def _trace(error: BaseException) -> str:
    # The first frames are ours; the task's begins behind them.
    frame = cast("Any", traceback_of(error))
    while frame.tb_next and frame.tb_frame.f_code.co_filename in OURS:
        frame = frame.tb_next
    shown = traceback.TracebackException(type(error), error, frame, compact=True, max_group_width=10)
    text = io.StringIO()
    for part in shown.format():
        text.write(part[:MAX_TEXT])
        if text.tell() > MAX_TEXT:
            break
    return storable(text.getvalue())


def storable(text: str) -> str:
    """Text that PostgreSQL can store: no NUL, no lone surrogates, not longer than is kept."""
    if len(text) > MAX_TEXT:
        text = f"{text[:MAX_TEXT]} ... ({len(text):,} characters in all)"
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
