"""`flask pgqueue ...`: the same commands as `pgqueue ...`, on the application's database and with its tasks."""

import os
import sys
from typing import NoReturn

import click
from flask.cli import ScriptInfo

from pgqueue.app import App
from pgqueue.cli import main
from pgqueue.cli.options import Home, added_path
from pgqueue.config import environment_for

AS_APP = "pgqueue.contrib.flask.worker"


def command_for(app: App) -> click.Command:
    """What is added to the commands of a Flask application that uses this App."""

    @click.command(
        "pgqueue",
        short_help="The job queue: `flask pgqueue worker` runs jobs.",
        context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
        add_help_option=False,
    )
    @click.argument("words", nargs=-1, type=click.UNPROCESSED)
    @click.pass_context
    def command(context: click.Context, words: tuple[str, ...]) -> None:
        info = context.ensure_object(ScriptInfo)
        if "worker" in words[:1] and "--help" not in words:
            _become_worker(info, words)
        with info.load_app().app_context():
            main(words, program="flask pgqueue", home=Home(app, AS_APP))

    return command


def _become_worker(info: ScriptInfo, words: tuple[str, ...]) -> NoReturn:
    """A worker takes the place of this process, which has imported the application: in a supervisor no user code runs."""
    if info.create_app is not None:
        raise click.UsageError(
            "a worker's processes find the application by its name alone: use `flask --app MODULE`, or set FLASK_APP"
        )
    variables = environment_for(app=AS_APP, path=added_path())
    if info.app_import_path is not None:
        variables["FLASK_APP"] = info.app_import_path
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, "-m", "pgqueue", *words], variables)
