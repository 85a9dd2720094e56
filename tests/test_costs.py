"""What a job costs in statements, commits and rows, and which rows each statement reads: counted by the server, so that
no noise of the machine moves it.
"""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from benchmarks.chaos.cluster import Cluster
from pgqueue import App, db
from pgqueue.queries import Queries, Statement
from pgqueue.worker.settings import FRESH_S, GRACE_S, LEASE_S
from tests import tasks
from tests.conftest import Worker, eventually

JOBS = 5000
EACH = 250_000  # rows in each state
NOBODY = "00000000-0000-7000-8000-000000000000"


@pytest.fixture(scope="module")
def counted() -> Iterator[Cluster]:
    """A server of this module's own that counts statements, and vacuums only when told to."""
    with Cluster(shared_preload_libraries="pg_stat_statements", autovacuum="off", fsync="off") as cluster:
        with cluster.connect() as conn:
            conn.execute("create database shop")
        app = App(cluster.dsn("shop"))
        app.migrate()
        with cluster.connect("shop") as conn:
            conn.execute("create extension pg_stat_statements")
        yield cluster


@pytest.fixture
def dsn(counted: Cluster) -> str:
    with counted.connect("shop") as conn:
        conn.execute("truncate pgqueue.job, pgqueue.history, pgqueue.attempt, pgqueue.worker")
        conn.execute("select pg_stat_reset()")
    return counted.dsn("shop")


class Counter:
    """What the server did for this database since the last reset, other than for the one who asks."""

    def __init__(self, conn: psycopg.Connection, *, inserted: int) -> None:
        self._conn = conn
        conn.execute("select pg_stat_clear_snapshot()")
        # A session tells of its rows at its end, a moment after its client has gone.
        eventually(lambda: self.rows("job")[0] >= inserted, what="the rows of the jobs are counted")
        conn.execute("select pg_stat_reset(), pg_stat_statements_reset()")

    def statements(self) -> dict[str, int]:
        """How often each was run, by its first words."""
        rows = self._conn.execute(
            "select left(query, 60), calls from pg_stat_statements where query not like '%pg_stat_%'"
        )
        return dict(rows.fetchall())

    def given_back(self) -> int:
        """Jobs claimed and not started: a child that gets no turn for a tenth of a second has them taken from it."""
        settled = "select coalesce(sum(rows), 0)::int from pg_stat_statements where query ~ '^with verdict as'"
        return int(self._conn.execute(settled).fetchone()[0])

    def commits(self) -> int:
        return int(self._conn.execute("select xact_commit from pg_stat_database where datname = 'shop'").fetchone()[0])

    def rows(self, table: str) -> tuple[int, int, int]:
        """(inserted, updated, deleted) in a table with its partitions."""
        (row,) = self._conn.execute(
            "select coalesce(sum(n_tup_ins), 0)::int, coalesce(sum(n_tup_upd), 0)::int, coalesce(sum(n_tup_del), 0)::int "
            "from pg_stat_user_tables where relname ~ %s", [f"^{table}(_|$)"],
        )  # fmt: skip
        return row


def test_a_job_through_a_worker(dsn: str, task_app: App, conn: psycopg.Connection) -> None:
    tasks.echo.defer_many((n,) for n in range(JOBS))
    task_app.close()
    counter = Counter(conn, inserted=JOBS)
    assert Worker(dsn, "-c", "2", "--burst").wait() == 0
    # One update claims a job; where a job was given back, one more did that, and one more claimed it again.
    assert counter.rows("job") == (0, JOBS + 2 * counter.given_back(), JOBS)
    assert counter.rows("history") == (JOBS, 0, 0)
    assert counter.rows("attempt") == (0, 0, 0)
    calls = sum(counter.statements().values())
    # 118 when this was written; up to 660 were seen beside much other load, as what ends slowly travels in smaller lots.
    assert calls < JOBS / 5, counter.statements()
    assert counter.commits() < JOBS / 5


def test_a_defer_is_one_statement(dsn: str, task_app: App, conn: psycopg.Connection) -> None:
    tasks.echo.defer(0)  # looks at the schema
    task_app.close()
    counter = Counter(conn, inserted=1)
    for n in range(100):
        tasks.echo.defer(n)
    task_app.close()
    ours = {text: calls for text, calls in counter.statements().items() if calls >= 10}
    assert list(ours.values()) == [100], ours
    assert counter.rows("job") == (100, 0, 0)


def test_the_result_of_an_ended_job_costs_no_write(dsn: str, task_app: App, conn: psycopg.Connection) -> None:
    jobs = tasks.echo.defer_many((n,) for n in range(100))
    assert Worker(dsn, "-c", "1", "--burst").wait() == 0
    task_app.close()
    counter = Counter(conn, inserted=100)
    assert [job.result(30) for job in jobs] == list(range(100))
    assert task_app.enqueue("nobody.knows").cancel()
    task_app.close()
    eventually(lambda: counter.rows("job")[0] >= 1, what="the rows of that session are counted")
    assert counter.rows("awaited") == (0, 0, 0)


def test_an_atomic_job_adds_five_statements(dsn: str, task_app: App, conn: psycopg.Connection) -> None:
    conn.execute("create table if not exists shop_total (n int); insert into shop_total values (0)")
    tasks.tally.defer_many((1,) for _ in range(200))
    task_app.close()
    counter = Counter(conn, inserted=200)
    assert Worker(dsn, "-c", "1", "--burst").wait() == 0
    assert conn.execute("select n from shop_total").fetchone() == (200,)
    each = {text: calls for text, calls in counter.statements().items() if calls >= 200}
    # Begin and its mark, the task's own, finish, commit; and the worker's few transactions of its own.
    assert len(each) == 5 and sum(each.values()) < 1020, each


