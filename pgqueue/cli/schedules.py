"""Commands about schedules: what runs when, and what people change of it."""

import json
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from pgqueue import db
from pgqueue.cli.options import OPERATE, AppName, Json, chosen_app, moment
from pgqueue.cli.output import fail, note, say, say_json, say_table
from pgqueue.errors import InvalidOption
from pgqueue.loader import load_object
from pgqueue.queries import Steps
from pgqueue.queries.schedules import ListedSchedule
from pgqueue.schedules import control
from pgqueue.schedules.cron import check_cron, check_zone, zone
from pgqueue.schedules.importing import as_code, imported
from pgqueue.schedules.times import When

group = typer.Typer(help="Schedules: list them, and pause, run or change one.", invoke_without_command=True)

Name = Annotated[str, typer.Argument(metavar="NAME")]
Zone = Annotated[str | None, typer.Option("--tz", help="Time zone, such as Europe/Berlin; the default is UTC.")]
NEXT_SHOWN = 10  # times that `next` prints


@group.callback()
def cron(context: typer.Context, app: AppName = None, as_json: Json = False) -> None:
    """List schedules: when each runs next, and what its last job came to."""
    if context.invoked_subcommand is not None:
        return
    chosen = chosen_app(app)
    found = chosen.run(chosen.queries.listed_schedules())
    if as_json:
        say_json([each._asdict() | {"state": _state(each)} for each in found])
        return
    say_table(
        ["NAME", "WHEN", "ZONE", "NEXT", "NEXT IN UTC", "LAST", "LAST JOB", "STATE"],
        (
            [
                each.name,
                _when(each),
                each.tz,
                _local(each),
                _utc(each.next_run_at),
                each.last_run_at,
                _last(each),
                _state(each),
            ]
            for each in found
        ),
        empty="no schedules",
    )


@group.command(name="next")
def next_(
    expression: Annotated[str, typer.Argument(metavar="EXPR", help="A cron expression, in quotes.")],
    tz: Zone = None,
    as_json: Json = False,
) -> None:
    """Show the next times of a cron expression; no database is asked."""
    name = check_zone("--tz", tz)
    times = When(cron=check_cron("EXPR", expression), tz=name).upcoming(datetime.now(UTC))
    shown = [time for time, _ in zip(times, range(NEXT_SHOWN), strict=False)]
    if as_json:
        say_json(shown)
        return
    say_table(
        [name, "UTC"], ([_text(time.astimezone(zone(name))), _utc(time)] for time in shown), empty="it never comes"
    )


@group.command()
def run(name: Name, app: AppName = None) -> None:
    """Run a schedule's job now. Its next time stays."""
    ring = chosen_app(app).config.notify
    say(f"job {_run(app, lambda queries: control.run_now(queries, name, ring=ring))}")


@group.command()
def pause(
    name: Name,
    span: Annotated[str | None, typer.Option("--for", help="For so long: 10m, 2h, 3d.")] = None,
    app: AppName = None,
) -> None:
    """Pause a schedule; nothing that falls into the pause is made up for."""
    wanted = None if span is None else moment("--for", span)
    if isinstance(wanted, datetime):
        raise InvalidOption(f"--for {span} is not a duration: write 10m, 2h or 3d")
    row = _run(app, lambda queries: control.pause(queries, name, span=wanted))
    then = (
        f"until {_utc(row.resume_at)} UTC; it runs next at {_utc(row.next_run_at)} UTC"
        if wanted
        else "until `pgqueue cron resume`"
    )
    say(f"the schedule {name} is paused {then}")


@group.command()
def resume(name: Name, app: AppName = None) -> None:
    """Resume a schedule: it runs next after now."""
    done = _run(app, lambda queries: control.resume(queries, name))
    say(f"the schedule {name} runs again" if done else f"the schedule {name} was not paused")


@group.command(name="set")
def set_(
    name: Name,
    cron: Annotated[str | None, typer.Option("--cron", help="A cron expression, in quotes.")] = None,
    every: Annotated[str | None, typer.Option("--every", help="An interval instead: 30s, 5m, 2h, 1d.")] = None,
    tz: Zone = None,
    missed: Annotated[str | None, typer.Option("--missed", help="After an outage: once, skip or all.")] = None,
    overlap: Annotated[
        str | None, typer.Option("--overlap", help="While its last job is alive: skip, allow or queue.")
    ] = None,
    jitter: Annotated[float | None, typer.Option("--jitter", help="Seconds by which runs are spread.")] = None,
    args: Annotated[str | None, typer.Option("--args", help="A JSON list.")] = None,
    kwargs: Annotated[str | None, typer.Option("--kwargs", help="A JSON object.")] = None,
    queue: Annotated[str | None, typer.Option("--queue", help="Of its jobs.")] = None,
    task: Annotated[
        str | None, typer.Option("--task", help="Of its jobs; makes the schedule if there is none.")
    ] = None,
    app: AppName = None,
) -> None:
    """Change a schedule, or make one. Deploys leave it alone from then on: see `cron reset`."""
    said = {
        "cron": cron,
        "every": _span(every),
        "tz": tz,
        "missed": missed,
        "overlap": overlap,
        "jitter": jitter,
        "queue": queue,
    }
    said |= {"args": _json("--args", args, list), "kwargs": _json("--kwargs", kwargs, dict)}
    changes = {option: value for option, value in said.items() if value is not None}
    if not changes and task is None:
        raise InvalidOption(
            "say what is to change: --cron, --every, --tz, --missed, --overlap, --jitter, --args, --kwargs, ..."
        )
    row = _run(app, lambda queries: control.change(queries, name, changes, task=task))
    then = f"runs next at {_utc(row.next_run_at)} UTC" if row.next_run_at else "is paused"
    say(f"the schedule {name} {then}; deploys leave it alone until `pgqueue cron reset {name}`")


