"""pgqueue guide: the pages of guides/, read in a terminal or piped as the Markdown they are."""

import re
import shlex
import subprocess
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer

from pgqueue.cli.options import LOOK
from pgqueue.cli.output import as_written, say, say_table
from pgqueue.config import environment
from pgqueue.errors import ConfigError

FOLDER = Path(__file__).parents[1] / "guides"
TOPICS = (
    "start",
    "transactions",
    "retries",
    "duplicates",
    "limits",
    "atomic",
    "schedules",
    "events",
    "outbox",
    "channels",
    "triggers",
    "live",
    "middleware",
    "fastapi",
    "django",
    "django-tasks",
    "flask",
    "deploy",
    "operate",
    "tune",
    "testing",
    "from-celery",
    "from-rq",
)
"""In the order in which somebody new would read them."""
WIDEST_PAGE = 100  # columns: longer lines are hard to read
PAGE_LINK = re.compile(r"\[([^\]]+)\]\([\w./-]+\.md\)")  # its text says what to type, and a terminal follows no file


def guide(topic: Annotated[str | None, typer.Argument(metavar="TOPIC", help="One of those listed.")] = None) -> None:
    """Read how something is done; without a topic, list what there is to read."""
    if topic is None:
        say_table(("TOPIC", "WHAT IT SAYS"), ((name, summary(page(name))) for name in TOPICS), empty="no guides")
        say("\nread one with: pgqueue guide TOPIC")
    elif sys.stdout.isatty():
        _show(page(topic))
    else:
        say(page(topic).rstrip("\n"))


def page(topic: str) -> str:
    """A page as Markdown; raises ConfigError with the nearest topic."""
    if topic not in TOPICS:
        close = get_close_matches(topic.lower(), TOPICS, n=1, cutoff=0.5)
        hint = f"did you mean '{close[0]}'? There are" if close else "there are"
        raise ConfigError(f"no guide is called '{topic}'; {hint} {', '.join(TOPICS)}")
    return (FOLDER / f"{topic}.md").read_text("utf-8")


def summary(text: str) -> str:
    """The first sentence below the title."""
    _, _, below = text.partition("\n\n")
    return re.split(r"(?<=\.)\s", below, maxsplit=1)[0].replace("\n", " ")


def _show(text: str) -> None:
    """Show it in a pager, in colour if the pager is known to let colours through."""
    command = shlex.split(environment("PAGER") or "") or ["less"]
    coloured = Path(command[0]).name == "less"
    drawn = _drawn(text, coloured=coloured)
    try:
        subprocess.run([*command, "-R"] if coloured else command, input=drawn.encode(errors="replace"), check=False)
    except OSError:  # there is no such pager
        sys.stdout.write(drawn if coloured else _drawn(text, coloured=True))


def _drawn(text: str, *, coloured: bool) -> str:
    from rich.console import Console  # no other command should wait for these
    from rich.markdown import Markdown

    console = Console(color_system="auto" if coloured else None)
    console.width = min(console.width, WIDEST_PAGE)
    with console.capture() as captured:
        console.print(Markdown(PAGE_LINK.sub(r"\1", text), code_theme="ansi_dark", hyperlinks=False))
    return as_written(captured.get())


def add_to(cli: typer.Typer) -> None:
    """Register the command."""
    cli.command(rich_help_panel=LOOK)(guide)