# -- which rows a statement reads --


@pytest.fixture(scope="module")
def loaded(counted: Cluster) -> Iterator[tuple[psycopg.Connection, Queries, dict[str, Any]]]:
    """A million rows, a quarter in each state, and the ids and tokens of ten running jobs."""
    with counted.connect() as conn:
        conn.execute("create database million")
    app = App(counted.dsn("million"))
    app.migrate()
    with counted.connect("million") as conn:
        conn.prepare_threshold = None
        row = {"pid": 0, "concurrency": 1, "name": "w", "version": "0", "app": "a", "queues": None, "tasks": []}
        workers = [str(uuid.uuid4()) for _ in range(5)]
        for worker in workers:
            db.run(conn, app.queries.register(worker=worker, lease_s=3600, lock_key=None, **row))
        conn.execute(
            "insert into pgqueue.job (id, queue, priority, task, state, run_at, worker, claim_token, attempt) "
            "select gen_random_uuid(), 'q' || n %% 5, n %% 3, 't', state::pgqueue.job_state, "
            "now() + case when state = 'scheduled' then n * interval '1 second' else interval '0' end, "
            "case when state = 'running' then (%(workers)s::uuid[])[n %% 5 + 1] end, 1, 1 "
            "from unnest(array['queued', 'scheduled', 'running']) as state, generate_series(1, %(each)s) as n",
            {"workers": workers, "each": EACH},
        )
        conn.execute(
            "insert into pgqueue.history (id, state, claim_token, run_at, created_at, attempt, crashes, priority, queue, task, "
            "args, kwargs) select gen_random_uuid(), 'succeeded', 1, now(), now(), 1, 0, 0, 'q', 't', '[]', '{}' "
            "from generate_series(1, %s)", [EACH],
        )  # fmt: skip
        held = conn.execute(
            "select id::text from pgqueue.job where worker = %s order by id limit 10", [workers[0]]
        ).fetchall()
        yield conn, app.queries, {"worker": workers[0], "ids": [id_ for (id_,) in held], "tokens": [1] * 10}
    app.close()


def hot(queries: Queries, held: dict[str, Any]) -> dict[str, Statement]:
    """Every statement that runs for each batch, each heartbeat or each caller."""
    worker, ids, tokens = held["worker"], held["ids"], held["tokens"]
    cursors = [(f"q{queue}", priority, 0) for queue in range(5) for priority in range(3)]
    same = {
        "states": "scheduled",
        "delays": 1.0,
        "refunds": 0,
        "crashes": 0,
        "causes": "e",
        "errors": "e",
        "tracebacks": "",
    }
    columns = {name: [value] * 10 for name, value in same.items()} | {"ids": ids, "tokens": tokens}
    counts = dict.fromkeys(("succeeded", "failed", "dead", "cancelled"), 1)
    return {
        "claim": queries.claim(worker=worker, queues=None, unknown=[], limit=10),
        "claim_after": queries.claim_after(worker=worker, cursors=cursors, unknown=[], limit=10),
        "finish": queries.finish(worker=worker, ids=ids, tokens=tokens, results=["1"] * 10),
        "recorded": queries.recorded(worker=worker, ids=ids, tokens=tokens, kept=[True] * len(ids)),
        "settle": queries.settle(worker=worker, worker_name="w", columns=columns),
        "progress": queries.progress(worker=worker, ids=ids, tokens=tokens, fractions=[0.5] * 10, notes=["n"] * 10),
        "revoke": queries.revoke(worker=worker, job_id=ids[0], token=1),
        "cancels": queries.cancels(ids),
        "promote": queries.promote(worker=worker),
        "beat": queries.beat(
            worker=worker, lease_s=LEASE_S, grace_s=GRACE_S, fresh_s=FRESH_S, lock_key=None, sleeping=True, state="alive",
            settled=True, look=True, **counts,
        ),
        "cancel": queries.cancel(ids[0], reason="r"),
        "retry": queries.retry(ids[0]),
        "ends": queries.ends([*ids, NOBODY]),
        "one job": queries.jobs(ids=[ids[0]]),
    }  # fmt: skip


@pytest.mark.parametrize("analyzed", [False, True], ids=["before the first analyze", "analyzed"])
def test_no_statement_reads_more_than_its_rows(
    loaded: tuple[psycopg.Connection, Queries, dict[str, Any]], analyzed: bool
) -> None:
    conn, queries, held = loaded
    if analyzed:
        conn.execute("analyze")
    read = {}
    for name, statement in hot(queries, held).items():
        with conn.transaction(force_rollback=True):
            found = plan(conn, statement)
        read[name] = touched(found)
        scanned = [
            node["Relation Name"] for node in nodes(found) if node["Node Type"] == "Seq Scan" and passed(node) > 100
        ]
        assert not scanned, (name, scanned)
    assert max(read.values()) < 1000, read  # blocks; the largest table has ten thousands


def plan(conn: psycopg.Connection, statement: Statement) -> dict[str, Any]:
    explained = Statement(f"explain (analyze, buffers, timing off, format json) {statement.sql}", statement.params)
    found = db.run(conn, explained)[0][0]
    return (found if isinstance(found, list) else json.loads(found))[0]["Plan"]  # type: ignore[no-any-return]


def nodes(node: dict[str, Any]) -> list[dict[str, Any]]:
    return [node, *(each for child in node.get("Plans", []) for each in nodes(child))]


def passed(node: dict[str, Any]) -> int:
    return int(node["Actual Rows"]) + int(node.get("Rows Removed by Filter", 0))


def touched(node: dict[str, Any]) -> int:
    return int(node["Shared Hit Blocks"]) + int(node["Shared Read Blocks"])
