"""pgqueue server: the project's embedded PostgreSQL."""

import dataclasses
import os

import typer

from pgqueue import embedded
from pgqueue.cli.options import Json
from pgqueue.cli.output import say, say_json

group = typer.Typer(help="The project's own PostgreSQL, used when no DSN is given.", no_args_is_help=True)


@group.command()
def start() -> None:
    """Start it, or join it if it runs, and print its DSN."""
    say(embedded.ensure())


@group.command()
def stop() -> None:
    """Stop it; the data stays."""
    say("stopped" if embedded.stop() else "it was not running")


@group.command()
def status(as_json: Json = False) -> None:
    """Whether it runs, and where its data is."""
    found = {name: str(value) for name, value in dataclasses.asdict(embedded.status()).items() if value is not None}
    if as_json:
        say_json(found)
    for name, value in {} if as_json else found.items():
        say(f"{name:<12} {value}")


@group.command()
def psql() -> None:
    """Open psql on it."""
    command = embedded.psql_command()
    os.execvp(command[0], command)


def add_to(cli: typer.Typer) -> None:
    """Register the commands of this module."""
    cli.add_typer(group, name="server")
