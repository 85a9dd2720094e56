"""The real database around the model: sessions, a clock that can be moved, and one look at all tables.

Statements read now(), so time passes by moving every stored time that decides anything back: to each statement that is the
same as if its clock had gone forward. Rows under an open transaction cannot be moved; they are when it has ended. What a
statement saw as now() is asked for in its own transaction, so that model and database never differ by the time that
something took.
"""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import make_conninfo

from pgqueue import App, db
from pgqueue.ops import stats
from pgqueue.queries import LOCK_CLASS, Statement
from tests.conftest import TABLES, eventually
from tests.model.model import LIVE, SECOND, Model

R = TypeVar("R")

EPOCH = "(extract(epoch from {}) * 1000000)::bigint"
NOW = f"select {EPOCH.format('now()')}"

LOOK = f"""
select id::text, state::text, claim_token, attempt, crashes, worker::text, queue, priority, unique_key, task, seq, progress,
  cancel_reason, null, case when state = 'scheduled' then {EPOCH.format("run_at")} end, {EPOCH.format("expires_at")},
  {EPOCH.format("handed_back_at")}
from pgqueue.job
union all
select id::text, state::text, claim_token, attempt, crashes, worker::text, queue, priority, unique_key, task, null, null,
  null, error, null, null, null
from pgqueue.history
"""
LOOK_AT_WORKERS = f"""
select id::text, state, {EPOCH.format("heartbeat_at")}, {EPOCH.format("lease_until")}, {EPOCH.format("suspect_since")}, lock_key
from pgqueue.worker
"""
LOOK_AT_THE_REST = f"""
select 'failure', job_id::text, claim_token, attempt, cause from pgqueue.attempt
union all
select 'effect', job_id::text, claim_token, null, null from shop.effect
union all
select 'sibling', job_id::text, null, null, null from shop.sibling
union all
select 'paused', name, null, null, null from pgqueue.queue where paused_at is not null
union all
select 'lock', null, objid::bigint, pid, null from pg_locks
where locktype = 'advisory' and classid = {LOCK_CLASS}
  and database = (select oid from pg_database where datname = current_database())
union all
select 'open', null, null, pid, null from pg_stat_activity
where datname = current_database() and state like 'idle in transaction%' and pid <> pg_backend_pid()
"""
COUNTED = """
select coalesce(sum(succeeded), 0), coalesce(sum(failed), 0), coalesce(sum(dead), 0), coalesce(sum(cancelled), 0)
from pgqueue.throughput
"""


def work(n: int) -> None:
    """What the jobs would do; nobody calls it."""


