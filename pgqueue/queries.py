"""What we say to the database: one builder per .sql file, each returning a Statement, which is a pure value.

Work that takes several statements is a generator of them (Steps): it yields a Statement, is sent its rows, and returns a
value. The doors in db drive it over a sync or an async connection, so nothing with an `if` is ever written twice.
"""

import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pgqueue.config import Config, Notify
from pgqueue.job import State

T = TypeVar("T")
Row = tuple[Any, ...]
Rows = list[Row]
Steps = Generator["Statement", Rows, T]

LOCK_CLASS = 0x70677175  # "pgqu": the first key of all our advisory locks
# Of arguments, after which a claim takes no further job: a thousand large ones would be a gigabyte.
CLAIM_BYTES = 4_000_000
_FOLDER = Path(__file__).parent / "sql"
_QUOTED = str.maketrans({"\\": r"\\", '"': r"\""})


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL text with %(name)s places, and what goes there; `copy_rows` are streamed when the text is a COPY.

    lasting: its plan cannot turn wrong, as it reads no table that grows; so any session may keep it.
    """

    sql: str
    params: Mapping[str, Any] = field(default_factory=dict)
    copy_rows: Iterable[Sequence[Any]] | None = None
    lasting: bool = False


def _array(values: Iterable[str | int]) -> str:
    """Ids or numbers as PostgreSQL writes a list: a twentieth of the time that psycopg takes, which was 2 of a job's 40 us."""
    return f"{{{','.join(map(str, values))}}}"


def _texts(values: Iterable[str | None]) -> str:
    """As _array, for texts of any kind; none is an empty one, as a null depends on the session."""
    return _array('""' if text is None else f'"{text.translate(_QUOTED)}"' for text in values)


def _listed(states: Iterable[State]) -> str:
    return ", ".join(f"'{state}'" for state in states)


def _columns(cursors: Sequence[tuple[str, int, int]]) -> dict[str, list[Any]]:
    queues, priorities, seqs = zip(*cursors, strict=True) if cursors else ((), (), ())
    return {"queues": list(queues), "priorities": list(priorities), "cursors": list(seqs)}


@cache
def _file(name: str) -> str:
    return (_FOLDER / name).read_text("utf-8")


def session(*, backend_pid: int, private: bool) -> Statement:
    """The settings of our sessions, if that process really serves this one; private: no user code runs on it."""
    return Statement(_file("session.sql"), {"backend_pid": backend_pid, "private": private})


def session_of_others() -> Statement:
    """What would make our statements wrong in a session that a pooler lends us."""
    return Statement(_file("session_of_others.sql"))


def migrations() -> list[tuple[int, str]]:
    """(version, file name) of every migration this code knows, in order."""
    return sorted((int(path.name[:4]), path.name) for path in (_FOLDER / "migrations").glob("*.sql"))


def works_with(name: str) -> int | None:
    """The oldest code that may run on the schema after this migration, as its head says; None: only code that knows it."""
    said = re.search(r"^-- works_with: (\d+)$", _file(f"migrations/{name}"), re.MULTILINE)
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


