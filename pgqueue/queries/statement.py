"""What we say to the database: one builder per .sql file, each returning a Statement, which is a pure value.

Work that takes several statements is a generator of them (Steps): it yields a Statement, is sent its rows, and returns a
value. The doors in db drive it over a sync or an async connection, so nothing with an `if` is ever written twice.
"""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar, overload

from pgqueue.config import Config

T = TypeVar("T")
R = TypeVar("R")
Row = tuple[Any, ...]
Rows = list[Row]
Steps = Generator["Statement[Any]", list[Any], T]
# Steps of which each is several statements that are sent together, without waiting for an answer in between; it is sent the rows of
# each. A round trip costs more than most statements do.
TogetherSteps = Generator[tuple["Statement[Any]", ...], list[list[Any]], T]

LOCK_CLASS = 0x70677175  # "pgqu": the first key of all our advisory locks
SQL = Path(__file__).parents[1] / "sql"
_QUOTED = str.maketrans({"\\": r"\\", '"': r"\""})


@dataclass(frozen=True, slots=True)
class Statement(Generic[R]):
    """SQL text with %(name)s places, and what goes there; `copy_rows` are streamed when the text is a COPY.

    row: makes what is read of each tuple that comes back, such as a NamedTuple with the names of the columns.
    lasting: its plan cannot turn wrong, as it reads no table that grows; so any session may keep it.
    """

    sql: str
    params: Mapping[str, Any] = field(default_factory=dict)
    copy_rows: Iterable[Sequence[Any]] | None = None
    lasting: bool = False
    row: Callable[[Row], R] | None = None


def ask(statement: Statement[R]) -> Steps[list[R]]:
    """A statement as a step whose rows are wanted, so that their type is known; where they are not, yield it."""
    rows: list[R] = yield statement
    return rows


def array(values: Iterable[str | int]) -> str:
    """Ids or numbers as PostgreSQL writes a list: a twentieth of the time that psycopg takes, which was 2 of a job's 40 us."""
    return f"{{{','.join(map(str, values))}}}"


def texts(values: Iterable[str | None]) -> str:
    """As `array`, for texts of any kind; none is an empty one, as a null depends on the session."""
    return array('""' if text is None else f'"{text.translate(_QUOTED)}"' for text in values)


@cache
def sql_file(name: str) -> str:
    """The text of one file of sql/."""
    return (SQL / name).read_text("utf-8")


def sql_files(folder: str) -> Iterable[Path]:
    """The files of one folder of sql/, in no order."""
    return (SQL / folder).glob("*.sql")


def session(*, backend_pid: int, private: bool) -> Statement[Row]:
    """The settings of our sessions, if that process really serves this one; private: no user code runs on it."""
    return Statement(sql_file("client/session.sql"), {"backend_pid": backend_pid, "private": private})


class HarmfulSetting(NamedTuple):
    """One that makes our statements wrong, and what they need it to be."""

    name: str
    setting: str
    wanted: str


def session_of_others() -> Statement[HarmfulSetting]:
    """What would make our statements wrong in a session that a pooler lends us."""
    return Statement(sql_file("client/session_of_others.sql"), row=HarmfulSetting._make)


class Texts:
    """The texts of statements for one schema. Parameters have the names of the places in the .sql file that a method names."""

    def __init__(self, config: Config) -> None:
        self._names = {
            "schema": f'"{config.schema}"',
            "channel": config.jobs_channel,
            "results_channel": config.results_channel,
            "events_channel": config.events_channel,
        } | {role: f'"{name}"' for role, name in config.roles.items()}
        self._texts: dict[str, str] = {}
        self.unlisten: Statement[Row] = Statement("unlisten *")
        self.listen_jobs: Statement[Row] = Statement(f'listen "{config.jobs_channel}"')
        self.listen_events: Statement[Row] = Statement(f'listen "{config.events_channel}"')
        self.listen_results: Statement[Row] = Statement(f'listen "{config.results_channel}"')

    def text(self, file: str, /, **fragments: str) -> str:
        """The text of one file with schema, channels and fragments filled in; params stay %(name)s."""
        key = file + "".join(fragments.values())
        if key not in self._texts:
            text = sql_file(f"{file}.sql")
            for place, value in (fragments | self._names).items():
                text = text.replace(f"{{{place}}}", value)
            self._texts[key] = text
        return self._texts[key]

    @overload
    def _say(self, file: str, /, **params: Any) -> Statement[Any]: ...
    @overload
    def _say(self, file: str, row: type[R], /, **params: Any) -> Statement[R]: ...
    def _say(self, file: str, row: Any = None, /, **params: Any) -> Statement[Any]:
        """row: the NamedTuple of its rows; none: they stay tuples."""
        return Statement(self.text(file), params, row=row and row._make)

    def _values(self, file: str, /, **params: Any) -> Statement[Any]:
        """For rows of one column: each is its value."""
        return Statement(self.text(file), params, row=itemgetter(0))
