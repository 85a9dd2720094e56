"""A section of the page: a table that can be asked for fewer lines."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pgqueue.dashboard.words import whole


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a section. Columns with a ratio share the width that the others leave."""

    heading: str = ""
    right: bool = False
    ratio: int | None = None
    min_width: int | None = None
    max_width: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """Cells, and how early a lack of room cuts them: the highest level first. Only rows of level 0 are reported missing."""

    cells: tuple[Text, ...]
    level: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A table; the first heading is its name. The most remarkable rows come first."""

    columns: Sequence[Column]
    rows: Sequence[Row]
    empty: Text
    not_shown: int | None = None
    """How many rows were left out already; None for a list that always shows only the first few."""
    by_name: bool = False
    """Draw in the order of the first cell: nobody can read a list that changes its order every second."""

    @property
    def height(self) -> int:
        return 1 + max(1, len(self.rows))

    def cut(self, height: int) -> "Section":
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
        more = f"  and {whole(self.not_shown)} more" if self.not_shown else ""
        return Text.assemble((self.columns[0].heading, "bold"), (more, "dim"))


def figure(heading: str, width: int) -> Column:
    """A column of numbers, wide enough from the start that it does not move when a number gains or loses a digit."""
    return Column(heading, right=True, min_width=width)
