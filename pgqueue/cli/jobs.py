"""Commands about jobs: put one in, look at them, retry, cancel, purge."""

import json
from typing import Annotated, Any

import typer

from pgqueue.app import App
from pgqueue.cli.options import AppName, Json, QueueName, TaskName, chosen_app, moment
from pgqueue.cli.output import LONGEST, as_written, cell, fail, note, say, say_json, say_table
from pgqueue.codec import redact
from pgqueue.errors import ConfigError, DuplicateJob, InvalidOption, JobNotFound
from pgqueue.job import State
from pgqueue.ops.listing import Page
from pgqueue.terminal import one_line

AT_ONCE = 1000  # dead jobs read with all their columns, to be retried one after the other

Ids = Annotated[list[str], typer.Argument(metavar="ID", help="Job ids.")]
SomeIds = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Job ids.")]
StateName = Annotated[str | None, typer.Option("--state", help=f"One of {', '.join(State)}.")]


def defer(
    name: Annotated[str, typer.Argument(metavar="TASK", help="The task's name, as `pgqueue tasks` prints it.")],
    args: Annotated[str, typer.Option("--args", help="JSON array of arguments.")] = "[]",
    kwargs: Annotated[str, typer.Option("--kwargs", help="JSON object of named arguments.")] = "{}",
    queue: Annotated[str | None, typer.Option("--queue", help="The queue it goes to.")] = None,
    priority: Annotated[int | None, typer.Option("--priority", help="Larger runs first.")] = None,
    delay: Annotated[float | None, typer.Option("--delay", help="Seconds from now.")] = None,
    unique: Annotated[str | None, typer.Option("--unique", help="Only one live job may have this key.")] = None,
    app: AppName = None,
) -> None:
    """Insert a job by its task's name and print its id."""
    options = {"queue": queue, "priority": priority, "delay": delay, "unique": unique}
    chosen = chosen_app(app)
    if app and name not in chosen.tasks:
        raise ConfigError(f"{app} has no task '{name}'; it has {', '.join(sorted(chosen.tasks)) or 'none'}")
    given = {option: value for option, value in options.items() if value is not None}
    job = chosen.enqueue(name, _parsed("--args", args, list), _parsed("--kwargs", kwargs, dict), **given)
    say(job.id if job.created else f"{job.id} (was there already)")


def _parsed(option: str, text: str, kind: type) -> Any:
    example = "'[1, \"two\"]'" if kind is list else '\'{"name": "value"}\''
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{option} is no JSON ({error}); write it as in {option} {example}") from None
    if not isinstance(value, kind):
        raise ConfigError(f"{option} takes a JSON {'array' if kind is list else 'object'}, as in {option} {example}")
    return value


def jobs(
    state: StateName = None,
    queue: QueueName = None,
    task: TaskName = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="AGO|TIME", help="Live jobs created, ended ones finished since: 2h, 2026-11-20 12:00."
        ),
    ] = None,
    after: Annotated[str | None, typer.Option("--after", metavar="ID", help="Only jobs older than this one.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many.")] = 20,
    app: AppName = None,
    as_json: Json = False,
) -> None:
    """List the newest jobs, alive or ended; looks at 10,000, or --limit, and says where to go on."""
    chosen = chosen_app(app)
    start = None if since is None else moment("--since", since)
    page = chosen.jobs(state=_state(state), queue=queue, task=task, since=start, after=after, limit=limit)
    found = [redact.shown(job, secret_names=chosen.config.secret_names) for job in page]
    if as_json:
        looked = {"looked_at": page.looked_at, "looked_back_to": page.looked_back_to, "next": page.next}
        say_json({"jobs": [job._asdict() for job in found], **looked})
        return
    rows = (
        (job.id, job.state, job.task, job.queue, job.attempt, job.created_at, job.error or job.result) for job in found
    )
    empty = "no jobs" if page.next is None else "no jobs among those looked at"
    say_table(("ID", "STATE", "TASK", "QUEUE", "ATTEMPT", "CREATED", "RESULT"), rows, empty=empty)
    if page.next is not None:
        note(_how_far(page))


def _how_far(page: Page) -> str:
    """For a page with something older: where to go on, and that what is older was not looked at, or only a part of it."""
    if page and page[-1].id == page.next:
        return f"there are older jobs: --after {page.next} goes on"
    rest = "of older ones, only some are shown" if page and page[-1].id < str(page.next) else "none older was looked at"
    return (
        f"looked at {page.looked_at:,} jobs, back to {cell(page.looked_back_to)}; {rest}: --after {page.next} goes on"
    )


