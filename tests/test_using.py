"""`app.using(conn)`: jobs go into that connection's transaction, also from a web framework's dependencies, and never later."""

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg
import pytest
from fastapi import Depends, FastAPI

from pgqueue import App, ConfigError

REQUESTS = 50
AT_ONCE = 20  # of them: each has a connection of its own, and a server a hundred for all tests

Site = Callable[..., dict[int, "httpx.Response"]]


@pytest.fixture
def visit(app: App, dsn: str) -> Callable[[str, str], list[Any]]:
    """Fifty requests at once to an endpoint whose dependency holds the block; every second one fails after its defer."""

    def sync_dependency() -> Iterator[psycopg.Connection]:
        with psycopg.connect(dsn) as conn, app.using(conn):
            yield conn

    @contextlib.contextmanager
    def session() -> Iterator[psycopg.Connection]:
        with psycopg.connect(dsn) as conn, contextlib.ExitStack() as stack:
            stack.enter_context(app.using(conn))
            yield conn

    def nested_dependency() -> Iterator[psycopg.Connection]:
        with session() as conn:
            yield conn

    async def async_dependency() -> AsyncIterator[psycopg.Connection]:
        with psycopg.connect(dsn) as conn, app.using(conn):
            yield conn

    dependencies = {"sync": sync_dependency, "nested": nested_dependency, "async": async_dependency}

    def work(number: int, conn: psycopg.Connection) -> dict[str, Any]:
        job = app.enqueue("t", [number])
        found = conn.execute(
            "select xmin::text, pg_current_xact_id()::xid::text from pgqueue.job where id = %s", [job.id]
        )
        if number % 2:
            raise ValueError("it fails after its defer")
        return {"id": job.id, "same": len({*(found.fetchone() or ("none",))}) == 1}

    def site(dependency: str) -> FastAPI:
        web, wanted = FastAPI(), Depends(dependencies[dependency])

        @web.get("/sync/{number}")
        def sync(number: int, conn: psycopg.Connection = wanted) -> dict[str, Any]:
            return work(number, conn)

        @web.get("/async/{number}")
        async def async_(number: int, conn: psycopg.Connection = wanted) -> dict[str, Any]:
            await asyncio.sleep(0)
            return work(number, conn)

        @web.get("/plain/{number}")
        def plain(number: int) -> str:
            return app.enqueue("plain", [number]).id

        return web

    async def ask(dependency: str, endpoint: str) -> list[Any]:
        transport = httpx.ASGITransport(site(dependency), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            paths = [f"/{each}/{number}" for number in range(REQUESTS) for each in (endpoint, "plain")]
            some = asyncio.Semaphore(AT_ONCE)

            async def get(path: str) -> Any:
                async with some:
                    return await client.get(path)

            found = await asyncio.gather(*map(get, paths))
            assert app._database.using.get() is None
            after = await client.get("/plain/0")
        assert after.status_code == 200
        return found

    return lambda dependency, endpoint: asyncio.run(ask(dependency, endpoint))


@pytest.mark.parametrize("endpoint", ["sync", "async"])
@pytest.mark.parametrize("dependency", ["sync", "nested", "async"])
def test_the_endpoint_of_a_dependency_defers_into_its_transaction(
    app: App, visit: Callable[[str, str], list[Any]], dependency: str, endpoint: str
) -> None:
    found = visit(dependency, endpoint)
    asked, plain = found[::2], found[1::2]
    assert [each.status_code for each in asked] == [200, 500] * (REQUESTS // 2)
    assert all(each.json()["same"] for each in asked[::2])  # the job's row is of the connection's own transaction
    assert all(each.status_code == 200 for each in plain)  # and nobody else's got into one that was rolled back
    assert {job.id for job in app.jobs(task="t", limit=1000)} == {each.json()["id"] for each in asked[::2]}
    assert len(app.jobs(task="plain", limit=1000)) == REQUESTS + 1


def test_a_dependency_that_no_endpoint_could_see_is_told(app: App, dsn: str) -> None:
    @contextlib.contextmanager
    def dependency() -> Iterator[None]:
        with psycopg.connect(dsn) as conn, app.using(conn):
            yield

    with ThreadPoolExecutor(1) as pool:
        entered = pool.submit(contextvars.copy_context().run, dependency().__enter__)
        with pytest.raises(
            ConfigError, match=r"make the dependency `async def`, or defer by task\.options\(conn=conn\)"
        ):
            entered.result()


def test_a_generator_that_a_pool_runs_by_itself_is_inside_its_own_block(app: App, dsn: str) -> None:
    def jobs() -> Iterator[str]:
        with psycopg.connect(dsn) as conn, app.using(conn):
            yield app.enqueue("t").id
            yield app.enqueue("t").id
            assert app.run(app.queries.alive()) and not conn.closed
            conn.rollback()

    with ThreadPoolExecutor(1) as pool:
        assert len(pool.submit(list, jobs()).result()) == 2
    assert app.jobs() == []


def test_a_block_left_in_another_context_ends_there_too(app: App, dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        block = app.using(conn)
        here, there = contextvars.copy_context(), contextvars.copy_context()
        here.run(block.__enter__)
        assert here.run(app._database.using.get) is conn and there.run(app._database.using.get) is None
        there.run(block.__exit__, None, None, None)
        assert here.run(app._database.using.get) is there.run(app._database.using.get) is None


def test_what_was_started_inside_a_block_does_not_outlive_it(app: App, dsn: str) -> None:
    async def main() -> None:
        over = asyncio.Event()

        async def late() -> str:
            await over.wait()
            return app.enqueue("t").id

        with psycopg.connect(dsn) as conn:
            with app.using(conn):
                inside = await asyncio.to_thread(app.enqueue, "t")
                task = asyncio.create_task(late())
                await asyncio.sleep(0)
            over.set()
            outside = await task
            conn.rollback()
        assert [job.id for job in app.jobs()] == [outside] != [inside.id]

    asyncio.run(main())


def test_blocks_nest(app: App, dsn: str) -> None:
    with psycopg.connect(dsn) as one, psycopg.connect(dsn) as two, app.using(one):
        with app.using(two):
            app.enqueue("inner")
        app.enqueue("outer")
        one.commit()
        two.rollback()
    assert [job.task for job in app.jobs()] == ["outer"]


def test_a_block_that_ends_before_one_inside_it_leaves_that_one_open(app: App, dsn: str) -> None:
    with psycopg.connect(dsn) as one, psycopg.connect(dsn) as two:
        outer, inner = app.using(one), app.using(two)
        outer.__enter__()
        inner.__enter__()
        outer.__exit__(None, None, None)
        app.enqueue("inner")
        inner.__exit__(None, None, None)
        two.rollback()
        app.enqueue("by itself")
    assert [job.task for job in app.jobs()] == ["by itself"]
