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
from pgqueue.client.options import check_name, check_text
from pgqueue.config import Config
from pgqueue.errors import ConfigError, InvalidOption
from pgqueue.loader import load_app
from pgqueue.spans import span_of

AppName = Annotated[str | None, typer.Option("-A", "--app", help="Module of the App: shop.tasks or shop.tasks:app.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
QueueName = Annotated[str | None, typer.Option("--queue", help="Only this queue.")]
TaskName = Annotated[str | None, typer.Option("--task", help="Only this task.")]

# The panels of `pgqueue --help`.
RUN, LOOK, CHANGE, OPERATE = "Run", "Look", "Change", "Operate"

WEIGHED = re.compile(r"(.+):\s*([+-]?\d{1,9}(?:\.\d{0,9})?)", re.ASCII)
MOST_WEIGHT = 1000  # more would leave the others next to nothing: that is --strict

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


class Served(NamedTuple):
    """The queues of a worker, None for all, and the weight of each; no weights: not by weight."""

    queues: tuple[str, ...] | None = None
    weights: tuple[int, ...] = ()


def served_queues(text: str | None) -> Served:
    """`-Q a,b` and `-Q a:5,b:1`; raises InvalidOption.

    The names of queues may hold colons. So a number after the last one is a weight, and what else may be there is a part of the
    name, unless another queue has a weight: then a slip of the pen is more likely.
    """
    if text is None:
        return Served()
    parts = [check_text("-Q", part.strip()) for part in text.split(",")]
    weighed = [WEIGHED.fullmatch(part) for part in parts]
    if not any(weighed):
        return Served(tuple(dict.fromkeys(check_name("-Q", part) for part in parts)))
    given: dict[str, int] = {}
    for part, found in zip(parts, weighed, strict=True):
        name = check_name("-Q", found[1].rstrip() if found else part)
        if found is None and ":" in part:
            raise InvalidOption(
                f"-Q {part}: {part.rpartition(':')[2] or 'nothing'} is not a weight; if the queue is called {part}, write {part}:1"
            )
        if name in given:
            raise InvalidOption(
                f"-Q names the queue {name} twice; if these are names that end in a number, write {part}:1"
            )
        weight = float(found[2]) if found else 1
        if not (weight == int(weight) and 1 <= weight <= MOST_WEIGHT):
            raise InvalidOption(f"-Q {part}: a weight is a whole number from 1 to {MOST_WEIGHT}")
        given[name] = int(weight)
    if len(given) == 1 and ":" not in name:
        raise InvalidOption(
            f"-Q {part} gives a weight to a single queue: leave it out; if the queue is called {part}, write {part}:1"
        )
    return Served(tuple(given), tuple(given.values()))


def moment(option: str, text: str) -> timedelta | datetime:
    """An age or a point in time. A time without a zone is local, like the times that are printed."""
    try:
        ago = span_of(text)
        return datetime.fromisoformat(text).astimezone() if ago is None else ago
    except (ValueError, OverflowError):
        raise InvalidOption(
            f"{option} {text} is not a valid time: write an age such as 90s, 15m, 2h, 3d or 1w, or 2026-11-20 12:00, "
            "or with a zone 2026-11-20T12:00Z"
        ) from None
