"""Commands about jobs: insert one, look at them, retry, cancel, purge."""

import json
from typing import Annotated, Any

import typer

from pgqueue.app import App
from pgqueue.cli.options import CHANGE, LOOK, AppName, Json, QueueName, TaskName, chosen_app, moment
from pgqueue.cli.output import LONGEST, as_written, cell, fail, note, say, say_json, say_table
from pgqueue.client.options import Given
from pgqueue.codec import redact
from pgqueue.errors import ConfigError, DuplicateJob, InvalidOption, JobNotFound
from pgqueue.job import State
from pgqueue.ops.listing import Page
from pgqueue.terminal import one_line

AT_ONCE = 1000  # dead jobs on one page, with all their columns; they are retried one by one

Ids = Annotated[list[str], typer.Argument(metavar="ID", help="Job ids.")]
SomeIds = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Job ids.")]
StateName = Annotated[str | None, typer.Option("--state", help=f"One of {', '.join(State)}.")]


def defer(
    name: Annotated[str, typer.Argument(metavar="TASK", help="The task's name, as `pgqueue tasks` prints it.")],
    args: Annotated[str, typer.Option("--args", help="JSON array of arguments.")] = "[]",
    kwargs: Annotated[str, typer.Option("--kwargs", help="JSON object of named arguments.")] = "{}",
    queue: Annotated[str | None, typer.Option("--queue", help="Put the job into this queue.")] = None,
    priority: Annotated[int | None, typer.Option("--priority", help="Run before jobs of smaller numbers.")] = None,
    delay: Annotated[float | None, typer.Option("--delay", help="Run after this many seconds.")] = None,
    unique: Annotated[str | None, typer.Option("--unique", help="Insert only if no live job has this key.")] = None,
    debounce: Annotated[
        str | None,
        typer.Option("--debounce", metavar="SPAN", help="One job of calls that come sooner after another: 5s, 2m."),
    ] = None,
    once_per: Annotated[
        str | None,
        typer.Option("--once-per", metavar="SPAN", help="Insert only if there was none for so long: 1h, 1d."),
    ] = None,
    app: AppName = None,
) -> None:
    """Insert a job by its task's name and print its id."""
    options: Given = {
        "queue": queue, "priority": priority, "delay": delay, "unique": unique, "debounce": debounce, "once_per": once_per,
    }  # fmt: skip
    chosen = chosen_app(app)
    if app and name not in chosen.tasks:
        raise ConfigError(f"{app} has no task '{name}'; it has {', '.join(sorted(chosen.tasks)) or 'none'}")
    job = chosen.enqueue(name, _parsed("--args", args, list), _parsed("--kwargs", kwargs, dict), **options)
    say(job.id if job.created else f"{job.id} (already exists)")


