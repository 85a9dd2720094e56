"""What the database can do with pgqueue's own statements sent by bare psycopg and nothing around them.

A drain: claim and finish, batch after batch. A defer: its INSERT, or its COPY. A start: that INSERT, and one thread that
listens and claims at each doorbell. pgbench could not drain: a finish takes the ids of all the rows that the claim
returned, and pgbench keeps one row of an answer.
"""

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from pgqueue import db
from pgqueue.app import App
from pgqueue.client.enqueue import COPY_CHUNK, enqueue_many, enqueue_one
from pgqueue.client.options import Options
from pgqueue.job import Claimed, new_id
from pgqueue.queries import Rows, Statement

FLOOR_BATCH = 500
FLOOR_POLL_S = 0.2  # how often the listener looks whether it should end
TASK = "noop"
CALL = ("[]", "{}")


def drain(app: App, *, result: str | None = "1") -> float:
    """Jobs a second, claimed and finished one batch after the other until none is left. No result: nothing of them is kept."""
    with db.connect(app.dsn) as conn:
        db.run(conn, db.plan_steadily(conn, app.queries))
        worker = _Worker(app, conn)
        began, jobs = time.perf_counter(), 0
        while taken := worker.claim():
            worker.finish(taken, result)
            jobs += len(taken)
        seconds = time.perf_counter() - began
        worker.depart()
    return jobs / seconds


class _Worker:
    """One that is nothing but its statements, on this connection."""

    def __init__(self, app: App, conn: db.Connection) -> None:
        self.id = str(uuid.uuid4())
        self._conn = conn
        self._queries = app.queries
        self._cursors: dict[tuple[str, int], int] = {}
        row: dict[str, Any] = {
            "pid": 0,
            "concurrency": 1,
            "name": "floor",
            "version": "0",
            "app": "floor",
            "queues": None,
            "tasks": [],
        }
        self.send(app.queries.register(worker=self.id, lease_s=3600, lock_key=None, **row))

    def send(self, statement: Statement[Any]) -> Rows:
        cursor = self._conn.execute(statement.sql.encode(), statement.params)
        return cursor.fetchall() if cursor.description else []

    def claim(self) -> list[Claimed]:
        """On from the last job taken; if there is none, a look tells where else some are."""
        taken = self._take()
        if not taken:
            ((queues, priorities, seqs, *_),) = self.send(self._queries.heads(queues=None, unknown=[]))
            self._cursors = {
                (queue, priority): seq - 1 for queue, priority, seq in zip(queues, priorities, seqs, strict=True)
            }
            taken = self._take()
        return taken

    def _take(self) -> list[Claimed]:
        if not self._cursors:
            return []
        places = [(*pair, seq) for pair, seq in self._cursors.items()]
        rows = self.send(self._queries.claim(worker=self.id, cursors=places, unknown=[], limit=FLOOR_BATCH))
        jobs = [Claimed._make(row) for row in rows]
        for job in jobs:
            self._cursors[job.queue, job.priority] = max(job.seq, self._cursors[job.queue, job.priority])
        return jobs

    def finish(self, jobs: list[Claimed], result: str | None) -> None:
        ids, tokens = zip(*sorted(job[:2] for job in jobs), strict=True)
        results = [result] * len(jobs)
        self.send(self._queries.finish(worker=self.id, ids=list(ids), tokens=list(tokens), results=results))

    def depart(self) -> None:
        self.send(self._queries.depart(worker=self.id))


def insert_statement(app: App) -> Statement[Any]:
    """The one statement of a `defer`."""
    return next(enqueue_one(app.queries, TASK, CALL, job_id=new_id(), options=Options(), ring=app.config.notify))


@contextmanager
def inserting(app: App) -> Iterator[Callable[[str], Any]]:
    """A function that inserts a job with the given id as `defer` does, on one connection."""
    statement = insert_statement(app)
    text, row = statement.sql.encode(), dict(statement.params)
    with db.connect(app.dsn) as conn:
        yield lambda id_: conn.execute(text, row | {"id": id_}).fetchall()


@contextmanager
def copying(app: App) -> Iterator[Callable[[Sequence[str]], None]]:
    """A function that loads jobs with the given ids as `defer_many` does: COPY after COPY, row by row, in one transaction."""
    with db.connect(app.dsn) as conn:
        steps = enqueue_many(app.queries, TASK, [CALL], options=Options(), ring=app.config.notify)
        statement = steps.send(db.run(conn, next(steps)))  # the clock's times are in the rows
        text = statement.sql.encode()
        ((_, *columns),) = statement.copy_rows or ()

        def copy(ids: Sequence[str]) -> None:
            rest = iter(ids)
            with conn.transaction(), conn.cursor() as cursor:
                while chunk := list(islice(rest, COPY_CHUNK)):
                    with cursor.copy(text) as rows:
                        for id_ in chunk:
                            rows.write_row((id_, *columns))

        yield copy


def starts_ms(app: App, paced_ns: Iterable[int]) -> list[float]:
    """From the time of each INSERT, for which `paced_ns` waits, until the listener that heard the doorbell has the job."""
    due_ns: dict[str, int] = {}
    with _claiming(app) as claimed_ns, inserting(app) as insert:
        for at_ns in paced_ns:
            id_ = new_id()
            due_ns[id_] = at_ns
            insert(id_)
        time.sleep(FLOOR_POLL_S)  # the last one's bell is on its way
    return [(claimed_ns[id_] - due_ns[id_]) / 1e6 for id_ in due_ns if id_ in claimed_ns]


@contextmanager
def _claiming(app: App) -> Iterator[dict[str, int]]:
    """Within the block a thread claims at each doorbell and notes when it had which job."""
    claimed_ns: dict[str, int] = {}
    over, listening = threading.Event(), threading.Event()

    def listen() -> None:
        with db.connect(app.dsn) as conn:
            db.run(conn, db.plan_steadily(conn, app.queries))
            worker = _Worker(app, conn)
            worker.send(app.queries.sleep(worker=worker.id, sleeping=True))
            worker.send(app.queries.listen_jobs)
            listening.set()
            while not over.is_set():
                if list(conn.notifies(timeout=FLOOR_POLL_S, stop_after=1)) and (jobs := worker.claim()):
                    claimed_ns.update(dict.fromkeys((job.id for job in jobs), time.monotonic_ns()))
                    # With a job left it could not depart, and every later defer would ring for the sleeper in its row.
                    worker.finish(jobs, "1")
            worker.depart()

    thread = threading.Thread(target=listen)
    thread.start()
    listening.wait(timeout=FLOOR_POLL_S * 50)
    try:
        yield claimed_ns
    finally:
        over.set()
        thread.join()
