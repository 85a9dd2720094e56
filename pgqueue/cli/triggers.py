"""Commands about triggers on users' tables: write those of the app, make one by hand, look, drop."""

from typing import Annotated, Any

import typer

from pgqueue.app import App
from pgqueue.cli.options import CHANGE, AppName, Json, app_spec, chosen_app
from pgqueue.cli.output import say, say_json, say_table
from pgqueue.errors import InvalidOption
from pgqueue.loader import load_app
from pgqueue.triggers import DeclaredTrigger, wish, with_task

group = typer.Typer(help="Make jobs, events or notifications of changes of tables.", no_args_is_help=True)

AsSql = Annotated[bool, typer.Option("--sql", help="Print the SQL and change nothing.")]


@group.command()
def sync(app: AppName = None, as_sql: AsSql = False) -> None:
    """Create the triggers that the app declares, and change those that differ. Drops none."""
    chosen = load_app(app_spec(app))
    if as_sql:
        say(chosen.triggers.script())
        return
    done = chosen.triggers.sync()
    say("\n".join(f"{change.what:<9} {change.name}" for change in done) or "the app declares no triggers")


@group.command()
def create(
    table: Annotated[str, typer.Option("--table", help="The table, as SQL names it.")],
    on: Annotated[str, typer.Option("--on", help="Comma-separated: insert, update, delete, truncate.")],
    task: Annotated[str | None, typer.Option("--task", help="Make a job of this task.")] = None,
    event: Annotated[str | None, typer.Option("--event", help="Publish an event of this type.")] = None,
    notify: Annotated[str | None, typer.Option("--notify", help="Notify this channel.")] = None,
    columns: Annotated[
        str | None, typer.Option("--columns", help="Comma-separated: an update counts if one of these changes.")
    ] = None,
    when: Annotated[str | None, typer.Option("--when", help="A condition of SQL over new and old.")] = None,
    payload: Annotated[str, typer.Option("--payload", help="pk, row or changes.")] = "pk",
    each: Annotated[
        str | None, typer.Option("--each", help="statement or row; default: what sees every change.")
    ] = None,
    bulk: Annotated[bool | None, typer.Option("--bulk/--no-bulk", help="One job for each 1,000 rows.")] = None,
    always: Annotated[bool, typer.Option("--always", help="Fire in sessions that replicate, too.")] = False,
    skip_own: Annotated[bool, typer.Option("--skip-own", help="Not for changes that the task itself makes.")] = False,
    name: Annotated[str | None, typer.Option("--name", help="Default: of table and target.")] = None,
    as_sql: AsSql = False,
    app: AppName = None,
) -> None:
    """Create one trigger. With -A, the task must be one of that app's, and its options count."""
    chosen = chosen_app(app)
    given: Any = {
        "task": task, "event": event, "notify": notify, "when": when, "payload": payload, "each": each, "bulk": bulk,
        "always": always, "skip_own": skip_own, "name": name,
    }  # fmt: skip
    wanted = _of_task(chosen, wish(table, on=_names(on), columns=_names(columns), **given), known=app is not None)
    if as_sql:
        say(chosen.triggers.script(wanted))
        return
    (change,) = chosen.triggers.create(wanted)
    say(f"{change.what} {change.name}")


def _of_task(app: App, wanted: DeclaredTrigger, *, known: bool) -> DeclaredTrigger:
    return with_task(wanted, app.tasks) if known or wanted.target in app.tasks else wanted


def _names(text: str | None) -> Any:
    names = [name.strip() for name in (text or "").split(",")] if text else []
    if "" in names:
        raise InvalidOption(f"'{text}' has an empty name: write names with a comma between them")
    return names


@group.command("list")
def list_(app: AppName = None, as_json: Json = False) -> None:
    """List the triggers that were made."""
    chosen = chosen_app(app)
    found = chosen.triggers.listing()
    if as_json:
        say_json([each._asdict() for each in found])
        return
    rows = ((each.name, each.table, each.on, each.makes, each.made_by, each.made_at) for each in found)
    say_table(("NAME", "TABLE", "ON", "MAKES", "MADE BY", "MADE"), rows, empty="no triggers")


@group.command()
def check(app: AppName = None, as_json: Json = False) -> None:
    """Find what is missing, disabled, changed by hand or not wanted any longer. Exits with 1 if changes may be lost.

    With -A, also compares with what that app declares.
    """
    chosen = chosen_app(app)
    found = chosen.triggers.check(by_code=app is not None)
    if as_json:
        say_json([fault._asdict() for fault in found])
    else:
        for fault in found:
            say(f"{'PROBLEM' if fault.problem else 'note':<8} {fault.name}: {fault.what}\n         {fault.cure}")
        if not found:
            say("no problems found")
    if any(fault.problem for fault in found):
        raise typer.Exit(1)


@group.command()
def drop(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Names, as `pgqueue trigger list` prints them.")],
    app: AppName = None,
) -> None:
    """Drop triggers with their functions."""
    chosen_app(app).triggers.drop(names)
    say("\n".join(f"dropped {name}" for name in names))


def add_to(cli: typer.Typer) -> None:
    """Register the commands of this module."""
    cli.add_typer(group, name="trigger", rich_help_panel=CHANGE)
