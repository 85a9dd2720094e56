"""Jobs that run where they are deferred, without a database: arguments and results still go through JSON and back."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pgqueue.app import App
from pgqueue.client.enqueue import Call
from pgqueue.client.handle import Job
from pgqueue.client.options import Options
from pgqueue.errors import ConfigError, JobCancelled, JobDead, PgQueueError
from pgqueue.job import Claimed, Outcome, Snapshot, State, Verdict, new_id
from pgqueue.retry import Retry
from pgqueue.task import AnyTask
from pgqueue.testing.intercept import Found, intercepted
from pgqueue.testing.loop import execute_in_time, execute_sync, job_loop, refuse_inside_a_loop
from pgqueue.testing.way import contexts
from pgqueue.testing.witness import Witness

T = TypeVar("T")

MOST_ATTEMPTS = 1000  # of one job: a task that snoozes without end would run without end


@dataclass(frozen=True, slots=True)
class EagerJob(Job[T]):
    """A job that has run. It has no row: what it came to is here."""

    attempt: Witness | None = field(default=None, compare=False, repr=False)
    outcome: Outcome | None = field(default=None, compare=False, repr=False)

    @property
    def state(self) -> State:
        assert self.outcome is not None
        return State(self.outcome.verdict)

    def result(self, timeout: float | None = None) -> T:
        """What the task returned; raises JobDead from what it raised, or JobCancelled."""
        assert self.attempt is not None and self.outcome is not None
        what = f"job {self.id} ({self.task})"
        if self.state == State.DEAD:
            raise JobDead(f"{what} is dead: {self.outcome.error}", self.id, self.outcome.error) from self.attempt.error
        if self.state == State.CANCELLED:
            raise JobCancelled(f"{what} was cancelled: {self.outcome.error}", self.id) from self.attempt.error
        value: T = self.attempt.result
        return value

    async def result_async(self, timeout: float | None = None) -> T:
        """As `result`, for asyncio."""
        return self.result()

    def snapshot(self) -> Snapshot:
        """Raises ConfigError."""
        raise ConfigError(f"job {self.id} ran eagerly and has no row: use drain() where the row counts")

    def cancel(self, reason: str = "cancelled by request", *, kill: bool = False) -> bool:
        """False: it has ended."""
        return False

    def retry(self) -> bool:
        """Raises ConfigError."""
        raise ConfigError(f"job {self.id} ran eagerly and has no row: use run() where it is to run again")


class Eager:
    """An Interceptor that runs each job in the place of inserting it."""

    def __init__(self, app: App | None, *, raises: bool) -> None:
        self.app = app
        self._raises = raises

    def instead(self, app: App, task: str, calls: Sequence[Call], options: Options) -> Found:
        return [self._run(app, _task(app, task), call, options) for call in calls]

    async def instead_async(self, app: App, task: str, calls: Sequence[Call], options: Options) -> Found:
        return [await self._run_async(app, _task(app, task), call, options) for call in calls]

    def note(self, app: App, task: str, calls: Sequence[Call], options: Options, jobs: Found) -> None:
        """Nothing is to be noted."""

    def _run(self, app: App, task: AnyTask, call: Call, options: Options) -> Job[Any]:
        if task.is_async:
            refuse_inside_a_loop(f"task {task.name} is async: await {task.name.rpartition('.')[2]}.defer_async()")
        course = Course(app, task, call, options, raises=self._raises)
        while course.outcome is None:
            attempt = course.next_attempt()
            if task.is_async:
                outcome = job_loop.run(execute_in_time(attempt, _no_connection), context=contexts.fresh())
            else:
                outcome = contexts.fresh().run(execute_sync, attempt, _no_connection)
            course.note(attempt, outcome)
        return course.job()

    async def _run_async(self, app: App, task: AnyTask, call: Call, options: Options) -> Job[Any]:
        course = Course(app, task, call, options, raises=self._raises)
        while course.outcome is None:
            attempt = course.next_attempt()
            if task.is_async:
                work = execute_in_time(attempt, _no_connection)
                outcome = await asyncio.get_running_loop().create_task(work, context=contexts.fresh())
            else:
                outcome = contexts.fresh().run(execute_sync, attempt, _no_connection)
            course.note(attempt, outcome)
        return course.job()


class Course:
    """One job from its first attempt to its end, in a moment: no delay is waited for."""

    def __init__(self, app: App, task: AnyTask, call: Call, options: Options, *, raises: bool) -> None:
        self._app = app
        self._task = task
        self._raises = raises
        columns = options.over(task.defaults).columns(where=task.name)
        self._job = Claimed(
            id=new_id(), token=0, task=task.name, args=call[0], kwargs=call[1], attempt=0, max_attempts=options.max_attempts,
            crashes=0, queue=columns["queue"], priority=columns["priority"], seq=0, timeout_s=columns["timeout_s"],
            headers=columns["headers"], age_s=0.0, expired=None,
        )  # fmt: skip
        self._attempt: Witness | None = None
        self.outcome: Outcome | None = None

    def next_attempt(self) -> Witness:
        """Raises PgQueueError where they do not end."""
        if self._job.token == MOST_ATTEMPTS:
            raise PgQueueError(
                f"task {self._task.name} has run {MOST_ATTEMPTS} times for one job, and it is not over: use drain()"
            )
        self._job = self._job._replace(token=self._job.token + 1, attempt=self._job.attempt + 1)
        return Witness(self._job, self._app, worker="eager")

    def note(self, attempt: Witness, outcome: Outcome) -> None:
        """The end, or that another attempt follows; raises what the task raised, if that is to be raised."""
        if outcome.verdict == Verdict.SNOOZE:
            self._job = self._job._replace(attempt=self._job.attempt - 1)
        if outcome.verdict == Verdict.MISFIT:
            outcome = outcome._replace(verdict=outcome.otherwise or Verdict.DEAD)
        again = outcome.verdict in (Verdict.SNOOZE, Verdict.RETRY)
        wanted = again and isinstance(attempt.error, Retry)
        if self._raises and outcome.cause is not None and not wanted:
            assert attempt.error is not None
            attempt.error.add_note(f"raised by an eager job of {self._task.name}, attempt {self._job.attempt}")
            raise attempt.error
        self._job = self._job._replace(age_s=self._job.age_s + outcome.delay_s)
        self._attempt, self.outcome = attempt, None if again else outcome

    def job(self) -> EagerJob[Any]:
        return EagerJob(self._job.id, self._task.name, True, self._app, self._attempt, self.outcome)


def _task(app: App, name: str) -> AnyTask:
    task = app.tasks.get(name)
    if task is None:
        raise ConfigError(f"the app has no task named {name!r}, so it cannot run here: import its module")
    if task.atomic:
        raise ConfigError(
            f"task {name} is atomic: its end is written with its work, which needs a row: use drain() or run()"
        )
    return task


def _no_connection() -> Any:
    raise NotImplementedError("an atomic task was refused")


@contextmanager
def eager(*, app: App | None = None, raises: bool = True) -> Iterator[None]:
    """Within the block, `defer` runs the job at once and returns a handle that has its result. No database is asked.

    As Celery's task_always_eager, but with the real codec, retry policy and middleware: what a worker would refuse fails here too.
    raises: what a task raises comes out of `defer`. raises=False: it is tried again as its policy says, without a wait, and
    result() raises JobDead. What needs a row or a clock has no effect: unique, debounce, once_per, delay, at, expires,
    priority. app: of this one alone.
    """
    with intercepted(Eager(app, raises=raises)):
        yield
