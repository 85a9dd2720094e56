"""Options that several commands share, and the App they mean."""

import os
from typing import Annotated

import typer

from pgqueue.app import App
from pgqueue.config import Config
from pgqueue.errors import ConfigError
from pgqueue.finder import find_app
from pgqueue.options import check_name

AppName = Annotated[str | None, typer.Option("-A", "--app", help="Where the App is: shop.tasks or shop.tasks:app.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
QueueName = Annotated[str | None, typer.Option("--queue", help="Only this queue.")]
TaskName = Annotated[str | None, typer.Option("--task", help="Only this task.")]

CORES = os.cpu_count() or 1


def app_spec(given: str | None) -> str:
    """-A, else PGQUEUE_APP, else [tool.pgqueue]; raises ConfigError."""
    spec = given or Config.load().app
    if spec is None:
        raise ConfigError(
            'where are your tasks? Give -A module, set PGQUEUE_APP, or write app = "module" under [tool.pgqueue]'
        )
    return spec


def chosen_app(given: str | None) -> App:
    """The App that -A names, else one with the settings of the environment: no user code is imported without -A."""
    return find_app(given) if given else App()


def queue_names(text: str | None) -> tuple[str, ...] | None:
    """`-Q a,b` as a tuple; None for all."""
    return None if text is None else tuple(dict.fromkeys(check_name("-Q", name.strip()) for name in text.split(",")))
