"""Other people's text made harmless: on a terminal it moves no cursor, in a log it forges no record."""

import contextlib
import logging
import time
import unicodedata
from collections.abc import Iterator

# Controls, marks that turn the direction of writing, what has no meaning yet or a private one, surrogates, line separators.
HIDDEN = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
MAX_RECORD = 2_000  # characters of one of our own log records: the whole error is in the table attempt
MAX_FOREIGN = 64_000  # characters of a record of any other logger


def escape(text: str) -> str:
    """Text with everything escaped that is not a visible character, except newlines."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(_visible(char) for char in text)


def one_line(text: str, *, at_most: int) -> str:
    """Text as one harmless line, cut where it gets long."""
    shown = escape(text[:at_most]).replace("\n", "\\n")
    return shown if len(text) <= at_most else f"{shown}..."


def is_hidden(char: str) -> bool:
    """Whether it is not a visible character: the dashboard draws a mark for it, all else escapes it."""
    return unicodedata.category(char) in HIDDEN


def _visible(char: str) -> str:
    if char == "\n" or not is_hidden(char):
        return char
    return char.encode("unicode_escape").decode()


class LogFormat(logging.Formatter):
    """One record, one beginning of a line: what a name or an error says can never look like another record.

    Our own records are one line. Others keep their lines (a traceback must be readable), marked as belonging together.
    Times are UTC, or an app that sets a time zone of its own would have its children log in another one than their worker.
    """

    converter = time.gmtime  # type: ignore[assignment]
    default_msec_format = "%s.%03dZ"

    def formatMessage(self, record: logging.LogRecord) -> str:
        if record.name.split(".")[0] == "pgqueue":
            record.message = one_line(record.message, at_most=MAX_RECORD)
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        text = super().format(record)
        if len(text) > MAX_FOREIGN:
            text = f"{text[:MAX_FOREIGN]}... ({len(text):,} characters in all)"
        return escape(text).replace("\n", "\n  | ")


def log_to_stderr(*, level: str, form: str) -> None:
    """Send the root logger's records to standard error, unless the program has set up its logging itself."""
    logging.basicConfig(level=level.upper(), handlers=[_to_stderr(form)])


@contextlib.contextmanager
def app_may_set_up_logging(*, level: str | None, form: str) -> Iterator[None]:
    """Around the import of the app: what it says by basicConfig, dictConfig or handlers of the root logger holds, the rest is ours.

    level: somebody asked for it on the command line, so it holds even against the app; None: info, or as the app says.
    """
    root, ours = logging.getLogger(), _to_stderr(form)
    # Not a handler of the root logger, for basicConfig does nothing where there is one.
    logging.lastResort, last_resort = ours, logging.lastResort
    root.setLevel(DEFAULT_LEVEL if level is None else level.upper())
    try:
        yield
    finally:
        logging.lastResort = last_resort
        if level is not None:
            root.setLevel(level.upper())
        if not root.handlers or _by_accident(root):
            root.handlers[:] = [ours]
        # dictConfig silences every logger that was there before and that it does not name.
        for logger in map(
            logging.getLogger, [name for name in root.manager.loggerDict if name.split(".")[0] == "pgqueue"]
        ):
            logger.disabled = False


DEFAULT_LEVEL = logging.INFO


def _to_stderr(form: str) -> logging.Handler:
    handler = logging.StreamHandler()
    handler.setFormatter(LogFormat(form))
    return handler


def _by_accident(root: logging.Logger) -> bool:
    """Whether the only handler is what logging.info() and its like make when there is none: not anyone's choice."""
    formats = [getattr(handler.formatter, "_fmt", None) for handler in root.handlers]
    return root.level == DEFAULT_LEVEL and formats == [logging.BASIC_FORMAT]
