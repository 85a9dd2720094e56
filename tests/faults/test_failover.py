"""The primary is lost and a standby takes over: what was acknowledged is kept, as far as it was replicated, and no stale
write is accepted.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.chaos.cluster import Cluster
from benchmarks.chaos.proxy import Proxy
from pgqueue import App, DatabaseUnavailable, Job
from tests import tasks
from tests.answers import one_value
from tests.conftest import Worker, eventually
from tests.faults.conftest import Figure
from tests.faults.sessions import Producer, ask, nobody_died

Start = Callable[..., Worker]

pytestmark = pytest.mark.usefixtures("task_app")


@pytest.fixture
def primary(cluster: Cluster) -> Cluster:
    """The server with which each test begins, migrated."""
    with cluster.connect() as conn:
        conn.execute("create database shop")
    app = App(cluster.dsn("shop"))
    app.migrate()
    app.close()
    return cluster


@pytest.fixture
def standby(primary: Cluster) -> Iterator[Cluster]:
    """Its standby, which has everything that is there so far."""
    made = primary.standby()
    caught_up(primary)
    yield made
    made.destroy()


@pytest.fixture
def dsn(primary: Cluster, standby: Cluster) -> str:
    """Both servers: whoever connects gets the one that takes writes."""
    ports = f"{primary.port},{standby.port}"
    return primary.dsn("shop", host="127.0.0.1,127.0.0.1", port=ports, target_session_attrs="read-write")


def caught_up(primary: Cluster) -> None:
    """Wait until the standby has what was written so far."""
    with primary.connect() as conn:
        here = one_value(conn, "select pg_current_wal_flush_lsn()")
        eventually(
            lambda: one_value(conn, "select count(*) from pg_stat_replication where replay_lsn >= %s", [here]),
            what="the standby has caught up",
        )


def freeze_replication(primary: Cluster) -> None:
    """What is written from now on stays on the primary."""
    with primary.connect() as conn:
        sender = one_value(conn, "select pid from pg_stat_replication")
    os.kill(sender, signal.SIGSTOP)


def known(server: Cluster, ids: list[str]) -> set[str]:
    with server.connect("shop") as conn:
        found = conn.execute("select id::text from pgqueue.jobs where id = any (%s::uuid[])", [ids]).fetchall()
    return {id_ for (id_,) in found}


def all_ended(server: Cluster) -> bool:
    return bool(ask(server, "select count(*) from pgqueue.job") == 0)


def test_f26_a_synchronous_standby_takes_over(
    primary: Cluster, standby: Cluster, dsn: str, start_worker: Start, figure: Figure
) -> None:
    with primary.connect() as conn:
        conn.execute("alter system set synchronous_standby_names = 'standby'")
        conn.execute("select pg_reload_conf()")
        eventually(
            lambda: conn.execute("select sync_state from pg_stat_replication").fetchone() == ("sync",), what="it is so"
        )
    workers = [start_worker("-c", "2").ready() for _ in range(2)]
    with Producer(0.001) as producer:
        eventually(lambda: len(producer.acknowledged) > 100, what="jobs flow")
        primary.kill()
        standby.promote()
        began, before = time.monotonic(), len(producer.acknowledged)
        eventually(lambda: len(producer.acknowledged) > before + 50, what="jobs flow again")
        figure("defers flow", time.monotonic() - began, "s after promotion", at_most=5)
    eventually(lambda: all_ended(standby), what="all have ended")
    lost = set(producer.acknowledged) - known(standby, producer.acknowledged)
    figure("lost", len(lost), f"of {len(producer.acknowledged)} jobs", at_most=0)
    figure("refused", producer.refused, "defers", at_most=0)
    nobody_died(standby, *workers)


@pytest.mark.slow
def test_f26_the_primary_is_not_even_there_to_refuse(
    primary: Cluster, standby: Cluster, start_worker: Start, figure: Figure, tmp_path: Path
) -> None:
    with Proxy(primary.port) as proxy:
        ports = f"{proxy.port},{standby.port}"
        both = primary.dsn("shop", host="127.0.0.1,127.0.0.1", port=ports, target_session_attrs="read-write")
        workers = [start_worker("-c", "3", dsn=both).ready() for _ in range(3)]
        running = [tasks.report.defer(str(tmp_path / "go")) for _ in range(8)]
        eventually(lambda: all(job.snapshot().progress for job in running), what="all run")
        caught_up(primary)
        proxy.cut()
        primary.kill()
        standby.promote()
        began = time.monotonic()
        assert tasks.echo.defer(1).result(60) == 1
        figure("jobs flow", time.monotonic() - began, "s after promotion", at_most=12)
        time.sleep(20)  # whoever is to be buried would be by now
        (tmp_path / "go").touch()
        assert [job.result(30) for job in running] == ["done"] * 8
        nobody_died(standby, *workers)
        figure("stolen", ask(standby, "select sum(crashes) from pgqueue.history"), "jobs", at_most=0)


@pytest.mark.slow
def test_f26_the_primary_is_frozen_under_a_program_that_holds_sessions(
    primary: Cluster, standby: Cluster, figure: Figure
) -> None:
    both = primary.dsn("shop", host="127.0.0.1,127.0.0.1", port=f"{primary.port},{standby.port}")
    app = App(both)
    with ThreadPoolExecutor(8) as threads, primary.connect("shop") as conn, conn.transaction():
        conn.execute("lock table pgqueue.job in access exclusive mode")
        held = [threads.submit(app.enqueue, "shop.visit") for _ in range(8)]
        waiting = "select count(*) from pg_locks where not granted"
        eventually(lambda: conn.execute(waiting).fetchone() == (8,), what="each has a session of its own")
    ids = [deferred.result().id for deferred in held]
    caught_up(primary)
    primary.freeze()
    standby.promote()
    began = time.monotonic()
    ids += [app.enqueue("shop.visit").id, app.enqueue("shop.visit").id]
    figure("defers flow", time.monotonic() - began, "s after the freeze", at_most=15)
    assert known(standby, ids) == set(ids)
    app.close()


def test_f27_an_asynchronous_standby_that_lags_takes_over(
    primary: Cluster, standby: Cluster, dsn: str, start_worker: Start, figure: Figure
) -> None:
    workers = [start_worker("-c", "2").ready() for _ in range(2)]
    with Producer(0.001) as producer:
        eventually(lambda: len(producer.acknowledged) > 100, what="jobs flow")
        replicated = list(producer.acknowledged)
        caught_up(primary)
        freeze_replication(primary)
        lagging_from = time.monotonic()
        time.sleep(0.2)
        primary.kill()
        lag_s = time.monotonic() - lagging_from
        standby.promote()
        before = len(producer.acknowledged)
        eventually(lambda: len(producer.acknowledged) > before + 100, what="jobs flow again")
    eventually(lambda: all_ended(standby), what="what is left has ended")
    lost = set(producer.acknowledged) - known(standby, producer.acknowledged)
    figure("lost", len(lost), f"of {len(producer.acknowledged)} jobs, {lag_s:.2f} s of replication", at_least=1)
    assert not lost & set(replicated)
    assert ask(standby, "select count(*) from pgqueue.history where state <> 'succeeded'") == 0
    assert [worker.process.poll() for worker in workers] == [None, None]
    assert tasks.echo.defer(7).result(30) == 7


def test_f28_the_primary_comes_back_as_a_standby_behind_the_same_address(
    primary: Cluster, standby: Cluster, start_worker: Start, figure: Figure
) -> None:
    with Proxy(primary.port) as proxy:
        address = primary.dsn("shop", port=proxy.port)
        worker = start_worker("-c", "1", dsn=address).ready()
        app = App(address, pool_timeout_s=1)
        tasks_seen = app.enqueue("tests.tasks.echo", [1])
        assert tasks_seen.result(timeout=30) == 1
        primary.stop()  # in good order: the standby has everything
        standby.promote()
        primary.follow(standby)
        primary.start()
        # The address still leads to what is a standby now: it takes connections and answers, but refuses every write.
        worker.said("during recovery")
        assert tasks_seen.state == "succeeded"  # and the app's pool has a healthy connection to it
        with pytest.raises(DatabaseUnavailable, match="takes no writes"):
            app.enqueue("tests.tasks.echo", [2])
        assert tasks_seen.state == "succeeded"
        proxy.retarget(standby.port)
        began = time.monotonic()
        assert app.enqueue("tests.tasks.echo", [3]).result(timeout=30) == 3
        figure("noticed", time.monotonic() - began, "s", at_most=6)
        nobody_died(standby, worker)
        app.close()


def test_f28_a_server_turns_read_only_under_open_sessions(
    primary: Cluster, standby: Cluster, start_worker: Start, figure: Figure, tmp_path: Path
) -> None:
    with Proxy(primary.port) as proxy:
        address = primary.dsn("shop", port=proxy.port)
        worker = start_worker("-c", "1", dsn=address).ready()
        app = App(address)
        job = app.enqueue("tests.tasks.report", [str(tmp_path / "go")])
        eventually(lambda: job.snapshot().progress, what="it runs")
        caught_up(primary)
        with primary.connect() as conn:
            conn.execute("alter system set default_transaction_read_only = on")
            conn.execute("select pg_reload_conf()")
        began = time.monotonic()
        worker.said("read-only transaction")
        figure("noticed", time.monotonic() - began, "s", at_most=6)
        (tmp_path / "go").touch()
        standby.promote()
        proxy.retarget(standby.port)  # the sessions to the old one stay open
        assert app.enqueue("tests.tasks.echo", [3]).result(timeout=30) == 3
        assert job.result(timeout=30) == "done"
        figure("flows", time.monotonic() - began, "s", at_most=8)
        eventually(
            lambda: ask(primary, "select count(*) from pg_stat_activity where application_name ~ '^pgqueue'") == 0,
            what="nobody stays with the old one", within_s=6,
        )  # fmt: skip
        nobody_died(standby, worker)
        app.close()


def claimed_before_a_failover(primary: Cluster, standby: Cluster, worker: Worker, folder: Path) -> Job[int]:
    """A job that the worker, frozen now, runs, as the primary knew; for the standby that took over it was never claimed."""
    os.kill(worker.process.pid, signal.SIGSTOP)
    job = tasks.until_told.defer(str(folder))
    caught_up(primary)
    freeze_replication(primary)
    os.kill(worker.process.pid, signal.SIGCONT)
    eventually(lambda: job.snapshot().progress, what="it runs")
    os.kill(worker.process.pid, signal.SIGSTOP)  # so that the test sees what is there before it goes on
    primary.kill()
    standby.promote()
    return job


def token(server: Cluster) -> int:
    return int(ask(server, "select claim_token from pgqueue.job"))


def test_f29_a_token_is_issued_twice(
    primary: Cluster, standby: Cluster, dsn: str, start_worker: Start, figure: Figure, tmp_path: Path
) -> None:
    zombie = start_worker("-c", "1").ready()
    job = claimed_before_a_failover(primary, standby, zombie, tmp_path)
    assert token(standby) == 0
    other = start_worker("-c", "1").ready()
    eventually(lambda: job.snapshot().progress, what="the other runs it")
    os.kill(zombie.process.pid, signal.SIGCONT)
    assert token(standby) == 1  # as the zombie has it
    (tmp_path / str(zombie.process.pid)).touch()
    zombie.said("lease lost")
    assert job.state == "running"
    (tmp_path / str(other.process.pid)).touch()
    assert job.result(timeout=30) == other.process.pid
    accepted = ask(standby, "select count(*) from pgqueue.history where result <> %s", str(other.process.pid))
    figure("accepted stale writes", accepted, "jobs", at_most=0)
    assert zombie.process.poll() is None


def test_f29_a_worker_meets_its_own_job_again(
    primary: Cluster, standby: Cluster, dsn: str, start_worker: Start, tmp_path: Path
) -> None:
    worker = start_worker("-c", "2").ready()
    job = claimed_before_a_failover(primary, standby, worker, tmp_path)
    assert token(standby) == 0
    os.kill(worker.process.pid, signal.SIGCONT)
    eventually(lambda: token(standby) == 1, what="it has claimed it again")
    assert tasks.echo.defer(1).result(30) == 1
    (tmp_path / str(worker.process.pid)).touch()
    assert job.result(timeout=30) == worker.process.pid
    assert tasks.echo.defer(2).result(30) == 2
    assert ask(standby, "select count(*) from pgqueue.history") == 3
    nobody_died(standby, worker)
