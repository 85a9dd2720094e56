"""Statements of programs: jobs go in, results come out."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pgqueue.config import Notify
from pgqueue.queries.statement import Statement, Texts, sql_file


class ClientQueries(Texts):
    """What a program says that defers jobs and waits for them: the files of sql/client."""

    def insert_one(self, row: Mapping[str, Any], *, on_duplicate: str, ring: Notify) -> Statement:
        return self._insert("one", on_duplicate, {**row, "ring": ring})

    def insert_many(self, rows_json: str, *, on_duplicate: str, ring: Notify) -> Statement:
        return self._insert("many", on_duplicate, {"rows": rows_json, "ring": ring})

    def _insert(self, source: str, on_duplicate: str, params: Mapping[str, Any]) -> Statement:
        conflict = "" if on_duplicate == "none" else sql_file(f"client/insert_on_duplicate_{on_duplicate}.sql")
        text = self.text("client/insert", source=sql_file(f"client/insert_source_{source}.sql"), on_conflict=conflict)
        return Statement(text, params, lasting=True)

    def copy(self, rows: Iterable[Sequence[Any]]) -> Statement:
        return Statement(self.text("client/copy"), copy_rows=rows)

    def clock(self, row: Mapping[str, Any]) -> Statement:
        return self._say(
            "client/clock", **{name: row[name] for name in ("run_at", "delay_s", "expires_at", "expires_s")}
        )

    def begin(self) -> Statement:
        return self._say("client/begin")

    def ring(self, queue: str, *, ring: Notify) -> Statement:
        return self._say("client/ring", queue=queue, ring=ring)

    def savepoint(self, verb: str) -> Statement:
        """begin, release or rollback."""
        return self._say(f"client/savepoint_{verb}")

    def live_by_key(self, keys: Sequence[str]) -> Statement:
        return self._say("client/live_by_key", keys=keys)

    def job(self, job_id: str) -> Statement:
        return self._say("client/job", id=job_id)

    def await_(self, ids: Sequence[str]) -> Statement:
        return self._say("client/await", ids=ids)

    def unawait(self, ids: Sequence[str]) -> Statement:
        return self._say("client/unawait", ids=ids)

    def ends(self, ids: Sequence[str]) -> Statement:
        return self._say("client/ends", ids=ids)
