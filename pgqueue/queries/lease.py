"""Statements about workers: their leases, and the jobs of those that are dead."""

from collections.abc import Sequence
from typing import Any

from pgqueue.queries.statement import LOCK_CLASS, Statement, Texts, sql_file


class LeaseQueries(Texts):
    """What workers say about themselves and each other: the files of sql/lease."""

    def register(self, *, code: str | None = None, **worker: Any) -> Statement:
        return self._say("lease/register", code=code, **worker)

    def lock(self, lock_key: int) -> Statement:
        return self._say("lease/lock", lock_class=LOCK_CLASS, lock_key=lock_key)

    def connections_allowed(self) -> Statement:
        return self._say("lease/connections_allowed")

    def beat(self, *, look: bool, **beat: Any) -> Statement:
        """look: ask the jobs too."""
        jobs = sql_file("lease/beat_asks_jobs.sql" if look else "lease/beat_asks_nothing.sql")
        return Statement(self.text("lease/beat", jobs=jobs), {"lock_class": LOCK_CLASS, **beat})

    def sleep(self, *, worker: str, sleeping: bool) -> Statement:
        return self._say("lease/sleep", worker=worker, sleeping=sleeping)

    def suspect(self, workers: Sequence[str]) -> Statement:
        return self._say("lease/suspect", workers=workers)

    def bury(self, workers: Sequence[str], *, grace_s: float) -> Statement:
        return self._say("lease/bury", workers=workers, grace_s=grace_s)

    def rescue(self, workers: Sequence[str], *, crash_cap: int) -> Statement:
        return self._say("lease/rescue", workers=workers, crash_cap=crash_cap)

    def bells(self, *, share: float) -> Statement:
        return self._say("lease/bells", share=share)

    def depart(self, *, worker: str) -> Statement:
        return self._say("lease/depart", worker=worker)

    def alive(self) -> Statement:
        return self._say("lease/alive")

    def prune(self) -> Statement:
        return self._say("lease/prune")
