"""Run what is due in this process, as a worker would: its codec, its retry policy, its rows."""

from collections.abc import Sequence
from typing import Any

from pgqueue.app import App
from pgqueue.client.options import check_integer, check_name
from pgqueue.errors import ConfigError, InvalidOption, PgQueueError
from pgqueue.job import Claimed, Outcome, State, Verdict
from pgqueue.testing.awaited import nobody_waits
from pgqueue.testing.hooks import life_of_a_child, life_of_a_child_async
from pgqueue.testing.inline import Inline
from pgqueue.testing.loop import refuse_inside_a_loop
from pgqueue.testing.ran import Drained, Ran, Until, is_over
from pgqueue.testing.subject import subject
from pgqueue.testing.way import LentWay, OwnWay, way_of
from pgqueue.testing.way_async import LentAsyncWay, OwnAsyncWay, way_of_async
from pgqueue.testing.witness import Witness

MOST = 10_000  # jobs of a drain without limit=: a task that defers itself would run without end


def drain(
    *,
    app: App | None = None,
    queues: Sequence[str] | None = None,
    limit: int | None = None,
    raises: bool = True,
    until: Until = None,
    conn: Any = None,
) -> Drained:
    """Run jobs until none is due, one after the other, in the order in which a worker claims them; what they defer too, and those
    of events for which the app has a handler; batches of events (`@app.on(batch=)`) are for a real worker: see WorkerProcess.

    Returns one Ran for each attempt. raises: a failed attempt is recorded as ever, and then what the task raised ends the drain;
    with raises=False the next job follows. queues: these alone. limit: attempts at most. until: a Job, which is to end, or a
    function of a Ran. conn: the test's connection (as conn= of defer): all this happens in its transaction, and what the jobs
    defer goes there too. Raises ConfigError.
    """
    refuse_inside_a_loop("await drain_async()")
    app = subject(app)
    plan = Plan(app, queues=queues, limit=limit, raises=raises, until=until)
    with nobody_waits(), life_of_a_child(app), way_of(app, conn, name=plan.inline.session_name) as way:
        way.run(plan.inline.sign_in())
        try:
            way.subscribe()
            while plan.wants_more and (taken := take(plan.inline, way)) is not None:
                plan.note(attempt_one(plan.inline, way, *taken))
        finally:
            way.run(plan.inline.sign_out())
    return plan.drained()


async def drain_async(
    *,
    app: App | None = None,
    queues: Sequence[str] | None = None,
    limit: int | None = None,
    raises: bool = True,
    until: Until = None,
    conn: Any = None,
) -> Drained:
    """As `drain`, for a test that is async: async jobs run in its event loop, sync ones in a thread; conn is an async one."""
    app = subject(app)
    plan = Plan(app, queues=queues, limit=limit, raises=raises, until=until)
    with nobody_waits():
        async with life_of_a_child_async(app), way_of_async(app, conn, name=plan.inline.session_name) as way:
            await way.run(plan.inline.sign_in())
            try:
                await way.subscribe()
                while plan.wants_more and (taken := await take_async(plan.inline, way)) is not None:
                    plan.note(await attempt_one_async(plan.inline, way, *taken))
            finally:
                await way.run(plan.inline.sign_out())
    return plan.drained()


def take(inline: Inline, way: OwnWay | LentWay) -> tuple[Claimed, Outcome | None] | None:
    """The next job that is due, those of events included, and those that wait at a gate where there is room."""
    way.deliver()
    taken = way.run(inline.take())
    while inline.gates:
        way.run(inline.let_through(own=way.own))
        taken = taken or way.run(inline.take())
    return taken


async def take_async(inline: Inline, way: OwnAsyncWay | LentAsyncWay) -> tuple[Claimed, Outcome | None] | None:
    """As `take`."""
    await way.deliver()
    taken = await way.run(inline.take())
    while inline.gates:
        await way.run(inline.let_through(own=way.own))
        taken = taken or await way.run(inline.take())
    return taken


def attempt_one(inline: Inline, way: OwnWay | LentWay, job: Claimed, end: Outcome | None) -> Ran:
    """Make the attempt for which this job was claimed, unless its end is known already, and record how it ended."""
    attempt = inline.attempt(job)
    if end is None:
        try:
            way.check(attempt.task)
        except ConfigError:
            way.run(inline.record(released(job)))
            raise
        end = way.execute(attempt)
    return ran(attempt, end, way.run(inline.record(end)))


async def attempt_one_async(inline: Inline, way: OwnAsyncWay | LentAsyncWay, job: Claimed, end: Outcome | None) -> Ran:
    """As `attempt_one`."""
    attempt = inline.attempt(job)
    if end is None:
        try:
            await way.check(attempt.task)
        except ConfigError:
            await way.run(inline.record(released(job)))
            raise
        end = await way.execute(attempt)
    return ran(attempt, end, await way.run(inline.record(end)))


def released(job: Claimed) -> Outcome:
    """The end of an attempt that is not made."""
    return Outcome(job.id, job.token, Verdict.RELEASE)


def ran(attempt: Witness, outcome: Outcome, state: State | None) -> Ran:
    """What a test sees of it."""
    return Ran(
        id=attempt.job.id, task=attempt.task.name, attempt=attempt.job.attempt, state=state, outcome=outcome,
        result=attempt.result if attempt.error is None else None, error=attempt.error, progress=attempt.reports,
    )  # fmt: skip


class Plan:
    """What a drain was asked for, and what it has done of that."""

    def __init__(
        self, app: App, *, queues: Sequence[str] | None, limit: int | None, raises: bool, until: Until
    ) -> None:
        if isinstance(queues, str):
            raise InvalidOption(f"queues takes a list of names, as in queues=[{queues!r}]")
        self.inline = Inline(app, queues=queues and [check_name("queue", queue) for queue in queues])
        self._limit = None if limit is None else check_integer("limit", limit, low=0, high=1_000_000)
        self._raises = raises
        self._until = until
        self._over = False
        self._ran: list[Ran] = []

    @property
    def wants_more(self) -> bool:
        return not self._over and len(self._ran) != self._limit

    def note(self, ran: Ran) -> None:
        """Raises what the task did, if that is to be raised."""
        self._ran.append(ran)
        self._over = is_over(self._until, ran)
        if ran.error is not None and (stops_the_test(ran.error) or (self._raises and ran.failed)):
            ran.error.add_note(ran.told())
            raise ran.error
        if self._limit is None and len(self._ran) >= MOST:
            raise PgQueueError(
                f"{MOST:,} jobs have run, the last one of {ran.task}, and more are due: does a task defer itself? "
                "Give limit= or until="
            )

    def drained(self) -> Drained:
        return Drained(self._ran, unknown=self.inline.unknown)


def stops_the_test(error: BaseException) -> bool:
    """Ctrl-C, and what pytest and its timeouts raise: no end of a job, although it is recorded as one."""
    return not isinstance(error, Exception | SystemExit) and type(error).__module__ != "asyncio.exceptions"
