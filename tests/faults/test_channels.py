"""What happens to listeners when a session, the server or the way to it is lost: each is told by a Gap, and hears again."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from benchmarks.chaos import pooler
from benchmarks.chaos.cluster import Cluster
from benchmarks.chaos.pooler import Pooler
from benchmarks.chaos.proxy import Proxy
from pgqueue import App, Gap, Listening, NotSupported
from pgqueue.channels import receiver
from tests.answers import one_value
from tests.channels.ways import Loop
from tests.conftest import eventually
from tests.faults.conftest import Figure

UP = "ready to accept connections"
BACKEND = "select pid from pg_stat_activity where application_name = 'pgqueue channels'"

needs_pooler = pytest.mark.skipif(
    pooler.find() is None, reason="pgbouncer is not installed (Debian: apt-get install pgbouncer)"
)


def backend(cluster: Cluster) -> int:
    with cluster.connect("shop") as conn:
        return int(one_value(conn, BACKEND))


@contextmanager
def told(app: App, figure: Figure, *, within_s: float, why: str = "reconnected") -> Iterator[None]:
    """What the block does is told to every listener by one Gap, and then all is heard again."""
    with Loop(app, "orders") as one, Loop(app, "orders", "tenant:42") as other:
        yield
        began = time.monotonic()  # a restart returns when the server answers again
        eventually(lambda: one.gaps and other.gaps, what="both are told")
        figure("told", time.monotonic() - began, "s", at_most=within_s)
        assert one.gaps == [Gap("orders", why)] and other.gaps == [Gap(None, why)]
        eventually(lambda: _notified(app), what="the server takes notifications")
        for loop in (one, other):
            assert loop.heard(1) == ["after"]
            assert loop.items[0] == Listening() and loop.items.count(Listening()) == 1


def _notified(app: App) -> bool:
    try:
        app.notify("orders", "after")
    except Exception:
        return False
    return True


def test_f65_c2_a_backend_that_is_ended(app: App, cluster: Cluster, figure: Figure) -> None:
    with told(app, figure, within_s=1), cluster.connect() as admin:
        admin.execute("select pg_terminate_backend(%s)", [_pid(cluster)])


def _pid(cluster: Cluster) -> int:
    return int(eventually(lambda: backend(cluster), what="there is a session"))


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_c2_a_server_that_restarts(app: App, cluster: Cluster, figure: Figure, mode: str) -> None:
    with told(app, figure, within_s=5):
        cluster.restart(mode)


def test_c2_a_backend_that_is_killed(app: App, cluster: Cluster, figure: Figure) -> None:
    with told(app, figure, within_s=5):
        times = cluster.log.count(UP)
        os.kill(_pid(cluster), signal.SIGKILL)
        eventually(lambda: cluster.log.count(UP) > times, what="the server has recovered")


@pytest.mark.slow  # a keepalive and its deadline
def test_f65_c2_a_backend_that_is_frozen(app: App, cluster: Cluster, figure: Figure) -> None:
    frozen = 0
    try:
        with told(app, figure, within_s=25):
            frozen = _pid(cluster)
            os.kill(frozen, signal.SIGSTOP)
    finally:
        os.kill(frozen, signal.SIGCONT)


def test_c2_a_backend_that_is_frozen_is_noticed_by_the_keepalive(
    app: App, cluster: Cluster, figure: Figure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "KEEPALIVE_S", 0.2)
    monkeypatch.setattr("pgqueue.db.SILENCE_S", 0.5)
    frozen = 0
    try:
        with told(app, figure, within_s=3):
            frozen = _pid(cluster)
            os.kill(frozen, signal.SIGSTOP)
    finally:
        os.kill(frozen, signal.SIGCONT)


def test_c2_a_network_that_loses_everything(
    cluster: Cluster, dsn: str, proxy: Proxy, figure: Figure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "KEEPALIVE_S", 0.2)
    monkeypatch.setattr("pgqueue.db.SILENCE_S", 0.5)
    app = App(cluster.dsn("shop", port=proxy.port))
    with told(app, figure, within_s=10):
        proxy.cut()
        eventually(lambda: app._database.receiver._lost_at, what="it is noticed")
        proxy.heal()
    app.close()


def test_a_fail_over_is_told_as_one(cluster: Cluster, dsn: str, figure: Figure) -> None:
    standby = cluster.standby()
    try:
        app = App(cluster.dsn("shop", host="127.0.0.1,127.0.0.1", port=f"{cluster.port},{standby.port}"))
        with told(app, figure, within_s=10, why="fail-over"):
            cluster.stop("immediate")
            standby.promote()
        app.close()
    finally:
        standby.destroy()


@needs_pooler
def test_c9_behind_a_pooler_the_setting_is_named_that_helps(cluster: Cluster, dsn: str) -> None:
    with Pooler(cluster) as made:
        pooled = cluster.dsn("shop", port=made.port)
        app = App(pooled)
        with pytest.raises(
            NotSupported, match=r"set direct_dsn \(PGQUEUE_DIRECT_DSN\) to an address of the same database"
        ) as caught:
            next(app.listen("orders"))
        assert "\n" not in str(caught.value)
        app.close()
        with Loop(direct := App(pooled, direct_dsn=dsn), "orders") as loop:
            direct.notify("orders", 1)
            with psycopg.connect(pooled) as conn:
                direct.notify("orders", 2, conn=conn)
            assert loop.heard(2) == [1, 2]
        direct.close()


def test_c9_a_direct_address_of_another_database_is_noticed(cluster: Cluster, dsn: str) -> None:
    with cluster.connect() as admin:
        admin.execute("create database other")
    App(cluster.dsn("other")).migrate()
    app = App(dsn, direct_dsn=cluster.dsn("other"))
    with pytest.raises(Exception, match="direct_dsn leads to another database than dsn"):
        next(app.listen("orders"))
    app.close()
