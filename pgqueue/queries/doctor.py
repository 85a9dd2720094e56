"""Statements by which the doctor examines a server and mends what is safe to mend."""

from datetime import date
from typing import NamedTuple

from pgqueue.queries.statement import Row, Statement, Texts


class ServerSettings(NamedTuple):
    """One row of ops/doctor/server.sql, in its order. Timeouts are seconds, 0 and None: none."""

    version: int
    encoding: str
    in_recovery: bool
    fsync: str
    full_page_writes: str
    synchronous_commit: str
    autovacuum: str
    statement_timeout_s: float
    lock_timeout_s: float
    idle_in_transaction_s: float
    idle_session_s: float
    transaction_timeout_s: float | None
    notify_share: float
    sessions: int
    allowed: int
    backend_pid: int


class SnapshotHolder(NamedTuple):
    """What keeps dead rows from being cleaned, and the statement that ends it; seconds None: nobody knows since when."""

    who: str
    cure: str
    seconds: float | None


class DeadRows(NamedTuple):
    """A table that waits for vacuum; vacuumed_s: since the last one, None if there was none."""

    name: str
    live: int
    dead: int
    vacuumed_s: float | None


class Backlog(NamedTuple):
    """Jobs that wait in vain. what: paused, queue or task; name: of the queue or task."""

    what: str
    name: str
    jobs: int


class ShutGate(NamedTuple):
    """A gate where jobs wait in vain. what: unknown, closed or none (are let through); capped: more wait than were counted.

    seconds, who: for how long it has been closed, and by whom.
    """

    what: str
    name: str
    jobs: int
    capped: bool
    seconds: float | None
    who: str | None


class Days(NamedTuple):
    """The database's day, and how many rows lie outside of their day's partition."""

    today: date
    rest: int


class LeaseCounts(NamedTuple):
    """Leases that have run out, running jobs without a worker, and live workers."""

    expired: int
    orphans: int
    live: int


class Era(NamedTuple):
    """Whether the log of events has to begin another era, and the sessions whose transactions use it: pid (name)."""

    over: bool
    users: list[str]


class DoctorQueries(Texts):
    """What the doctor asks and mends: the files of sql/ops/doctor."""

    def doctor_deadline(self) -> Statement[Row]:
        return self._say("ops/doctor/deadline")

    def doctor_server(self) -> Statement[ServerSettings]:
        return self._say("ops/doctor/server", ServerSettings)

    def doctor_snapshots(self, *, older_s: float) -> Statement[SnapshotHolder]:
        return self._say("ops/doctor/snapshots", SnapshotHolder, older_s=older_s)

    def doctor_tables(self, *, more_than: int) -> Statement[DeadRows]:
        return self._say("ops/doctor/tables", DeadRows, more_than=more_than)

    def doctor_backlog(self) -> Statement[Backlog]:
        return self._say("ops/doctor/backlog", Backlog)

    def doctor_gates(self, *, closed_s: float, limit: int, count_limit: int) -> Statement[ShutGate]:
        """closed_s: for longer than that; limit: of gates that are looked at; count_limit: of the jobs of each."""
        return self._say("ops/doctor/gates", ShutGate, closed_s=closed_s, limit=limit, count_limit=count_limit)

    def doctor_days(self) -> Statement[Days]:
        return self._say("ops/doctor/days", Days)

    def doctor_leases(self) -> Statement[LeaseCounts]:
        return self._say("ops/doctor/leases", LeaseCounts)

    def doctor_era(self) -> Statement[Era]:
        return self._say("ops/doctor/era", Era)

    def doctor_adopt(self) -> Statement[Row]:
        return self._say("ops/doctor/adopt")

    def doctor_gone(self) -> Statement[str]:
        """The ids of workers."""
        return self._values("ops/doctor/gone")

    def doctor_may_vacuum(self) -> Statement[bool]:
        return self._values("ops/doctor/may_vacuum")

    def doctor_vacuum(self) -> Statement[Row]:
        return self._say("ops/doctor/vacuum")
