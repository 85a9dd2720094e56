"""A worker's statements sent by hand: claim, finish and fail jobs without a worker process."""

import uuid
from collections.abc import Sequence
from typing import Any

import psycopg

from pgqueue import db
from pgqueue.job import Claimed
from pgqueue.queries import Queries
from pgqueue.worker.supervisor.cursors import Cursors


class Hands:
    """A registered worker row and the statements sent in its name."""

    def __init__(self, conn: psycopg.Connection, queries: Queries, *, queues: Sequence[str] | None = None) -> None:
        self.id = str(uuid.uuid4())
        self._conn = conn
        self._queries = queries
        self._run(
            queries.register(
                worker=self.id, lease_s=3600, lock_key=None, pid=1, concurrency=1, name="by hand", version="0", app="",
                queues=None if queues is None else list(queues), tasks=[],
            )
        )  # fmt: skip

    def _run(self, statement: Any) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = db.run(self._conn, statement)
        return rows

    def claim(self, limit: int = 1000) -> list[Claimed]:
        """Claim what is queued, best first."""
        return claim(self._conn, self._queries, self.id, limit=limit)

    def finish(self, jobs: Sequence[Claimed], result: str | None = "null") -> None:
        """Let jobs succeed."""
        tokens = [job.token for job in jobs]
        done = self._queries.finish(
            worker=self.id, ids=[job.id for job in jobs], tokens=tokens, results=[result] * len(jobs)
        )
        assert len(self._run(done)) == len(jobs)

    def settle(self, job: Claimed, state: str, error: str | None = None, *, delay_s: float = 0.0) -> None:
        """Let an attempt fail: dead, cancelled, or scheduled for another one."""
        columns: dict[str, list[Any]] = {
            "ids": [job.id], "tokens": [job.token], "states": [state], "delays": [delay_s], "refunds": [0],
            "crashes": [0], "causes": ["exception"], "errors": [error], "tracebacks": [None], "gates": [None],
        }  # fmt: skip
        settled = self._queries.settle(worker=self.id, worker_name="by hand", columns=columns)
        assert len(self._run(settled)) == 1

    def run_all(self, result: str | None = "null") -> list[str]:
        """Claim and finish everything that is queued; returns the ids in the order in which they were claimed."""
        jobs = self.claim()
        self.finish(jobs, result)
        return [job.id for job in jobs]

    def sleep(self, sleeping: bool = True) -> None:
        """Say that this worker is about to block."""
        self._run(self._queries.sleep(worker=self.id, sleeping=sleeping))


def claim(
    conn: psycopg.Connection, queries: Queries, worker: str,
    *, queues: Sequence[str] | None = None, unknown: Sequence[str] = (), limit: int = 1000,
) -> list[Claimed]:  # fmt: skip
    """Look for work, then claim it, best first."""
    ((names, priorities, seqs, *_),) = db.run(conn, queries.heads(queues=queues, unknown=list(unknown)))
    cursors = Cursors()
    cursors.rewind(zip(names, priorities, seqs, strict=True), since={})
    rows = db.run(conn, queries.claim(worker=worker, cursors=cursors.positions(), unknown=list(unknown), limit=limit))
    return sorted(map(Claimed._make, rows), key=lambda job: (-job.priority, job.seq))
