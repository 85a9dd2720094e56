"""One page for any width and height: the head, and the sections side by side or under each other, cut to fit."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pgqueue.dashboard.head import chart, counters, last_hour, title_line
from pgqueue.dashboard.section import Section
from pgqueue.dashboard.tables import (
    failures_section,
    queues_section,
    subscriptions_section,
    upcoming_section,
    workers_section,
)
from pgqueue.dashboard.words import data
from pgqueue.ops.stats import Stats

WIDE = 112  # cells; a narrower page has one column
MARGIN = 1  # cells left and right
LOW_HEIGHT = 30  # lines; a lower screen gets a lower chart
MIN_WIDTH = 40  # cells; a narrower screen cuts lines
COUNTERS_WIDTH = 42  # cells, of the counters when they are next to the chart
CHART_ROWS = 4
LOW_CHART_ROWS = 2
GAP = 3  # cells between two columns
ENDLESS = 1_000_000  # lines, of a page that is printed
MIN_SECTION_HEIGHT = 2  # a heading and a row


def page(stats: Stats, *, title: str) -> RenderableType:
    """Everything in `stats` on one page: as long as it needs to be, or cut to the height that rich is given."""
    return View(stats, title)


@dataclass(frozen=True, slots=True)
class View:
    """What rich draws: `hint` is next to the clock, `trouble` under the title, in red."""

    stats: Stats
    title: str
    hint: str = ""
    trouble: str = ""
    height: int | None = None
    """Lines, when the page must fit a screen: rich's Live does not pass the height on."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = max(MIN_WIDTH, options.max_width - 2 * MARGIN)
        height = self.height or options.height or ENDLESS
        head = self._head(width=width, chart_rows=LOW_CHART_ROWS if height < LOW_HEIGHT else CHART_ROWS)
        room = height - len(console.render_lines(head, options.update(width=width, height=None)))
        yield Padding(Group(head, self._sections(width=width, room=room)), (0, MARGIN))

    def _head(self, *, width: int, chart_rows: int) -> RenderableType:
        return Group(
            title_line(self.stats, title=self.title, hint=self.hint),
            data(self.trouble, style="bold red", width=width) if self.trouble else Text(),
            _figures(self.stats, width=width, chart_rows=chart_rows),
            last_hour(self.stats),
            Text(),
        )

    def _sections(self, *, width: int, room: int) -> RenderableType:
        """Queues, workers, subscriptions, upcoming, failures; on a wide screen in two columns, the errors across."""
        left = width if width < WIDE else (width - GAP) * 3 // 7
        right = width if width < WIDE else width - GAP - left
        queues, upcoming = queues_section(self.stats), upcoming_section(self.stats, width=left)
        subscriptions = subscriptions_section(self.stats)
        workers, failures = workers_section(self.stats, width=right), failures_section(self.stats)
        if width < WIDE:
            return _stack([queues, workers, *subscriptions, upcoming, failures], room=room)
        at_left, at_right = [queues, upcoming], [workers, *subscriptions]
        above, below = _share([max(_height(at_left), _height(at_right)), failures.height], room=room - 1)
        grid = Table.grid(padding=(0, GAP, 0, 0))
        grid.add_column(width=left)
        grid.add_column(width=right)
        grid.add_row(_stack(at_left, room=above), _stack(at_right, room=above))
        return Group(grid, Text(), failures.cut(below).draw())


def _figures(stats: Stats, *, width: int, chart_rows: int) -> RenderableType:
    """The counters above the chart, or next to it if there is room."""
    if width < WIDE:
        return Group(counters(stats, across=6), Text(), chart(stats.throughput, width=width, rows=chart_rows))
    grid = Table.grid(expand=True, padding=(0, GAP, 0, 0))
    grid.add_column(ratio=1)
    grid.add_column(width=COUNTERS_WIDTH)
    columns = chart(stats.throughput, width=width - COUNTERS_WIDTH - GAP, rows=CHART_ROWS)
    grid.add_row(columns, counters(stats, across=3))
    return grid


def _height(sections: Sequence[Section]) -> int:
    return sum(section.height for section in sections) + len(sections) - 1


def _stack(sections: Sequence[Section], *, room: int) -> RenderableType:
    """Sections one below the other with a line between, cut so that together they fit into `room` lines."""
    heights = _share([section.height for section in sections], room=room - len(sections) + 1)
    drawn = (section.cut(height).draw() for section, height in zip(sections, heights, strict=True))
    lines = [part for section in drawn for part in (section, Text())]
    return Group(*lines[:-1])


def _share(wanted: Sequence[int], *, room: int) -> list[int]:
    """The height of each: what it wants, or the largest cut to one height, but never below MIN_SECTION_HEIGHT."""
    level = max(wanted)
    while sum(min(want, level) for want in wanted) > room and level > MIN_SECTION_HEIGHT:
        level -= 1
    heights = [min(want, level) for want in wanted]
    for place, want in enumerate(wanted):  # what is left over, one line each
        heights[place] += heights[place] < want and sum(heights) < room
    return heights
