"""Statements about triggers on users' tables. Their SQL is made of pieces that the server has quoted, and of users' own SQL."""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from pgqueue.queries.statement import Row, Statement, Texts, sql_file, texts

FRAGMENT = re.compile(r"\{(\w+)\}")


class Table(NamedTuple):
    """What a table is. is_ours: or the server's. kind: r is a plain table, p a partitioned one.

    is_part: a partition, or the heir of another table.
    """

    qualified: str
    schema: str
    name: str
    is_ours: bool
    kind: str
    is_temporary: bool
    is_part: bool
    has_heirs: bool
    keys: list[str]
    columns: list[str]


class Pieces(NamedTuple):
    """SQL of one event; see triggers/pieces.sql. The server has quoted every name."""

    event: str
    op: str
    rows: str
    sample: str
    changed: str
    unpaired: str
    referencing: str
    key: str
    said: str


class Quoted(NamedTuple):
    """A text as SQL writes it."""

    literal: str
    name: str


class Recorded(NamedTuple):
    """A trigger that was made. spec and state are JSON; declared_at None: by a command."""

    name: str
    made_at: datetime
    declared_at: datetime | None
    table_name: str
    keys: list[str]
    spec: str
    state: str


class Found(NamedTuple):
    """What the server has of a trigger for one event, as digests; table_name None: its function alone."""

    event: str
    body: str
    rights: str
    table_name: str | None
    definition: str | None
    enabled: str | None
    disabled_parts: int


class TriggersQueries(Texts):
    """The statements of the files of sql/triggers. What `said` holds fills their places, and must have been quoted."""

    def their_path(self) -> Statement[Row]:
        return self._say("triggers/their_path")

    def pinned_path(self) -> Statement[Row]:
        return self._say("triggers/pinned_path")

    def trigger_table(self, table: str) -> Statement[Table]:
        """No row: there is none of that name."""
        return self._say("triggers/table", Table, table=table)

    def trigger_pieces(self, table: Table, **wanted: Any) -> Statement[Pieces]:
        """wanted: columns, events, by_row, as_object, payload."""
        lists = {name: texts(value) if isinstance(value, list) else value for name, value in wanted.items()}
        return self._say("triggers/pieces", Pieces, table=table.qualified, name=table.name, **lists)

    def quoted(self, values: Sequence[str]) -> Statement[Quoted]:
        """In the same order."""
        return self._say("triggers/quoted", Quoted, texts=texts(values))

    def trigger_part(self, file: str, said: dict[str, str]) -> Statement[Row]:
        """One statement that makes, tries, opens, closes or drops a part of a trigger."""
        return Statement(self.trigger_text(file, said))

    def trigger_try(self, said: dict[str, str]) -> Statement[Row]:
        """With a value apart, so that the server takes no second statement in a condition."""
        return Statement(
            self.trigger_text("try", said).replace("%", "%%") + "and %(nothing)s::text is null", {"nothing": None}
        )

    def trigger_text(self, file: str, said: dict[str, str]) -> str:
        """At one go, so that braces in a user's condition are left alone."""
        known = self._names | said
        return FRAGMENT.sub(lambda place: known[place[1]], sql_file(f"triggers/{file}.sql"))

    def trigger_state(self, prefix: str) -> Statement[Found]:
        """prefix: of the names of its functions, as a literal."""
        return Statement(self.trigger_text("state", {"prefix": prefix}), row=Found._make)

    def triggers(self) -> Statement[Recorded]:
        return self._say("triggers/recorded", Recorded)

    def unrecorded(self, functions: Iterable[str]) -> Statement[str]:
        return self._values("triggers/unrecorded", functions=texts(functions))
