"""Whether jobs start when they are due while a million others wait for their time, and what promoting them costs."""

import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from statistics import median

import psycopg
from psycopg import sql

from benchmarks.bench import Bench
from benchmarks.claimant import Claimant, claimant
from benchmarks.filling import Filling, beside
from benchmarks.latency import LATE
from pgqueue.bench import latency
from pgqueue.bench.measurement import Measurement, typical
from pgqueue.bench.worker import worker
from pgqueue.queries import Statement

LATER = 1_000_000
DUE = 1_000
WITHIN_S = 1.0
AHEAD_S = 12.0  # to the first due: more than ten, so that no bell rings; a worker finds it out itself
DEFERS = 100  # a second, at least: so much longer, until all are in

AT_ONCE = 100_000
HEARD_S = 10.0  # until they are due: longer than it takes a worker to learn of jobs for which no bell rang

FEW = 2_000  # scheduled in the schema beside it
PROMOTED = 1_000  # by one statement, at most
ROUNDS = 21
SCHEMA = "pgqueue_few"


def measure(bench: Bench) -> Iterator[Measurement]:
    bench.empty()
    later = bench.count(LATER, least=FEW)
    with bench.connect() as conn:
        tables = Filling(conn, bench.app.config.schema)
        tables.schedule(later)
        tables.settle()
        with worker(bench, "-c", "2"):
            yield from _punctuality(bench, conn, later)
            yield from _at_once(bench, conn, tables)
        yield from _promotion(bench, later)
    bench.empty()


def _punctuality(bench: Bench, conn: psycopg.Connection, later: int) -> Iterator[Measurement]:
    """From the due time to the task's first line, on the one clock of a machine."""
    jobs = bench.count(DUE, least=20)
    first = datetime.now(UTC) + timedelta(seconds=AHEAD_S + jobs / DEFERS)
    for _ in range(jobs):
        bench.task("wall_s").options(at=first + timedelta(seconds=random.uniform(0, WITHIN_S))).defer()
    late = bench.query(
        "select 1000 * (result::float8 - extract(epoch from run_at))::float8 from {schema}.history where task = %s"
    )
    _wait_for(bench, conn, "wall_s", jobs)
    late_ms = [ms for (ms,) in conn.execute(late, ["wall_s"]).fetchall()]
    yield from latency.figures(f"{jobs:,} due within a second, {later:,} later: late by", [late_ms], LATE)


def _at_once(bench: Bench, conn: psycopg.Connection, tables: Filling) -> Iterator[Measurement]:
    """Promoted, claimed and finished, by the clock from the moment at which all are due."""
    jobs = bench.count(AT_ONCE)
    tables.schedule_at_once(jobs, task="noop", in_s=HEARD_S)
    _wait_for(bench, conn, "noop", jobs)
    took = bench.query(
        "select extract(epoch from max(finished_at) - min(run_at))::float8, extract(epoch from min(started_at - run_at))::float8 "
        "from {schema}.history where task = %s"
    )
    ((seconds, first_s),) = conn.execute(took, ["noop"]).fetchall()
    yield Measurement(name=f"{jobs:,} due at once: first late by", value=first_s * 1000, unit="ms")
    yield Measurement(name=f"{jobs:,} due at once: promoted and run", value=jobs / seconds, unit="jobs/s")


def _wait_for(bench: Bench, conn: psycopg.Connection, task: str, jobs: int) -> None:
    ended = bench.query("select count(*) from {schema}.history where task = %s")
    while conn.execute(ended, [task]).fetchone() != (jobs,):
        time.sleep(0.2)


# -- the statement --


def _promotion(bench: Bench, later: int) -> Iterator[Measurement]:
    """In turn with the same in a schema where there are few."""
    with bench.connect() as conn, beside(bench, SCHEMA) as few:
        beside_it = Filling(conn, SCHEMA)
        beside_it.schedule(FEW)
        beside_it.settle()
        with claimant(bench, few.queries) as small, claimant(bench, bench.app.queries) as large:
            statements = [
                each.promote(_due(conn, schema)) for each, schema in ((small, SCHEMA), (large, bench.app.config.schema))
            ]
            yield from _compare(small, large, statements, later)


def _due(conn: psycopg.Connection, schema: str) -> datetime:
    """When as many have fallen due as are promoted at once."""
    due = sql.SQL("select run_at from {}.job where state = 'scheduled' order by run_at offset %s limit 1")
    ((run_at,),) = conn.execute(due.format(sql.Identifier(schema)), [PROMOTED - 1]).fetchall()
    assert isinstance(run_at, datetime)
    return run_at


def _compare(small: Claimant, large: Claimant, statements: list[Statement], later: int) -> Iterator[Measurement]:
    few, many = statements
    pairs = [(small.try_ms(few, rows=1), large.try_ms(many, rows=1)) for _ in range(ROUNDS + 1)][1:]
    fews, manys = zip(*pairs, strict=True)
    name = f"promote {PROMOTED:,} of {later:,}"
    yield typical(name, manys, "ms")
    yield Measurement(name=f"{name}: to {FEW:,}", value=median(manys) / median(fews), unit="x")
    yield Measurement(name=f"{name}: blocks", value=large.blocks(many), unit="blocks")
