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
from pgqueue.enqueue import COPY_CHUNK, enqueue_many, enqueue_one
from pgqueue.job import new_id
from pgqueue.options import Options
from pgqueue.queries import Rows, Statement

BATCH = 500
LOOK_S = 0.2  # how often the listener looks whether it shall end
TASK = "noop"
CALL = ("[]", "{}")


def drain(app: App, *, result: str | None = "1") -> float:
    """Jobs a second, claimed and finished one batch after the other until none is left. No result: nothing of them is kept."""
    with db.connect(app.dsn) as conn:
        db.run(conn, db.plan_steadily(conn, app.queries))
        worker = _sign_in(app, conn)
        began, jobs = time.perf_counter(), 0
        while taken := _claim_and_finish(app, conn, worker, result):
            jobs += taken
        seconds = time.perf_counter() - began
        _send(conn, app.queries.depart(worker=worker))
    return jobs / seconds


def _claim_and_finish(app: App, conn: db.Connection, worker: str, result: str | None) -> int:
    rows = _claim(app, conn, worker)
    _finish(app, conn, worker, rows, result)
    return len(rows)


def _claim(app: App, conn: db.Connection, worker: str) -> Rows:
    return _send(conn, app.queries.claim(worker=worker, queues=None, unknown=[], limit=BATCH))


def _finish(app: App, conn: db.Connection, worker: str, rows: Rows, result: str | None) -> None:
    if rows:
        ids, tokens = zip(*sorted(row[:2] for row in rows), strict=True)
        results = [result] * len(rows)
        _send(conn, app.queries.finish(worker=worker, ids=list(ids), tokens=list(tokens), results=results))


def insert_statement(app: App) -> Statement:
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
        statement = steps.send(db.run(conn, next(steps)))  # the clock's times stand in the rows
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
    """From the time of each INSERT, for which `paced_ns` waits, until the job is with the one who heard the doorbell."""
    due_ns: dict[str, int] = {}
    with _claiming(app) as claimed_ns, inserting(app) as insert:
        for at_ns in paced_ns:
            id_ = new_id()
            due_ns[id_] = at_ns
            insert(id_)
        time.sleep(LOOK_S)  # the last one's bell is on its way
    return [(claimed_ns[id_] - due_ns[id_]) / 1e6 for id_ in due_ns if id_ in claimed_ns]


@contextmanager
def _claiming(app: App) -> Iterator[dict[str, int]]:
    """Within the block a thread claims at each doorbell and notes when it had which job."""
    claimed_ns: dict[str, int] = {}
    over, listening = threading.Event(), threading.Event()

    def listen() -> None:
        with db.connect(app.dsn) as conn:
            db.run(conn, db.plan_steadily(conn, app.queries))
            worker = _sign_in(app, conn)
            _send(conn, app.queries.sleep(worker=worker, sleeping=True))
            _send(conn, app.queries.listen_jobs)
            listening.set()
            while not over.is_set():
                if list(conn.notifies(timeout=LOOK_S, stop_after=1)):
                    rows = _claim(app, conn, worker)
                    claimed_ns.update(dict.fromkeys((row[0] for row in rows), time.monotonic_ns()))
                    # With a job left it could not depart, and its row would have every later defer ring for who sleeps.
                    _finish(app, conn, worker, rows, "1")
            _send(conn, app.queries.depart(worker=worker))

    thread = threading.Thread(target=listen)
    thread.start()
    listening.wait(timeout=LOOK_S * 50)
    try:
        yield claimed_ns
    finally:
        over.set()
        thread.join()


def _sign_in(app: App, conn: db.Connection) -> str:
    """A claim asks for a living worker's row."""
    worker = str(uuid.uuid4())
    row = {"pid": 0, "concurrency": 1, "name": "floor", "version": "0", "app": "floor", "queues": None, "tasks": []}
    _send(conn, app.queries.register(worker=worker, lease_s=3600, lock_key=None, **row))
    return worker


def _send(conn: db.Connection, statement: Statement) -> Rows:
    cursor = conn.execute(statement.sql.encode(), statement.params)
    return cursor.fetchall() if cursor.description else []
