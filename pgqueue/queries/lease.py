"""Statements about workers: their leases, and the jobs of those that are dead."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from pgqueue.queries.statement import LOCK_CLASS, Row, Statement, Texts, sql_file


class Heartbeat(NamedTuple):
    """state None: this worker was declared dead. Of the others: whose lease ran out, whose session is gone, which left jobs.

    next_due_s, schedule_due_s: the seconds until the next job, and the next schedule, is due; None also where nobody asked.
    """

    state: str | None
    expired: list[str]
    sessionless: list[str]
    next_due_s: float | None
    orphaning: list[str] | None
    schedule_due_s: float | None


class Buried(NamedTuple):
    """A worker that was declared dead, and how many of its sessions were ended."""

    id: str
    name: str
    sessions: int


class Rescued(NamedTuple):
    """How many jobs of dead workers run again, how many ended, and the gates of those."""

    returned: int
    ended: int
    bells: int
    gates: list[str]


class NotifyQueue(NamedTuple):
    """How full the server's queue of notifications is, and whose transaction is the oldest, where that is worth a warning.

    subscribed: whether somebody gets a job for each event.
    """

    share: float
    who: str | None
    subscribed: bool


class LeaseQueries(Texts):
    """What workers say about themselves and each other: the files of sql/lease."""

    def register(
        self, *, code: str | None = None, schedules: Sequence[str] | None = None, **worker: Any
    ) -> Statement[Row]:
        """schedules: the fingerprints of those that its code declares."""
        return self._say("lease/register", code=code, schedules=schedules, **worker)

    def lock(self, lock_key: int) -> Statement[bool]:
        return self._values("lease/lock", lock_class=LOCK_CLASS, lock_key=lock_key)

    def connections_allowed(self) -> Statement[int]:
        return self._values("lease/connections_allowed")

    def beat(self, *, look: bool, **beat: Any) -> Statement[Heartbeat]:
        """look: ask the jobs too."""
        jobs = sql_file("lease/beat_asks_jobs.sql" if look else "lease/beat_asks_nothing.sql")
        return Statement(self.text("lease/beat", jobs=jobs), {"lock_class": LOCK_CLASS, **beat}, row=Heartbeat._make)

    def sleep(self, *, worker: str, sleeping: bool) -> Statement[Row]:
        return self._say("lease/sleep", worker=worker, sleeping=sleeping)

    def suspect(self, workers: Sequence[str]) -> Statement[Row]:
        return self._say("lease/suspect", workers=workers)

    def bury(self, workers: Sequence[str], *, grace_s: float) -> Statement[Buried]:
        return self._say("lease/bury", Buried, workers=workers, grace_s=grace_s)

    def rescue(self, workers: Sequence[str], *, crash_cap: int) -> Statement[Rescued]:
        return self._say("lease/rescue", Rescued, workers=workers, crash_cap=crash_cap)

    def bells(self, *, share: float) -> Statement[NotifyQueue]:
        return self._say("lease/bells", NotifyQueue, share=share)

    def depart(self, *, worker: str) -> Statement[Row]:
        return self._say("lease/depart", worker=worker)

    def alive(self) -> Statement[int]:
        return self._values("lease/alive")

    def prune(self) -> Statement[Row]:
        return self._say("lease/prune")
