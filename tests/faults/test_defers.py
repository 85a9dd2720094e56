"""A defer on a connection of the library's own outlives the loss of that connection, and makes one job whatever was lost."""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from benchmarks.chaos.cluster import Cluster
from benchmarks.chaos.proxy import Proxy
from pgqueue import App, DatabaseUnavailable
from tests.conftest import eventually
from tests.faults.conftest import Figure
from tests.faults.sessions import ask, locked
from tests.hands import Hands

Defer = Callable[..., str]


@pytest.fixture
def far(cluster: Cluster, dsn: str, proxy: Proxy) -> Iterator[App]:
    """An app behind the proxy."""
    app = App(cluster.dsn("shop", port=proxy.port))
    yield app
    app.close()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Where a defer may hang while the test goes on."""
    with ThreadPoolExecutor() as made:
        yield made


def defer(app: App, **options: Any) -> str:
    return app.enqueue("shop.visit", **options).id


def defer_async(app: App, **options: Any) -> str:
    async def visit() -> str:
        try:
            return (await app.enqueue_async("shop.visit", **options)).id
        finally:
            await app.close_async()

    return asyncio.run(visit())


def jobs(cluster: Cluster) -> list[str]:
    """All there are, alive or ended."""
    found: list[str] = ask(cluster, "select coalesce(array_agg(id::text), '{}') from pgqueue.jobs")
    return found


@pytest.mark.parametrize("how", [defer, defer_async])
@pytest.mark.parametrize("meanwhile", ["it waits", "it has run"])
@pytest.mark.parametrize("options", [{}, {"unique": "key"}, {"unique": "key", "on_duplicate": "raise"}], ids=str)
def test_an_answer_that_is_lost_does_not_double_the_job(
    cluster: Cluster, proxy: Proxy, far: App, conn: psycopg.Connection, threads: ThreadPoolExecutor, how: Defer,
    meanwhile: str, options: dict[str, Any],
) -> None:  # fmt: skip
    proxy.request = lambda data: proxy.lose("replies") if b"with given as" in data else None
    deferred = threads.submit(how, far, **options)
    (there,) = eventually(lambda: jobs(cluster), what="the job is there")
    if meanwhile == "it has run":
        assert Hands(conn, far.queries).run_all() == [there]
    proxy.heal()
    assert deferred.result(30) == there and jobs(cluster) == [there]


@pytest.mark.parametrize("options", [{}, {"unique": "key"}], ids=str)
def test_a_first_try_that_is_still_under_way_does_not_double_the_job(
    cluster: Cluster, proxy: Proxy, far: App, conn: psycopg.Connection, threads: ThreadPoolExecutor,
    options: dict[str, Any],
) -> None:  # fmt: skip
    waiting = "select count(*) from pg_stat_activity where application_name = 'pgqueue' and wait_event_type = 'Lock'"
    defer(far)
    with locked(cluster, "job"):
        deferred = threads.submit(defer, far, **options)
        eventually(lambda: ask(cluster, waiting) == 1, what="the first try waits")
        proxy.reset()
        eventually(lambda: ask(cluster, waiting) == 2, what="and the second one, while the server still has the first")
    assert deferred.result(30) in jobs(cluster)
    eventually(
        lambda: ask(cluster, "select count(*) from pg_stat_activity where state = 'active'") == 1, what="both end"
    )
    assert len(jobs(cluster)) == 2


def test_the_callers_transaction_is_never_tried_again(cluster: Cluster, proxy: Proxy, far: App) -> None:
    with psycopg.connect(cluster.dsn("shop", port=proxy.port)) as caller:
        defer(far, conn=caller)
        proxy.reset()
        with pytest.raises(DatabaseUnavailable, match="went away"):
            defer(far, conn=caller)
    assert jobs(cluster) == []


def test_a_pool_whose_sessions_all_ended_keeps_nobody_waiting(cluster: Cluster, dsn: str, figure: Figure) -> None:
    app = App(dsn)
    with ThreadPoolExecutor(8) as threads, locked(cluster, "job"):
        held = [threads.submit(defer, app) for _ in range(8)]
        eventually(
            lambda: ask(cluster, "select count(*) from pg_locks where not granted") == 8, what="each has a connection"
        )
    assert len({deferred.result(30) for deferred in held}) == 8
    cluster.restart()
    began = time.monotonic()
    defer(app)
    figure("deferred", time.monotonic() - began, "s after", at_most=1)
    app.close()
