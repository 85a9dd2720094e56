"""pgqueue server: the project's embedded PostgreSQL."""

import dataclasses
import os

import typer

from pgqueue import embedded
from pgqueue.cli.options import OPERATE, Json
from pgqueue.cli.output import say, say_json

group = typer.Typer(help="Manage the project's own PostgreSQL, which runs when no DSN is given.", no_args_is_help=True)


@group.command()
def start() -> None:
    """Start the server unless it is running, and print its DSN."""
    say(embedded.ensure())


@group.command()
def stop() -> None:
    """Stop the server. The data stays."""
    say("stopped" if embedded.stop() else "it was not running")


@group.command()
def status(as_json: Json = False) -> None:
    """Show whether the server is running, and where its data is."""
    found = {name: str(value) for name, value in dataclasses.asdict(embedded.status()).items() if value is not None}
    if as_json:
        say_json(found)
    for name, value in {} if as_json else found.items():
        say(f"{name:<12} {value}")


@group.command()
def psql() -> None:
    """Open psql on the server."""
    command = embedded.psql_command()
    os.execvp(command[0], command)


def add_to(cli: typer.Typer) -> None:
    """Register the commands of this module."""
    cli.add_typer(group, name="server", rich_help_panel=OPERATE)