@group.command()
def reset(name: Name, app: AppName = None) -> None:
    """Undo what people changed: a schedule is again as the code of live workers declares it."""
    done = _run(app, lambda queries: control.reset(queries, name))
    say(f"the schedule {name} is as in the code" if done else f"the schedule {name} was as in the code already")


@group.command()
def remove(name: Name, app: AppName = None) -> None:
    """Forget a schedule that no live worker's code declares. Its jobs stay."""
    _run(app, lambda queries: control.remove(queries, name))
    say(f"removed the schedule {name}")


@group.command(name="import")
def import_(
    source: Annotated[
        str, typer.Argument(metavar="MODULE:NAME", help="A Celery app, a scheduler, or a list of RQ's cron jobs.")
    ],
    tz: Zone = None,
    code: Annotated[bool, typer.Option("--code", help="Print them as lines for your code, and write nothing.")] = False,
    skip: Annotated[bool, typer.Option("--skip", help="Make the others where some cannot be made.")] = False,
    app: AppName = None,
) -> None:
    """Make the schedules of Celery beat, APScheduler, RQ or rq-scheduler here. Imports that module."""
    zone_name = None if tz is None else check_zone("--tz", tz)
    found = imported(load_object(source), tz=zone_name)
    for name, why in found.refused.items():
        note(f"{name}: {why}")
    if found.refused and not skip:
        fail(f"{len(found.refused)} of these cannot be made, so none is: --skip makes the others")
    if code:
        say("\n".join(map(as_code, found.schedules)))
        return
    _run(app, lambda queries: control.add(queries, found.schedules))
    say(f"made {len(found.schedules)} schedules: see `pgqueue cron`")


def _run(name: str | None, steps: Any) -> Any:
    """In one transaction."""
    app = chosen_app(name)
    made: Steps[Any] = steps(app.queries)
    with db.connect(app.dsn) as conn, conn.transaction():
        return db.run(conn, made)


def _span(text: str | None) -> timedelta | None:
    wanted = None if text is None else moment("--every", text)
    if isinstance(wanted, datetime):
        raise InvalidOption(f"--every {text} is not a duration: write 30s, 5m, 2h or 1d")
    return wanted


def _json(option: str, text: str | None, kind: type) -> str | None:
    """The text, if it is JSON of that kind."""
    try:
        if text is None or isinstance(json.loads(text), kind):
            return text
    except (ValueError, RecursionError):
        pass
    raise InvalidOption(f"{option} takes a JSON {'list' if kind is list else 'object'}, not {text}")


def _when(each: ListedSchedule) -> str:
    every_s = each.every_s or 0
    return each.cron or (f"every {timedelta(seconds=every_s)}" if every_s % 1 == 0 else f"every {every_s:g} s")


def _utc(time: datetime | None) -> str:
    return "-" if time is None else _text(time.astimezone(UTC))


def _local(each: ListedSchedule) -> str:
    """By the clocks of its zone."""
    try:
        return "-" if each.next_run_at is None else _text(each.next_run_at.astimezone(zone(each.tz)))
    except (KeyError, ValueError, OSError):
        return "(unknown zone)"


def _text(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def _last(each: ListedSchedule) -> str:
    return "-" if each.last_job is None else f"{each.last_job} {each.last_state or 'gone'}"


def _state(each: ListedSchedule) -> str:
    """What keeps it from running, or what else is worth knowing."""
    if each.stopped_at is not None:
        return "stopped: no live worker declares it"
    if each.paused_at is not None:
        return "paused" if each.resume_at is None else f"paused until {_utc(each.resume_at)} UTC"
    if each.error is not None:
        return f"failed: {each.error}"
    if each.skipped is not None:
        return f"last time skipped: {each.skipped}"
    if each.source == "person":
        return "changed by a person" + ("; the code says otherwise" if each.fingerprint else "")
    return "no live worker declares it" if each.undeclared_at else "on"


def add_to(cli: typer.Typer) -> None:
    """Register the commands of this module."""
    cli.add_typer(group, name="cron", rich_help_panel=OPERATE)
