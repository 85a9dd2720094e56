"""Draws a Stats: one page for any width, and a live screen that redraws it. No SQL, and no arithmetic but for layout.

Names, notes and errors were written by whoever may enqueue, so every one of them passes `clean` on its way to the
terminal, and none is ever taken for rich's markup.
"""

import os
import select
import signal
import sys
import termios
import threading
import time
import tty
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pgqueue.stats import Bucket, Count, Failure, QueueStats, RunningJob, Stats, UpcomingJob, WorkerStats

WIDE = 112  # cells; below it everything stands in one column
ROOMY = 70  # cells; a section of less leaves out what can be spared
COUNTERS_WIDTH = 42  # cells, of the counters when they stand beside the chart
MARGIN = 1  # cells left and right
TICK_S = 0.1  # how long a key or a new size waits: shorter than what people notice
STALE_S = 5.0  # no answer for so long is worth a line, also when there is no error
LOW_HEIGHT = 30  # lines; a lower screen gets a lower chart
CHART_ROWS = 4
LOW_CHART_ROWS = 2
CHART_LABEL_WIDTH = 11
MIN_WIDTH = 40  # cells; below it lines are cut
GAP = 3  # cells between two columns
ENDLESS = 1_000_000  # lines, of a page that is printed
MIN_SECTION_HEIGHT = 2  # a heading and a row
BLOCKS = " ▁▂▃▄▅▆▇█"
STATE_STYLES = {"alive": "green", "draining": "yellow", "suspect": "bold yellow", "lost": "bold red"}
QUIT_KEYS = ("q", "Q", "")  # empty: the terminal is gone
START_ONE = "pgqueue worker -A yourapp"


def page(stats: Stats, *, title: str) -> RenderableType:
    """Everything in `stats` on one page: as long as it needs to be, or cut where rich is given a height."""
    return _Page(stats, title)


# -- data into text --


def clean(text: str, width: int = 200) -> str:
    """`text` with whatever could move the cursor or hide itself made visible, and at most `width` cells wide."""
    shown = "".join(_visible(char) for char in text[:width])
    if len(text) <= width and cell_len(shown) <= width:
        return shown
    return set_cell_size(shown, width - 1).rstrip() + "…"


