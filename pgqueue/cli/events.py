"""Commands about events: publish one, list them, and pause, replay or drop who subscribed."""

import json
from typing import Annotated

import typer

from pgqueue.cli.options import CHANGE, LOOK, AppName, Json, chosen_app, moment
from pgqueue.cli.output import say, say_json, say_table
from pgqueue.errors import ConfigError, InvalidOption
from pgqueue.spans import SPAN

group = typer.Typer(
    help="Pause, resume, replay, start or drop a subscription; see to its events that were put aside.",
    no_args_is_help=True,
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="As `pgqueue subscriptions` lists it.")]

Jobs = Annotated[
    list[str] | None, typer.Argument(metavar="[JOB]...", help="As `pgqueue subscription aside` lists them.")
]
All = Annotated[bool, typer.Option("--all", help="All that were put aside.")]


def publish(
    type_: Annotated[str, typer.Argument(metavar="TYPE", help="As in user.created.")],
    payload: Annotated[str, typer.Argument(metavar="[JSON]", help="The payload.")] = "null",
    key: Annotated[str | None, typer.Option("--key", help="What it is about, as in user:1. Its order is kept.")] = None,
    app: AppName = None,
) -> None:
    """Publish an event and print its id."""
    try:
        value = json.loads(payload)
    except ValueError as error:
        raise ConfigError(f"the payload is not valid JSON ({error}); write it as in '{{\"id\": 1}}'") from None
    say(chosen_app(app).publish(type_, value, key=key))


def events(
    types: Annotated[
        list[str] | None, typer.Option("--type", help="Only this type, or pattern as user.*; may be repeated.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="AGO|TIME", help="Only those published since: 2h, 2026-11-20 12:00."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="Show at most this many.")] = 20,
    app: AppName = None,
    as_json: Json = False,
) -> None:
    """List the newest events. Payloads are shown with --json alone."""
    start = None if since is None else moment("--since", since)
    found = chosen_app(app).events(*(types or ()), since=start, limit=limit)
    if as_json:
        say_json([event._asdict() for event in found])
    else:
        say_table(["ID", "PUBLISHED", "TYPE", "KEY"], ([e.id, e.at, e.type, e.key] for e in found), empty="no events")


def subscriptions(app: AppName = None, as_json: Json = False) -> None:
    """List who gets which events, and how far each is behind."""
    found = chosen_app(app).subscription_states()
    if as_json:
        say_json([state._asdict() for state in found])
        return
    names = ("name", "mode", "types", "behind", "behind_s", "lost", "why")
    rows = ([", ".join(v) if isinstance(v := getattr(state, name), list) else v for name in names] for state in found)
    say_table([name.upper() for name in names], rows, empty="no subscriptions")


def pause(name: Name, app: AppName = None) -> None:
    """Deliver nothing to it. Events wait in the log for as long as that is kept."""
    chosen_app(app).subscription(name).pause()
    say(f"subscription {name} is paused; run `pgqueue subscription resume {name}` to continue")


def resume(name: Name, app: AppName = None) -> None:
    """Deliver again, from where it was."""
    chosen_app(app).subscription(name).resume()
    say(f"subscription {name} is resumed")


def replay(
    name: Name,
    start: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="AGO|TIME|ID|begin",
            help="2h, 2026-11-20 12:00, an event's id (it is the first one), or begin.",
        ),
    ],
    to: Annotated[str | None, typer.Option("--to", metavar="NEW", help="Make a copy of this name for it.")] = None,
    in_place: Annotated[bool, typer.Option("--in-place", help="Have this subscription get them once more.")] = False,
    app: AppName = None,
) -> None:
    """Deliver again from a time or an event on, to a copy or once more."""
    if (to is None) != in_place:
        raise InvalidOption(
            f"say --to NEW for a copy that continues with what comes, or --in-place to have {name} get them once more"
        )
    by_time = SPAN.fullmatch(start) or (start[:4].isdigit() and start[4:5] == "-" and "-" in start[5:8])
    chosen_app(app).subscription(name).replay(moment("--from", start) if by_time else start, to=to)
    say(f"subscription {to or name} reads from {start}")


def aside(
    name: Name,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Show at most this many.")] = 20,
    app: AppName = None,
    as_json: Json = False,
) -> None:
    """List its events that were put aside. `pgqueue show JOB` has the payload."""
    found = chosen_app(app).subscription(name).aside(limit=limit)
    if as_json:
        say_json([event._asdict() for event in found])
        return
    rows = ([e.job, e.state, e.at, e.type, e.key, e.error] for e in found)
    say_table(["JOB", "STATE", "SINCE", "TYPE", "KEY", "ERROR"], rows, empty="nothing was put aside")


def retry(name: Name, jobs: Jobs = None, everything: All = False, app: AppName = None) -> None:
    """Try events again that were put aside."""
    done = chosen_app(app).subscription(name).retry(*_of(jobs, everything))
    say(f"tried again: {done} event{'s' * (done != 1)} of {name}")


def discard(name: Name, jobs: Jobs = None, everything: All = False, app: AppName = None) -> None:
    """Forget events that were put aside, and their jobs."""
    done = chosen_app(app).subscription(name).discard(*_of(jobs, everything))
    say(f"forgotten: {done} event{'s' * (done != 1)} of {name}")


def _of(jobs: list[str] | None, everything: bool) -> list[str]:
    if bool(jobs) == everything:
        raise InvalidOption("name the jobs, as `pgqueue subscription aside NAME` lists them, or say --all")
    return jobs or []


def start(
    name: Name,
    lane: Annotated[int | None, typer.Option("--lane", min=0, max=255, help="Only this one.")] = None,
    app: AppName = None,
) -> None:
    """Let lanes continue that stopped at an event (on_poison="stop"): after it, or a relay with another try."""
    started = chosen_app(app).subscription(name).start(lane)
    say(
        f"subscription {name}: "
        + (f"lane {', '.join(map(str, started))} continues" if started else "no lane has stopped")
    )


def drop(name: Name, app: AppName = None) -> None:
    """Forget it and how far it has come. Its jobs stay."""
    chosen_app(app).subscription(name).drop()
    say(f"subscription {name} is dropped")


def add_to(cli: typer.Typer) -> None:
    """Register the commands of this module."""
    cli.command(rich_help_panel=CHANGE)(publish)
    cli.command(rich_help_panel=LOOK)(events)
    cli.command(rich_help_panel=LOOK)(subscriptions)
    for command in (pause, resume, replay, aside, retry, discard, start, drop):
        group.command()(command)
    cli.add_typer(group, name="subscription", rich_help_panel=CHANGE)
