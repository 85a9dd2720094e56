"""The head of the page: counters, the last hour, and throughput as a chart."""

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from pgqueue.dashboard.words import clock, count, data, per_s, quiet_zero
from pgqueue.ops.stats import Bucket, Stats

CHART_LABEL_WIDTH = 11
BLOCKS = " ▁▂▃▄▅▆▇█"


def title_line(stats: Stats, *, title: str, hint: str) -> RenderableType:
    line = Table.grid(expand=True, padding=(0, 2, 0, 0))
    line.add_column(no_wrap=True)
    line.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    line.add_column(no_wrap=True, justify="right")
    time = Text(f"{hint}{clock(stats.at)} UTC", style="dim")
    line.add_row(Text("pgqueue", style="bold"), data(title, style="dim"), time)
    return line


def counters(stats: Stats, *, across: int) -> RenderableType:
    """The counters, each above its name, `across` of them side by side."""
    counters = (
        (quiet_zero(stats.queued.value, count(stats.queued), style="bold"), "queued"),
        (quiet_zero(stats.scheduled.value, count(stats.scheduled), style="bold"), "scheduled"),
        (quiet_zero(stats.running.value, count(stats.running), style="bold"), "running"),
        (quiet_zero(stats.succeeded_per_s, per_s(stats.succeeded_per_s), style="bold green"), "succeeded/s"),
        (quiet_zero(stats.failed_per_s, per_s(stats.failed_per_s), style="bold red"), "failed/s"),
        (quiet_zero(stats.dead_kept.value, count(stats.dead_kept), style="bold red"), "dead"),
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


def last_hour(stats: Stats) -> Text:
    ends = stats.last_hour
    words = (
        (ends.succeeded, "succeeded", ""), (ends.failed, "failed", "red"),
        (ends.dead, "dead", "red"), (ends.cancelled, "cancelled", ""),
    )  # fmt: skip
    parts = [Text.assemble(quiet_zero(number, style=style), (f" {word}", "dim")) for number, word, style in words]
    return Text.assemble(("last hour  ", "dim"), Text("  ").join(parts), no_wrap=True, overflow="ellipsis")


def chart(buckets: Sequence[Bucket], *, width: int, rows: int) -> RenderableType:
    """Successes per second as columns over ten minutes, and one red line of failures below if there were any."""
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
        label = f"{per_s(peak)}{unit}" if row == rows - 1 else ""
        grid.add_row(Text(label.rjust(CHART_LABEL_WIDTH), style="dim"), Text(bars, style=style if peak else "dim"))


def _block(value: float, *, peak: float, row: int, rows: int) -> str:
    """The piece of one column in one row, counted from the bottom. A small value is never drawn as nothing."""
    if not value:
        return "·" if row == 0 else " "
    eighths = max(1, round(value / peak * rows * 8))
    return BLOCKS[min(8, max(0, eighths - 8 * row))]
