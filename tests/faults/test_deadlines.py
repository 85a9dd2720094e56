"""A plain program hears within 15 seconds that its server is frozen, whatever it asked; a connection of its own is never cut."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from benchmarks.chaos.cluster import Cluster
from benchmarks.chaos.proxy import Proxy
from pgqueue import App, DatabaseUnavailable, OutcomeUnknown, ResultTimeout
from pgqueue.ops import stats
from tests.conftest import eventually
from tests.faults.conftest import Figure
from tests.faults.sessions import ask

slow = pytest.mark.slow
Way = Callable[[App, str], Iterator[None]]
AsyncWay = Callable[[App, str], AsyncIterator[None]]

PROMISED_S = 15.0
HANGS_S = 60.0  # what takes so long would take as long as the freeze


class Freeze:
    """Ways into a server that is frozen under them, all at once, each in a thread and with an App of its own.

    A way is a generator: what it does before its `yield` happens while the server is well, and the rest when it is frozen.
    """

    def __init__(self, cluster: Cluster, dsn: str, **settings: Any) -> None:
        self._cluster, self._dsn, self._settings = cluster, dsn, settings
        self._is_frozen = threading.Event()
        self._ready: list[threading.Event] = []

    @contextmanager
    def over(self, *ways: Any) -> Iterator[dict[str, Future[tuple[float, Any]]]]:
        """For each by name: how long it took, and what it returned or raised."""
        app = App(self._dsn)
        job_id = app.enqueue("shop.visit").id
        with ThreadPoolExecutor(len(ways)) as threads:
            try:
                futures = {way.__name__: threads.submit(self._drive, way, job_id, self._started()) for way in ways}
                for ready in self._ready:
                    assert ready.wait(HANGS_S)
                self._cluster.freeze()
                self._is_frozen.set()
                yield futures
            finally:
                self._cluster.thaw()
                self._is_frozen.set()
        app.close()

    def _started(self) -> threading.Event:
        self._ready.append(threading.Event())
        return self._ready[-1]

    def _drive(self, way: Any, job_id: str, ready: threading.Event) -> tuple[float, Any]:
        app = App(self._dsn, **self._settings)
        work = way(app, job_id)
        return (
            asyncio.run(self._drive_async(app, work, ready))
            if hasattr(work, "asend")
            else self._drive_sync(app, work, ready)
        )

    def _drive_sync(self, app: App, work: Iterator[None], ready: threading.Event) -> tuple[float, Any]:
        next(work)
        ready.set()
        self._is_frozen.wait()
        began = time.monotonic()
        try:
            return time.monotonic() - began, next(work, None)
        except Exception as error:
            return time.monotonic() - began, error
        finally:
            app.close()

    async def _drive_async(self, app: App, work: AsyncIterator[None], ready: threading.Event) -> tuple[float, Any]:
        await anext(work)
        ready.set()
        await asyncio.to_thread(self._is_frozen.wait)
        began = time.monotonic()
        try:
            return time.monotonic() - began, await anext(work, None)
        except Exception as error:
            return time.monotonic() - began, error
        finally:
            await app.close_async()
            await asyncio.to_thread(app.close)


# -- with a connection that is open --


def defer(app: App, _: str) -> Iterator[None]:
    app.enqueue("shop.visit")
    yield
    app.enqueue("shop.visit")


async def defer_async(app: App, _: str) -> AsyncIterator[None]:
    await app.enqueue_async("shop.visit")
    yield
    await app.enqueue_async("shop.visit")


def defer_unique(app: App, _: str) -> Iterator[None]:
    app.enqueue("shop.visit")
    yield
    app.enqueue("shop.visit", unique="one")


def visit(number: int) -> None:
    """The task of these tests; nobody runs it."""


def defer_many(app: App, _: str) -> Iterator[None]:
    task = app.task(name="shop.visit")(visit)
    task.defer(1)
    yield
    task.defer_many((number,) for number in range(100_000))


async def defer_many_async(app: App, _: str) -> AsyncIterator[None]:
    task = app.task(name="shop.visit")(visit)
    await task.defer_async(1)
    yield
    await task.defer_many_async((number,) for number in range(100_000))


def defer_many_in_the_middle(app: App, _: str) -> Iterator[None]:
    """What makes the calls takes as long as the freeze is away; then the COPY is under way."""
    task = app.task(name="shop.visit")(visit)
    reached, go_on = threading.Event(), threading.Event()
    outcome: list[BaseException] = []

    def calls() -> Iterator[tuple[int]]:
        for number in range(100_000):
            if number == 50_000:
                reached.set()
                go_on.wait()
            yield (number,)

    def run() -> None:
        try:
            task.defer_many(calls())
        except DatabaseUnavailable as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    reached.wait()
    yield
    go_on.set()
    thread.join()
    raise outcome[0]


def listing(app: App, _: str) -> Iterator[None]:
    app.jobs()
    yield
    app.jobs()


def snapshot(app: App, job_id: str) -> Iterator[None]:
    app.jobs()
    yield
    app.snapshot(job_id)


def why(app: App, job_id: str) -> Iterator[None]:
    app.jobs()
    yield
    app.why(job_id)


def cancel(app: App, job_id: str) -> Iterator[None]:
    app.jobs()
    yield
    app.cancel(job_id)


def retry(app: App, job_id: str) -> Iterator[None]:
    app.jobs()
    yield
    app.retry(job_id)


def gather(app: App, _: str) -> Iterator[None]:
    app.jobs()
    yield
    app.run(stats.gather(app.queries))


def result(app: App, job_id: str) -> Iterator[None]:
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(app.result, job_id)
        eventually(lambda: app._database.hub._announced, what="somebody waits for a result")
        yield
        waiting.result()


async def result_async(app: App, job_id: str) -> AsyncIterator[None]:
    waits = asyncio.create_task(app.result_async(job_id))
    await asyncio.to_thread(lambda: eventually(lambda: app._database.hub._announced, what="somebody waits"))
    yield
    await waits


def result_with_a_timeout(app: App, job_id: str) -> Iterator[None]:
    with pytest.raises(ResultTimeout):
        app.result(job_id, timeout_s=0.1)
    yield
    app.result(job_id, timeout_s=2)


def close(app: App, job_id: str) -> Iterator[None]:
    with pytest.raises(ResultTimeout):
        app.result(job_id, timeout_s=0.1)
    app.jobs()
    yield
    app.close()
    raise DatabaseUnavailable("what every other way says")


# -- with a new one --


def first_defer(app: App, _: str) -> Iterator[None]:
    yield
    app.enqueue("shop.visit")


async def first_defer_async(app: App, _: str) -> AsyncIterator[None]:
    yield
    await app.enqueue_async("shop.visit")


def first_result(app: App, job_id: str) -> Iterator[None]:
    yield
    app.result(job_id)


def first_result_with_a_timeout(app: App, job_id: str) -> Iterator[None]:
    yield
    app.result(job_id, timeout_s=1)


def first_of_many(app: App, _: str) -> Iterator[None]:
    """Twenty threads come at once; none waits until the others have."""
    yield
    with ThreadPoolExecutor(20) as threads:
        for deferred in [threads.submit(app.enqueue, "shop.visit") for _ in range(20)]:
            assert isinstance(deferred.exception(), DatabaseUnavailable)
    app.enqueue("shop.visit")


async def first_of_many_async(app: App, _: str) -> AsyncIterator[None]:
    yield
    told = await asyncio.gather(*(app.enqueue_async("shop.visit") for _ in range(20)), return_exceptions=True)
    assert all(isinstance(error, DatabaseUnavailable) for error in told)
    await app.enqueue_async("shop.visit")


def migrate(app: App, _: str) -> Iterator[None]:
    yield
    app.migrate()


def many_threads(app: App, _: str) -> Iterator[None]:
    """More of them than the pool has connections."""
    with ThreadPoolExecutor(20) as threads:
        for deferred in [threads.submit(app.enqueue, "shop.visit") for _ in range(200)]:
            deferred.result()
        yield
        for deferred in [threads.submit(app.enqueue, "shop.visit") for _ in range(20)]:
            assert isinstance(deferred.exception(), DatabaseUnavailable)
    app.enqueue("shop.visit")


def held(ways: dict[str, Future[tuple[float, Any]]], within_s: float, figure: Figure) -> dict[str, Any]:
    """What each way came to, when none took longer."""
    outcomes = {name: future.result(HANGS_S) for name, future in ways.items()}
    patient = {name for name, (_, error) in outcomes.items() if not isinstance(error, ResultTimeout)}
    assert all(isinstance(outcomes[name][1], DatabaseUnavailable) for name in patient), outcomes
    assert patient == {name for name in ways if "with_a_timeout" not in name}
    slowest = max(outcomes, key=lambda name: outcomes[name][0])
    figure(f"told by {slowest}, the last of {len(outcomes)} ways,", outcomes[slowest][0], "s", at_most=within_s)
    return {name: error for name, (_, error) in outcomes.items()}


def test_f35_a_frozen_server_keeps_nobody_waiting(cluster: Cluster, dsn: str, figure: Figure) -> None:
    freeze = Freeze(cluster, dsn, pool_timeout_s=0.5)
    with freeze.over(defer, defer_async, first_defer, listing, result, first_result_with_a_timeout) as ways:
        outcomes = held(ways, 8, figure)
    assert {name for name, error in outcomes.items() if isinstance(error, OutcomeUnknown)} == {"defer", "defer_async"}
    app = App(dsn)
    for name in ("defer", "defer_async"):  # the frozen server had got them, or not: they are there once in any case
        again = outcomes[name].again()
        assert again.id == outcomes[name].job_id and f"job {again.id}" in str(outcomes[name])
    made = ask(cluster, "select count(*) from pgqueue.job")
    eventually(lambda: ask(cluster, "select count(*) from pg_stat_activity where state = 'active'") == 1, what="quiet")
    assert made == ask(cluster, "select count(*) from pgqueue.job") == 5
    app.close()


@slow
def test_f35_nor_by_any_other_way(cluster: Cluster, dsn: str, figure: Figure) -> None:
    cluster.stop()
    cluster.settings["max_connections"] = "300"
    cluster.start()
    with Freeze(cluster, dsn).over(
        defer, defer_async, defer_unique, defer_many, defer_many_async, defer_many_in_the_middle, listing, snapshot, why,
        cancel, retry, gather, result, result_async, result_with_a_timeout, close, first_defer, first_defer_async,
        first_result, first_result_with_a_timeout, first_of_many, first_of_many_async, migrate, many_threads,
    ) as ways:  # fmt: skip
        outcomes = held(ways, PROMISED_S, figure)
    unknown = {name for name, error in outcomes.items() if isinstance(error, OutcomeUnknown)}
    assert unknown == {"defer", "defer_async", "defer_unique"}


@slow
@pytest.mark.parametrize(
    "command", [["stats", "--once"], ["jobs"], ["defer", "shop.visit"], ["workers"], ["doctor"], ["migrate"], ["health"]],
    ids=lambda command: command[0],
)  # fmt: skip
def test_f35_nor_a_command(cluster: Cluster, dsn: str, command: list[str]) -> None:
    cluster.freeze()
    ended = subprocess.run(
        [sys.executable, "-m", "pgqueue", *command], env=os.environ | {"PGQUEUE_DSN": dsn}, capture_output=True,
        text=True, timeout=HANGS_S, check=False,
    )  # fmt: skip
    assert (
        ended.returncode == 1 and ended.stderr.count("\n") == 1 and ended.stderr.startswith("pgqueue: cannot connect")
    )


def test_f35_a_database_that_is_known_to_be_down_is_asked_once_a_second(
    cluster: Cluster, dsn: str, proxy: Proxy, figure: Figure
) -> None:
    app = App(cluster.dsn("shop", port=proxy.port), pool_timeout_s=0.5)
    app.enqueue("shop.visit")
    proxy.cut()
    with pytest.raises(DatabaseUnavailable):
        app.enqueue("shop.visit")
    calls: list[Callable[[str], object]] = [app.enqueue, app.cancel, app.result, app.snapshot]

    def ask_on(number: int) -> tuple[int, float]:
        """How many times it was refused, and how long the longest took."""
        asked, longest_s, over_at = 0, 0.0, time.monotonic() + 6
        while (began := time.monotonic()) < over_at:
            with pytest.raises(DatabaseUnavailable, match=r"known to be down for .+ the next probe is in"):
                calls[number % len(calls)](UNKNOWN_ID)
            asked, longest_s = asked + 1, max(longest_s, time.monotonic() - began)
            time.sleep(0.02)
        return asked, longest_s

    async def ask_async() -> None:
        with pytest.raises(DatabaseUnavailable, match="known to be down"):
            await app.enqueue_async("shop.visit")

    before = proxy.accepted
    with ThreadPoolExecutor(12) as threads:
        refusals = list(threads.map(ask_on, range(12)))
    asyncio.run(ask_async())
    assert all(asked >= 10 for asked, _ in refusals)
    figure("refused in", max(longest_s for _, longest_s in refusals) * 1e3, "ms", at_most=100)
    figure("asked it", proxy.accepted - before, "times in 6 s", at_most=7)
    assert proxy.accepted > before
    child = os.fork()  # which finds out by itself: the probe is its parent's
    if not child:
        try:
            app.enqueue("shop.visit")
        except DatabaseUnavailable as error:
            os._exit("known to be down" in str(error))
        os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    proxy.heal()
    began = time.monotonic()
    eventually(lambda: flows(app), what="defers flow again")
    figure("defers again", time.monotonic() - began, "s after it answers", at_most=2)
    app.close()


@pytest.mark.parametrize("color", ["sync", "async"])
def test_f35_who_would_know_what_became_of_a_job_is_not_refused(
    cluster: Cluster, dsn: str, proxy: Proxy, color: str
) -> None:
    """Between two probes of a database that is back: every other call is still told that it is down."""
    app = App(cluster.dsn("shop", port=proxy.port), pool_timeout_s=0.5)
    app.enqueue("shop.visit")
    cluster.freeze()
    try:
        with pytest.raises(OutcomeUnknown) as unknown:
            app.enqueue("shop.visit")
        with pytest.raises(DatabaseUnavailable):
            app.enqueue("shop.visit")
        with pytest.raises(DatabaseUnavailable, match="known to be down"):
            app.enqueue("shop.visit")
        with pytest.raises(OutcomeUnknown):
            unknown.value.again()
        asked = proxy.accepted
        eventually(lambda: proxy.accepted > asked, what="the next probe begins")
    finally:
        cluster.thaw()
    again = unknown.value.again() if color == "sync" else asyncio.run(unknown.value.again_async())
    assert again.id == unknown.value.job_id
    app.close()


UNKNOWN_ID = "0198f0aa-0000-7000-8000-000000000000"


def flows(app: App) -> bool:
    try:
        return bool(app.enqueue("shop.visit"))
    except DatabaseUnavailable:
        return False


def test_a_pool_in_use_is_no_database_that_is_down(dsn: str) -> None:
    app = App(dsn, pool_size=1, pool_timeout_s=0.1)
    with app._database.door(None), ThreadPoolExecutor() as threads:
        for _ in range(3):
            with pytest.raises(DatabaseUnavailable, match="raise pool_size"):
                threads.submit(app.enqueue, "shop.visit").result()
    app.enqueue("shop.visit")
    app.close()


def test_f35_the_callers_own_connection_is_never_cut(cluster: Cluster, dsn: str) -> None:
    app = App(dsn, pool_timeout_s=0.1)
    with psycopg.connect(dsn) as caller, ThreadPoolExecutor() as threads:
        app.enqueue("shop.visit", conn=caller)
        caller.commit()
        caller.execute("create table mine ()")
        cluster.freeze()
        with app.using(caller):
            given = [threads.submit(app.enqueue, "shop.visit", conn=caller)]
        with pytest.raises(DatabaseUnavailable):
            app.enqueue("shop.visit")  # ours has waited in vain meanwhile
        assert not given[0].done()
        cluster.thaw()
        given[0].result(HANGS_S)
        caller.execute("select from mine")
    assert ask(cluster, "select count(*) from pgqueue.job") == 2
    app.close()
