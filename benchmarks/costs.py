"""What a job costs the server, counted by itself: bytes of its log, commits, rows and statements, for each job.

A dead row is one that an update or a delete leaves behind until a vacuum. The log belongs to the whole server: nothing else
should run on it. It is measured from a checkpoint on, so the first change of each page logs the whole page.
"""

import sys
import time
from collections.abc import Callable, Iterator
from itertools import repeat

import psycopg

from benchmarks.bench import Bench
from benchmarks.filling import Filling
from pgqueue.bench.measurement import Measurement
from pgqueue.bench.worker import worker

JOBS = 100_000
DEFERS = 10_000
LOOK_S = 0.1
QUIET_S = 1.5  # a session that lives on reports at most once a second
LATE_S = 60.0  # sessions report at their end; a server under load takes a moment for that

LOG, COMMITS, STATEMENTS = "log", "commits", "statements"
INSERTED, UPDATED, DELETED = "rows inserted", "rows updated", "rows deleted"
Counts = dict[str, int]


def measure(bench: Bench) -> Iterator[Measurement]:
    _count_statements(bench)
    jobs, defers = bench.count(JOBS), bench.count(DEFERS)
    bench.empty()
    bench.task("noop").defer_many(repeat((), jobs))
    bench.app.close()
    yield from _figures("drain", jobs, _counted(bench, lambda: _drain(bench), deleted=jobs))
    with bench.connect() as conn:  # more than one where a child that got no turn gave jobs back
        ((claims,),) = conn.execute(bench.query("select sum(claim_token)::int from {schema}.history")).fetchall()
    yield Measurement(name="costs of a drain: claims", value=claims / jobs, unit="1/job")
    bench.empty()
    bench.task("noop").defer()  # looks at the schema
    bench.app.close()
    yield from _figures("defer", defers, _counted(bench, lambda: _defer(bench, defers), inserted=defers))
    bench.empty()


def _figures(what: str, jobs: int, counts: Counts) -> Iterator[Measurement]:
    for name, count in (counts | {"rows dead": counts[UPDATED] + counts[DELETED]}).items():
        unit = "bytes/job" if name == LOG else "1/job"
        yield Measurement(name=f"costs of a {what}: {name}", value=count / jobs, unit=unit)


def _drain(bench: Bench) -> int:
    """Returns how many statements were ours that only looked."""
    some, looks = bench.query("select exists (select from {schema}.job)"), 1
    with worker(bench, "-c", "2"), bench.connect() as conn:
        while conn.execute(some).fetchone() != (False,):
            looks += 1
            time.sleep(LOOK_S)
    return looks


def _defer(bench: Bench, jobs: int) -> int:
    noop = bench.task("noop")
    for _ in range(jobs):
        noop.defer()
    bench.app.close()
    return 0


def _counted(bench: Bench, act: Callable[[], int], *, deleted: int = 0, inserted: int = 0) -> Counts:
    """What the server counted meanwhile, but for our own looks; so many rows it must have counted."""
    with bench.connect() as conn:
        Filling(conn, bench.app.config.schema).settle()
    calls = _calls(bench)
    # One transaction looks at the rows, so that its commit comes after the last count of commits.
    with bench.connect() as conn, conn.transaction():
        before = _quiet(bench, conn)
        looks = act()
        _wait_until(bench, conn, {DELETED: before[DELETED] + deleted, INSERTED: before[INSERTED] + inserted})
        found = {name: count - before[name] for name, count in _counts(bench, conn).items()}
    found[COMMITS] -= looks
    return found if calls is None else found | {STATEMENTS: (_calls(bench) or 0) - calls - looks}


def _quiet(bench: Bench, conn: psycopg.Connection) -> Counts:
    """Once two looks in a row find the same rows: the last session that ended has told what it did."""
    before = _rows(bench, conn)
    time.sleep(QUIET_S)
    while (latest := _rows(bench, conn)) != before:
        before = latest
        time.sleep(QUIET_S)
    return _counts(bench, conn)


def _wait_until(bench: Bench, conn: psycopg.Connection, least: Counts) -> None:
    deadline = time.monotonic() + LATE_S
    while any(_rows(bench, conn)[name] < count for name, count in least.items()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the server has not counted all rows after {LATE_S:.0f} s")
        time.sleep(LOOK_S)


def _counts(bench: Bench, conn: psycopg.Connection) -> Counts:
    """The log is the whole server's, and the commits are the database's: autovacuum's are among them."""
    row = bench.admin.execute(
        "select pg_current_wal_lsn() - '0/0'::pg_lsn, xact_commit from pg_stat_database where datname = %s",
        [bench.database],
    ).fetchone()
    assert row is not None
    return dict(zip((LOG, COMMITS), map(int, row), strict=True)) | _rows(bench, conn)


def _rows(bench: Bench, conn: psycopg.Connection) -> Counts:
    """Of our tables alone: autovacuum writes to the catalogs whenever it likes."""
    conn.execute("select pg_stat_clear_snapshot()")  # or a transaction finds the same ever again
    row = conn.execute(
        "select sum(n_tup_ins), sum(n_tup_upd), sum(n_tup_del) from pg_stat_user_tables where schemaname = %s",
        [bench.app.config.schema],
    ).fetchone()  # fmt: skip
    assert row is not None
    return dict(zip((INSERTED, UPDATED, DELETED), map(int, row), strict=True))


# -- statements, where the server counts them --


def _count_statements(bench: Bench) -> None:
    """Only a server that loads the extension at its start can, and only some roles may ask for it."""
    try:
        with bench.connect() as conn:
            conn.execute("create extension pg_stat_statements")
            conn.execute("select count(*) from pg_stat_statements")
    except psycopg.Error as error:
        sys.stderr.write(f"costs: statements are not counted: {str(error).splitlines()[0]}\n")
        with bench.connect() as conn:
            conn.execute("drop extension if exists pg_stat_statements")


def _calls(bench: Bench) -> int | None:
    """So far, other than by our own counting; None if they are not counted."""
    there = "select exists (select from pg_extension where extname = 'pg_stat_statements')"
    calls = (
        "select coalesce(sum(calls), 0) from pg_stat_statements "
        "where toplevel and query !~ 'pg_stat_(statements|user_tables|clear)' "
        "and dbid = (select oid from pg_database where datname = current_database())"
    )
    with bench.connect() as conn:
        if conn.execute(there).fetchone() != (True,):
            return None
        ((count,),) = conn.execute(calls).fetchall()
    return int(count)
