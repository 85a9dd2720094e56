"""Run one job now."""

from typing import Any

from pgqueue.app import App
from pgqueue.client.handle import Job
from pgqueue.errors import JobCancelled, JobNotFound, PgQueueError
from pgqueue.job import Claimed, Outcome
from pgqueue.ops.listing import check_id
from pgqueue.queries import Steps, ask
from pgqueue.testing.awaited import nobody_waits
from pgqueue.testing.draining import attempt_one, attempt_one_async
from pgqueue.testing.hooks import life_of_a_child, life_of_a_child_async
from pgqueue.testing.inline import Inline
from pgqueue.testing.loop import refuse_inside_a_loop
from pgqueue.testing.ran import Ran
from pgqueue.testing.subject import subject
from pgqueue.testing.way import way_of
from pgqueue.testing.way_async import way_of_async


def run(job: Job[Any] | str, *, app: App | None = None, conn: Any = None) -> Any:
    """Run this job now, due or not, as drain() would; returns what its task returns, or raises what that raises.

    The end is recorded as ever: after a failure the job is scheduled for its next attempt, or dead. conn as for drain. Raises
    JobNotFound, and PgQueueError for a job that runs elsewhere, has ended, or whose queue is paused.
    """
    refuse_inside_a_loop("await run_async()")
    app, job_id = _which(job, app)
    inline = Inline(app)
    with nobody_waits(), life_of_a_child(app), way_of(app, conn, name=inline.session_name) as way:
        way.run(inline.sign_in())
        try:
            taken = way.run(_take(app, inline, job_id))
            return _told(attempt_one(inline, way, *taken))
        finally:
            way.run(inline.sign_out())


async def run_async(job: Job[Any] | str, *, app: App | None = None, conn: Any = None) -> Any:
    """As `run`, for asyncio."""
    app, job_id = _which(job, app)
    inline = Inline(app)
    with nobody_waits():
        async with life_of_a_child_async(app), way_of_async(app, conn, name=inline.session_name) as way:
            await way.run(inline.sign_in())
            try:
                taken = await way.run(_take(app, inline, job_id))
                return _told(await attempt_one_async(inline, way, *taken))
            finally:
                await way.run(inline.sign_out())


def _which(job: Job[Any] | str, app: App | None) -> tuple[App, str]:
    if isinstance(job, str):
        return subject(app), check_id(job)
    return subject(app or job._app), job.id


def _take(app: App, inline: Inline, job_id: str) -> Steps[tuple[Claimed, Outcome | None]]:
    taken = yield from inline.take_this(job_id)
    if taken is not None:
        return taken
    found = yield from ask(app.queries.job(job_id))
    if not found:
        raise JobNotFound(f"no job {job_id}: was it deferred in a transaction that is not this one? Give conn=", job_id)
    if found[0].task not in app.tasks:
        raise PgQueueError(f"job {job_id} cannot run: the app has no task named {found[0].task!r}; import its module")
    if found[0].state == "queued":
        raise PgQueueError(
            f"job {job_id} cannot run: its queue {found[0].queue!r} is paused, or another session holds it"
        )
    raise PgQueueError(f"job {job_id} cannot run: it is {found[0].state}")


def _told(ran: Ran) -> Any:
    if ran.error is not None:
        ran.error.add_note(ran.told())
        raise ran.error
    if ran.outcome.error is not None:  # its end was known before it began
        raise JobCancelled(f"job {ran.id} ({ran.task}) was cancelled: {ran.outcome.error}", ran.id)
    return ran.result
