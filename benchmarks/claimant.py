"""A worker that is nothing but a row and a connection: it sends the statements of one, and tells what each of them cost."""

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import psycopg

from benchmarks.bench import Bench
from benchmarks.session import Session, blocks
from pgqueue import db
from pgqueue.job import Claimed
from pgqueue.queries import Queries, Row, Statement
from pgqueue.worker.supervisor.cursors import Pair

LEASE_S = 86_400  # nobody renews it, and nothing measured with it takes a day


class Claimant:
    """Signed in on this connection. What it tries is rolled back, so that the next try meets the same tables.

    It plans its statements at once, as a worker does that starts beside empty tables; Filling.settle() lets it plan anew.
    """

    def __init__(self, conn: psycopg.Connection, queries: Queries) -> None:
        self.id = str(uuid.uuid4())
        self._queries = queries
        row = {"pid": 0, "concurrency": 1, "name": "claimant", "version": "0", "app": "", "queues": None, "tasks": []}
        db.run(conn, queries.register(worker=self.id, lease_s=LEASE_S, lock_key=None, **row))
        self._session = Session(conn, queries)
        # Of the types that will come: psycopg prepares a statement anew for a longer kind of number.
        somewhere, some_time = ("", 0), datetime.now(UTC)
        for statement in (
            self.heads(),
            self._claim({somewhere: 1_000_000}, 1),
            self.promote(some_time),
            self._finish([]),
        ):
            self._session.prepare(statement)

    def send(self, statement: Statement) -> list[Row]:
        """Its rows."""
        return self._session.send(statement)

    def heads(self) -> Statement:
        """A look at every queue there is."""
        return self._queries.heads(queues=None, unknown=[])

    def claim(self, limit: int) -> Statement:
        """From where a claim of as many jobs, made after a look, has come to."""
        ((queues, priorities, seqs, *_),) = self.send(self.heads())
        cursors = {(queue, priority): seq - 1 for queue, priority, seq in zip(queues, priorities, seqs, strict=True)}
        with self._session.undone():
            jobs = [Claimed._make(row) for row in self.send(self._claim(cursors, limit))]
        reached: dict[Pair, int] = {}
        for job in jobs:
            reached[job.queue, job.priority] = max(job.seq, reached.get((job.queue, job.priority), 0))
        return self._claim(reached, limit)

    def _claim(self, cursors: Mapping[Pair, int], limit: int) -> Statement:
        places = [(*pair, seq) for pair, seq in cursors.items()]
        return self._queries.claim(worker=self.id, cursors=places, unknown=[], limit=limit)

    def promote(self, now: datetime) -> Statement:
        """As at that time."""
        return self._queries.promote(worker=self.id, now=now)

    def try_ms(self, statement: Statement, *, rows: int) -> float:
        """From sending until the last row is here, without a commit; RuntimeError if there are not so many rows."""
        with self._session.undone():
            began = time.perf_counter()
            found = self.send(statement)
            took_s = time.perf_counter() - began
        if len(found) != rows:
            raise RuntimeError(f"{len(found)} rows came where {rows} are to be measured")
        return took_s * 1000

    def try_round_ms(self, claim: Statement) -> tuple[float, float]:
        """Claim, then finish what came: what each of the two took, without a commit."""
        with self._session.undone():
            began = time.perf_counter()
            jobs = [Claimed._make(row) for row in self.send(claim)]
            claimed = time.perf_counter()
            finish = self._finish(jobs)
            finishing = time.perf_counter()
            self.send(finish)
            finished = time.perf_counter()
        return (claimed - began) * 1000, (finished - finishing) * 1000

    def blocks(self, statement: Statement) -> int:
        """How many blocks the server touches, cached or not."""
        return blocks(self._session.plan(statement))

    def _finish(self, jobs: Sequence[Claimed]) -> Statement:
        jobs = sorted(jobs)
        return self._queries.finish(
            worker=self.id, ids=[job.id for job in jobs], tokens=[job.token for job in jobs], results=["1"] * len(jobs)
        )


@contextmanager
def claimant(bench: Bench, queries: Queries) -> Iterator[Claimant]:
    """On a connection of its own; its row is gone afterwards."""
    with bench.connect() as conn:
        made = Claimant(conn, queries)
        try:
            yield made
        finally:
            made.send(queries.depart(worker=made.id))