class World:
    """One database for many examples, each of which begins with `begin` and ends with `empty`."""

    def __init__(self, dsn: str) -> None:
        # A step that would wait for another one's transaction, in this one thread, fails instead.
        self.dsn = make_conninfo(dsn, options="-c lock_timeout=20s")
        self.app = App(self.dsn)
        self.app.migrate()
        self.tasks = {name: self.app.task(name=name, atomic=name == "atomic")(work) for name in ("plain", "atomic")}
        self.queries = self.app.queries
        self.eye = psycopg.connect(self.dsn, autocommit=True)
        self.eye.execute(
            "create schema shop; create table shop.sibling (job_id uuid); "
            "create table shop.effect (job_id uuid, claim_token bigint)"
        )
        self._spare: list[psycopg.Connection] = []
        self._open: dict[psycopg.Connection, str] = {}
        self.expected_open: set[int] = set()
        eventually(
            lambda: self._one("select pg_postmaster_start_time() < now() - interval '5 seconds'"), what="it is up"
        )
        self.begin()

    def begin(self) -> None:
        """Empty tables, a new model, a clock that shows the time."""
        self.eye.rollback()
        for conn in list(self._open):  # of an example that failed, and in any state
            pid = conn.info.backend_pid
            conn.close()
            self._gone(pid)
        self._open.clear()
        self.expected_open.clear()
        tables = [f"pgqueue.{table}" for table in TABLES.split(", ")] + ["shop.sibling", "shop.effect"]
        self.eye.execute("; ".join(f"delete from {table}" for table in tables))
        self.model = Model()
        self.offset = 0
        self._held_at: dict[str, int] = {}

    def close(self) -> None:
        for conn in (*self._spare, *self._open, self.eye):
            conn.close()
        self.app.close()

    def _one(self, query: str, *params: Any) -> Any:
        row = self.eye.execute(query, params or None).fetchone()
        return None if row is None else row[0]

    # -- sessions --

    def session(self, name: str) -> psycopg.Connection:
        """A connection whose session has this application_name."""
        conn = self._spare.pop() if self._spare else psycopg.connect(self.dsn, autocommit=True)
        conn.execute(f"set application_name = '{name}'")
        self._open[conn] = name
        return conn

    def sessions(self, name: str) -> list[psycopg.Connection]:
        """The open ones of this name."""
        return [conn for conn, of in self._open.items() if of == name]

    def give_back(self, conn: psycopg.Connection) -> None:
        """The session ends; its connection is used again."""
        del self._open[conn]
        self.ended(conn)
        conn.rollback()
        conn.autocommit = True
        conn.execute("select pg_advisory_unlock_all(); set application_name = 'nobody'")
        self._spare.append(conn)

    def cut(self, *conns: psycopg.Connection, sent: str | None = None) -> None:
        """The sessions' other end is gone, after having sent a last message: their locks and open transactions go with them.

        That is all that others ever see of it. Their processes at the server begin anew under the next name, as a new one takes
        20 ms until it has seen every table.
        """
        for conn in conns:
            if sent is not None:
                conn.execute(sent)
            self.give_back(conn)

    def terminated(self, conns: Collection[psycopg.Connection]) -> None:
        """The server ended these sessions."""
        for conn in conns:
            self._gone(conn.info.backend_pid)
            del self._open[conn]
            self.ended(conn)
            conn.close()

    def terminate(self, *conns: psycopg.Connection) -> None:
        """The server ends these sessions now."""
        for conn in conns:
            self._one("select pg_terminate_backend(%s)", conn.info.backend_pid)
        self.terminated(conns)

    def _gone(self, pid: int) -> None:
        alive = "select exists (select from pg_stat_activity where pid = %s)"
        eventually(lambda: not self._one(alive, pid), what="the session ended")

    # -- transactions --

    def opened(self, conn: psycopg.Connection) -> int:
        """Begin a transaction that stays open beyond this step; returns its now()."""
        self.expected_open.add(conn.info.backend_pid)
        return self.now(conn)

    def now(self, conn: psycopg.Connection) -> int:
        """now() in the transaction that is open on the connection, or in a new one."""
        if conn.autocommit and db.is_idle(conn):
            cursor = conn.execute("begin; " + NOW)
            cursor.nextset()
        else:
            cursor = conn.execute(NOW)
        ((now,),) = cursor.fetchall()
        return int(now) + self.offset

    def clock(self) -> int:
        """The time, which goes on within a transaction too."""
        ((now,),) = self.eye.execute(f"select {EPOCH.format('clock_timestamp()')}").fetchall()
        return int(now) + self.offset

    def ended(self, conn: psycopg.Connection) -> None:
        """No transaction is open any more."""
        self.expected_open.discard(conn.info.backend_pid)

    def say(self, conn: psycopg.Connection, statement: Statement[R]) -> tuple[int, list[R]]:
        """A statement in a transaction of its own, as autocommit has it, with its now()."""
        with conn.pipeline():  # which is one transaction, without a round trip for its begin
            moment = conn.execute(NOW)
            rows = db.run(conn, statement)
        ((now,),) = moment.fetchall()
        return int(now) + self.offset, rows

    @contextlib.contextmanager
    def using(self) -> Iterator[int]:
        """Calls of the library within speak on one connection, in one transaction; its now()."""
        now = self.now(self.eye)
        try:
            with self.app.using(self.eye):
                yield now
        finally:
            self.eye.execute("commit")

    def lease(self, worker: str) -> tuple[int, int] | None:
        """Its heartbeat_at and lease_until, on the model's clock."""
        row = self.eye.execute(f"{LOOK_AT_WORKERS} where id = %s", [worker]).fetchone()
        return None if row is None else (row[2] + self.offset, row[3] + self.offset)

    # -- the clock --

    def pass_time(self, seconds: float) -> None:
        """The clock goes forward, or back."""
        by = round(seconds * SECOND)
        self.offset += by
        held = ", ".join(f"'{id_}'" for id_ in self.model.held)
        past = f"- {by} * interval '1 microsecond'"
        self.eye.execute(
            f"update pgqueue.worker set heartbeat_at = heartbeat_at {past}, lease_until = lease_until {past}, "
            f"suspect_since = suspect_since {past}; "
            f"update pgqueue.job set run_at = run_at {past}, expires_at = expires_at {past}, "
            f"handed_back_at = handed_back_at {past}" + (f" where id not in ({held})" if held else "")
        )

    def catch_up(self, ids: Collection[str], *, since: int, conn: psycopg.Connection | None = None) -> None:
        """Time passed for all but these rows, which somebody's transaction held or holds: now it does for them."""
        if ids and since != self.offset:
            past = f"- {self.offset - since} * interval '1 microsecond'"
            (conn or self.eye).execute(
                f"update pgqueue.job set run_at = run_at {past}, expires_at = expires_at {past}, "
                f"handed_back_at = handed_back_at {past} where id = any (%s::uuid[])",
                [list(ids)],
            )

    def hold(self, ids: Collection[str]) -> None:
        """An open transaction locks these rows."""
        self.model.held.update(ids)
        self._held_at.update(dict.fromkeys(ids, self.offset))

    def let_go(self, ids: Collection[str], *, written: Collection[str] = ()) -> None:
        """That transaction, or its part, has ended; it caught up itself with the rows it has written."""
        for id_ in ids:
            self.model.held.discard(id_)
            since = self._held_at.pop(id_)
            if id_ not in written:
                self.catch_up([id_], since=since)

    def next_due_s(self, now: int) -> float | None:
        """Seconds until the next scheduled job, as a statement sees it that does not wait for who holds rows."""
        due = [
            job.run_at + self.offset - self._held_at.get(job.id, self.offset)
            for job in self.model.jobs.values()
            if job.state == "scheduled"
        ]
        return (min(due) - now) / SECOND if due else None

    # -- looking --

    def check(self) -> None:
        """Everything in the tables is as the model says, and nothing that was promised is broken."""
        with self.eye.pipeline():  # one round trip
            looks = [self.eye.execute(look) for look in (LOOK, LOOK_AT_WORKERS, LOOK_AT_THE_REST)]
        seen, workers, rest = (look.fetchall() for look in looks)
        self.model.adopt({row[0]: row[10] for row in seen if row[10] is not None})
        jobs = {row[0]: (*row[1:14], *(self._moved(at, row[0]) for at in row[14:])) for row in seen}
        assert len(jobs) == len(seen), "a job is there twice"
        _same("jobs", jobs, {job.id: _job(job) for job in self.model.jobs.values()})
        leases = {row[0]: (row[1], *map(self._moved, row[2:5]), row[5]) for row in workers}
        _same("workers", leases, {
            lease.id: (lease.state, lease.heartbeat_at, lease.lease_until, lease.suspect_since, lease.key)
            for lease in self.model.leases.values()
        })  # fmt: skip
        self._check_the_rest(rest)
        self._check_promises()

    def _moved(self, at: int | None, job_id: str = "") -> int | None:
        """A stored time on the model's clock."""
        return None if at is None else at + self._held_at.get(job_id, self.offset)

    def _check_the_rest(self, seen: list[tuple[Any, ...]]) -> None:
        rows: dict[str, list[tuple[Any, ...]]] = {}
        for kind, *row in seen:
            rows.setdefault(kind, []).append(tuple(row))
        model = self.model
        _same("failed attempts", sorted(rows.get("failure", [])), sorted(model.failures.elements()))
        _same("effects", sorted(row[0] for row in rows.get("effect", [])), sorted(model.effects.elements()))
        _same("siblings", {row[0] for row in rows.get("sibling", [])}, model.siblings)
        _same("paused queues", {row[0] for row in rows.get("paused", [])}, model.paused)
        _same("session locks", sorted(row[1] for row in rows.get("lock", [])), sorted(model.locks.values()))
        _same("open transactions", {row[2] for row in rows.get("open", [])}, self.expected_open)

    def _check_promises(self) -> None:
        keys = [job.unique_key for job in self.model.jobs.values() if job.unique_key and job.state in LIVE]
        assert len(keys) == len(set(keys)), "two live jobs have one unique key"
        for job in self.model.jobs.values():
            if job.task == "atomic":
                effects = self.model.effects[job.id] - self.model.earlier[job.id]
                assert effects == (job.state == "succeeded"), f"{effects} effects of {job}"

    def check_stats(self) -> None:
        """What stats says is what the tables hold."""
        seen: stats.Stats = db.run(self.eye, stats.gather(self.queries))
        jobs = self.model.jobs.values()
        by_state = {state: sum(job.state == state for job in jobs) for state in (*LIVE, "dead")}
        counts = seen.queued, seen.scheduled, seen.running, seen.dead_kept
        _same("totals", [count.value for count in counts], [by_state[s] for s in (*LIVE, "dead")])
        assert all(count.exact for count in counts)
        for queue in seen.queues:
            mine = [job.state for job in jobs if job.queue == queue.name]
            shown = queue.depth.value, queue.running, queue.paused
            _same(
                f"queue {queue.name}",
                shown,
                (mine.count("queued"), mine.count("running"), queue.name in self.model.paused),
            )
        _same(
            "queues",
            {job.queue for job in jobs if job.state in ("queued", "running")} - {q.name for q in seen.queues},
            set(),
        )
        claimed = {worker.id: worker.claimed for worker in seen.workers if worker.claimed}
        _same("busy workers", claimed, {id_: n for id_ in self.model.leases if (n := len(self.model.running(id_)))})
        # Which of those beyond its places run is told by how long it has had them.
        assert all(min(w.claimed, w.concurrency) <= w.busy <= w.claimed for w in seen.workers)
        counted = self.eye.execute(COUNTED).fetchone()
        _same("counts", counted, tuple(self.model.counts[k] for k in ("succeeded", "failed", "dead", "cancelled")))


def _job(job: Any) -> tuple[Any, ...]:
    alive = job.state in LIVE
    return (
        job.state, job.token, job.attempt, job.crashes, job.worker, job.queue, job.priority, job.unique_key, job.task,
        *((job.seq, job.progress, job.cancel, None) if alive else (None, None, None, job.error)),
        job.run_at if job.state == "scheduled" else None, job.expires_at if alive else None,
        job.handed_back_at if alive else None,
    )  # fmt: skip


def _same(what: str, seen: Any, expected: Any) -> None:
    if seen == expected:
        return
    if isinstance(seen, Mapping):
        differ = {key for key in seen.keys() | expected.keys() if seen.get(key) != expected.get(key)}
        seen, expected = ({key: of.get(key) for key in sorted(differ)} for of in (seen, expected))
    raise AssertionError(f"{what}: in the database {seen}, by the model {expected}")
