"""The floor under a drain: claim.sql and finish.sql sent by bare psycopg, batch after batch, nothing around them."""

import time
import uuid

import psycopg

from benchmarks.bench import Bench
from benchmarks.tasks import app
from pgqueue.queries import Statement

BATCH = 500


def drain(bench: Bench) -> float:
    """Jobs a second, claimed and finished one batch after the other until none is left."""
    with bench.connect() as conn:
        worker = _sign_in(conn)
        began, jobs = time.perf_counter(), 0
        while taken := _claim_and_finish(conn, worker):
            jobs += taken
        seconds = time.perf_counter() - began
        _send(conn, app.queries.depart(worker=worker))
    return jobs / seconds


def _claim_and_finish(conn: psycopg.Connection, worker: str) -> int:
    rows = _send(conn, app.queries.claim(worker=worker, queues=None, unknown=[], limit=BATCH))
    if rows:
        ids, tokens = zip(*sorted(row[:2] for row in rows), strict=True)
        _send(conn, app.queries.finish(worker=worker, ids=list(ids), tokens=list(tokens), results=["1"] * len(rows)))
    return len(rows)


def _sign_in(conn: psycopg.Connection) -> str:
    """A claim asks for a living worker's row."""
    worker = str(uuid.uuid4())
    row = {"pid": 0, "concurrency": 1, "name": "floor", "version": "0", "app": "floor", "queues": None, "tasks": []}
    _send(conn, app.queries.register(worker=worker, lease_s=3600, lock_key=None, **row))
    return worker


def _send(conn: psycopg.Connection, statement: Statement) -> list[tuple[object, ...]]:
    cursor = conn.execute(statement.sql.encode(), statement.params)
    return cursor.fetchall() if cursor.description else []