def _visible(char: str) -> str:
    """C0 and DEL have pictures in Unicode; C1, bidi marks, separators and the unassigned become a replacement mark."""
    if char < " ":
        return chr(0x2400 + ord(char))
    if char == "\x7f":
        return "␡"
    return "\ufffd" if unicodedata.category(char) in {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"} else char


def _data(text: str, *, style: str = "", width: int = 200) -> Text:
    return Text(clean(text, width), style=style)


def _whole(number: int) -> str:
    return f"{number:,}"


def _count(count: Count) -> str:
    return _whole(count.value) if count.exact else f"~{_rough(count.value)}"


def _rough(number: float) -> str:
    """Two digits are what an estimate is worth, three what a rate is: 740k, 12M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f}{unit}" if number < 10 * size else f"{number / size:.0f}{unit}"
    return f"{number:.0f}"


def _per_s(rate: float) -> str:
    if rate >= 100_000:
        return _rough(rate)
    return f"{rate:,.0f}" if rate >= 100 or rate == 0 else f"{rate:.1f}" if rate >= 1 else f"{rate:.2f}"


def _span(seconds: float | None) -> str:
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


def _ago(seconds: float) -> str:
    """One unit is enough for what is over."""
    return _span(round(seconds)).split()[0].replace(".0", "")


def _short(job_id: str) -> str:
    """The end of an id: ids of one moment begin alike."""
    return job_id[-8:]


def _clock(at: datetime) -> str:
    return f"{at.astimezone(UTC):%H:%M:%S}"


# -- sections: a table that can be asked for fewer lines --


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of a section; those with a ratio share the room that is left."""

    heading: str = ""
    right: bool = False
    ratio: int | None = None
    min_width: int | None = None
    max_width: int | None = None


@dataclass(frozen=True, slots=True)
class _Row:
    """Cells, and how readily they are given up for want of room: level 0 last, and only those are reported missing."""

    cells: tuple[Text, ...]
    level: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Section:
    """A table; the first heading is its name. Rows come with the most remarkable first."""

    columns: Sequence[_Column]
    rows: Sequence[_Row]
    empty: Text
    not_shown: int | None = None
    """How many rows were left out already; None for a list that is only ever the beginning of one."""
    by_name: bool = False
    """Draw in the order of the first cell: a list that reorders itself every second cannot be read."""

    @property
    def height(self) -> int:
        return 1 + max(1, len(self.rows))

    def cut(self, height: int) -> "_Section":
        """The same in at most `height` lines (2 at least); the heading says how many rows are missing."""
        section = self
        for level in range(max((row.level for row in self.rows), default=0), 0, -1):
            if section.height > height:
                section = replace(section, rows=[row for row in section.rows if row.level < level])
        if section.height <= height:
            return section
        rows = section.rows[: height - 1]
        missing = None if self.not_shown is None else self.not_shown + len(section.rows) - len(rows)
        return replace(section, rows=rows, not_shown=missing)

    def draw(self) -> RenderableType:
        table = Table(box=None, expand=True, pad_edge=False, padding=(0, 2, 0, 0), collapse_padding=True)
        for place, column in enumerate(self.columns if self.rows else self.columns[:1]):
            table.add_column(
                Text(column.heading, style="dim") if place else self._name(),
                justify="right" if column.right else "left",
                ratio=column.ratio,
                min_width=column.min_width,
                max_width=column.max_width,
                no_wrap=True,
                overflow="ellipsis",
            )
        for row in sorted(self.rows, key=lambda row: row.cells[0].plain) if self.by_name else self.rows:
            table.add_row(*row.cells)
        return table if self.rows else Group(table, self.empty)

    def _name(self) -> Text:
        more = f"  and {_whole(self.not_shown)} more" if self.not_shown else ""
        return Text.assemble((self.columns[0].heading, "bold"), (more, "dim"))


def _figure(heading: str, width: int) -> _Column:
    """A column of numbers, wide enough from the start that it does not move whenever a digit comes or goes."""
    return _Column(heading, right=True, min_width=width)


def _queues(stats: Stats) -> _Section:
    nothing = "nothing waits, nothing runs" if stats.ever_used else "no jobs yet: yourtask.defer(...) makes one"
    return _Section(
        columns=[
            _Column("queues", ratio=1),
            _figure("depth", 6),
            _figure("oldest", 7),
            _figure("run", 4),
            _Column(),
        ],
        rows=[_Row(_queue(queue)) for queue in stats.queues],
        empty=Text(nothing, style="dim"),
        not_shown=stats.queues_not_shown,
        by_name=True,
    )


def _queue(queue: QueueStats) -> tuple[Text, ...]:
    return (
        _data(queue.name),
        _quiet_zero(queue.depth.value, _count(queue.depth)),
        Text(_span(queue.oldest_age_s)),
        _quiet_zero(queue.running),
        _remark(queue),
    )


def _remark(queue: QueueStats) -> Text:
    paused = Text("paused", style="yellow") if queue.paused else Text()
    unserved = Text() if queue.served else Text("⚠ no worker", style="bold red" if queue.depth.value else "yellow")
    return Text("  ").join(text for text in (unserved, paused) if text)


def _workers(stats: Stats, *, width: int) -> _Section:
    return _Section(
        columns=[
            _Column("workers", ratio=1),
            _figure("busy", 5),
            _figure("for", 7),
            _Column("state, beat", min_width=14, max_width=30 if width >= ROOMY else 15),
        ],
        rows=[row for worker in stats.workers for row in _worker(worker)],
        empty=Text.assemble(("no workers", "yellow"), "   start one: ", (START_ONE, "bold")),
        not_shown=stats.workers_not_shown,
    )


def _worker(worker: WorkerStats) -> Iterator[_Row]:
    state = (worker.state, STATE_STYLES.get(worker.state, ""))
    cells = (
        _data(worker.name),
        Text(f"{_whole(worker.busy)}/{_whole(worker.concurrency)}"),
        Text(_span(worker.uptime_s)),
        Text.assemble(state, " ", (_span(worker.heartbeat_age_s), "dim")),
    )
    yield _Row(cells)
    yield from (_Row(_running(job), level=place) for place, job in enumerate(worker.jobs, start=1))


def _running(job: RunningJob) -> tuple[Text, ...]:
    name = Text.assemble("  ", (_short(job.id), "dim"), "  ", _data(job.task))
    done = Text("" if job.progress is None else f"{job.progress:.0%}", style="cyan")
    return name, done, Text(_span(job.running_s)), _data(job.note or "", style="dim")


def _upcoming(stats: Stats, *, width: int) -> _Section:
    at = [_Column("at, UTC")] if width >= ROOMY else []
    return _Section(
        columns=[_Column("upcoming"), *at, _Column("task", ratio=3), _Column("queue", ratio=2), _Column(min_width=9)],
        rows=[_Row(_due(job, with_time=bool(at))) for job in stats.upcoming],
        empty=Text("nothing is scheduled", style="dim"),
    )


def _due(job: UpcomingJob, *, with_time: bool) -> tuple[Text, ...]:
    due = Text(f"in {_span(job.due_in_s)}") if job.due_in_s > 0 else Text("due now", style="yellow")
    at = [Text(_clock(job.run_at), style="dim")] if with_time else []
    most = "" if job.max_attempts is None else f"/{job.max_attempts}"
    why = Text(f"retry {job.attempt + 1}{most}", style="yellow") if job.attempt else Text("delayed", style="dim")
    return due, *at, _data(job.task), _data(job.queue, style="dim"), why


def _failures(stats: Stats) -> _Section:
    return _Section(
        columns=[
            _Column("failures", min_width=8),
            _Column("id"),
            _Column("task", ratio=3),
            _figure("try", 3),
            _Column("cause and error", ratio=5),
        ],
        rows=[_Row(_failure(failure)) for failure in stats.failures],
        empty=Text("no failed attempts", style="dim"),
    )


def _failure(failure: Failure) -> tuple[Text, ...]:
    return (
        Text(f"{_ago(failure.age_s)} ago"),
        Text(_short(failure.job_id), style="dim"),
        _data(failure.task),
        Text(str(failure.attempt)),
        Text.assemble(_data(failure.cause, style="red"), "  ", _data(failure.error)),
    )


def _quiet_zero(number: float, text: str | None = None, *, style: str = "") -> Text:
    """A number that is only worth a look when it is not zero."""
    return Text(_whole(round(number)) if text is None else text, style=style if number else "dim")


# -- the head: counters and throughput --


def _title(stats: Stats, *, title: str, hint: str) -> RenderableType:
    line = Table.grid(expand=True, padding=(0, 2, 0, 0))
    line.add_column(no_wrap=True)
    line.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    line.add_column(no_wrap=True, justify="right")
    clock = Text(f"{hint}{_clock(stats.at)} UTC", style="dim")
    line.add_row(Text("pgqueue", style="bold"), _data(title, style="dim"), clock)
    return line


def _counters(stats: Stats, *, across: int) -> RenderableType:
    """The counters, each above its name, so many side by side."""
    counters = (
        (_quiet_zero(stats.queued.value, _count(stats.queued), style="bold"), "queued"),
        (_quiet_zero(stats.scheduled.value, _count(stats.scheduled), style="bold"), "scheduled"),
        (_quiet_zero(stats.running.value, _count(stats.running), style="bold"), "running"),
        (_quiet_zero(stats.succeeded_per_s, _per_s(stats.succeeded_per_s), style="bold green"), "succeeded/s"),
        (_quiet_zero(stats.failed_per_s, _per_s(stats.failed_per_s), style="bold red"), "failed/s"),
        (_quiet_zero(stats.dead_kept.value, _count(stats.dead_kept), style="bold red"), "dead"),
    )
    grid = Table.grid(expand=True, padding=(0, 1, 0, 0))
    for _ in range(across):
        grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for first in range(0, len(counters), across):
        if first:
            grid.add_row()
        grid.add_row(*(value for value, _ in counters[first : first + across]))
        grid.add_row(*(Text(name, style="dim") for _, name in counters[first : first + across]))
    return grid


def _last_hour(stats: Stats) -> Text:
    ends = stats.last_hour
    words = (
        (ends.succeeded, "succeeded", ""), (ends.failed, "failed", "red"),
        (ends.dead, "dead", "red"), (ends.cancelled, "cancelled", ""),
    )  # fmt: skip
    parts = [Text.assemble(_quiet_zero(number, style=style), (f" {word}", "dim")) for number, word, style in words]
    return Text.assemble(("last hour  ", "dim"), Text("  ").join(parts), no_wrap=True, overflow="ellipsis")


def _chart(buckets: Sequence[Bucket], *, width: int, rows: int) -> RenderableType:
    """Succeeded per second as columns over ten minutes, and below in red one line of failures, if there were any."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(no_wrap=True)
    scale = CHART_LABEL_WIDTH + 1
    broad = max(1, (width - scale) // len(buckets))
    shown = buckets[-max(1, (width - scale) // broad) :]
    _columns(grid, [bucket.succeeded_per_s for bucket in shown], unit="/s", rows=rows, broad=broad, style="green")
    if any(bucket.failed_per_s for bucket in shown):
        _columns(grid, [bucket.failed_per_s for bucket in shown], unit=" fail/s", rows=1, broad=broad, style="red")
    return grid


def _columns(grid: Table, values: Sequence[float], *, unit: str, rows: int, broad: int, style: str) -> None:
    peak = max(values)
    rows = rows if peak else 1
    for row in reversed(range(rows)):
        bars = "".join(_block(value, peak=peak, row=row, rows=rows) * broad for value in values)
        label = f"{_per_s(peak)}{unit}" if row == rows - 1 else ""
        grid.add_row(Text(label.rjust(CHART_LABEL_WIDTH), style="dim"), Text(bars, style=style if peak else "dim"))


def _block(value: float, *, peak: float, row: int, rows: int) -> str:
    """The piece of one column that falls into one row, counted from the bottom; a little is never drawn as nothing."""
    if not value:
        return "·" if row == 0 else " "
    eighths = max(1, round(value / peak * rows * 8))
    return BLOCKS[min(8, max(0, eighths - 8 * row))]


# -- the page --


@dataclass(frozen=True, slots=True)
class _Page:
    stats: Stats
    title: str
    hint: str = ""
    trouble: str = ""
    height: int | None = None
    """Lines, when the page must fit a screen: rich's Live keeps the height to itself."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = max(MIN_WIDTH, options.max_width - 2 * MARGIN)
        height = self.height or options.height or ENDLESS
        head = self._head(width=width, chart_rows=LOW_CHART_ROWS if height < LOW_HEIGHT else CHART_ROWS)
        room = height - len(console.render_lines(head, options.update(width=width, height=None)))
        yield Padding(Group(head, self._sections(width=width, room=room)), (0, MARGIN))

    def _head(self, *, width: int, chart_rows: int) -> RenderableType:
        return Group(
            _title(self.stats, title=self.title, hint=self.hint),
            _data(self.trouble, style="bold red", width=width) if self.trouble else Text(),
            _figures(self.stats, width=width, chart_rows=chart_rows),
            _last_hour(self.stats),
            Text(),
        )

    def _sections(self, *, width: int, room: int) -> RenderableType:
        """Queues, workers, upcoming, failures; on a wide screen the first three in two columns, the errors across."""
        left = width if width < WIDE else (width - GAP) * 3 // 7
        right = width if width < WIDE else width - GAP - left
        queues, upcoming = _queues(self.stats), _upcoming(self.stats, width=left)
        workers, failures = _workers(self.stats, width=right), _failures(self.stats)
        if width < WIDE:
            return _stack([queues, workers, upcoming, failures], room=room)
        above, below = _share([max(_height([queues, upcoming]), workers.height), failures.height], room=room - 1)
        grid = Table.grid(padding=(0, GAP, 0, 0))
        grid.add_column(width=left)
        grid.add_column(width=right)
        grid.add_row(_stack([queues, upcoming], room=above), workers.cut(above).draw())
        return Group(grid, Text(), failures.cut(below).draw())


def _figures(stats: Stats, *, width: int, chart_rows: int) -> RenderableType:
    """The counters above the chart, or beside it where there is room."""
    if width < WIDE:
        return Group(_counters(stats, across=6), Text(), _chart(stats.throughput, width=width, rows=chart_rows))
    grid = Table.grid(expand=True, padding=(0, GAP, 0, 0))
    grid.add_column(ratio=1)
    grid.add_column(width=COUNTERS_WIDTH)
    chart = _chart(stats.throughput, width=width - COUNTERS_WIDTH - GAP, rows=CHART_ROWS)
    grid.add_row(chart, _counters(stats, across=3))
    return grid


def _height(sections: Sequence[_Section]) -> int:
    return sum(section.height for section in sections) + len(sections) - 1


def _stack(sections: Sequence[_Section], *, room: int) -> RenderableType:
    """Sections under each other with a line between, cut so that together they fit into `room` lines."""
    heights = _share([section.height for section in sections], room=room - len(sections) + 1)
    drawn = (section.cut(height).draw() for section, height in zip(sections, heights, strict=True))
    lines = [part for section in drawn for part in (section, Text())]
    return Group(*lines[:-1])


def _share(wanted: Sequence[int], *, room: int) -> list[int]:
    """Give each what it wants, or cut the largest down to one height, never below the least that says something."""
    level = max(wanted)
    while sum(min(want, level) for want in wanted) > room and level > MIN_SECTION_HEIGHT:
        level -= 1
    heights = [min(want, level) for want in wanted]
    for place, want in enumerate(wanted):  # what is left over, one line each
        heights[place] += heights[place] < want and sum(heights) < room
    return heights


# -- the live screen --


def live(fetch: Callable[[], Stats], *, title: str, console: Console, refresh_s: float = 1.0) -> None:
    """Redraw what `fetch` returns over the whole screen until q, Ctrl-C or SIGTERM; the terminal is left as it was.

    The first fetch happens before the screen is taken, and what it raises is the caller's. After that errors are shown
    and `fetch` is called again, in a thread of its own: it must reconnect by itself, and may hang without stopping q.
    """
    feed = _Feed(fetch(), fetch, refresh_s=refresh_s)
    live_screen = Live(console=console, screen=True, auto_refresh=False)
    with _leaving() as leave, _keys() as pressed, live_screen as screen, feed:
        hint = "q leaves   " if pressed.reads else ""
        drawn: object = None
        while not (leave.is_set() or pressed.wait(TICK_S) in QUIT_KEYS):
            seen = _Page(feed.latest, title, hint=hint, trouble=feed.trouble(), height=console.height), console.width
            if seen != drawn:
                screen.update(seen[0], refresh=True)
                drawn = seen


class _Feed:
    """Fetches again and again in a thread, which is a daemon: a database that hangs must not keep the program."""

    def __init__(self, first: Stats, fetch: Callable[[], Stats], *, refresh_s: float) -> None:
        self.latest = first
        self._fetch = fetch
        self._refresh_s = refresh_s
        self._error = ""
        self._answered_at = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pgqueue-stats", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(timeout=1.0)  # a fetch that is about to end shall not meet a closed connection

    def trouble(self) -> str:
        """One line for the screen while the database does not answer, else empty."""
        silent_s = time.monotonic() - self._answered_at
        if self._error:
            return f"{self._error} (trying again; this page is {_span(round(silent_s))} old)"
        return f"no answer for {_span(round(silent_s))}" if silent_s > STALE_S + self._refresh_s else ""

    def _run(self) -> None:
        while not self._over.wait(self._refresh_s):
            try:
                self.latest = self._fetch()
            except Exception as error:  # whatever it is, the page on the screen is worth more than a traceback
                self._error = next(iter(str(error).splitlines()), "") or type(error).__name__
            else:
                self._error, self._answered_at = "", time.monotonic()


class _Keys:
    """Single keys from the terminal, or a mere wait where there is none."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd

    @property
    def reads(self) -> bool:
        return self._fd is not None

    def wait(self, timeout_s: float) -> str | None:
        """The keys pressed, None when the time is over; empty when the terminal is gone."""
        if self._fd is None:
            time.sleep(timeout_s)
            return None
        ready, _, _ = select.select([self._fd], [], [], timeout_s)
        return os.read(self._fd, 1).decode("ascii", "replace") if ready else None


@contextmanager
def _keys() -> Iterator[_Keys]:
    """Read keys as they are pressed, without echo; only if standard input is a terminal."""
    if not sys.stdin.isatty():
        yield _Keys(None)
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        yield _Keys(fd)
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


@contextmanager
def _leaving() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set, so that the way out restores the terminal."""
    leave = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield leave
        return
    before = {number: signal.signal(number, lambda *_: leave.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield leave
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
