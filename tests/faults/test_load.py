"""More work than ever, all at once, and a schema that changes while jobs flow."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import quantiles

import psycopg
import pytest

from pgqueue import App, schema
from pgqueue.errors import SchemaError
from pgqueue.queries import migrations, works_with
from pgqueue.schema import upgrade
from tests import tasks
from tests.answers import one_value
from tests.conftest import Worker, eventually
from tests.faults.conftest import Figure
from tests.hands import Hands

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("task_app")]

BACKLOG = 1_000_000


def claim_p95_ms(hands: Hands) -> float:
    """Of claims of ten jobs, each of which are finished."""
    times = []
    for _ in range(200):
        began = time.perf_counter()
        jobs = hands.claim(10)
        times.append((time.perf_counter() - began) * 1e3)
        assert len(jobs) == 10
        hands.finish(jobs)
    return quantiles(times, n=20)[-1]


def peak_mb(pid: int) -> float:
    with open(f"/proc/{pid}/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def test_f59_a_million_jobs_at_once(
    start_worker: Callable[..., Worker], app: App, conn: psycopg.Connection, figure: Figure
) -> None:
    def ended() -> int:
        return int(one_value(conn, "select count(*) from pgqueue.history"))

    hands = Hands(conn, app.queries)
    tasks.echo.defer_many((n,) for n in range(2000))
    nearly_empty_ms = claim_p95_ms(hands)
    tasks.echo.defer_many((n,) for n in range(BACKLOG))
    conn.execute("vacuum (analyze) pgqueue.job")
    figure("claim at p95 against a nearly empty queue", claim_p95_ms(hands) / nearly_empty_ms, "x", at_most=2)
    worker = start_worker("-c", "2").ready()
    eventually(lambda: ended() > 20_000, what="it has found its pace")
    before_mb = peak_mb(worker.process.pid)
    eventually(lambda: ended() > 120_000, what="much more has run")
    figure("growth of the worker", peak_mb(worker.process.pid) - before_mb, "MB", at_most=20)
    assert worker.stop() == 0
    kept = "select (select count(*) from pgqueue.job where state = 'queued') + (select count(*) from pgqueue.history)"
    assert conn.execute(kept).fetchone() == (BACKLOG + 2000,)


@contextmanager
def jobs_flowing() -> Iterator[None]:
    """One after the other, as fast as one can be deferred."""
    over = threading.Event()

    def defer() -> None:
        while not over.is_set():
            tasks.echo.defer(1)

    thread = threading.Thread(target=defer)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def second_migration(app: App, monkeypatch: pytest.MonkeyPatch, *, table: str = "job") -> str:
    """Give the code the next version of the schema, which needs this table for itself; its name."""
    number = schema.newest() + 1
    name = f"{number:04}_wider.sql"
    monkeypatch.setattr(upgrade, "migrations", lambda: [*migrations(), (number, name)])
    text = f'alter table "{app.config.schema}".{table} add column wider integer default 7'
    monkeypatch.setitem(app.queries._texts, f"migrations/{number:04}_wider", text)
    # What stands at the head of its file: the worker, which has the code of before, works with it.
    monkeypatch.setattr(
        "pgqueue.queries.schema.works_with", lambda file: number - 1 if file == name else works_with(file)
    )
    return name


def test_f58_a_migration_while_jobs_flow(
    start_worker: Callable[..., Worker],
    app: App,
    conn: psycopg.Connection,
    dsn: str,
    monkeypatch: pytest.MonkeyPatch,
    figure: Figure,
) -> None:
    def blocked() -> bool:
        waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like 'alter table%%'"
        return conn.execute(waiting).fetchone() != (0,)

    worker = start_worker("-c", "2").ready()
    assert tasks.echo.defer(1).result(30) == 1
    name = second_migration(app, monkeypatch)
    done: list[str] = []
    migration = threading.Thread(target=lambda: done.extend(app.migrate()))
    with jobs_flowing(), psycopg.connect(dsn) as report:
        report.execute(
            "select from pgqueue.job limit 1"
        )  # a long transaction: nobody can change the table before its end
        migration.start()
        for _ in range(2):
            eventually(blocked, what="the migration waits for its lock")
            eventually(lambda: not blocked(), what="and lets the others pass")
        report.rollback()
        migration.join()
    assert done == [name]
    eventually(lambda: conn.execute("select count(*) from pgqueue.job").fetchone() == (0,), what="all have run")
    assert worker.stop() == 0
    ended = "select count(*), extract(epoch from max(gap)), count(*) / extract(epoch from max(finished_at) - min(finished_at)) "
    ended += "from (select finished_at, finished_at - lag(finished_at) over (order by finished_at) as gap from pgqueue.history) h"
    jobs, stall_s, rate = conn.execute(ended).fetchone() or (0, 0, 0)
    figure(f"longest stall at {rate:.0f} jobs/s", float(stall_s), "s", at_most=1)
    assert conn.execute("select count(*) from pgqueue.jobs where state <> 'succeeded' or attempt > 1").fetchone() == (
        0,
    )
    assert jobs > 100


def test_f67_a_migration_while_events_flow(
    start_worker: Callable[..., Worker], app: App, conn: psycopg.Connection, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the log itself: nobody waits for it longer than it may wait for them, and each event is one job."""

    def blocked() -> bool:
        waiting = "select from pg_stat_activity where wait_event_type = 'Lock' and query like 'alter table%%'"
        return conn.execute(waiting).rowcount > 0

    worker = start_worker("-c", "2", app="tests.event_tasks").ready()
    events: list[str] = []
    over = threading.Event()

    def publish() -> None:  # as code that knows of no migration
        with psycopg.connect(dsn, autocommit=True) as mine:
            while not over.is_set():
                events.append(one_value(mine, "select pgqueue.publish('user.created')::text"))

    name = second_migration(app, monkeypatch, table="event")
    done: list[str] = []
    migration = threading.Thread(target=lambda: done.extend(app.migrate()))
    publisher = threading.Thread(target=publish)
    publisher.start()
    try:
        with psycopg.connect(dsn) as report:
            report.execute("select from pgqueue.event limit 1")
            migration.start()
            for _ in range(2):
                eventually(blocked, what="the migration waits for its lock")
                eventually(lambda: not blocked(), what="and lets the others pass")
            report.rollback()
            migration.join()
            count = len(events)
            eventually(lambda: len(events) > count + 20, what="events flow on")
    finally:
        over.set()
        publisher.join()
    assert done == [name]
    made = "select args::json -> 0 ->> 'id' from pgqueue.jobs where task = 'tests.event_tasks.audit'"
    eventually(lambda: conn.execute(made).rowcount >= len(events), what="a job of each event")
    assert sorted(id_ for (id_,) in conn.execute(made)) == sorted(events)
    assert worker.stop() == 0


def test_a_migration_that_cannot_have_its_lock_says_so(app: App, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = second_migration(app, monkeypatch)
    monkeypatch.setattr("pgqueue.client.connections.LOCKED_S", 1.0)
    with psycopg.connect(dsn) as report:
        report.execute("select from pgqueue.job limit 1")
        with pytest.raises(SchemaError, match="the tables were in use"):
            app.migrate()
    assert app.migrate() == [name]
