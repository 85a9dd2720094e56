"""What ringing costs those who defer, and whether a sleeping worker ever misses a job.

NOTIFY makes commits wait for each other, flush included; so the flushes are made as slow as those of a common disk, by the
server's own delay before each (commit_delay without commit_siblings), which all commits share that come meanwhile. Clients
are threads of four processes, so that one Python's lock is not what is measured.
"""

import math
import os
import random
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import get_args

import psycopg
from psycopg import sql

from benchmarks import clients, tasks
from benchmarks.bench import Bench
from benchmarks.enqueue import deferring
from pgqueue import App
from pgqueue.bench.measurement import Measurement, at_least, at_most, percentile, typical
from pgqueue.bench.worker import worker
from pgqueue.config import Notify
from pgqueue.task import AnyTask

CLIENTS = 32
SECONDS = 5.0  # of one sample
SLOW = {"commit_delay": 1_000, "commit_siblings": 0}  # microseconds before each flush, and for whom: even for one alone
KEPT = at_least(90)  # % of the rate without any bell
NAP_S = 0.01
AHEAD_S = 20.0  # naps for so long and a sample, so that the worker has something better to do than what is deferred

RACES = 100_000
RACERS = 8
# All clients share rounds: busy together, so that the worker takes the mark off that it sleeps (after half a second), then
# each a straggler, then silence in which a lost one shows: with notify="never" a third of the jobs were counted as lost.
ROUND_S = 4.0
BUSY_S = (0.55, 0.75)
STRAGGLE_S = (0.001, 1.6)  # from the looks that a worker takes in a hurry to well behind the last of them
QUIET_MS = 50.0
LOST_S = 1.0


def measure(bench: Bench) -> Iterator[Measurement]:
    bench.empty()
    with _slow_flushes(bench):
        yield from _rates(bench)
        yield from _races(bench)
    bench.empty()


@contextmanager
def _slow_flushes(bench: Bench) -> Iterator[None]:
    """For all sessions that begin within the block, if we may; else the disk is as fast as it is, and a line says so."""
    database = sql.Identifier(bench.database)
    obstacle = _slow_down(bench, database)
    if obstacle:
        sys.stderr.write(f"doorbell: flushes are not slowed down: {obstacle}\n")
    bench.app.close()  # connections that are open keep the old settings
    yield
    bench.app.close()
    if not obstacle:
        for name in SLOW:
            bench.admin.execute(sql.SQL("alter database {} reset {}").format(database, sql.Identifier(name)))


def _slow_down(bench: Bench, database: sql.Identifier) -> str | None:
    """What stands against it; None if it is done."""
    if bench.admin.execute("show fsync").fetchone() == ("off",):
        return "there are none, as fsync is off"
    try:
        for name, value in SLOW.items():
            setting = (database, sql.Identifier(name), sql.Literal(value))
            bench.admin.execute(sql.SQL("alter database {} set {} = {}").format(*setting))
    except psycopg.errors.InsufficientPrivilege as error:
        return str(error)  # only a superuser may
    return None


# -- what it costs --


def _rates(bench: Bench) -> Iterator[Measurement]:
    """The three ways in turn, each round begun by another, so that whatever disturbs the machine meets them alike."""
    ways: tuple[Notify, ...] = get_args(Notify)
    rates: dict[Notify, list[float]] = {way: [] for way in ways}
    with worker(bench, "-c", "2"):
        for turn in range(bench.repeat):
            first = turn % len(ways)
            for way in ways[first:] + ways[:first]:
                _keep_busy(bench)
                rates[way].append(_rate(bench, way))
                if _sleeps(bench):
                    raise RuntimeError("the worker ran out of jobs while its bell was measured")
    bench.empty()
    for way, samples in rates.items():
        yield typical(f"doorbell, {CLIENTS} clients, {way}", samples, "jobs/s")
        if way != "never":
            kept = [100 * rung / silent for rung, silent in zip(samples, rates["never"], strict=True)]
            target = KEPT if way == "idle" else None
            yield typical(f"doorbell, {CLIENTS} clients, {way} to never", kept, "%", target)


