"""Options that several commands share, and the App they mean."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from pgqueue import db, embedded
from pgqueue.app import App
from pgqueue.client.options import check_name
from pgqueue.config import Config
from pgqueue.errors import ConfigError, InvalidOption
from pgqueue.loader import load_app

AppName = Annotated[str | None, typer.Option("-A", "--app", help="Module of the App: shop.tasks or shop.tasks:app.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
QueueName = Annotated[str | None, typer.Option("--queue", help="Only this queue.")]
TaskName = Annotated[str | None, typer.Option("--task", help="Only this task.")]

# The panels of `pgqueue --help`.
RUN, LOOK, CHANGE, OPERATE = "Run", "Look", "Change", "Operate"

AGO = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([smhdw]?)")
UNITS = {"": "seconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

CORES = os.cpu_count() or 1


class Home(NamedTuple):
    """What commands mean without -A where they are those of a framework."""

    app: App
    spec: str
    """How a worker finds it, as -A would say."""


def added_path() -> list[str]:
    """The folders that this program imports from and another Python would not: its own, and what it has put on its path."""
    asked = [sys.executable, "-c", "import sys; print(*sys.path, sep=chr(0), end='')"]
    known = subprocess.run(asked, stdout=subprocess.PIPE, text=True, check=True).stdout.split(chr(0))
    return [str(Path(entry).resolve()) for entry in sys.path if entry not in known]


_home: ContextVar[Home | None] = ContextVar("pgqueue_home", default=None)


@contextmanager
def at(home: Home | None) -> Iterator[None]:
    """Within the block commands are at this home."""
    token = _home.set(home)
    try:
        yield
    finally:
        _home.reset(token)


def app_spec(given: str | None) -> str:
    """-A, else that of the framework, else PGQUEUE_APP, else [tool.pgqueue]; raises ConfigError."""
    home = _home.get()
    spec = given or (home.spec if home else Config.load().app)
    if spec is None:
        raise ConfigError(
            'where are your tasks? Give -A module, set PGQUEUE_APP, or write app = "module" under [tool.pgqueue]'
        )
    return spec


def chosen_app(given: str | None = None) -> App:
    """The App that -A names, else that of the framework, else one with the settings of the environment: no user code is
    imported without -A.
    """
    home = _home.get()
    return load_app(given) if given else home.app if home else App()


def place_of(app: App) -> str:
    """Where an app's jobs are, in words for people: an embedded server is named by its project, not by its socket."""
    return db.describe(app.dsn) if app.config.dsn else f"{embedded.project()} (its own PostgreSQL)"


def queue_names(text: str | None) -> tuple[str, ...] | None:
    """`-Q a,b` as a tuple; None for all."""
    return None if text is None else tuple(dict.fromkeys(check_name("-Q", name.strip()) for name in text.split(",")))


def moment(option: str, text: str) -> timedelta | datetime:
    """An age or a point in time. A time without a zone is local, like the times that are printed."""
    try:
        if ago := AGO.fullmatch(text):
            return timedelta(**{UNITS[ago[2]]: float(ago[1])})
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise InvalidOption(
            f"{option} {text} is not a valid time: write an age such as 90s, 15m, 2h, 3d or 1w, or 2026-11-20 12:00, "
            "or with a zone 2026-11-20T12:00Z"
        ) from None
