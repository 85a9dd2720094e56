"""The command line: each command parses, calls one thing and prints. Only this folder prints.

Errors for people are one line that says what to do; exit code 2 for a wrong call, 1 for a failure. `--debug` shows the
traceback instead.
"""

import logging
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

import pgqueue
from pgqueue import db
from pgqueue.cli import (
    bench,
    channels,
    demo,
    doctor,
    events,
    guide,
    jobs,
    limits,
    queues,
    relay,
    schedules,
    server,
    triggers,
    webhooks,
    worker,
)
from pgqueue.cli.options import Home, at
from pgqueue.cli.output import Notes, fail, say, show_everything
from pgqueue.errors import ConfigError, PgQueueError
from pgqueue.terminal import escape

cli = typer.Typer(
    name="pgqueue",
    help="A job queue on PostgreSQL.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for part in (
    worker,
    relay,
    queues,
    limits,
    jobs,
    events,
    triggers,
    doctor,
    server,
    demo,
    bench,
    guide,
    channels,
    webhooks,
    schedules,
):
    part.add_to(cli)

_debug = False


def _version(wanted: bool) -> None:
    if wanted:
        say(f"pgqueue {pgqueue.__version__}")
        raise typer.Exit


@cli.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    global _debug
    _debug = debug


def main(words: Sequence[str] | None = None, *, program: str | None = None, home: Home | None = None) -> None:
    """The console script: what was typed, or these words. Ends by SystemExit unless all went well.

    program: what is said to have been typed before them. home: where commands look when they are given no -A.
    """
    show_everything()
    starts = logging.getLogger("pgqueue.embedded")
    starts.addHandler(Notes(logging.INFO))
    starts.setLevel(logging.INFO)
    starts.propagate = False  # a worker's own log would say it again
    try:
        with at(home):
            cli(words, prog_name=program)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # `pgqueue jobs | head`
        sys.stderr.close()
        sys.exit(1)
    except (PgQueueError, db.DatabaseError, TypeError) as error:
        if _debug or (isinstance(error, TypeError) and not isinstance(error, PgQueueError)):
            sys.stderr.write(escape(traceback.format_exc()))
            sys.exit(1)
        fail(str(error).splitlines()[0] if str(error) else type(error).__name__, usage=isinstance(error, ConfigError))
