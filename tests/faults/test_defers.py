"""A defer on a connection of the library's own outlives the loss of that connection, and makes one job whatever was lost."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from benchmarks.chaos.cluster import Cluster
from benchmarks.chaos.proxy import Proxy
from pgqueue import App, DatabaseUnavailable, OutcomeUnknown
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


@pytest.fixture
def hasty(cluster: Cluster, dsn: str, proxy: Proxy) -> Iterator[App]:
    """An app behind the proxy that gives up soon."""
    app = App(cluster.dsn("shop", port=proxy.port), pool_timeout_s=0.2)
    app.enqueue("shop.visit", delay=3600)
    yield app
    app.close()


def gone(proxy: Proxy) -> None:
    """As behind a balancer whose servers are all down: it takes nobody new and ends what it carried."""
    proxy.refuse()
    proxy.reset()


def silent(proxy: Proxy) -> None:
    proxy.lose("replies")


@pytest.mark.parametrize("how", [defer, defer_async])
@pytest.mark.parametrize("then", [silent, gone])
def test_a_defer_without_an_answer_names_its_job_and_can_be_made_again(
    cluster: Cluster, proxy: Proxy, hasty: App, threads: ThreadPoolExecutor, how: Defer, then: Callable[[Proxy], None]
) -> None:
    before = jobs(cluster)
    with locked(cluster, "job"):  # so that the server has got it and not answered
        sent = threading.Event()
        proxy.request = lambda data: sent.set() if b"with given as" in data else None
        deferred = threads.submit(how, hasty)
        assert sent.wait(30)
        waiting = (
            "select count(*) from pg_stat_activity where application_name = 'pgqueue' and wait_event_type = 'Lock'"
        )
        eventually(lambda: ask(cluster, waiting) == 1, what="it waits for the lock")
        then(proxy)
    with pytest.raises(OutcomeUnknown, match="it is not known whether job") as unknown:
        deferred.result(30)
    assert "no connection" not in str(unknown.value)
    (made,) = eventually(lambda: set(jobs(cluster)) - set(before), what="the job is there")
    assert unknown.value.job_id == made
    proxy.heal()
    if then is gone:
        proxy.accept()
    eventually(lambda: answers(hasty), what="the app has a connection again")
    assert unknown.value.again().id == made and len(jobs(cluster)) == len(before) + 1


def answers(app: App) -> bool:
    try:
        return app.jobs() is not None
    except DatabaseUnavailable:
        return False


def test_a_defer_that_was_lost_on_its_way_is_made_by_again(cluster: Cluster, proxy: Proxy, hasty: App) -> None:
    proxy.request = lambda data: b"with given as" not in data
    with pytest.raises(OutcomeUnknown) as unknown:
        hasty.enqueue("shop.visit")
    assert unknown.value.job_id not in jobs(cluster)
    with pytest.raises(OutcomeUnknown, match=unknown.value.job_id):
        unknown.value.again()
    proxy.heal()
    eventually(lambda: answers(hasty), what="the app has a connection again")
    assert asyncio.run(again_async(hasty, unknown.value)) == unknown.value.job_id
    assert unknown.value.job_id in jobs(cluster) and len(jobs(cluster)) == 2


async def again_async(app: App, unknown: OutcomeUnknown) -> str:
    try:
        return str((await unknown.again_async()).id)
    finally:
        await app.close_async()


def test_a_defer_that_was_never_sent_says_so(cluster: Cluster, proxy: Proxy, hasty: App) -> None:
    before = jobs(cluster)
    gone(proxy)
    for how in (defer, defer_async):
        with pytest.raises(DatabaseUnavailable) as told:
            how(hasty)
        assert not isinstance(told.value, OutcomeUnknown)
    assert jobs(cluster) == before


@pytest.mark.parametrize("unique", [False, True])
@pytest.mark.parametrize("lost", ["requests", "replies"])
def test_a_bulk_defer_whose_commit_was_lost_names_its_first_job(
    cluster: Cluster, proxy: Proxy, hasty: App, lost: str, unique: bool
) -> None:
    before = jobs(cluster)
    task = hasty.task(name="shop.visit")(visit).options(unique=unique)
    proxy.lose_commits(lost)
    with pytest.raises(OutcomeUnknown, match="100 jobs were created, all or none") as unknown:
        task.defer_many((number,) for number in range(100))
    assert unknown.value.count == 100
    made = set(jobs(cluster)) - set(before)
    assert len(made) == (100 if lost == "replies" else 0) and (unknown.value.job_id in made) == (lost == "replies")
    with pytest.raises(OutcomeUnknown):
        unknown.value.again()


def test_a_bulk_defer_that_is_lost_before_its_commit_made_nothing(cluster: Cluster, proxy: Proxy, hasty: App) -> None:
    before = jobs(cluster)
    proxy.request = lambda data: b"copy " not in data
    with pytest.raises(DatabaseUnavailable, match="no answer") as told:
        hasty.task(name="shop.visit")(visit).defer_many([(1,), (2,)])
    assert not isinstance(told.value, OutcomeUnknown) and jobs(cluster) == before


def visit(number: int) -> None:
    """The task of these tests; nobody runs it."""


def test_the_callers_transaction_is_never_tried_again(cluster: Cluster, proxy: Proxy, far: App) -> None:
    with psycopg.connect(cluster.dsn("shop", port=proxy.port)) as caller:
        defer(far, conn=caller)
        proxy.reset()
        with pytest.raises(DatabaseUnavailable, match="went away"):
            defer(far, conn=caller)
    assert jobs(cluster) == []


def test_a_defer_that_was_lost_on_the_callers_autocommit_connection_names_its_job(
    cluster: Cluster, proxy: Proxy, far: App
) -> None:
    with psycopg.connect(cluster.dsn("shop", port=proxy.port), autocommit=True) as caller:
        defer(far, conn=caller)
        proxy.request = lambda data: proxy.lose("replies") if b"with given as" in data else None
        with ThreadPoolExecutor() as threads, far.using(caller):
            deferred = threads.submit(defer, far, conn=caller)
            eventually(lambda: len(jobs(cluster)) == 2, what="the server has got it")
            proxy.heal()
            with pytest.raises(OutcomeUnknown, match="on the given connection") as unknown:
                deferred.result(30)
    assert unknown.value.job_id in jobs(cluster)
    with pytest.raises(OutcomeUnknown):
        unknown.value.again()
    assert len(jobs(cluster)) == 2


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
