"""A worker looks after Django's connections: a session that is cut costs an attempt at most, and none is left open or shared."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgqueue import App, JobDead
from tests.conftest import Worker, eventually
from tests.django.site import Site
from tests.servers import shop_server
from tests.shell import Shell

PATIENCE_S = 30.0

SETTINGS = """
    DEBUG = True
    DATABASES |= {
        "old": DATABASES["default"] | {"CONN_MAX_AGE": 600},
        "ageless": DATABASES["default"] | {"CONN_MAX_AGE": None},
        "checked": DATABASES["default"] | {"CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True},
    }
"""
TASKS = """
    import asyncio

    from asgiref.sync import sync_to_async
    from django.db import connections
    from tenacity import wait_none

    from pgqueue import task

    from shop.models import Order


    @task(wait=wait_none())
    def ship(using: str) -> int:
        Order.objects.using(using).create(item="tea")
        return len(connections[using].queries)


    @task(wait=wait_none())
    async def ship_async(using: str) -> int:
        await Order.objects.using(using).acreate(item="tea")
        return 1


    @task(max_attempts=1)
    async def refused() -> None:
        await sync_to_async(list)(Order.objects.raw("select id, nothing from shop_order"))


    @task(max_attempts=1)
    async def walk(pause_s: float) -> int:
        seen = 0
        async for order in Order.objects.aiterator(chunk_size=1):
            await asyncio.sleep(pause_s)
            seen += 1
        return seen
"""

WAITING = """
    import time
    from pathlib import Path

    from tenacity import wait_fixed

    from pgqueue import task

    from shop.models import Order


    @task(wait=wait_fixed(0.2))
    def pack(go: str) -> int:
        order = Order.objects.create(item="tea")
        while not Path(go).exists():
            time.sleep(0.01)
        return Order.objects.filter(pk=order.pk).count()
"""


@pytest.fixture
def app(site: Site, start_worker: Callable[..., Worker]) -> Iterator[App]:
    """With a worker of the project."""
    site.set(SETTINGS)
    site.write("shop/tasks.py", TASKS)
    command = site.command("manage.py", "pgqueue", "worker", "-c", "1")
    worker = start_worker(command=command, env=site.environment(), cwd=site.folder, dsn="").ready()
    made = App(site.dsn)
    yield made
    made.close()
    assert worker.stop() == 0 and "Traceback" not in worker.output, worker.output


@pytest.mark.long
def test_jobs_outlive_a_restart_of_the_server(
    tmp_path: Path, shell: Shell, start_worker: Callable[..., Worker]
) -> None:
    """Twenty run in threads of their own, each between two queries on a connection that is kept."""
    with shop_server() as cluster:
        site = Site(tmp_path, cluster.dsn("shop"), shell)
        site.manage("migrate")
        site.set("DATABASES['default']['CONN_MAX_AGE'] = None")
        site.write("shop/tasks.py", WAITING)
        command = site.command("manage.py", "pgqueue", "worker", "-c", "2", "--threads", "10")
        worker = start_worker(command=command, env=site.environment(), cwd=site.folder, dsn="").ready()
        app = App(site.dsn)
        jobs = [app.enqueue("shop.tasks.pack", [str(tmp_path / "go")]) for _ in range(20)]
        with cluster.connect("shop") as looker:
            count = "select count(*) from shop_order"
            eventually(lambda: looker.execute(count).fetchone() == (20,), what="all run")
        cluster.restart()
        (tmp_path / "go").touch()
        assert [job.result(timeout=60) for job in jobs] == [1] * 20
        app.close()
        assert worker.stop() == 0


@pytest.fixture
def conn(site: Site) -> Iterator[psycopg.Connection]:
    with psycopg.connect(site.dsn, autocommit=True, application_name="test") as looker:
        yield looker


DJANGOS = "from pg_stat_activity where datname = current_database() and application_name = ''"


def cut(conn: psycopg.Connection) -> int:
    """End every session of Django's; how many there were."""
    ended = conn.execute(f"select pg_terminate_backend(pid) {DJANGOS}").fetchall()
    eventually(lambda: conn.execute(f"select {DJANGOS}").fetchall() == [], what="the sessions are gone")
    return len(ended)


def lost(conn: psycopg.Connection) -> int:
    (count,) = conn.execute("select count(*) from pgqueue.attempt").fetchone() or (0,)
    return int(count)


def run(app: App, task: str, *args: Any) -> object:
    return app.enqueue(f"shop.tasks.{task}", args).result(timeout=PATIENCE_S)


def test_a_cut_session_costs_an_attempt_at_most(app: App, conn: psycopg.Connection) -> None:
    """CONN_MAX_AGE is 0, 600, None, and 600 with CONN_HEALTH_CHECKS. The queries that DEBUG keeps are those of one job."""
    for task in "ship", "ship_async":
        for using, open_between, at_most in ("default", 0, 0), ("old", 1, 1), ("ageless", 1, 1), ("checked", 1, 0):
            before = lost(conn)
            assert [run(app, task, using) for _ in range(3)] == [1, 1, 1], (task, using)
            assert lost(conn) == before
            if not open_between:
                eventually(lambda: not conn.execute(f"select {DJANGOS}").fetchall(), what="it is closed")
            assert cut(conn) == open_between, (task, using)
            assert [run(app, task, using) for _ in range(3)] == [1, 1, 1], (task, using)
            assert lost(conn) - before <= at_most, (task, using)
            cut(conn)
            run(app, task, using)
            cut(conn)


def test_no_async_job_closes_what_another_reads_from(app: App, conn: psycopg.Connection) -> None:
    """Two read row by row, one of them longer, while others begin and end on the same connection, which is not to be kept."""
    conn.execute("insert into shop_order (item) select 'x' from generate_series(1, 100)")
    walks = [app.enqueue("shop.tasks.walk", [pause_s]) for pause_s in (0.001, 0.02)]
    for _ in range(10):
        run(app, "ship_async", "default")
        with pytest.raises(JobDead, match="ProgrammingError"):
            run(app, "refused")
    assert [job.result(timeout=PATIENCE_S) for job in walks] == [100, 100]
    assert lost(conn) == 10
    eventually(lambda: not conn.execute(f"select {DJANGOS}").fetchall(), what="it is closed with the last job")
