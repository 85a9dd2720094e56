"""How the command line prints: lines, tables and JSON. Text from the database is made harmless to a terminal first."""

import codecs
import json
import logging
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from io import TextIOWrapper
from typing import Any, NoReturn

from pgqueue.terminal import escape, one_line

WIDEST = 80  # characters of one cell
LONGEST = 2_000  # characters of an error

# Plainer characters for those that we and rich draw with, for terminals that lack them; one for one, so columns stay in line.
PLAINER = {
    **dict(zip("▁▂▃▄▅▆▇█", "_..::=+#", strict=True)),
    **dict.fromkeys("─━\u2013\u2014", "-"),
    **dict.fromkeys("│┃", "|"),
    **dict.fromkeys("╭╮╰╯┌┐└┘├┤┬┴┼┡┩╇", "+"),
    **{"…": "~", "·": ".", "•": "*"},
}


def show_everything() -> None:
    """From now on write what a terminal cannot show (LANG=C, Latin-1) as an escape instead of raising UnicodeEncodeError."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="pgqueue.plainer")


def _plainer(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(
        PLAINER.get(char) or char.encode("ascii", "backslashreplace").decode() for char in missing
    ), error.end


codecs.register_error("pgqueue.plainer", _plainer)


class Notes(logging.Handler):
    """Prints log records of the library as notes, for people who have not set up any logging."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write to standard error, so that a program can read standard output."""
        note(record.getMessage())


def say(text: str) -> None:
    """Write text to standard output, harmless to a terminal whatever it quotes."""
    sys.stdout.write(f"{escape(text)}\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """Write one line to standard error, so that a program can read standard output."""
    sys.stderr.write(f"{one_line(text, at_most=LONGEST)}\n")


def fail(text: str, *, usage: bool = False) -> NoReturn:
    """Write one line to standard error and exit: with 2 for a wrong call, 1 for a failure."""
    sys.stderr.write(f"pgqueue: {one_line(text, at_most=LONGEST)}\n")
    sys.exit(2 if usage else 1)


def say_json(value: Any) -> None:
    """Write a value as JSON that jq can read; times in ISO format."""
    say(json.dumps(value, indent=2, default=_plain))


def say_table(headings: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """Write a table with columns as wide as needed, or `empty` if there is no row."""
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
    text = as_written(escape(str(value)[: WIDEST + 1].replace("\n", " ")))
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"


def as_written(text: str) -> str:
    """The text as the terminal will get it, with escapes, so that columns are measured right."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "pgqueue.plainer").decode(encoding)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)