class Queries:
    """All statements for one schema. Parameters have the names of the places in the .sql file that the method is called after."""

    def __init__(self, config: Config) -> None:
        self._names = {
            "schema": f'"{config.schema}"',
            "channel": config.jobs_channel,
            "results_channel": config.results_channel,
        } | {role: f'"{name}"' for role, name in config.roles.items()}
        self._texts: dict[str, str] = {}
        self.unlisten = Statement("unlisten *")
        self.listen_jobs = Statement(f'listen "{config.jobs_channel}"')
        self.listen_results = Statement(f'listen "{config.results_channel}"')

    def text(self, file: str, /, **fragments: str) -> str:
        """The text of one file with schema, channels and fragments filled in; params stay %(name)s."""
        key = file + "".join(fragments.values())
        if key not in self._texts:
            text = _file(f"{file}.sql")
            for place, value in (fragments | self._names).items():
                text = text.replace(f"{{{place}}}", value)
            self._texts[key] = text
        return self._texts[key]

    def _say(self, file: str, /, **params: Any) -> Statement:
        return Statement(self.text(file), params)

    # -- callers: jobs go in, results come out --

    def insert_one(self, row: Mapping[str, Any], *, on_duplicate: str, ring: Notify) -> Statement:
        return self._insert("one", on_duplicate, {**row, "ring": ring})

    def insert_many(self, rows_json: str, *, on_duplicate: str, ring: Notify) -> Statement:
        return self._insert("many", on_duplicate, {"rows": rows_json, "ring": ring})

    def _insert(self, source: str, on_duplicate: str, params: Mapping[str, Any]) -> Statement:
        conflict = "" if on_duplicate == "none" else _file(f"insert_on_duplicate_{on_duplicate}.sql")
        text = self.text("insert", source=_file(f"insert_source_{source}.sql"), on_conflict=conflict)
        return Statement(text, params, lasting=True)

    def copy(self, rows: Iterable[Sequence[Any]]) -> Statement:
        return Statement(self.text("copy"), copy_rows=rows)

    def clock(self, row: Mapping[str, Any]) -> Statement:
        return self._say("clock", **{name: row[name] for name in ("run_at", "delay_s", "expires_at", "expires_s")})

    def begin(self) -> Statement:
        return self._say("begin")

    def ring(self, queue: str, *, ring: Notify) -> Statement:
        return self._say("ring", queue=queue, ring=ring)

    def savepoint(self, verb: str) -> Statement:
        """begin, release or rollback."""
        return self._say(f"savepoint_{verb}")

    def live_by_key(self, keys: Sequence[str]) -> Statement:
        return self._say("live_by_key", keys=keys)

    def cancel(self, job_id: str, *, reason: str, kill: bool = False) -> Statement:
        return self._say("cancel", id=job_id, reason=reason, kill=kill)

    def retry(self, job_id: str) -> Statement:
        return self._say("retry", id=job_id)

    def job(self, job_id: str) -> Statement:
        return self._say("job", id=job_id)

    def jobs_window(self, states: Sequence[State], **wanted: Any) -> Statement:
        """states: those whose jobs lie in the tables that are looked through."""
        live = str(any(not state.ended for state in states)).lower()
        text = self.text("jobs/window", live=live, states=_listed(states))
        return Statement(text, wanted)

    def jobs_of_state(self, index: str, **wanted: Any) -> Statement:
        """index: the file that walks along it."""
        return Statement(self.text("jobs/of_state", source=_file(f"jobs/{index}.sql")), wanted)

    def ago(self, seconds: float) -> Statement:
        return self._say("jobs/ago", seconds=seconds)

    def in_index_order(self) -> Statement:
        return self._say("jobs/in_index_order")

    def find(self, ending: str) -> Statement:
        return self._say("find", ending=ending)

    def attempts(self, job_id: str) -> Statement:
        return self._say("attempts", id=job_id)

    def audit(self, job_id: str) -> Statement:
        return self._say("audit", id=job_id)

    def why(self, job_id: str, *, count_limit: int) -> Statement:
        return self._say("why", id=job_id, count_limit=count_limit)

    def await_(self, ids: Sequence[str]) -> Statement:
        return self._say("await", ids=ids)

    def unawait(self, ids: Sequence[str]) -> Statement:
        return self._say("unawait", ids=ids)

    def ends(self, ids: Sequence[str]) -> Statement:
        return self._say("ends", ids=ids)

    def pause(self, queue: str) -> Statement:
        return self._say("pause", queue=queue)

    def resume(self, queue: str) -> Statement:
        return self._say("resume", queue=queue)

    def purge_window(self, state: State, states: Sequence[State], **wanted: Any) -> Statement:
        """states: as in jobs_window."""
        table, finished_at = ("history", "finished_at") if state.ended else ("job", "null::timestamptz")
        text = self.text("jobs/purge_window", table=table, finished_at=finished_at, states=_listed(states))
        return Statement(text, {"state": state, **wanted})

    def purge(self, ids: Sequence[str], **wanted: Any) -> Statement:
        return self._say("purge", ids=list(ids), **wanted)

    def purge_history(self, ids: Sequence[str], times: Sequence[datetime], **wanted: Any) -> Statement:
        """times: when they ended."""
        return self._say("purge_history", ids=list(ids), times=list(times), **wanted)

    # -- the path of a job through a worker --

    def heads(self, *, queues: Sequence[str] | None, unknown: Sequence[str]) -> Statement:
        return self._say("heads", queues=queues, unknown=unknown)

    def claim(
        self, *, worker: str, cursors: Sequence[tuple[str, int, int]], unknown: Sequence[str], limit: int
    ) -> Statement:
        """cursors: (queue, priority, seq), the best first."""
        return self._say(
            "claim", worker=worker, unknown=unknown, limit=limit, most_bytes=CLAIM_BYTES, **_columns(cursors)
        )

    def set_aside(
        self, *, worker: str, worker_name: str, cursors: Sequence[tuple[str, int, int]], unknown: Sequence[str],
        cause: str, error: str,
    ) -> Statement:  # fmt: skip
        return self._say(
            "set_aside", worker=worker, worker_name=worker_name, unknown=unknown, cause=cause, error=error,
            **_columns(cursors),
        )  # fmt: skip

    def finish(
        self, *, worker: str, ids: Sequence[str], tokens: Sequence[int], results: Sequence[str | None]
    ) -> Statement:
        return self._say("finish", worker=worker, ids=_array(ids), tokens=_array(tokens), results=_texts(results))

    def atomic_begin(self, *, attempt: str) -> Statement:
        return self._say("atomic_begin", attempt=attempt)

    def recorded(self, *, worker: str, ids: Sequence[str], tokens: Sequence[int], kept: Sequence[bool]) -> Statement:
        return self._say("recorded", worker=worker, ids=ids, tokens=tokens, kept=kept)

    def settle(self, *, worker: str, worker_name: str, columns: Mapping[str, Sequence[Any]]) -> Statement:
        return self._say("settle", worker=worker, worker_name=worker_name, **columns)

    def promote(self, *, worker: str, now: datetime | None = None) -> Statement:
        return self._say("promote", worker=worker, now=now)

    def progress(
        self,
        *,
        worker: str,
        ids: Sequence[str],
        tokens: Sequence[int],
        fractions: Sequence[float | None],
        notes: Sequence[str | None],
    ) -> Statement:
        return self._say("progress", worker=worker, ids=ids, tokens=tokens, fractions=fractions, notes=notes)

    def revoke(self, *, worker: str, job_id: str, token: int) -> Statement:
        return self._say("revoke", worker=worker, id=job_id, token=token)

    def hand_back(self, *, worker: str, job_id: str, token: int) -> Statement:
        return self._say("hand_back", worker=worker, id=job_id, token=token)

    def held(self, *, worker: str) -> Statement:
        return self._say("held", worker=worker)

    def cancels(self, ids: Sequence[str]) -> Statement:
        return self._say("cancels", ids=ids)

    def drained(self, *, queues: Sequence[str] | None, unknown: Sequence[str]) -> Statement:
        return self._say("drained", queues=queues, unknown=unknown)

    # -- leases --

    def register(self, *, code: str | None = None, **worker: Any) -> Statement:
        return self._say("register", code=code, **worker)

    def lock(self, lock_key: int) -> Statement:
        return self._say("lock", lock_class=LOCK_CLASS, lock_key=lock_key)

    def connections_allowed(self) -> Statement:
        return self._say("connections_allowed")

    def steady_plans(self) -> Statement:
        return self._say("steady_plans")

    def lock_patience(self) -> Statement:
        return self._say("lock_patience")

    def beat(self, *, look: bool, **beat: Any) -> Statement:
        """look: ask the jobs too."""
        jobs = _file("beat_asks_jobs.sql" if look else "beat_asks_nothing.sql")
        return Statement(self.text("beat", jobs=jobs), {"lock_class": LOCK_CLASS, **beat})

    def sleep(self, *, worker: str, sleeping: bool) -> Statement:
        return self._say("sleep", worker=worker, sleeping=sleeping)

    def suspect(self, workers: Sequence[str]) -> Statement:
        return self._say("suspect", workers=workers)

    def bury(self, workers: Sequence[str], *, grace_s: float) -> Statement:
        return self._say("bury", workers=workers, grace_s=grace_s)

    def rescue(self, workers: Sequence[str], *, crash_cap: int) -> Statement:
        return self._say("rescue", workers=workers, crash_cap=crash_cap)

    def bells(self, *, share: float) -> Statement:
        return self._say("bells", share=share)

    def depart(self, *, worker: str) -> Statement:
        return self._say("depart", worker=worker)

    def alive(self) -> Statement:
        return self._say("alive")

    # -- retention --

    def tidy(self, *, keep_succeeded_days: int, keep_dead_days: int) -> Statement:
        return self._say(
            "tidy", lock_class=LOCK_CLASS, keep_succeeded_days=keep_succeeded_days, keep_dead_days=keep_dead_days
        )

    def partitions(self) -> Statement:
        return self._say("partitions")

    def prune(self) -> Statement:
        return self._say("prune")

    # -- stats --

    def stats_totals(self, *, count_limit: int) -> Statement:
        return self._say("stats_totals", count_limit=count_limit)

    def stats_throughput(self) -> Statement:
        return self._say("stats_throughput")

    def stats_queues(self, *, queue_limit: int, count_limit: int) -> Statement:
        return self._say("stats_queues", queue_limit=queue_limit, count_limit=count_limit)

    def stats_sample(self, *, percent: float) -> Statement:
        return self._say("stats_sample", percent=percent)

    def stats_sample_dead(self, *, percent: float) -> Statement:
        return self._say("stats_sample_dead", percent=percent)

    def stats_workers(self, *, limit: int, count_limit: int) -> Statement:
        return self._say("stats_workers", limit=limit, count_limit=count_limit)

    def stats_current(self, workers: Sequence[str], *, limit: int) -> Statement:
        return self._say("stats_current", workers=workers, limit=limit)

    def stats_upcoming(self, *, limit: int) -> Statement:
        return self._say("stats_upcoming", limit=limit)

    def stats_failures(self, *, limit: int) -> Statement:
        return self._say("stats_failures", limit=limit)

    # -- the doctor --

    def doctor(self, question: str, **params: Any) -> Statement:
        """One file of sql/doctor."""
        return self._say(f"doctor/{question}", **params)

    # -- the measurements --

    def bench(self, question: str, **params: Any) -> Statement:
        """One file of sql/bench."""
        return self._say(f"bench/{question}", **params)

    # -- migrations --

    def schema_exists(self) -> Statement:
        return self._say("schema_exists")

    def schema_versions(self) -> Statement:
        return self._say("schema_versions")

    def schema_lock(self) -> Statement:
        return self._say("schema_lock", lock_class=LOCK_CLASS)

    def schema_patience(self) -> Statement:
        return self._say("schema_patience")

    def schema_may(self) -> Statement:
        return self._say("schema_may")

    def schema_taken(self) -> Statement:
        return self._say("schema_taken")

    def schema_applied(self, version: int, *, name: str) -> Statement:
        oldest = works_with(name)
        known = {"version": str(version), "name": name, "works_with": "null" if oldest is None else str(oldest)}
        return Statement(self.text("schema_applied", **known))

    def each(self, file: str) -> Steps[None]:
        """The statements of a file that holds several, one by one."""
        for piece in pieces(self.text(file.removesuffix(".sql"))):
            yield Statement(piece)

    def roles(self, file: str) -> Statement:
        """One file of sql/roles: owned, become or step_back."""
        return self._say(f"roles/{file}")
