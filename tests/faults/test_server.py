"""Sessions end, statements are cancelled, the server restarts or stays away: no worker is taken for dead, no job is lost."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import psycopg
import pytest

from benchmarks.chaos.cluster import Cluster
from pgqueue import App, DatabaseUnavailable
from tests import tasks
from tests.answers import one_row, one_value
from tests.conftest import Worker, eventually
from tests.faults.conftest import Figure
from tests.faults.sessions import OF_WORKERS, Producer, answers, ask, locked, nobody_died

Start = Callable[..., Worker]

pytestmark = pytest.mark.usefixtures("task_app")

slow = pytest.mark.slow


@pytest.mark.parametrize("seconds", [pytest.param(2.0), pytest.param(60.0, marks=slow)])
def test_f21_every_session_of_a_worker_is_ended_again_and_again(
    cluster: Cluster, dsn: str, start_worker: Start, figure: Figure, seconds: float
) -> None:
    workers = [start_worker("-c", "2").ready() for _ in range(2)]
    with cluster.connect("shop") as conn, Producer(0.02) as producer:
        over_at = time.monotonic() + seconds
        for whom in cycle(["order by backend_start limit 1", "order by pid limit 1", "order by random() limit 1", ""]):
            conn.execute(f"select pg_terminate_backend(pid) from (select pid {OF_WORKERS} {whom}) as session")
            time.sleep(0.2)
            if time.monotonic() > over_at:
                break
        began = time.monotonic()
        conn.execute(f"select pg_terminate_backend(pid) {OF_WORKERS}")
        held = "select count(*) from pg_locks where locktype = 'advisory' and objsubid = 2 and granted"
        eventually(lambda: one_value(conn, held) == 2, what="both hold their session lock again")
        figure("reconnected", time.monotonic() - began, "s", at_most=2)
    for job_id in producer.acknowledged:
        assert tasks.echo.app.job(job_id).result(timeout=30) is not None
    began = time.monotonic()
    tasks.echo.defer(0).result(30)
    figure("job started by the bell", time.monotonic() - began, "s", at_most=1)
    nobody_died(cluster, *workers)
    assert ask(cluster, "select sum(crashes) from pgqueue.history") == 0


def test_f22_claim_finish_and_heartbeat_are_cancelled(
    cluster: Cluster, dsn: str, start_worker: Start, figure: Figure, tmp_path: Path
) -> None:
    worker = start_worker("-c", "1").ready()
    first = tasks.report.defer(str(tmp_path / "go"))
    eventually(lambda: first.snapshot().progress, what="it runs")
    rest = [tasks.echo.defer(n) for n in range(3)]
    (child,) = worker.children()
    cancelled: list[str] = []
    with cluster.connect("shop") as watch:

        def cancel(*kinds: str) -> bool:
            """Have the worker look for jobs, and cancel whatever waits; whether each kind was among it."""
            watch.execute("notify pgqueue_jobs")
            told = watch.execute(
                f"select query from (select * {OF_WORKERS}) as session "
                "where wait_event_type = 'Lock' and pg_cancel_backend(pid)"
            )
            cancelled.extend(query for (query,) in told)
            return all(any(query.startswith(f"-- {kind}") for query in cancelled) for kind in kinds)

        with locked(cluster, "job"):
            (tmp_path / "go").touch()
            eventually(lambda: cancel("Record a batch of successes", "Claim"), what="finish and claim are cancelled")
        with locked(cluster, "worker"):
            eventually(lambda: cancel("Renew this worker's lease"), what="a heartbeat is cancelled")
    assert first.result(30) == "done"
    assert [job.result(30) for job in rest] == [0, 1, 2]
    nobody_died(cluster, worker)
    assert worker.children() == [child]
    figure("cancelled", len(cancelled), "statements", at_least=3)
    figure("stuck", ask(cluster, "select count(*) from pgqueue.job"), "jobs", at_most=0)


def end(cluster: Cluster, how: str) -> None:
    """Restart the server, or let it restart itself."""
    if how == "kill -9 of one backend":
        with cluster.connect() as other:
            os.kill(ask(cluster, f"select pid {OF_WORKERS} order by random() limit 1"), signal.SIGKILL)
            with pytest.raises(psycopg.OperationalError):
                other.execute("select pg_sleep(60)")
        eventually(lambda: answers(cluster), what="the server is through with its recovery")
    else:
        cluster.restart(how)


@pytest.mark.parametrize("held_s", [pytest.param(0.0), pytest.param(12.0, marks=slow)], ids=["passing", "held"])
@pytest.mark.parametrize(
    "how",
    [
        pytest.param("fast", id="f23_fast"),
        pytest.param("immediate", id="f24_immediate"),
        pytest.param("kill -9 of one backend", id="f24_crash"),
    ],
)
def test_f23_f24_the_server_restarts_under_running_jobs(
    cluster: Cluster, dsn: str, start_worker: Start, figure: Figure, tmp_path: Path, how: str, held_s: float
) -> None:
    with cluster.connect("shop") as conn:
        conn.execute("create schema shop; create table shop.paid (job uuid, amount int)")
    workers = [start_worker("-c", "3").ready() for _ in range(2)]
    go = str(tmp_path / "go")
    running = [tasks.report.defer(go) for _ in range(3)]
    paying = tasks.pay_when.defer(str(tmp_path / "paying"), go)
    eventually(lambda: all(job.snapshot().progress for job in running), what="all run")
    eventually((tmp_path / "paying").exists, what="the atomic one has written")
    end(cluster, how)
    began = time.monotonic()
    assert tasks.echo.defer(1).result(30) == 1
    figure("jobs flow", time.monotonic() - began, "s after ready", at_most=3)
    time.sleep(held_s)  # longer than the grace, and than a server counts as just started
    Path(go).touch()
    assert [job.result(30) for job in running] == ["done"] * 3
    assert paying.result(30) == 2  # its first attempt's transaction went with the server
    assert ask(cluster, "select count(*) from shop.paid") == 1
    nobody_died(cluster, *workers)
    figure("stolen", ask(cluster, "select sum(crashes) from pgqueue.history"), "jobs", at_most=0)


def processor_s(worker: Worker) -> float:
    """Processor time that a worker and its children have taken."""
    ticks = 0
    for pid in (worker.process.pid, *worker.children()):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@slow
def test_f25_the_database_is_away_for_two_minutes(
    cluster: Cluster, dsn: str, start_worker: Start, figure: Figure, tmp_path: Path
) -> None:
    workers = [start_worker("-c", "2").ready() for _ in range(2)]
    soon, later = (tasks.report.defer(str(tmp_path / name)) for name in ("soon", "later"))
    eventually(lambda: soon.snapshot().progress and later.snapshot().progress, what="both run")
    waiting = tasks.echo.options(delay=5).defer(7)  # due while the server is away
    cluster.stop()
    spent = [processor_s(worker) for worker in workers]
    said = [len(worker.lines) for worker in workers]
    (tmp_path / "soon").touch()
    time.sleep(120)
    figure("processor", max(map(float.__sub__, map(processor_s, workers), spent)) / 120 * 100, "%", at_most=5)
    lines = max(len(worker.lines) - before for worker, before in zip(workers, said, strict=True))
    figure("log", lines / (120 / 5), "lines each 5 s", at_most=1)
    cluster.start()
    began = time.monotonic()
    eventually(lambda: waiting.state == "succeeded", what="the first claim")
    figure("first claim", time.monotonic() - began, "s after start", at_most=3)
    assert soon.result(30) == "done"
    time.sleep(12)  # who is to be buried would be by now
    (tmp_path / "later").touch()
    assert later.result(30) == "done"
    nobody_died(cluster, *workers)
    figure("stolen", ask(cluster, "select sum(crashes) from pgqueue.history"), "jobs", at_most=0)


def test_f33_there_is_no_room_for_another_connection(
    cluster: Cluster, dsn: str, start_worker: Start, figure: Figure
) -> None:
    with cluster.connect("shop") as conn:
        conn.execute("create role web login; grant all on schema pgqueue to web")
        conn.execute(
            "grant all on all tables in schema pgqueue to web; grant all on all sequences in schema pgqueue to web"
        )
    worker = start_worker("-c", "1", dsn=cluster.dsn("shop", user="web")).ready()
    assert tasks.echo.defer(1).result(30) == 1
    others = [cluster.connect()]
    with pytest.raises(psycopg.OperationalError, match="too many clients"):
        while True:
            others.append(cluster.connect())
    assert tasks.echo.defer(2).result(30) == 2  # both keep what they have
    assert "trying again" not in worker.output
    others[0].execute(f"select pg_terminate_backend(pid, 5000) {OF_WORKERS}")  # the last three places are not for it
    worker.said("remaining connection slots")
    waiting = [tasks.echo.defer(n) for n in range(20)]
    began = time.monotonic()
    for conn in others:
        conn.close()
    assert [job.result(30) for job in waiting] == list(range(20))
    figure("recovered", time.monotonic() - began, "s", at_most=5)
    nobody_died(cluster, worker)
    figure(
        "lost", 22 - ask(cluster, "select count(*) from pgqueue.history where state = 'succeeded'"), "jobs", at_most=0
    )


def test_f34_tasks_hold_every_connection_of_their_pool(
    cluster: Cluster, dsn: str, start_worker: Start, figure: Figure, conn: psycopg.Connection
) -> None:
    busy = start_worker("-c", "1").ready()
    watching = start_worker("-c", "1", "--queues", "nothing").ready()
    tasks.hold.defer(0).result(30)
    jobs = [tasks.hold.defer(0.1) for _ in range(100)]
    oldest_s = 0.0

    def ended() -> bool:
        nonlocal oldest_s
        left, age_s = one_row(
            conn,
            "select (select count(*) from pgqueue.job), "
            "(select extract(epoch from max(now() - heartbeat_at))::float8 from pgqueue.worker)",
        )
        oldest_s = max(oldest_s, age_s)
        return not left

    eventually(ended, what="all have had their turn")
    assert [job.result(30) for job in jobs] == [0.1] * 100
    figure("oldest heartbeat", oldest_s, "s", at_most=3)
    nobody_died(cluster, busy, watching)
    figure("failed attempts", ask(cluster, "select count(*) from pgqueue.attempt"), "jobs", at_most=0)


async def enqueued(app: App, count: int) -> list[str]:
    return [job.id for job in await asyncio.gather(*(app.enqueue_async("shop.visit") for _ in range(count)))]


async def enqueued_at_last(app: App) -> str:
    """When it is no longer refused as the database was known to be down."""
    while True:
        try:
            return (await app.enqueue_async("shop.visit")).id
        except DatabaseUnavailable:
            await asyncio.sleep(0.02)


def test_f35_a_web_process_sees_nothing_of_a_restart(cluster: Cluster, dsn: str, figure: Figure) -> None:
    async def serve() -> float:
        app = App(dsn)
        ids = await enqueued(app, 20)
        await asyncio.to_thread(cluster.stop)
        meanwhile = asyncio.create_task(enqueued(app, 20))
        await asyncio.sleep(0.5)
        await asyncio.to_thread(cluster.start)
        began = time.monotonic()
        ids += await meanwhile + await enqueued(app, 20)
        took_s = time.monotonic() - began
        assert ask(cluster, "select count(*) from pgqueue.job where id = any (%s::uuid[])", ids) == 60
        await app.close_async()
        return took_s

    figure("defers again", asyncio.run(serve()), "s after start", at_most=5)


@slow
def test_f35_a_web_process_recovers_by_itself(cluster: Cluster, dsn: str, figure: Figure) -> None:
    async def serve() -> tuple[int, float]:
        app = App(dsn, pool_timeout_s=3)
        ids = await enqueued(app, 20)
        await asyncio.to_thread(cluster.stop)
        refused, back_at = 0, time.monotonic() + 150
        while time.monotonic() < back_at:
            with pytest.raises(DatabaseUnavailable):
                await app.enqueue_async("shop.visit")
            refused += 1
            await asyncio.sleep(0.1)
        await asyncio.to_thread(cluster.start)
        began = time.monotonic()
        ids += [await enqueued_at_last(app)] + await enqueued(app, 19)
        took_s = time.monotonic() - began
        assert ask(cluster, "select count(*) from pgqueue.job where id = any (%s::uuid[])", ids) == 40
        await app.close_async()
        return refused, took_s

    refused, took_s = asyncio.run(serve())
    figure("refused", refused, "defers in 150 s", at_least=40)
    figure("defers again", took_s, "s after start", at_most=5)


@pytest.mark.parametrize("seconds", [pytest.param(2.0), pytest.param(30.0, marks=slow)])
def test_f38_the_jobs_table_is_locked(
    cluster: Cluster, dsn: str, start_worker: Start, figure: Figure, tmp_path: Path, seconds: float
) -> None:
    workers = [start_worker("-c", "2").ready() for _ in range(2)]
    running = [tasks.report.defer(str(tmp_path / "go")) for _ in range(2)]
    eventually(lambda: all(job.snapshot().progress for job in running), what="both run")
    with Producer(0.01) as producer:
        eventually(lambda: len(producer.acknowledged) > 20, what="jobs flow")
        oldest_s = 0.0
        with cluster.connect("shop") as conn, locked(cluster, "job"):
            over_at = time.monotonic() + seconds
            while time.monotonic() < over_at:
                age_s = one_value(conn, "select extract(epoch from max(now() - heartbeat_at)) from pgqueue.worker")
                oldest_s = max(oldest_s, float(age_s))
                time.sleep(0.05)
        began = time.monotonic()
        noted = len(producer.acknowledged)
        eventually(lambda: len(producer.acknowledged) > noted, what="defers go on")
    ledger = tmp_path / "ledger"
    marks = [tasks.run_once.defer(str(ledger), n) for n in range(50)]
    assert [job.result(60) for job in marks] == list(range(50))
    (tmp_path / "go").touch()
    assert [job.result(30) for job in running] == ["done"] * 2
    eventually(lambda: ask(cluster, "select count(*) from pgqueue.job") == 0, what="all have ended")
    figure("all ended", time.monotonic() - began, "s after", at_most=20)
    figure("oldest heartbeat", oldest_s, "s", at_most=4)
    nobody_died(cluster, *workers)
    # A lock that outlasts a defer's patience leaves jobs behind of which it could not know, and nothing else.
    made = set(ask(cluster, "select array_agg(id::text) from pgqueue.history"))
    assert made >= set(producer.acknowledged) and (seconds > 10 or not producer.unknown)
    assert len(made - set(producer.unknown)) == len(producer.acknowledged) + 52
    figure("run twice", len(ledger.read_text().split()) - 50, "jobs", at_most=0)


@pytest.mark.slow
def test_a_claim_under_way_when_its_worker_goes_leaves_no_job_behind(
    start_worker: Start, conn: psycopg.Connection
) -> None:
    conn.execute(
        "create function shop_dawdle() returns trigger language plpgsql as 'begin perform pg_sleep(5.8); return new; end'"
    )
    conn.execute(
        "create trigger dawdle before update on pgqueue.job for each row "
        "when (new.state = 'running') execute function shop_dawdle()"
    )
    worker = start_worker("-c", "1").ready()
    job = tasks.echo.defer(1)
    asleep = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"
    eventually(lambda: conn.execute(asleep).fetchone() == (1,), what="a claim is under way")
    assert worker.stop() == 0
    conn.execute("drop trigger dawdle on pgqueue.job")  # waits for the claim's end
    start_worker("-c", "1").ready()
    assert job.result(40) == 1
