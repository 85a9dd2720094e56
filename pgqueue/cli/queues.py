"""Commands about the whole: the dashboard, queues, workers and the schema."""

import sys
from typing import Annotated

import typer
from rich.console import Console

from pgqueue import dashboard, db, schema
from pgqueue.cli.options import CHANGE, LOOK, OPERATE, AppName, Json, chosen_app, place_of
from pgqueue.cli.output import fail, note, say, say_json, say_table
from pgqueue.client.options import span_seconds
from pgqueue.ops import stats
from pgqueue.ops.limits import is_gate

QueueArgument = Annotated[str, typer.Argument(metavar="QUEUE")]


def stats_(
    app: AppName = None,
    once: Annotated[bool, typer.Option("--once", help="Print one page and exit.")] = False,
    as_json: Json = False,
    interval: Annotated[
        float, typer.Option("--interval", min=0.2, max=3600, help="Refresh interval in seconds.")
    ] = 1.0,
) -> None:
    """Show the dashboard: queues, workers, throughput, failures. Press q to quit."""
    chosen = chosen_app(app)
    title = f"{place_of(chosen)} · {chosen.config.schema}"

    def fetch() -> stats.Stats:
        return chosen.look(stats.gather(chosen.queries))

    if as_json:
        say_json(fetch().to_json())
    elif once or not sys.stdout.isatty():
        Console().print(dashboard.page(fetch(), title=title))
    else:
        dashboard.live(fetch, title=title, console=Console(), refresh_s=interval)


def workers(app: AppName = None, as_json: Json = False) -> None:
    """List the workers that hold a lease."""
    chosen = chosen_app(app)
    found = chosen.look(stats.workers(chosen.queries))
    if as_json:
        say_json(found)
    else:
        names = ("name", "state", "concurrency", "busy", "uptime_s", "heartbeat_age_s")
        say_table(
            [name.upper() for name in names], ([each.get(name) for name in names] for each in found), empty="no workers"
        )


def pause(
    queue: QueueArgument,
    app: AppName = None,
    for_: Annotated[
        str | None, typer.Option("--for", metavar="SPAN", help="Resume by itself after this long: 90s, 10m, 2h.")
    ] = None,
    why: Annotated[
        str | None, typer.Option("--why", help="The reason, for `pgqueue why`; of a task or key alone.")
    ] = None,
) -> None:
    """Stop claiming from a queue, or jobs of a task (task:NAME) or key (tenant=42). Running jobs continue."""
    if for_ is not None:
        span_seconds("--for", for_)
    chosen_app(app).pause(queue, for_=for_, why=why)
    ends = "; run" if for_ is None else f" for {for_}; or run"
    say(f"{_shown(queue)} is paused{ends} `pgqueue resume {queue}` to continue")


def drain(
    queue: QueueArgument,
    timeout: Annotated[
        str | None,
        typer.Option("--timeout", metavar="SPAN", help="Give up after this long: 90s, 10m, 2h. Exit with 1."),
    ] = None,
    app: AppName = None,
) -> None:
    """Wait until no job of a queue is due or runs, then pause it. New jobs are run meanwhile."""
    if timeout is not None:
        span_seconds("--timeout", timeout)
    note(f"waiting until no job of queue {queue} is due or runs; `pgqueue stats` shows them")
    if left := chosen_app(app).drain(queue, timeout=timeout):
        fail(
            f"queue {queue} is not drained: {left} {'jobs are' if left > 1 else 'job is'} due or running after {timeout}"
        )
    say(f"queue {queue} is drained and paused; run `pgqueue resume {queue}` to continue")


def resume(queue: QueueArgument, app: AppName = None) -> None:
    """Claim from a paused queue again, or jobs of a paused task or key."""
    say(f"{_shown(queue)} {'is resumed' if chosen_app(app).resume(queue) else 'was not paused'}")


def _shown(name: str) -> str:
    return name if is_gate(name) else f"queue {name}"


def migrate(
    app: AppName = None,
    as_sql: Annotated[bool, typer.Option("--sql", help="Print the SQL for an empty database, for psql.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only check whether the schema is up to date. Exit with 1 if not.")
    ] = False,
    roles: Annotated[bool, typer.Option("--roles", help="Also create group roles with limited rights.")] = False,
) -> None:
    """Create or update the tables."""
    chosen = chosen_app(app)
    if as_sql:
        say("".join((schema.roles_script if roles else schema.script)(chosen.queries)))
    elif check:
        with db.connect(chosen.dsn, silence_s=db.PATIENCE_S) as conn:
            db.run(conn, schema.check(chosen.queries, schema=chosen.config.schema))
        say(f"schema '{chosen.config.schema}' is up to date (version {schema.newest()})")
    else:
        done = chosen.migrate(roles=roles)
        say("\n".join(f"applied {name}" for name in done) or f"schema '{chosen.config.schema}' is up to date")
        if roles:
            say(f"grant these to your logins: {', '.join(chosen.config.roles.values())}")


def add_to(cli: typer.Typer) -> None:
    """Register the commands of this module."""
    cli.command(name="stats", rich_help_panel=LOOK)(stats_)
    cli.command(rich_help_panel=LOOK)(workers)
    cli.command(rich_help_panel=CHANGE)(pause)
    cli.command(rich_help_panel=CHANGE)(resume)
    cli.command(rich_help_panel=CHANGE)(drain)
    cli.command(rich_help_panel=OPERATE)(migrate)
