"""How the command line prints: lines, tables and JSON. What comes from the database is made harmless to a terminal first."""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NoReturn

from pgqueue.visible import harmless, one_line

WIDEST = 80  # characters of one cell
LONGEST = 2_000  # characters of an error


def say(text: str) -> None:
    """Text on standard output; whatever it quotes is harmless from here on."""
    sys.stdout.write(f"{harmless(text)}\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """One line on standard error, beside what a program may read from standard output."""
    sys.stderr.write(f"{one_line(text, at_most=LONGEST)}\n")


def fail(text: str, *, usage: bool = False) -> NoReturn:
    """One line on standard error, and the exit code: 2 for a wrong call, 1 for a failure."""
    sys.stderr.write(f"pgqueue: {one_line(text, at_most=LONGEST)}\n")
    sys.exit(2 if usage else 1)


def say_json(value: Any) -> None:
    """A value as JSON that jq can read; times in ISO format."""
    say(json.dumps(value, indent=2, default=_plain))


def say_table(headings: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """Columns as wide as needed; `empty` is said when there is no row."""
    cells = [[cell(value) for value in row] for row in rows]
    if not cells:
        say(empty)
        return
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    for line in (headings, *cells):
        say("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def cell(value: Any) -> str:
    """One value as a short piece of text."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    text = harmless(str(value)[: WIDEST + 1].replace("\n", " "))
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)
