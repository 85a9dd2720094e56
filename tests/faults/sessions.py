"""What the tests of sessions, restarts and fail-overs look at: the sessions of workers, their deaths, and stolen jobs."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from benchmarks.chaos.cluster import Cluster
from pgqueue import DatabaseUnavailable, OutcomeUnknown
from tests import tasks
from tests.answers import one_value
from tests.conftest import Worker

OF_WORKERS = "from pg_stat_activity where application_name ~ '^pgqueue:'"


def ask(cluster: Cluster, statement: str, *params: Any) -> Any:
    """The first value that the server answers, on a session that is only for this."""
    with cluster.connect("shop") as conn:
        return one_value(conn, statement, params)


def answers(cluster: Cluster) -> bool:
    """Whether a client can connect."""
    try:
        return bool(ask(cluster, "select true"))
    except psycopg.OperationalError:
        return False


def nobody_died(cluster: Cluster, *workers: Worker) -> None:
    """No worker was declared dead, started over, or lost a job to another."""
    for worker in workers:
        for sign in ("declared dead", "is dead;", "rescued", "lease lost"):
            assert sign not in worker.output, worker.output
    assert ask(cluster, "select count(*) from pgqueue.worker where state = 'alive'") == len(workers)
    assert ask(cluster, "select count(*) from pgqueue.attempt where cause = 'worker lost'") == 0


class Producer:
    """Defers jobs from a thread for as long as the block lasts; `acknowledged` are those that the library says are there,
    `unknown` those of which it does not know.
    """

    def __init__(self, pause_s: float) -> None:
        self.acknowledged: list[str] = []
        self.unknown: list[str] = []
        self.refused = 0  # with the unknown ones
        self._pause_s = pause_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Producer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._pause_s):
            try:
                self.acknowledged.append(tasks.echo.defer(len(self.acknowledged)).id)
            except DatabaseUnavailable as error:
                self.refused += 1
                self.unknown += [error.job_id] if isinstance(error, OutcomeUnknown) else []


@contextmanager
def locked(cluster: Cluster, table: str) -> Iterator[None]:
    """Nobody else can even read the table."""
    with cluster.connect("shop") as conn, conn.transaction():
        conn.execute(f"lock table pgqueue.{table} in access exclusive mode")
        yield
