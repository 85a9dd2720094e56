"""Other people's text made harmless: on a terminal it moves no cursor, in a log it forges no record."""

import logging
import unicodedata

HIDDEN = frozenset(
    {"Cc", "Cf", "Cs", "Zl", "Zp"}
)  # controls, marks that turn the direction of writing, line separators
MAX_RECORD = 2_000  # characters of one of our own log records: the whole error is in the table attempt
MAX_FOREIGN = 64_000  # characters of anybody else's


def harmless(text: str) -> str:
    """Text with everything escaped that is no character to look at, except newlines."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(_visible(char) for char in text)


def one_line(text: str, *, at_most: int) -> str:
    """Text as one harmless line, cut where it gets long."""
    shown = harmless(text[:at_most]).replace("\n", "\\n")
    return shown if len(text) <= at_most else f"{shown}..."


def _visible(char: str) -> str:
    if char == "\n" or unicodedata.category(char) not in HIDDEN:
        return char
    return char.encode("unicode_escape").decode()


class LogFormat(logging.Formatter):
    """One record, one beginning of a line: what a name or an error says can never look like another record.

    Our own records are one line. Others keep their lines (a traceback must be readable), marked as belonging together.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        if record.name.split(".")[0] == "pgqueue":
            record.message = one_line(record.message, at_most=MAX_RECORD)
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        text = super().format(record)
        if len(text) > MAX_FOREIGN:
            text = f"{text[:MAX_FOREIGN]}... ({len(text):,} characters in all)"
        return harmless(text).replace("\n", "\n  | ")


def log_to_stderr(*, level: str, form: str) -> None:
    """Send the root logger's records to standard error, unless the program has set up its logging itself."""
    to_stderr = logging.StreamHandler()
    to_stderr.setFormatter(LogFormat(form))
    logging.basicConfig(level=level.upper(), handlers=[to_stderr])
