"""Data as text for cells: numbers and times are short, and text that others wrote cannot move the cursor."""

from datetime import UTC, datetime

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from pgqueue.ops.stats import Count
from pgqueue.terminal import is_hidden


def showable(text: str, width: int = 200) -> str:
    """`text`, at most `width` cells wide, with every character made visible that could move the cursor or hide."""
    shown = "".join(_visible(char) for char in text[:width])
    if len(text) <= width and cell_len(shown) <= width:
        return shown
    return set_cell_size(shown, width - 1).rstrip() + "…"


def _visible(char: str) -> str:
    """C0 and DEL have pictures in Unicode; any other hidden character becomes a replacement mark."""
    if char < " ":
        return chr(0x2400 + ord(char))
    if char == "\x7f":
        return "␡"
    return "\ufffd" if is_hidden(char) else char


def data(text: str, *, style: str = "", width: int = 200) -> Text:
    return Text(showable(text, width), style=style)


def whole(number: int) -> str:
    return f"{number:,}"


def count(count: Count) -> str:
    return whole(count.value) if count.exact else f"~{_rough(count.value)}"


def _rough(number: float) -> str:
    """With two or three digits, as an estimate is no more exact: 7.4k, 740k, 12M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f}{unit}" if number < 10 * size else f"{number / size:.0f}{unit}"
    return f"{number:.0f}"


def per_s(rate: float) -> str:
    if rate >= 100_000:
        return _rough(rate)
    return f"{rate:,.0f}" if rate >= 100 or rate == 0 else f"{rate:.1f}" if rate >= 1 else f"{rate:.2f}"


def span(seconds: float | None) -> str:
    """Two units at most: 0.4s, 12s, 3m 05s, 4h 20m, 12d 3h."""
    if seconds is None:
        return ""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f}s"
    whole = round(seconds)
    for size, unit, small, small_unit in ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // small:02}{small_unit}"
    return f"{whole}s"


def ago(seconds: float) -> str:
    """How long something has been over, in one unit."""
    return span(round(seconds)).split()[0].replace(".0", "")


def short(job_id: str) -> str:
    """The end of an id, as ids of one moment begin alike."""
    return job_id[-8:]


def clock(at: datetime) -> str:
    return f"{at.astimezone(UTC):%H:%M:%S}"


def quiet_zero(number: float, text: str | None = None, *, style: str = "") -> Text:
    """A number, dimmed when it is zero."""
    return Text(whole(round(number)) if text is None else text, style=style if number else "dim")