def _keep_busy(bench: Bench) -> None:
    """Returns when the worker is at work and has taken the mark off that it sleeps."""
    seconds = AHEAD_S + bench.count(int(SECONDS))
    bench.task("nap").options(priority=1).defer_many([(NAP_S,)] * int(2 * seconds / NAP_S))
    while _sleeps(bench):
        time.sleep(NAP_S)


def _sleeps(bench: Bench) -> bool:
    some = bench.query("select exists (select from {schema}.worker where sleeping)")
    with bench.connect() as conn:
        return conn.execute(some).fetchone() == (True,)


def _rate(bench: Bench, way: Notify) -> float:
    os.environ["PGQUEUE_NOTIFY"] = way  # for the processes of the clients
    try:
        return clients.rate(bench, deferring, clients=CLIENTS, seconds=max(0.3, SECONDS * bench.scale))
    finally:
        del os.environ["PGQUEUE_NOTIFY"]


# -- what it misses --


def _races(bench: Bench) -> Iterator[Measurement]:
    """A lost wake-up: a job waits for more than a second, and its worker starts nothing meanwhile."""
    with worker(bench, "-c", "1"):
        jobs = _race(bench)
        while not bench.is_done():
            time.sleep(NAP_S)
    waits_ms, lost, naps = _waits(bench)
    name = f"doorbell, {jobs:,} races"
    yield Measurement(name=f"{name}: lost wake-ups", value=lost, unit="jobs", target=at_most(0))
    yield Measurement(name=f"{name}: the worker had nothing to do", value=naps, unit="times")
    for label, percent in (("p50", 50), ("p99", 99), ("max", 100)):
        yield Measurement(name=f"{name}: wait, {label}", value=percentile(waits_ms, percent), unit="ms")


def _race(bench: Bench) -> int:
    """How many jobs the racers deferred."""
    place = (bench.app.dsn, bench.app.config.schema)
    jobs = bench.count(RACES, least=RACERS * 200) // RACERS
    with ProcessPoolExecutor(clients.PROCESSES, mp_context=get_context("spawn")) as processes:
        parts = [processes.submit(_racers, *place, RACERS // clients.PROCESSES, jobs) for _ in range(clients.PROCESSES)]
        return sum(part.result() for part in parts)


def _racers(dsn: str, schema: str, count: int, jobs: int) -> int:
    app = tasks.registered(App(dsn, schema=schema, pool_size=count))
    with ThreadPoolExecutor(count) as threads:
        parts = [threads.submit(_defer_unevenly, app.tasks["noop"], jobs) for _ in range(count)]
        done = sum(part.result() for part in parts)
    app.close()
    return done


def _defer_unevenly(noop: AnyTask, jobs: int) -> int:
    """So many jobs, or a few more. The rounds are those of the clock, so that they are everybody's."""
    done = 0
    while done < jobs:
        round_began = math.floor(time.monotonic() / ROUND_S) * ROUND_S
        silent_at = round_began + random.uniform(*BUSY_S)
        while time.monotonic() < silent_at:
            noop.defer()
            done += 1
        # Evenly over the orders of magnitude: most races are close ones.
        time.sleep(math.exp(random.uniform(*map(math.log, STRAGGLE_S))))
        noop.defer()
        done += 1
        time.sleep(max(0.0, round_began + ROUND_S - time.monotonic()))
    return done


def _waits(bench: Bench) -> tuple[list[float], int, int]:
    """(ms that each job waited, how many were lost, how often the worker had started nothing for a while).

    Whatever wakes the worker makes it claim all there is: so a job waited for want of a bell if nothing was started after it
    came and before its own claim.
    """
    waits = bench.query(
        "select 1000 * extract(epoch from started_at - created_at)::float8, coalesce(before < created_at, true), "
        "started_at, coalesce(1000 * extract(epoch from started_at - before), 0)::float8 "
        "from (select created_at, started_at, max(started_at) over earlier as before from {schema}.history "
        "window earlier as (order by started_at range between unbounded preceding and interval '1 us' preceding)) as job"
    )
    with bench.connect() as conn:
        rows = conn.execute(waits).fetchall()
    lost = sum(wait > LOST_S * 1000 and alone for wait, alone, _, _ in rows)
    claims_after_quiet = {started_at for _, _, started_at, gap in rows if gap > QUIET_MS}
    return [wait for wait, *_ in rows], lost, len(claims_after_quiet)