def show(job_id: Annotated[str, typer.Argument(metavar="ID")], app: AppName = None, as_json: Json = False) -> None:
    """Everything about one job, with each failed attempt; the end of an id will do, as the dashboard shows it."""
    chosen = chosen_app(app)
    job_id = chosen.find(job_id)
    snapshot = chosen.snapshot(job_id)
    job = redact.shown(snapshot, secret_names=chosen.config.secret_names)._asdict()
    names = ("attempt", "started_at", "failed_at", "worker", "cause", "error", "traceback")
    attempts = [dict(zip(names, attempt, strict=True)) for attempt in chosen.attempts(job_id)]
    deeds = [dict(zip(("at", "who", "action", "state"), deed, strict=True)) for deed in chosen.audit(job_id)]
    if as_json:
        say_json({**job, "attempts": attempts, "audit": deeds})
        return
    for name, value in job.items():
        if value is not None:
            say(f"{name:<18} {cell(value)}")
    for attempt in attempts:
        say(
            f"\nattempt {attempt['attempt']} failed {cell(attempt['failed_at'])} on {cell(attempt['worker'])}: {attempt['cause']}"
        )
        say((attempt["traceback"] or attempt["error"]).rstrip())
    for deed in deeds:
        say(f"\n{cell(deed['at'])} {deed['action']} by {cell(deed['who'])}, it was {deed['state']}")


def why(job_id: Annotated[str, typer.Argument(metavar="ID")], app: AppName = None, as_json: Json = False) -> None:
    """Why a job does not run, or how it ended; the end of an id will do."""
    chosen = chosen_app(app)
    job_id = chosen.find(job_id)
    found = chosen.why(job_id)
    if as_json:
        say_json({"id": job_id, **found._asdict()})
        return
    say(f"{job_id} is {found.state}:")
    for reason in found.reasons:
        say(f"  {one_line(reason, at_most=LONGEST)}")


def retry(
    ids: SomeIds = None,
    dead: Annotated[bool, typer.Option("--dead", help="All dead jobs that fit --queue and --task.")] = False,
    queue: QueueName = None,
    task: TaskName = None,
    app: AppName = None,
) -> None:
    """Run ended jobs again from their first attempt; scheduled ones now."""
    chosen = chosen_app(app)
    if bool(ids) == dead:
        raise ConfigError("give the ids of jobs, or --dead for all that are dead")
    if dead:
        say(_retry_dead(chosen, queue=queue, task=task))
    for job_id in ids or []:
        say(f"{job_id}  {'runs again' if chosen.retry(job_id) else 'is queued or running already'}")


def _retry_dead(app: App, *, queue: str | None, task: str | None) -> str:
    """Page by page, however many there are. What dies again meanwhile keeps its id, so it is not met a second time."""
    again, refused, after = 0, 0, None
    while True:
        page = app.jobs(state=State.DEAD, queue=queue, task=task, after=after, limit=AT_ONCE)
        for job in page:
            try:
                again += app.retry(job.id)
            except DuplicateJob:
                refused += 1
            except JobNotFound:  # purged in between
                continue
        if (after := page.next) is None:
            break
    return f"{again} dead jobs run again" + (
        f"; {refused} cannot, as live jobs have their unique keys" if refused else ""
    )


def cancel(
    ids: Ids,
    reason: Annotated[str, typer.Option("--reason", help="Stored with the job.")] = "cancelled by pgqueue cancel",
    kill: Annotated[bool, typer.Option("--kill", help="End a task that does not stop, with its process.")] = False,
    app: AppName = None,
) -> None:
    """Cancel jobs: at once if they have not started, else their tasks are asked to stop."""
    chosen = chosen_app(app)
    done = f"cancelled, or asked to stop if it runs{', and killed if it does not' if kill else ''}"
    for job_id in ids:
        say(f"{job_id}  {done if chosen.cancel(job_id, reason=reason, kill=kill) else 'had ended already'}")


def purge(
    state: Annotated[
        str, typer.Option("--state", help="Which jobs: queued, scheduled, waiting, succeeded, dead or cancelled.")
    ],
    queue: QueueName = None,
    task: TaskName = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    app: AppName = None,
) -> None:
    """Delete all jobs in one state. There is no way back."""
    wanted = _state(state)
    chosen = chosen_app(app)
    if not yes and not typer.confirm(as_written(f"Delete every {wanted} job{f' of queue {queue}' if queue else ''}?")):
        fail("nothing was deleted")
    say(f"{chosen.purge(state=str(wanted), queue=queue, task=task)} jobs deleted")


def _state(text: str | None) -> State | None:
    try:
        return None if text is None else State(text)
    except ValueError:
        raise InvalidOption(f"--state {text} is no state; take one of {', '.join(State)}") from None


def add_to(cli: typer.Typer) -> None:
    """Register the commands of this module."""
    for command in (defer, jobs, show, why, retry, cancel, purge):
        cli.command()(command)
