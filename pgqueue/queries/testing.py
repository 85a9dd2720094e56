"""What the testing kit says: about its databases, about time, and about what was deferred."""

from datetime import datetime
from typing import NamedTuple

from pgqueue.queries.statement import LOCK_CLASS, Row, Statement, Texts


class FoundDatabase(NamedTuple):
    """A database of tests; free: its process is gone, and the name is locked for us now."""

    name: str
    is_free: bool


class DeferredRow(NamedTuple):
    """A job as it was put in. delay_s, expires_s: seconds from then."""

    id: str
    task: str
    args: str
    kwargs: str
    queue: str
    priority: int
    run_at: str
    delay_s: float | None
    unique_key: str | None
    max_attempts: int | None
    timeout_s: float | None
    expires_s: float | None
    headers: str | None


class MadeDue(NamedTuple):
    """Where the next claim finds a job."""

    queue: str
    priority: int
    seq: int


class KitQueries(Texts):
    """The files of sql/testing. Not among Queries, so that a program that tests nothing does not read this."""

    def now(self) -> Statement[datetime]:
        return Statement(self.text("testing/now"), row=lambda row: datetime.fromisoformat(row[0]))

    def clean(self) -> Statement[Row]:
        return self._say("testing/clean")

    def databases(self, *, prefix: str) -> Statement[FoundDatabase]:
        return self._say("testing/databases", FoundDatabase, prefix=prefix, lock_class=LOCK_CLASS)

    def lock_name(self, name: str) -> Statement[Row]:
        return self._say("testing/lock_name", name=name, lock_class=LOCK_CLASS)

    def unlock_name(self, name: str) -> Statement[Row]:
        return self._say("testing/unlock_name", name=name, lock_class=LOCK_CLASS)

    def is_there(self, name: str) -> Statement[bool]:
        return self._values("testing/is_there", name=name)

    def create_database(self, name: str, *, template: str) -> Statement[Row]:
        return Statement(self.text("testing/create_database", name=name, template=template))

    def rename_database(self, name: str, *, template: str) -> Statement[Row]:
        return Statement(self.text("testing/rename_database", name=name, template=template))

    def drop_database(self, name: str) -> Statement[Row]:
        return Statement(self.text("testing/drop_database", name=name))

    def deferred(self) -> Statement[DeferredRow]:
        return self._say("testing/deferred", DeferredRow)

    def gates(self) -> Statement[str]:
        """Those at which jobs wait."""
        return self._values("testing/gates")

    def make_due(self, job_id: str) -> Statement[MadeDue]:
        return self._say("testing/make_due", MadeDue, id=job_id)

    def advance(self, seconds: float) -> Statement[Row]:
        return self._say("testing/advance", seconds=seconds)
