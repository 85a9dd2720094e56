"""History by the day: partitions are made ahead, dropped past their retention, and nothing is refused for want of one."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from benchmarks.chaos.cluster import Cluster
from pgqueue import App, Config, JobNotFound, db
from pgqueue.schema.retention import tidy_partitions
from tests.answers import one_value
from tests.conftest import Worker, eventually

AHEAD_DAYS = 7
PARTITIONS = "select relname from pg_class join pg_inherits on inhrelid = oid where relname ~ '_2[0-9]{7}$' order by 1"

Tidy = Callable[..., list[str]]


@pytest.fixture
def tidy(app: App, conn: psycopg.Connection) -> Iterator[Tidy]:
    def tidy(**settings: Any) -> list[str]:
        with conn.transaction():
            db.run(conn, tidy_partitions(app.queries, Config(**settings)))
        return [name for (name,) in conn.execute(PARTITIONS)]

    forget(conn)
    yield tidy
    forget(conn)
    tidy()


def forget(conn: psycopg.Connection) -> None:
    for (name,) in conn.execute(PARTITIONS).fetchall():
        conn.execute(f"drop table pgqueue.{name}")


def end(conn: psycopg.Connection, state: str, days_ago: float) -> None:
    conn.execute(
        "insert into pgqueue.history (id, finished_at, claim_token, run_at, created_at, state, attempt, crashes,"
        " priority, queue, task, args, kwargs) values (gen_random_uuid(), now() - %s * interval '1 day', 1, now(), now(), %s,"
        " 1, 0, 0, 'q', 't', '[]', '{}')",
        [days_ago, state],
    )


def where(conn: psycopg.Connection) -> list[str]:
    return [
        name
        for (name,) in conn.execute(
            "select relname from pgqueue.history join pg_class on pg_class.oid = history.tableoid order by 1"
        )
    ]


def test_a_week_ahead_for_each_parent_and_only_once(tidy: Tidy) -> None:
    made = tidy()
    assert len([name for name in made if not name.startswith("event_")]) == 3 * AHEAD_DAYS
    assert tidy() == made


def test_an_ended_job_lies_in_its_day(tidy: Tidy, conn: psycopg.Connection) -> None:
    tidy()
    end(conn, "succeeded", 0)
    end(conn, "dead", 0)
    dead, succeeded = where(conn)
    assert dead.startswith("history_ended_2") and succeeded.startswith("history_succeeded_2")


def test_what_came_before_its_partition_moves_over(tidy: Tidy, conn: psycopg.Connection) -> None:
    end(conn, "succeeded", 0)
    assert where(conn) == ["history_succeeded_rest"]
    tidy()
    assert where(conn)[0].startswith("history_succeeded_2")


def test_past_its_retention_a_day_is_dropped(tidy: Tidy, conn: psycopg.Connection) -> None:
    for parent in ("history_succeeded", "history_ended", "attempt"):
        for days in (7, 8, 30, 31):
            conn.execute(
                f"do $$ declare day date := (now() at time zone 'utc')::date - {days}; begin execute format("
                f"'create table pgqueue.{parent}_%s partition of pgqueue.{parent} for values from (%L) to (%L)', "
                "to_char(day, 'YYYYMMDD'), day::text || ' 00:00+00', (day + 1)::text || ' 00:00+00'); end $$"
            )
    end(conn, "succeeded", 8)
    end(conn, "cancelled", 8)
    names = tidy()
    kept = {
        parent: sum(name.startswith(f"{parent}_2") for name in names) - AHEAD_DAYS
        for parent in ("history_succeeded", "history_ended", "attempt")
    }
    assert kept == {"history_succeeded": 1, "history_ended": 3, "attempt": 3}
    assert len(where(conn)) == 1


KEYLESS = """
select c.oid::regclass::text
from pg_class as c
where
  relnamespace = 'pgqueue'::regnamespace and relkind = 'r' and relreplident <> 'f'
  and not (relreplident = 'd' and exists (select from pg_index where indrelid = c.oid and indisprimary))
"""


def test_a_publication_for_all_tables_refuses_nothing(start_worker: Callable[..., Worker]) -> None:
    """The server updates and deletes no row then that it could not name to a subscriber. Superusers alone may publish all."""
    with Cluster(fsync="off") as cluster, cluster.connect() as conn:
        app = App(cluster.dsn())
        app.migrate()
        conn.execute("create publication everything for all tables")
        assert conn.execute(KEYLESS).fetchall() == []
        app.enqueue("tests.tasks.echo", [1])
        bad = app.enqueue("tests.tasks.wrong_kind")
        assert start_worker("-c", "1", "--burst", dsn=app.dsn).wait() == 0
        today = one_value(conn, "select to_char(now() at time zone 'utc', 'YYYYMMDD')")
        for parent in "history_succeeded", "history_ended", "attempt":  # as if nobody had made the day in time
            conn.execute(f"create table public.kept as select * from pgqueue.{parent}_{today}")
            conn.execute(f"drop table pgqueue.{parent}_{today}")
            assert conn.execute(f"insert into pgqueue.{parent} select * from public.kept").rowcount == 1
            conn.execute("drop table public.kept")
        conn.execute("insert into pgqueue.audit (at, action) values (now() - interval '2 years', 'purge')")
        with conn.transaction():
            db.run(conn, tidy_partitions(app.queries, app.config))
        assert conn.execute("select count(*) from pgqueue.audit").fetchone() == (0,)
        assert conn.execute(
            "select distinct relname from pgqueue.attempt join pg_class on pg_class.oid = attempt.tableoid"
        ).fetchall() == [(f"attempt_{today}",)]
        assert conn.execute(KEYLESS).fetchall() == []
        conn.execute("insert into pgqueue.throughput values (now() - interval '2 days', gen_random_uuid(), 1, 0, 0, 0)")
        db.run(conn, app.queries.prune())
        assert bad.retry() and app.purge(state="succeeded") == 1 and app.purge(state="queued") == 1
        app.close()


def test_only_one_tidies_at_a_time(app: App, dsn: str, tidy: Tidy) -> None:
    with psycopg.connect(dsn) as other:
        other.execute("select pg_advisory_xact_lock(%s, 1)", [0x70677175])
        assert tidy() == []


def test_a_job_is_found_while_it_moves_to_its_partition(app: App, conn: psycopg.Connection, tidy: Tidy) -> None:
    over = threading.Event()
    missed: list[Exception] = []
    looks = []

    def look() -> None:
        # Never prepared: a kept plan is made anew when a partition comes, one that is being made just then is not.
        with psycopg.connect(app.dsn, autocommit=True, prepare_threshold=None) as mine, app.using(mine):
            while not over.is_set():
                try:
                    looks.append(job.snapshot().state)
                except JobNotFound as error:
                    missed.append(error)

    for _ in range(5):
        forget(conn)
        conn.execute("truncate pgqueue.history")
        end(conn, "succeeded", 0)
        job = app.job(str(one_value(conn, "select id from pgqueue.history")))
        over.clear()
        looks.clear()
        watchers = [threading.Thread(target=look) for _ in range(3)]
        for watcher in watchers:
            watcher.start()
        eventually(lambda: len(looks) > 10, what="they look")
        tidy()
        over.set()
        for watcher in watchers:
            watcher.join()
    assert missed == []