def _parsed(option: str, text: str, kind: type) -> Any:
    example = "'[1, \"two\"]'" if kind is list else '\'{"name": "value"}\''
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{option} is not valid JSON ({error}); write it as in {option} {example}") from None
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
            "--since",
            metavar="AGO|TIME",
            help="Only jobs created (live) or finished (ended) since: 2h, 2026-11-20 12:00.",
        ),
    ] = None,
    after: Annotated[str | None, typer.Option("--after", metavar="ID", help="Only jobs older than this one.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="Show at most this many.")] = 20,
    app: AppName = None,
    as_json: Json = False,
) -> None:
    """List the newest jobs, live or ended. Reads 10,000 jobs, or --limit, and says how to continue."""
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
    empty = "no jobs" if page.next is None else "no jobs among those read"
    say_table(("ID", "STATE", "TASK", "QUEUE", "ATTEMPT", "CREATED", "RESULT"), rows, empty=empty)
    if page.next is not None:
        note(_how_far(page))


def _how_far(page: Page) -> str:
    """For a page that is not the last: how to continue, and that older jobs were read in part or not at all."""
    if page and page[-1].id == page.next:
        return f"there are older jobs: continue with --after {page.next}"
    rest = (
        "only some of the older ones are shown" if page and page[-1].id < str(page.next) else "older ones were not read"
    )
    return (
        f"read {page.looked_at:,} jobs, back to {cell(page.looked_back_to)}; {rest}: continue with --after {page.next}"
    )


def show(job_id: Annotated[str, typer.Argument(metavar="ID")], app: AppName = None, as_json: Json = False) -> None:
    """Show one job with every failed attempt. The last 6 to 12 digits of an id are enough."""
    chosen = chosen_app(app)
    job_id = chosen.find(job_id)
    snapshot = chosen.snapshot(job_id)
    job = redact.shown(snapshot, secret_names=chosen.config.secret_names)._asdict()
    attempts, deeds = chosen.attempts(job_id), chosen.audit(job_id)
    if as_json:
        kept = {"attempts": [attempt._asdict() for attempt in attempts], "audit": [deed._asdict() for deed in deeds]}
        say_json({**job, **kept})
        return
    for name, value in job.items():
        if value is not None:
            say(f"{name:<18} {cell(value)}")
    for attempt in attempts:
        say(f"\nattempt {attempt.attempt} failed {cell(attempt.failed_at)} on {cell(attempt.worker)}: {attempt.cause}")
        say((attempt.traceback or attempt.error).rstrip())
    for deed in deeds:
        say(f"\n{cell(deed.at)} {deed.action} by {cell(deed.who)}, it was {deed.state}")


def why(job_id: Annotated[str, typer.Argument(metavar="ID")], app: AppName = None, as_json: Json = False) -> None:
    """Explain why a job is not running, or how it ended. The last 6 to 12 digits of an id are enough."""
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
    dead: Annotated[bool, typer.Option("--dead", help="Retry all dead jobs that match --queue and --task.")] = False,
    queue: QueueName = None,
    task: TaskName = None,
    app: AppName = None,
) -> None:
    """Run ended jobs again from their first attempt; run scheduled jobs now."""
    chosen = chosen_app(app)
    if bool(ids) == dead:
        raise ConfigError("give the ids of jobs, or --dead for all that are dead")
    if dead:
        say(_retry_dead(chosen, queue=queue, task=task))
    for job_id in ids or []:
        say(f"{job_id}  {'runs again' if chosen.retry(job_id) else 'is already queued or running'}")


def _retry_dead(app: App, *, queue: str | None, task: str | None) -> str:
    """Retry page by page, however many there are. A job that dies again meanwhile keeps its id, so no later page has it."""
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
    reason: Annotated[
        str, typer.Option("--reason", help="Store this reason with the job.")
    ] = "cancelled by pgqueue cancel",
    kill: Annotated[bool, typer.Option("--kill", help="Kill the process of a task that does not stop.")] = False,
    app: AppName = None,
) -> None:
    """Cancel jobs: at once if they have not started, else ask their tasks to stop."""
    chosen = chosen_app(app)
    done = f"cancelled, or asked to stop if it is running{', and killed if it does not' if kill else ''}"
    for job_id in ids:
        say(f"{job_id}  {done if chosen.cancel(job_id, reason=reason, kill=kill) else 'had already ended'}")


def purge(
    state: Annotated[
        str, typer.Option("--state", help="Delete these: queued, scheduled, waiting, succeeded, dead or cancelled.")
    ],
    queue: QueueName = None,
    task: TaskName = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    app: AppName = None,
) -> None:
    """Delete all jobs in one state. This cannot be undone."""
    wanted = _state(state)
    chosen = chosen_app(app)
    if not yes and not typer.confirm(as_written(f"Delete every {wanted} job{f' of queue {queue}' if queue else ''}?")):
        fail("nothing was deleted")
    say(f"{chosen.purge(state=str(wanted), queue=queue, task=task)} jobs deleted")


def _state(text: str | None) -> State | None:
    try:
        return None if text is None else State(text)
    except ValueError:
        raise InvalidOption(f"--state {text} is not a valid state; take one of {', '.join(State)}") from None


def add_to(cli: typer.Typer) -> None:
    """Register the commands of this module."""
    for command in (jobs, show, why, defer, retry, cancel, purge):
        cli.command(rich_help_panel=LOOK if command in (jobs, show, why) else CHANGE)(command)
