"""What a limit costs, counted by the server: one more version of the row, and nothing for those who wait behind it."""

import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from benchmarks.chaos.cluster import Cluster
from pgqueue import App, db
from pgqueue.queries import Queries
from tests.conftest import Worker, eventually
from tests.gates import fragile, tasks
from tests.gates.doorkeeper import Doorkeeper, declare
from tests.hands import Hands
from tests.servers import shop_server

JOBS = 1000
WAITING = 100_000
BLOCKS = "select sum(shared_blks_hit + shared_blks_read)::int from pg_stat_statements where query !~ 'pg_stat_'"


@pytest.fixture(scope="module")
def counted() -> Iterator[Cluster]:
    """A server that counts statements, and vacuums only when told to."""
    with shop_server(
        extension="pg_stat_statements", shared_preload_libraries="pg_stat_statements", autovacuum="off"
    ) as cluster:
        yield cluster


@pytest.fixture
def dsn(counted: Cluster) -> str:
    with counted.connect("shop") as conn:
        conn.execute(
            "truncate pgqueue.job, pgqueue.history, pgqueue.attempt, pgqueue.worker, pgqueue.gate, pgqueue.pace, pgqueue.breaker"
        )
        conn.execute("select pg_stat_reset(), pg_stat_statements_reset()")
    return counted.dsn("shop")


def test_a_job_with_a_limit(dsn: str, conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    app = App(dsn)
    monkeypatch.setattr(tasks.many, "app", app)
    tasks.many.defer_many([()] * JOBS)
    app.close()
    counts = "select n_tup_ins::int, n_tup_upd::int, n_tup_del::int from pg_stat_user_tables where relname = 'job'"
    eventually(lambda: conn.execute(counts).fetchone() == (JOBS, 0, 0), what="the rows are counted")
    conn.execute("select pg_stat_statements_reset()")
    assert Worker(dsn, "-c", "2", "--burst", app="tests.gates.tasks").wait() == 0
    conn.execute("select pg_stat_clear_snapshot()")
    (inserted, updated, deleted) = conn.execute(counts).fetchone() or (0, 0, 0)
    # One update lets a job through, one marks the first of them as looked at, one claims it; few are released and claimed again.
    assert (inserted, deleted) == (JOBS, JOBS) and 2 * JOBS <= updated < 2.2 * JOBS, updated
    (blocks,) = conn.execute(BLOCKS).fetchone() or (0,)
    assert blocks / JOBS <= 40, blocks / JOBS  # 37.2 when this was written


def test_a_job_with_a_breaker(dsn: str, conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside what its gate costs there is a statement now and then, and none for a job."""
    app = App(dsn)
    monkeypatch.setattr(fragile.lightly, "app", app)
    fragile.lightly.defer_many([()] * JOBS)
    app.close()
    conn.execute("select pg_stat_statements_reset()")
    assert Worker(dsn, "-c", "2", "--burst", app="tests.gates.fragile").wait() == 0
    # The last are told at the end.
    told = "select sum(ended), sum(failed) from pgqueue.breaker where gate like '%.lightly'"
    assert conn.execute(told).fetchone() == (JOBS, 0)
    said = "select sum(calls)::int from pg_stat_statements where query like 'with told as (%' or query like 'with seen as (%'"
    (calls,) = conn.execute(said).fetchone() or (0,)
    (blocks,) = conn.execute(BLOCKS).fetchone() or (0,)
    assert 2 <= calls < 50, calls
    assert blocks / JOBS <= 40, blocks / JOBS


def read(conn: psycopg.Connection[Any]) -> int:
    """Blocks that all statements have read since the last reset."""
    (blocks,) = conn.execute(BLOCKS).fetchone() or (0,)
    return int(blocks or 0)


def test_nobody_pays_for_those_who_wait(dsn: str, conn: psycopg.Connection) -> None:
    app = App(dsn)
    queries: Queries = app.queries
    declare(conn, queries, full=1)

    def claimed() -> int:
        """Blocks that a claim of ten others reads."""
        for _ in range(20):
            app.enqueue("free", priority=1)
        hands.claim(10)  # the session has seen the tables
        conn.execute("select pg_stat_statements_reset()")
        assert len(hands.claim(10)) == 10
        return read(conn)

    line = db.connect(dsn)
    db.run(line, db.plan_steadily(line, queries))
    hands = Hands(line, queries)
    before = claimed()
    conn.execute(
        "insert into pgqueue.job (id, task, state, gates, gate) select pgqueue.uuid7(), 't', "
        "case when n = 0 then 'queued' else 'waiting' end::pgqueue.job_state, '{full}', case when n = 0 then 2 else 1 end "
        "from generate_series(0, %s) as n",
        [WAITING],
    )
    behind = claimed()
    assert behind <= 1.1 * before < 150, (before, behind)
    keeper = Doorkeeper(line, queries, worker=hands.id)
    assert keeper.fresh() == []
    conn.execute("select pg_stat_statements_reset()")
    assert keeper.admit(["full"]).queued == 0
    assert read(conn) < 30
    conn.execute("select pg_stat_statements_reset()")
    assert keeper.sweep() == set()
    assert read(conn) < 40
    conn.execute("select pg_stat_statements_reset()")
    (walk,) = db.run(line, queries.expire(place=-1, after="", priority=0, seq=0, error="expired", limit=1000))
    assert (walk.ended, walk.place, walk.after) == (0, 1, "full")
    assert read(conn) < 200  # of a hundred thousand it looks at a thousand
    app.limit("full", 0)
    conn.execute("select pg_stat_statements_reset()")
    (shut,) = db.run(line, queries.doctor_gates(closed_s=0, limit=200, count_limit=100))
    assert shut[:4] == ("none", "full", 101, True)  # the first is to be looked at, and is counted apart
    assert read(conn) < 60
    line.close()
    app.close()


FULL = "insert into pgqueue.gate (name, slots, source) values ('full', 0, 'person')"
# Each of the keys has a window of jobs in a queue that nobody serves.
TURNS = """
with rule as (
  insert into pgqueue.gate (name, shares, keyed) values ('full', '{}', true)
)
insert into pgqueue.job (id, task, queue, state, gates, gate)
select pgqueue.uuid7(), 't', 'elsewhere', 'queued', array['full=' || n % 1000], 2 from generate_series(1, 2000) as n
"""


@pytest.mark.long
@pytest.mark.parametrize("rule", [FULL, TURNS], ids=["full", "turns"])
def test_an_idle_worker_says_less_than_a_statement_a_second(dsn: str, conn: psycopg.Connection, rule: str) -> None:
    conn.execute(rule)
    conn.execute(
        "insert into pgqueue.job (id, task, queue, state, gates, gate) "
        "select pgqueue.uuid7(), 't', 'elsewhere', 'waiting', array['full=' || n %% 1000], 1 from generate_series(1, %s) as n",
        [WAITING],
    )
    worker = Worker(dsn, "-c", "1", "-Q", "default", app="tests.gates.tasks").ready()
    asked = "select coalesce(sum(calls), 0)::int from pg_stat_statements where query !~ 'pg_stat_'"
    time.sleep(20)  # its looks become rarer
    conn.execute("select pg_stat_statements_reset()")
    time.sleep(60)
    (calls,) = conn.execute(asked).fetchone() or (0,)
    said = conn.execute("select left(query, 60), calls from pg_stat_statements order by 2 desc").fetchall()
    worker.stop()
    assert calls < 60, said
