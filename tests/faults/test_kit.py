"""The tools that break things must themselves work, or every fault test passes for nothing."""

import gc
import socket
import time
import warnings
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from psycopg import pq

from benchmarks.chaos.cluster import Cluster
from benchmarks.chaos.namespace import Network, refused
from benchmarks.chaos.proxy import Proxy
from tests.answers import one_value
from tests.conftest import eventually


def test_a_cluster_freezes_dies_and_comes_back(cluster: Cluster) -> None:
    with cluster.connect() as conn:
        conn.execute("create table kept ()")
        cluster.freeze()
        with pytest.raises(psycopg.errors.ConnectionTimeout):
            psycopg.connect(cluster.dsn(connect_timeout=2))
        cluster.thaw()
        conn.execute("select from kept")
        cluster.kill()
        with pytest.raises(psycopg.OperationalError):
            conn.execute("select from kept")
    cluster.start()
    with cluster.connect() as conn:
        conn.execute("select from kept")


def test_a_standby_has_what_its_primary_had_and_takes_over(cluster: Cluster) -> None:
    standby = cluster.standby()
    try:
        with cluster.connect() as conn:
            conn.execute("create table kept ()")
        with standby.connect() as conn:
            eventually(lambda: one_value(conn, "select to_regclass('kept') is not null"), what="replicated")
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                conn.execute("create table more ()")
        cluster.kill()
        standby.promote()
        with standby.connect() as conn:
            conn.execute("create table more ()")
    finally:
        standby.destroy()


def test_a_proxy_loses_replies_after_the_server_acted(cluster: Cluster, proxy: Proxy) -> None:
    conn = psycopg.connect(cluster.dsn(port=proxy.port), autocommit=True)
    proxy.lose("replies")
    conn.pgconn.send_query(b"create table made ()")
    with cluster.connect() as direct:
        eventually(lambda: one_value(direct, "select to_regclass('made') is not null"), what="it acted")
    eventually(lambda: proxy.torn == 1, what="the reply is lost: it comes a moment after others see what was done")
    assert not conn.pgconn.notifies() and conn.pgconn.is_busy()
    proxy.heal()
    result = conn.pgconn.get_result()
    assert result is not None and result.status == pq.ExecStatus.FATAL_ERROR
    conn.close()
    psycopg.connect(cluster.dsn(port=proxy.port)).close()


def test_a_proxy_holds_back_single_messages(cluster: Cluster, proxy: Proxy) -> None:
    with psycopg.connect(cluster.dsn(port=proxy.port), autocommit=True) as conn:
        conn.execute("listen bell")
        proxy.reply = lambda kind, _: kind != b"A"
        conn.execute("notify bell")
        assert list(conn.notifies(timeout=0)) == []
        proxy.reply = None
        conn.execute("notify bell")
        assert len(list(conn.notifies(timeout=10, stop_after=1))) == 1


def test_a_proxy_closes_while_clients_still_come() -> None:
    """It hung, or left their sockets open, which another test was then blamed for."""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=1000) as server,
        warnings.catch_warnings(record=True) as left_open,
    ):
        warnings.simplefilter("always")
        for _ in range(50):
            with ExitStack() as clients:
                with Proxy(server.getsockname()[1]) as proxy:
                    for _ in range(5):
                        client = clients.enter_context(socket.socket())
                        client.setblocking(False)
                        client.connect_ex(("127.0.0.1", proxy.port))
            gc.collect()
    assert [str(each.message) for each in left_open] == []


@pytest.mark.skipif(refused() is not None, reason=str(refused()))
def test_a_network_delays_and_loses_packets_and_leaves_nothing_behind() -> None:
    before = set(Path("/proc/self/fd").iterdir())
    with Network() as network:
        server = network.within("server", lambda: socket.create_server((Network.SERVER, 5432)))
        client = network.within("worker", lambda: socket.create_connection((Network.SERVER, 5432)))
        peer, _ = server.accept()
        with server, client, peer:
            client.settimeout(0.5)
            network.delay_s = 0.05
            began = time.monotonic()
            peer.sendall(b"x" * 100_000)  # many frames, as nobody segments them on the way
            received = 0
            while received < 100_000:
                received += len(client.recv(100_000))
            assert time.monotonic() - began >= 0.05
            network.lose("replies")
            peer.sendall(b"lost")
            with pytest.raises(TimeoutError):
                client.recv(100)
            network.heal()
            client.settimeout(30)
            assert client.recv(100) == b"lost"  # TCP sends it again
    assert set(Path("/proc/self/fd").iterdir()) <= before
