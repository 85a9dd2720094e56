"""A worker's network fails: everything or one way is lost, connections are forgotten, packets come late, names move.

Each row runs with a proxy before the server, where TCP's timeouts never fire, and where namespaces are allowed once more
with packets that are really lost.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import psycopg
import pytest

from benchmarks.chaos.cluster import Cluster
from benchmarks.chaos.namespace import Network, refused, with_file
from benchmarks.chaos.proxy import Proxy
from pgqueue import App, Job
from pgqueue.worker.settings import POLL_S
from tests import tasks
from tests.answers import one_value
from tests.conftest import Worker, eventually
from tests.faults.conftest import Figure

Start = Callable[..., Worker]
IDLE_S = 0.2  # a worker looks a second time just after it fell asleep; then nothing is under way
# The matrix asks for ten minutes; a run of all faults should not take half an hour.
LOSSY_S = {"proxy": 60.0, "namespace": 180.0}
WHY_NOT = refused()
NAMESPACE = pytest.param("namespace", marks=pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT)))

pytestmark = pytest.mark.usefixtures("task_app")


@pytest.fixture(params=["proxy", NAMESPACE])
def kind(request: pytest.FixtureRequest) -> str:
    """What the network between the far worker and the server is made of."""
    return str(request.param)


class Far:
    """The far side of a network that fails: workers and connections there reach the server through it only."""

    def __init__(self, network: Proxy | Network, cluster: Cluster, start_worker: Start) -> None:
        self.network = network
        self._start = start_worker
        way: dict[str, Any] = {"host": Network.SERVER} if isinstance(network, Network) else {"port": network.port}
        self.dsn = cluster.dsn("shop", **way)

    def start(self, *options: str) -> Worker:
        """A worker there, ready."""
        return self._within(lambda: self._start(*options, dsn=self.dsn)).ready()

    def _within(self, work: Callable[[], Worker]) -> Worker:
        return self.network.within("worker", work) if isinstance(self.network, Network) else work()


@pytest.fixture
def network(kind: str) -> Iterator[Network | None]:
    """Two hosts, if namespaces are asked for."""
    if kind == "proxy":
        yield None
        return
    with Network() as made:
        yield made


@pytest.fixture
def cluster(network: Network | None) -> Iterator[Cluster]:
    """A server; on a host of its own if there is one, where this process reaches it by its socket."""
    if network is None:
        with Cluster() as made:
            yield made
        return
    made = Cluster(listen_addresses=Network.SERVER)
    try:
        made.address = str(made.home)
        network.within("server", made.make().start)
        yield made
    finally:
        made.destroy()


@pytest.fixture
def far(network: Network | None, cluster: Cluster, dsn: str, start_worker: Start) -> Iterator[Far]:
    """The other side of the network."""
    if network is not None:
        yield Far(network, cluster, start_worker)
        return
    with Proxy(cluster.port) as proxy:
        yield Far(proxy, cluster, start_worker)


@pytest.fixture
def shop(conn: psycopg.Connection) -> None:
    conn.execute("create schema shop")
    conn.execute("create table shop.paid (job uuid, amount int)")
    conn.execute("create table shop.ordered (number int primary key)")


def count(conn: psycopg.Connection, what: str) -> int:
    return int(one_value(conn, f"select count(*) from {what}"))


@pytest.mark.slow
@pytest.mark.usefixtures("shop")
def test_f46_the_jobs_of_a_host_that_vanished_run_elsewhere(
    kind: str, far: Far, start_worker: Start, conn: psycopg.Connection, figure: Figure, tmp_path: Path
) -> None:
    lost = far.start("-c", "2")
    plain = tasks.report.defer(str(tmp_path / "go"))
    atomic = tasks.pay_slowly.defer(5, str(tmp_path / "running"), str(tmp_path / "go"))
    eventually(lambda: plain.snapshot().progress and (tmp_path / "running").exists(), what="both run")
    other = start_worker("-c", "2").ready()
    far.network.cut()
    began = time.monotonic()
    other.said("rescued 2 jobs")
    # The proxy acknowledges what it swallows, so the server keeps the session and the lease decides, as with a freeze.
    figure("re-claimed", time.monotonic() - began, "s", at_most=20 if kind == "proxy" else 12)
    (tmp_path / "go").touch()  # for those who were cut off, too
    assert plain.result(30) == "done" and atomic.result(30) == 5
    far.network.heal()
    lost.said("declared dead")
    assert tasks.echo.defer(1).result(30) == 1
    assert lost.stop() == 0 and other.stop() == 0
    assert conn.execute("select job::text, amount from shop.paid").fetchall() == [(atomic.id, 5)]
    assert count(conn, "pgqueue.attempt where cause = 'worker lost'") == 2 == count(conn, "pgqueue.attempt")
    assert conn.execute("select sum(succeeded) from pgqueue.throughput").fetchone() == (3,)


def order(far: Far, number: int) -> None:
    """A producer that does not know whether its COMMIT arrived, and so does it again: the row says whether it did."""
    while True:
        try:
            with psycopg.connect(far.dsn) as conn:
                new = conn.execute("insert into shop.ordered values (%s) on conflict do nothing returning 1", [number])
                if new.fetchone():
                    tasks.echo.options(conn=conn).defer(number)
            return
        except psycopg.OperationalError:
            continue


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("kind", ["proxy"])  # which reads along, and so knows a COMMIT
@pytest.mark.parametrize("windows", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_f47_a_commit_without_an_answer_counts_once(
    far: Far, conn: psycopg.Connection, figure: Figure, windows: int
) -> None:
    proxy = far.network
    assert isinstance(proxy, Proxy)
    worker = far.start("-c", "2")
    per_window, producers = 40, 10
    for n in range(3):  # its first chore has committed by then, and none of the lost ones is of the worker's own
        assert tasks.echo.options(queue="other").defer(n).result(30) == n
    for window in range(windows):
        happened = window % 2 == 0
        proxy.lose_commits("replies" if happened else "requests")
        orders = [Thread(target=order, args=(far, window * producers + n)) for n in range(producers)]
        for thread in orders:
            thread.start()
        jobs = tasks.pay_soon.defer_many((window * per_window + n,) for n in range(per_window))
        eventually(lambda: proxy.commits_lost == per_window + producers, what="all wait for their COMMIT")
        assert count(conn, "shop.paid") == (window + happened) * per_window
        assert count(conn, "shop.ordered") == (window + happened) * producers
        far.network.heal()
        for thread in orders:
            thread.join()
        assert [job.result(30) for job in jobs] == [window * per_window + n for n in range(per_window)]
    trials = windows * (per_window + producers)
    ends = "select sum(succeeded), sum(failed), sum(dead) from pgqueue.throughput"
    lost = windows // 2 * per_window  # attempts whose COMMIT never arrived
    eventually(lambda: conn.execute(ends).fetchone() == (3 + trials, lost, 0), what="every end is counted once")
    assert worker.stop() == 0
    twice = count(conn, "(select amount from shop.paid group by amount having count(*) > 1) as twice")
    twice += abs(count(conn, "pgqueue.history where task like '%echo' and queue = 'default'") - windows * producers)
    figure(f"doubled or lost in {trials} trials", twice, "", at_most=0)
    assert count(conn, "shop.paid") == windows * per_window
    assert count(conn, "pgqueue.attempt where cause = 'commit'") == lost == count(conn, "pgqueue.attempt")


def forget_at_claim(proxy: Proxy) -> None:
    def claimed(data: bytes) -> None:
        if b"_pg3_" in data:  # a statement by the name under which psycopg prepared it: only a worker's line says such
            proxy.request = None
            proxy.forget()

    proxy.request = claimed


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("proxy", "reset"),
        pytest.param("proxy", "idle", marks=pytest.mark.slow),
        pytest.param("proxy", "busy", marks=pytest.mark.slow),
        pytest.param("namespace", "idle", marks=[*NAMESPACE.marks, pytest.mark.slow]),
    ],
)
def test_f48_a_worker_whose_connections_a_router_forgot_hears_again(
    far: Far, conn: psycopg.Connection, figure: Figure, how: str
) -> None:
    worker = far.start("-c", "1")
    eventually(lambda: count(conn, "pgqueue.worker where sleeping"), what="it sleeps")
    time.sleep(IDLE_S)
    ((first,),) = conn.execute("select backend_pid from pgqueue.worker").fetchall()
    if how == "idle":
        far.network.forget()
    elif isinstance(far.network, Proxy):
        far.network.reset() if how == "reset" else forget_at_claim(far.network)
    began = time.monotonic()
    assert tasks.echo.defer(1).result(60) == 1
    figure("a job waited", time.monotonic() - began, "s", at_most=POLL_S + 0.5)
    heard = "pgqueue.worker where backend_pid <> %s and sleeping"
    eventually(lambda: conn.execute(f"select 1 from {heard}", [first]).fetchone(), what="it listens again")
    figure("LISTEN revived", time.monotonic() - began, "s", at_most=10)
    time.sleep(IDLE_S)
    rung = time.monotonic()
    assert tasks.echo.defer(2).result(60) == 2
    figure("then heard within", time.monotonic() - rung, "s", at_most=0.5)
    assert worker.stop() == 0 and "declared dead" not in worker.output


@pytest.mark.slow
def test_f50_a_slow_and_lossy_network_kills_nobody(
    kind: str, far: Far, start_worker: Start, conn: psycopg.Connection, figure: Figure
) -> None:
    judge = start_worker("-c", "1", "-Q", "other").ready()  # hears at once what the others are late with
    workers = [judge, far.start("-c", "1"), far.start("-c", "1")]
    if isinstance(far.network, Network):
        far.network.delay_s, far.network.loss = 0.1, 0.02
    else:
        far.network.delay_s = 0.067  # with its jitter 0.1 on average; nobody can lose packets between two sockets
    began = time.monotonic()
    jobs: list[Job[Any]] = []
    while time.monotonic() - began < LOSSY_S[kind]:
        jobs.append(tasks.echo.defer(len(jobs)))
        time.sleep(0.05)
    far.network.heal()
    assert [job.result(60) for job in jobs] == list(range(len(jobs)))
    assert [worker.stop() for worker in workers] == [0, 0, 0]
    told = [line for worker in workers for line in worker.lines if "dead" in line or "rescued" in line]
    figure(f"false deaths in {LOSSY_S[kind]:g} s", len(told), "", at_most=0)
    assert count(conn, "pgqueue.attempt") == 0 == count(conn, "pgqueue.history where crashes > 0 or attempt > 1")
    ((took,),) = conn.execute("select avg(extract(epoch from finished_at - created_at))::float8 from pgqueue.history")
    figure("a job took", took, "s", at_least=0.2)  # half of the bell's way, of the claim's and of the finish's


@pytest.mark.parametrize("kind", ["proxy"])
@pytest.mark.parametrize(
    "how",
    [
        "address",
        pytest.param("name", marks=NAMESPACE.marks),
        pytest.param("silent", marks=[*NAMESPACE.marks, pytest.mark.slow]),
    ],
)
def test_f51_a_worker_follows_its_database_to_another_address(
    cluster: Cluster, far: Far, start_worker: Start, figure: Figure, tmp_path: Path, how: str
) -> None:
    assert isinstance(far.network, Proxy)
    standby = cluster.standby(listen_addresses="127.0.0.2")
    try:
        standby.stop()
        standby.port, standby.address = cluster.port, "127.0.0.2"
        standby.start()
        hosts = tmp_path / "hosts"
        hosts.write_text("127.0.0.1 localhost\n127.0.0.1 db.test\n")
        if how == "address":
            worker = far.start("-c", "1")
        else:
            dsn = cluster.dsn("shop", host="db.test")
            worker = with_file("/etc/hosts", str(hosts), lambda: start_worker("-c", "1", dsn=dsn)).ready()
        assert tasks.echo.defer(0).result(30) == 0
        eventually(lambda: standby_has_it(standby), what="the standby knows the job")
        if how == "silent":
            cluster.freeze()
        else:
            cluster.kill()
        standby.promote()
        app = App(standby.dsn("shop"))
        job = app.enqueue("tests.tasks.echo", args=[1])
        far.network.retarget(standby.port, host=standby.address)
        hosts.write_text("127.0.0.2 db.test\n")
        began = time.monotonic()
        assert job.result(60) == 1
        figure("jobs flow after the change", time.monotonic() - began, "s", at_most=5)
        app.close()
        assert worker.stop() == 0
    finally:
        standby.destroy()


def standby_has_it(standby: Cluster) -> bool:
    with standby.connect("shop") as conn:
        return count(conn, "pgqueue.history") == 1


@pytest.mark.parametrize("kind", ["proxy"])
def test_the_query_of_a_killed_child_ends_with_it(
    cluster: Cluster, start_worker: Start, conn: psycopg.Connection, figure: Figure
) -> None:
    worker = start_worker("-c", "1").ready()
    tasks.wait_in_the_database.defer(60)
    asleep = "pg_stat_activity where wait_event = 'PgSleep'"
    eventually(lambda: count(conn, asleep), what="it runs")
    ((backend,),) = conn.execute(f"select pid from {asleep}").fetchall()
    (child,) = worker.children()
    os.kill(child, signal.SIGKILL)
    began = time.monotonic()
    eventually(lambda: not count(conn, asleep + f" and pid = {backend}"), what="its session is gone")
    figure("its query ran on for", time.monotonic() - began, "s", at_most=1.5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["proxy"])
def test_a_task_and_its_server_may_keep_each_other_waiting(
    cluster: Cluster, start_worker: Start, conn: psycopg.Connection
) -> None:
    """tcp_user_timeout counts while the other side does not read: 5 s of it, as our own sessions have, ended both of these."""
    conn.execute("create schema shop")
    conn.execute("create table shop.stock (name text)")
    conn.execute(
        "create function shop.wait() returns trigger language plpgsql as $$ "
        "begin if new.name = 'wait' then perform pg_sleep(8); end if; return new; end $$"
    )
    conn.execute("create trigger slow before insert on shop.stock for each row execute function shop.wait()")
    start_worker("-c", "2").ready()
    reader, writer = tasks.read_slowly.defer(100_000, 8), tasks.write_much.defer(50_000)
    assert (reader.result(60), writer.result(60)) == (100_000, 50_000)
    assert count(conn, "pgqueue.attempt") == 0
