"""Rows by the million, in SQL: with ids in the order of time as `defer` makes them, and nothing else in them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import LiteralString

import psycopg
from psycopg import sql

from benchmarks.bench import Bench
from pgqueue import App

# Version 7 but for its version: milliseconds, then chance.
ID = sql.SQL(
    "(lpad(to_hex((extract(epoch from clock_timestamp()) * 1000)::bigint), 12, '0')"
    " || substr(md5(random()::text), 13))::uuid"
)


class Filling:
    """Fills the tables of one schema over an autocommit connection. No bell rings."""

    def __init__(self, conn: psycopg.Connection, schema: str) -> None:
        self._conn = conn
        self._schema = sql.Identifier(schema)

    def queue(self, jobs: int, *, queues: int = 1, priorities: int = 1, task: str = "t") -> None:
        """Jobs that can run now. Neighbours in time lie in different queues."""
        self._run(
            "insert into {schema}.job (id, task, queue, priority) "
            "select {id}, %s, 'q' || n %% %s, n / %s %% %s from generate_series(1, %s) as n",
            task, queues, queues, priorities, jobs,
        )  # fmt: skip

    def schedule(self, jobs: int) -> None:
        """Jobs for some time of tomorrow's."""
        self._run(
            "insert into {schema}.job (id, task, queue, state, run_at) "
            "select {id}, 't', 'q0', 'scheduled', now() + (1 + random()) * interval '1 day' from generate_series(1, %s)",
            jobs,
        )  # fmt: skip

    def wait(self, jobs: int) -> None:
        """Jobs that wait for something else than a time."""
        self._run(
            "insert into {schema}.job (id, task, queue, state) select {id}, 't', 'q0', 'waiting' from generate_series(1, %s)",
            jobs,
        )  # fmt: skip

    def schedule_at_once(self, jobs: int, *, task: str, in_s: float) -> None:
        """Jobs without arguments that fall due in the same moment."""
        self._run(
            "insert into {schema}.job (id, task, state, run_at) "
            "select {id}, %s, 'scheduled', now() + %s * interval '1 second' from generate_series(1, %s)",
            task, in_s, jobs,
        )  # fmt: skip

    def start(self, jobs: int, *, workers: list[str]) -> None:
        """Jobs that these workers run, each for the first time."""
        self._run(
            "insert into {schema}.job (id, task, queue, state, worker, claim_token, attempt, started_at) "
            "select {id}, 't', 'q0', 'running', (%s::uuid[])[1 + n %% %s], 1, 1, now() from generate_series(1, %s) as n",
            workers, len(workers), jobs,
        )  # fmt: skip

    def wear(self, jobs: int) -> None:
        """Jobs that waited, ran and are gone: nothing is left of them but what a vacuum cleans away."""
        self.queue(jobs)
        self._run(
            "update {schema}.job set state = 'running', worker = gen_random_uuid(), claim_token = 1, attempt = 1, "
            "started_at = now() where state = 'queued'"
        )
        self._run("delete from {schema}.job where state = 'running'")

    def end(self, jobs: int, *, state: str = "succeeded") -> None:
        """Jobs that ended, evenly over the partitions that there are: those of today and the coming six days."""
        self._run(
            "insert into {schema}.history "
            "(id, task, queue, state, claim_token, run_at, created_at, finished_at, attempt, crashes, priority, args, kwargs) "
            "select {id}, 't', 'q0', %s, 1, now(), now(), "
            "date_trunc('day', now(), 'UTC') + random() * interval '7 days', 1, 0, 0, '[]', '{{}}' "
            "from generate_series(1, %s)",
            state, jobs,
        )  # fmt: skip

    def settle(self) -> None:
        """What the server would do some time soon, and would do in the middle of a measurement."""
        self._run("vacuum (analyze) {schema}.job, {schema}.history")
        ((may,),) = self._conn.execute("select pg_has_role('pg_checkpoint', 'usage')").fetchall()
        if may:
            self._run("checkpoint")

    def _run(self, text: LiteralString, *params: object) -> None:
        self._conn.execute(sql.SQL(text).format(schema=self._schema, id=ID), params or None)


@contextmanager
def beside(bench: Bench, schema: str) -> Iterator[App]:
    """A second schema in the same database, to compare with; gone after the block."""
    made = App(bench.app.dsn, schema=schema)
    made.migrate()
    try:
        yield made
    finally:
        made.close()
        with bench.connect() as conn:
            conn.execute(sql.SQL("drop schema {} cascade").format(sql.Identifier(schema)))
