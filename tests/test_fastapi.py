"""FastAPI with SQLAlchemy: each way of handing the request's session on puts the job into the request's own transaction."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Annotated, Any

import httpx
import psycopg
import pytest
import sqlalchemy as sa
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from pgqueue import App
from tests.addresses import url
from tests.web import TestClient

REQUESTS = 40
ROW = sa.text("insert into shop.placed values (:number)")
ODD = "it fails after its defer"


@pytest.fixture(autouse=True)
def table(conn: psycopg.Connection) -> None:
    conn.execute("create schema shop")
    conn.execute("create table shop.placed (number int unique deferrable initially deferred)")


@pytest.fixture
def new_async_session(dsn: str) -> async_sessionmaker[AsyncSession]:
    return async_sessionmaker(create_async_engine(url(dsn), poolclass=sa.NullPool))


@pytest.fixture
def new_session(dsn: str) -> sessionmaker[Session]:
    return sessionmaker(sa.create_engine(url(dsn, "postgresql+psycopg"), poolclass=sa.NullPool))


def check(number: int) -> None:
    if number % 2:
        raise HTTPException(409, ODD)


def by_async_dependency(app: App, new: Any, _: Any) -> FastAPI:
    web = FastAPI(lifespan=app.lifespan())

    async def session() -> AsyncIterator[AsyncSession]:
        async with new.begin() as session:
            yield session

    @web.post("/{number}")
    async def place(number: int, session: Annotated[AsyncSession, Depends(session, scope="function")]) -> None:
        await session.execute(ROW, {"number": number})
        await app.enqueue_async("t", [number], conn=session)
        check(number)

    return web


def by_async_dependency_and_using(app: App, new: Any, _: Any) -> FastAPI:
    web = FastAPI(lifespan=app.lifespan())

    async def session() -> AsyncIterator[AsyncSession]:
        async with new.begin() as session:
            with app.using(session):
                yield session

    @web.post("/{number}")
    async def place(number: int, session: Annotated[AsyncSession, Depends(session, scope="function")]) -> None:
        await session.execute(ROW, {"number": number})
        await app.enqueue_async("t", [number])
        check(number)

    return web


def by_sync_dependency(app: App, _: Any, new: Any) -> FastAPI:
    web = FastAPI(lifespan=app.lifespan())

    def session() -> Iterator[Session]:
        with new.begin() as session:
            yield session

    @web.post("/{number}")
    def place(number: int, session: Annotated[Session, Depends(session, scope="function")]) -> None:
        session.execute(ROW, {"number": number})
        app.enqueue("t", [number], conn=session)
        check(number)

    return web


def by_sync_dependency_and_using(app: App, _: Any, new: Any) -> FastAPI:
    web = FastAPI(lifespan=app.lifespan())

    def session() -> Iterator[Session]:
        with new.begin() as session, app.using(session):
            yield session

    @web.post("/{number}")
    def place(number: int, session: Annotated[Session, Depends(session, scope="function")]) -> None:
        session.execute(ROW, {"number": number})
        app.enqueue("t", [number])
        check(number)

    return web


def by_middleware(app: App, new: Any, _: Any) -> FastAPI:
    """It sees no exception of an endpoint, only the response: that decides."""
    web = FastAPI(lifespan=app.lifespan())

    @web.middleware("http")
    async def transaction(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        async with new() as session:
            with app.using(session):
                request.state.session = session
                response = await call_next(request)
            if response.status_code < 400:
                await session.commit()
        return response

    @web.post("/{number}")
    async def place(number: int, request: Request) -> None:
        await request.state.session.execute(ROW, {"number": number})
        await app.enqueue_async("t", [number])
        check(number)

    return web


WAYS: list[Callable[[App, Any, Any], FastAPI]] = [
    by_async_dependency, by_async_dependency_and_using, by_sync_dependency, by_sync_dependency_and_using, by_middleware
]  # fmt: skip
RECIPES = pytest.mark.parametrize("recipe", WAYS)


@pytest.fixture
def site(app: App, new_async_session: Any, new_session: Any) -> Callable[[Callable[..., FastAPI]], FastAPI]:
    """The site of a recipe, with an endpoint that defers without a connection."""

    def site(recipe: Callable[..., FastAPI]) -> FastAPI:
        web = recipe(app, new_async_session, new_session)

        @web.get("/plain")
        async def plain() -> str:
            return (await app.enqueue_async("plain")).id

        return web

    return site


def numbers(conn: psycopg.Connection, what: str) -> list[int]:
    return sorted(int(number) for (number,) in conn.execute(what).fetchall())


PLACED = "select number from shop.placed"
QUEUED = "select args::jsonb->>0 from pgqueue.job where task = 't'"


@RECIPES
def test_the_row_and_the_job_of_a_request_are_both_there_or_neither(
    site: Callable[..., FastAPI], conn: psycopg.Connection, recipe: Callable[..., FastAPI]
) -> None:
    async def main() -> list[int]:
        web = site(recipe)
        async with (
            web.router.lifespan_context(web),
            httpx.AsyncClient(transport=httpx.ASGITransport(web), base_url="http://shop") as client,
        ):
            some = asyncio.Semaphore(10)

            async def place(number: int) -> int:
                async with some:
                    placed, plain = await asyncio.gather(client.post(f"/{number}"), client.get("/plain"))
                assert plain.status_code == 200
                return placed.status_code

            return list(await asyncio.gather(*map(place, range(REQUESTS))))

    assert asyncio.run(main()) == [200, 409] * (REQUESTS // 2)
    assert numbers(conn, PLACED) == numbers(conn, QUEUED) == list(range(0, REQUESTS, 2))
    ((plain,),) = conn.execute("select count(*) from pgqueue.job where task = 'plain'").fetchall()
    assert plain == REQUESTS  # no request's block reached into another one


@RECIPES
def test_with_a_test_client(
    site: Callable[..., FastAPI], conn: psycopg.Connection, recipe: Callable[..., FastAPI]
) -> None:
    web = site(recipe)
    for first in (0, 10):
        with TestClient(web) as client:
            assert [client.post(f"/{first + n}").status_code for n in range(4)] == [200, 409] * 2
    assert numbers(conn, PLACED) == numbers(conn, QUEUED) == [0, 2, 10, 12]


@pytest.mark.parametrize("recipe", WAYS[:4])
def test_a_commit_that_fails_is_no_success_and_leaves_no_job(
    site: Callable[..., FastAPI], conn: psycopg.Connection, recipe: Callable[..., FastAPI]
) -> None:
    """With scope="function" the dependency commits before the answer is sent."""
    with TestClient(site(recipe), raise_server_exceptions=False) as client:
        assert [client.post("/2").status_code for _ in range(2)] == [200, 500]
    assert numbers(conn, PLACED) == numbers(conn, QUEUED) == [2]


def test_a_background_task_runs_after_that_commit(
    app: App, conn: psycopg.Connection, new_async_session: async_sessionmaker[AsyncSession]
) -> None:
    """As a job does; FastAPI's default scope commits after them."""
    seen: list[list[int]] = []

    web = FastAPI(lifespan=app.lifespan())

    async def session() -> AsyncIterator[AsyncSession]:
        async with new_async_session.begin() as session:
            yield session

    @web.post("/{number}")
    async def place(
        number: int, later: BackgroundTasks, session: Annotated[AsyncSession, Depends(session, scope="function")]
    ) -> None:
        await app.enqueue_async("t", [number], conn=session)
        later.add_task(lambda: seen.append(numbers(conn, QUEUED)))

    with TestClient(web) as client:
        client.post("/2")
    assert seen == [[2]]
