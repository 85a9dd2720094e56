"""Statements about the tables themselves."""

import re
from typing import NamedTuple

from pgqueue.queries.statement import LOCK_CLASS, Row, Statement, Steps, Texts, sql_file, sql_files


class AppliedMigration(NamedTuple):
    """A migration that the database has, and the oldest code that may run since; None before that was written down."""

    version: int
    works_with: int | None


class Stranger(NamedTuple):
    """What lies in our schema and is not ours.

    is_needed: a later migration makes something of that name. is_by_default: it may lie there by PostgreSQL's default.
    """

    name: str
    is_needed: bool
    is_by_default: bool


class May(NamedTuple):
    """Who asks, whether the schema is there, and whether that role may put tables into it, or else make it."""

    who: str
    is_there: bool
    may: bool


class DayPartition(NamedTuple):
    """A partition of one day, and the table whose rows it holds."""

    parent: str
    partition: str


def migrations() -> list[tuple[int, str]]:
    """(version, file name) of every migration this code knows, in order."""
    return sorted((int(path.name[:4]), path.name) for path in sql_files("migrations"))


def works_with(name: str) -> int | None:
    """The oldest code that may run on the schema after this migration, as its head says; None: only code that knows it."""
    said = re.search(r"^-- works_with: (\d+)$", sql_file(f"migrations/{name}"), re.MULTILINE)
    return int(said[1]) if said else None


# What may hold a semicolon that ends nothing: comments, texts, names and bodies of functions.
_PIECE = re.compile(
    r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|(?P<tag>\$\w*\$).*?(?P=tag)|(?P<end>;)", re.DOTALL
)


def pieces(text: str) -> list[str]:
    """The statements of a text, one by one, each with the comments before it."""
    ends = [0, *(found.end() for found in _PIECE.finditer(text) if found["end"])]
    said = (text[start:end].strip() for start, end in zip(ends, [*ends[1:], len(text)], strict=True))
    return [piece for piece in said if first_line(piece)]


def first_line(sql: str) -> str:
    """The line by which people know a statement; empty if there are comments alone. A block without a name has its comment."""
    lines = [line.strip() for line in sql.splitlines() if line.strip()]
    line = next((line for line in lines if not line.startswith("--")), "")
    return lines[0].lstrip("- ") if line == "do $$" else line


class SchemaQueries(Texts):
    """Migrations, roles and partitions: the files of sql/schema, sql/roles and sql/migrations."""

    def schema_exists(self) -> Statement[bool]:
        return self._values("schema/exists")

    def schema_versions(self) -> Statement[AppliedMigration]:
        return self._say("schema/versions", AppliedMigration)

    def schema_lock(self) -> Statement[Row]:
        return self._say("schema/lock", lock_class=LOCK_CLASS)

    def schema_patience(self) -> Statement[Row]:
        return self._say("schema/patience")

    def schema_may(self) -> Statement[May]:
        return self._say("schema/may", May)

    def schema_taken(self) -> Statement[str]:
        """Names."""
        return self._values("schema/taken")

    def schema_strangers(self, version: int) -> Statement[Stranger]:
        """version: that of the schema; 0: nothing in it is ours."""
        return self._say("schema/strangers", Stranger, version=version)

    def schema_applied(self, version: int, *, name: str) -> Statement[Row]:
        oldest = works_with(name)
        known = {"version": str(version), "name": name, "works_with": "null" if oldest is None else str(oldest)}
        return Statement(self.text("schema/applied", **known))

    def each(self, file: str) -> Steps[None]:
        """The statements of a file that holds several, one by one."""
        for piece in pieces(self.text(file.removesuffix(".sql"))):
            yield Statement(piece)

    def flush(self) -> Steps[None]:
        """Remove every job, if there is a schema."""
        if (yield self.schema_exists()) == [True]:
            yield from self.each("schema/flush")

    def roles_owned(self) -> Statement[bool]:
        """No row: the schema does not belong to the owner role."""
        return self._values("roles/owned")

    def roles(self, file: str) -> Statement[Row]:
        """One file of sql/roles: become or step_back."""
        return self._say(f"roles/{file}")

    def forget_periods(self, *, at_most: int) -> Statement[Row]:
        return self._say("schema/forget_periods", at_most=at_most)

    def tidy(self, *, keep_succeeded_days: int, keep_dead_days: int) -> Statement[Row]:
        return self._say(
            "schema/tidy", lock_class=LOCK_CLASS, keep_succeeded_days=keep_succeeded_days, keep_dead_days=keep_dead_days
        )

    def partitions(self) -> Statement[DayPartition]:
        return self._say("schema/partitions", DayPartition)
