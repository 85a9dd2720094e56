"""What the database can do with pgqueue's own statements sent by bare psycopg and nothing around them.

A drain: claim and finish, batch after batch. A defer: its INSERT. A start: that INSERT, and one thread that listens and
claims at each doorbell.
"""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from benchmarks.bench import Bench
from benchmarks.tasks import app, noop
from pgqueue.enqueue import enqueue_one
from pgqueue.job import new_id
from pgqueue.options import Options
from pgqueue.queries import Statement

BATCH = 500
LOOK_S = 0.2  # how often the listener looks whether it shall end


def drain(bench: Bench) -> float:
    """Jobs a second, claimed and finished one batch after the other until none is left."""
    with bench.connect() as conn:
        conn.prepare_threshold = None  # as the worker: a kept plan finished 500 jobs in 93 ms, a fresh one in 17
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


@contextmanager
def inserting(bench: Bench) -> Iterator[Callable[[str], Any]]:
    """A function that inserts a job with the given id as `defer` does, on one connection."""
    statement = next(
        enqueue_one(app.queries, noop.name, ("[]", "{}"), job_id=new_id(), options=Options(), ring=app.config.notify)
    )
    text, row = statement.sql.encode(), dict(statement.params)
    with bench.connect() as conn:
        yield lambda id_: conn.execute(text, row | {"id": id_}).fetchall()


def starts_ms(bench: Bench, jobs: int, pause: Callable[[], None]) -> list[float]:
    """From each INSERT's call until the job is with the one who heard the doorbell; `pause` comes before each."""
    called_ns: dict[str, int] = {}
    with _claiming(bench) as claimed_ns, inserting(bench) as insert:
        for id_ in (new_id() for _ in range(jobs)):
            pause()
            called_ns[id_] = time.monotonic_ns()
            insert(id_)
        pause()
    return [(claimed_ns[id_] - called_ns[id_]) / 1e6 for id_ in called_ns if id_ in claimed_ns]


@contextmanager
def _claiming(bench: Bench) -> Iterator[dict[str, int]]:
    """Within the block a thread claims at each doorbell and notes when it had which job."""
    claimed_ns: dict[str, int] = {}
    over, listening = threading.Event(), threading.Event()

    def listen() -> None:
        with bench.connect() as conn:
            worker = _sign_in(conn)
            _send(conn, app.queries.sleep(worker=worker, sleeping=True))
            _send(conn, app.queries.listen_jobs)
            listening.set()
            while not over.is_set():
                if list(conn.notifies(timeout=LOOK_S, stop_after=1)):
                    rows = _send(conn, app.queries.claim(worker=worker, queues=None, unknown=[], limit=BATCH))
                    claimed_ns.update(dict.fromkeys((row[0] for row in rows), time.monotonic_ns()))
            _send(conn, app.queries.depart(worker=worker))

    thread = threading.Thread(target=listen)
    thread.start()
    listening.wait(timeout=LOOK_S * 50)
    try:
        yield claimed_ns
    finally:
        over.set()
        thread.join()


def _sign_in(conn: psycopg.Connection) -> str:
    """A claim asks for a living worker's row."""
    worker = str(uuid.uuid4())
    row = {"pid": 0, "concurrency": 1, "name": "floor", "version": "0", "app": "floor", "queues": None, "tasks": []}
    _send(conn, app.queries.register(worker=worker, lease_s=3600, lock_key=None, **row))
    return worker


def _send(conn: psycopg.Connection, statement: Statement) -> list[tuple[Any, ...]]:
    cursor = conn.execute(statement.sql.encode(), statement.params)
    return cursor.fetchall() if cursor.description else []
