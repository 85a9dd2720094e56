"""Statements on the path of a job through a worker."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pgqueue.queries.statement import Statement, Texts, array, texts

# Of arguments, after which a claim takes no further job: a thousand large ones would be a gigabyte.
CLAIM_BYTES = 4_000_000


def columns_of(cursors: Sequence[tuple[str, int, int]]) -> dict[str, list[Any]]:
    """The parameters of claim.sql and set_aside.sql: one list per column."""
    queues, priorities, seqs = zip(*cursors, strict=True) if cursors else ((), (), ())
    return {"queues": list(queues), "priorities": list(priorities), "cursors": list(seqs)}


class WorkerQueries(Texts):
    """What a worker says about jobs: the files of sql/worker."""

    def heads(self, *, queues: Sequence[str] | None, unknown: Sequence[str]) -> Statement:
        return self._say("worker/heads", queues=queues, unknown=unknown)

    def claim(
        self, *, worker: str, cursors: Sequence[tuple[str, int, int]], unknown: Sequence[str], limit: int
    ) -> Statement:
        """cursors: (queue, priority, seq), the best first."""
        return self._say(
            "worker/claim", worker=worker, unknown=unknown, limit=limit, most_bytes=CLAIM_BYTES, **columns_of(cursors)
        )

    def set_aside(
        self, *, worker: str, worker_name: str, cursors: Sequence[tuple[str, int, int]], unknown: Sequence[str],
        cause: str, error: str,
    ) -> Statement:  # fmt: skip
        return self._say(
            "worker/set_aside", worker=worker, worker_name=worker_name, unknown=unknown, cause=cause, error=error,
            **columns_of(cursors),
        )  # fmt: skip

    def finish(
        self, *, worker: str, ids: Sequence[str], tokens: Sequence[int], results: Sequence[str | None]
    ) -> Statement:
        return self._say("worker/finish", worker=worker, ids=array(ids), tokens=array(tokens), results=texts(results))

    def atomic_begin(self, *, attempt: str) -> Statement:
        return self._say("worker/atomic_begin", attempt=attempt)

    def recorded(self, *, worker: str, ids: Sequence[str], tokens: Sequence[int], kept: Sequence[bool]) -> Statement:
        return self._say("worker/recorded", worker=worker, ids=ids, tokens=tokens, kept=kept)

    def settle(self, *, worker: str, worker_name: str, columns: Mapping[str, Sequence[Any]]) -> Statement:
        return self._say("worker/settle", worker=worker, worker_name=worker_name, **columns)

    def promote(self, *, worker: str, now: datetime | None = None) -> Statement:
        return self._say("worker/promote", worker=worker, now=now)

    def progress(
        self,
        *,
        worker: str,
        ids: Sequence[str],
        tokens: Sequence[int],
        fractions: Sequence[float | None],
        notes: Sequence[str | None],
    ) -> Statement:
        return self._say("worker/progress", worker=worker, ids=ids, tokens=tokens, fractions=fractions, notes=notes)

    def revoke(self, *, worker: str, job_id: str, token: int) -> Statement:
        return self._say("worker/revoke", worker=worker, id=job_id, token=token)

    def hand_back(self, *, worker: str, job_id: str, token: int) -> Statement:
        return self._say("worker/hand_back", worker=worker, id=job_id, token=token)

    def held(self, *, worker: str) -> Statement:
        return self._say("worker/held", worker=worker)

    def cancels(self, ids: Sequence[str]) -> Statement:
        return self._say("worker/cancels", ids=ids)

    def drained(self, *, queues: Sequence[str] | None, unknown: Sequence[str]) -> Statement:
        return self._say("worker/drained", queues=queues, unknown=unknown)

    def steady_plans(self) -> Statement:
        return self._say("worker/steady_plans")

    def lock_patience(self) -> Statement:
        return self._say("worker/lock_patience")
