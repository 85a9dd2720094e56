"""Statements of programs: jobs go in, results come out."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pgqueue.config import Notify
from pgqueue.job import Snapshot
from pgqueue.queries.statement import Row, Statement, Texts, sql_file


class InsertedRow(NamedTuple):
    """A job that an insert has made."""

    id: str
    unique_key: str | None
    bells: int


class DueTimes(NamedTuple):
    """The database's clock: when a job is due and expires, as text, whether that is later, and soon enough to ring now."""

    run_at: str
    expires_at: str | None
    later: bool
    soon: bool


class KeyHolder(NamedTuple):
    """The live job that holds a unique key."""

    unique_key: str
    id: str


class End(NamedTuple):
    """How a job ended. state None: it is alive."""

    id: str
    state: str | None
    task: str
    result: str | None
    error: str | None


# What the gates of a job add to its insert; the text of all other jobs stays as if there were none.
UNGATED = {"gates": "", "gates_given": "", "begins": "queued", "freed": "", "rung": ""}
GATED = {
    source: {**UNGATED, "gates": ", gates, gate", "gates_given": given, "begins": "waiting"}
    for source, given in (("one", ", %(gates)s::text[], 0::smallint"), ("many", ", gates text[], gate smallint"))
}

REPLACING = ("replace", "debounce")  # a job that is there already


class ClientQueries(Texts):
    """The statements of a program that defers jobs and waits for them: the files of sql/client."""

    def insert_one(self, row: Mapping[str, Any], *, on_duplicate: str, ring: Notify) -> Statement[InsertedRow]:
        """A row of a job that waits at gates names them."""
        return self._insert("one", on_duplicate, {**row, "ring": ring}, gated="gates" in row)

    def insert_many(
        self, rows_json: str, *, on_duplicate: str, ring: Notify, gated: bool = False
    ) -> Statement[InsertedRow]:
        """gated: each row names gates, and says whether anybody is to look at it."""
        return self._insert("many", on_duplicate, {"rows": rows_json, "ring": ring}, gated=gated)

    def _insert(
        self,
        source: str,
        on_duplicate: str,
        params: Mapping[str, Any],
        *,
        gated: bool,
        period: str = "",
        calm: str = "",
    ) -> Statement[InsertedRow]:
        """What is empty leaves the text as it is for a plain job."""
        fragments = GATED["many" if source == "many" else "one"] if gated else UNGATED
        if replaces := gated and on_duplicate in REPLACING:
            fragments = fragments | {
                "freed": ",\n" + sql_file("client/insert_freed.sql") + sql_file("ops/poked.sql").rstrip(),
                "rung": sql_file("client/insert_rung.sql").rstrip(),
            }
        text = self.text(
            "client/insert",
            period=period,
            source=sql_file(f"client/insert_source_{source}.sql"),
            on_conflict="" if on_duplicate == "none" else sql_file(f"client/insert_on_duplicate_{on_duplicate}.sql"),
            calm=calm,
            **fragments,
        )
        # Those read a table that grows.
        lasting = not replaces and source not in ("debounce", "once")
        return Statement(text, params, lasting=lasting, row=InsertedRow._make)

    def insert_debounced(
        self, row: Mapping[str, Any], *, keys: Sequence[str], most_s: float, ring: Notify
    ) -> Statement[InsertedRow]:
        """None comes back if a job of the key has begun to run meanwhile. keys: the first that no running job holds is taken."""
        params = {**row, "keys": keys, "most_s": most_s, "ring": ring}
        calm = sql_file("client/insert_calm.sql").rstrip()
        return self._insert("debounce", "debounce", params, gated="gates" in row, calm=calm)

    def insert_once(
        self, row: Mapping[str, Any], *, key: str, every_s: float, aligned: bool, ring: Notify
    ) -> Statement[InsertedRow]:
        """None comes back if the key has a job of this period. every_s: how long that is."""
        params = {**row, "period_key": key, "every_s": every_s, "aligned": aligned, "ring": ring}
        period = sql_file("client/insert_period.sql")
        return self._insert("once", "none", params, gated="gates" in row, period=period)

    def period(self, key: str) -> Statement[str]:
        """The id of its job."""
        return self._values("client/period", key=key)

    def copy(self, rows: Iterable[Sequence[Any]], *, gated: bool = False) -> Statement[Row]:
        return Statement(self.text("client/copy", gates=", gates, gate" if gated else ""), copy_rows=rows)

    def clock(self, row: Mapping[str, Any]) -> Statement[DueTimes]:
        return self._say(
            "client/clock", DueTimes, **{name: row[name] for name in ("run_at", "delay_s", "expires_at", "expires_s")}
        )

    def begin(self) -> Statement[Row]:
        return self._say("client/begin")

    def ring(self, queue: str, *, ring: Notify) -> Statement[Row]:
        return self._say("client/ring", queue=queue, ring=ring)

    def savepoint(self, verb: str) -> Statement[Row]:
        """begin, release or rollback."""
        return self._say(f"client/savepoint_{verb}")

    def live_by_key(self, keys: Sequence[str]) -> Statement[KeyHolder]:
        return self._say("client/live_by_key", KeyHolder, keys=keys)

    def job(self, job_id: str) -> Statement[Snapshot]:
        return self._say("client/job", Snapshot, id=job_id)

    def await_(self, ids: Sequence[str]) -> Statement[Row]:
        return self._say("client/await", ids=ids)

    def unawait(self, ids: Sequence[str]) -> Statement[Row]:
        return self._say("client/unawait", ids=ids)

    def ends(self, ids: Sequence[str]) -> Statement[End]:
        return self._say("client/ends", End, ids=ids)
