"""Transactions that stand in each other's way: same keys in another order, isolation levels, someone's old snapshot."""

import itertools
import random
import re
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from typing import get_args

import psycopg
import pytest
from psycopg import IsolationLevel

from benchmarks.chaos.cluster import Cluster
from pgqueue.client.options import OnDuplicate
from tests import tasks
from tests.answers import one_value
from tests.conftest import Worker
from tests.faults.conftest import Figure

Start = Callable[..., Worker]

pytestmark = pytest.mark.usefixtures("task_app")


@pytest.mark.parametrize("on_duplicate", ["ignore", "replace"])
def test_f36_bulk_defers_of_the_same_keys_do_not_deadlock(
    dsn: str, conn: psycopg.Connection, figure: Figure, on_duplicate: OnDuplicate
) -> None:
    rounds, callers, keys = 5, 4, 2000
    together = threading.Barrier(callers)
    failures: list[BaseException] = []

    def caller(seed: int) -> None:
        calls = [(n,) for n in range(keys)]
        random.Random(seed).shuffle(calls)
        try:
            with psycopg.connect(dsn) as own:
                together.wait()
                tasks.echo.options(conn=own, unique=True, on_duplicate=on_duplicate).defer_many(calls)
        except BaseException as error:
            failures.append(error)

    for turn in range(rounds):
        conn.execute("truncate pgqueue.job")
        threads = [threading.Thread(target=caller, args=(turn * callers + n,)) for n in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert conn.execute("select count(*) from pgqueue.job").fetchone() == (keys,), failures
    counted = one_value(conn, "select deadlocks from pg_stat_database where datname = current_database()")
    figure("deadlocks", max(counted, len(failures)), f"in {rounds} rounds", at_most=0)


@pytest.mark.parametrize("level", [IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE])
def test_f37_a_race_on_a_key_reaches_a_strict_caller_unchanged(dsn: str, level: IsolationLevel) -> None:
    for many, on_duplicate in itertools.product([False, True], get_args(OnDuplicate)):
        key = f"{many} {on_duplicate}"

        def defer(
            conn: psycopg.Connection, key: str = key, on_duplicate: OnDuplicate = on_duplicate, many: bool = many
        ) -> str:
            sends = tasks.echo.options(conn=conn, unique=key, on_duplicate=on_duplicate)
            return (sends.defer_many([(1,)])[0] if many else sends.defer(1)).id

        with psycopg.connect(dsn) as caller:
            caller.isolation_level = level
            caller.execute("select count(*) from pgqueue.queue")  # its snapshot is taken
            first = tasks.echo.options(unique=key).defer(0)
            with pytest.raises(psycopg.errors.SerializationFailure) as failed:
                defer(caller)
            assert failed.value.sqlstate == "40001"
            caller.rollback()
            # What every caller at these levels does: the whole transaction again.
            if on_duplicate == "raise":
                first.cancel()
                defer(caller)
            else:
                assert defer(caller) == first.id


# Planning looks at the ends of an index too, so it counts: bind and execute of one statement.
PHASE = re.compile(r"duration: ([\d.]+) ms  (parse|bind|execute) [^\n]*?: -- Claim")


def claims_ms(log: str) -> Iterator[float]:
    """How long each claim took, as the server wrote it down."""
    total = 0.0
    for milliseconds, phase in PHASE.findall(log):
        total += float(milliseconds)
        if phase == "execute":
            yield total
            total = 0.0


@pytest.mark.slow
def test_f40_claims_stay_fast_beside_an_old_snapshot(
    cluster: Cluster, dsn: str, start_worker: Start, figure: Figure
) -> None:
    jobs = 200_000
    with cluster.connect() as admin:
        admin.execute("alter database shop set log_min_duration_statement = 0")
        admin.execute("alter database shop set log_parameter_max_length = 0")
    start_worker("-c", "2").ready()

    def crowd_s() -> float:
        """How long many jobs at once take."""
        began = time.monotonic()
        tasks.echo.defer_many((n,) for n in range(jobs // 10))[-1].result(60)
        return time.monotonic() - began

    def p95_ms() -> float:
        """Of the claims while jobs come one by one."""
        mark = len(cluster.log)
        for n in range(500):
            tasks.echo.defer(n).result(60)
        return statistics.quantiles(claims_ms(cluster.log[mark:]), n=20)[-1]

    crowd_s()  # the server's memory is warm now
    crowd_before_s, p95_before_ms = crowd_s(), p95_ms()
    with psycopg.connect(dsn) as old:
        old.isolation_level = IsolationLevel.REPEATABLE_READ
        old.execute("select count(*) from pgqueue.history")
        for _ in range(10):
            crowd_s()
        with cluster.connect("shop") as conn:
            dead = one_value(conn, "select n_dead_tup from pg_stat_user_tables where relname = 'job'")
        assert dead > jobs
        figure("p95 of claims", p95_ms() / p95_before_ms, f"x {p95_before_ms:.2g} ms after {jobs} jobs", at_most=3)
        figure("a crowd takes", crowd_s() / crowd_before_s, f"x {crowd_before_s:.2g} s", at_most=3)
        # It lies behind everything that was claimed since, where the claims need not look each time.
        with psycopg.connect(dsn) as slow:
            late = tasks.echo.options(conn=slow).defer("late")
            crowd_s()
            slow.commit()
            committed_at = time.monotonic()
            assert late.result(60) == "late"
            figure("a late commit is found", time.monotonic() - committed_at, "s after", at_most=5)
