"""`app.lifespan()`: a web application says at its start what is wrong, and leaves no connection at its end."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from pgqueue import App, DatabaseUnavailable, SchemaMissing
from tests.conftest import eventually
from tests.web import TestClient

Web = Callable[[App], Any]
SESSIONS = "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'pgqueue'"


def sessions(conn: psycopg.Connection) -> int:
    """How many connections of our pools there are."""
    ((count,),) = conn.execute(SESSIONS).fetchall()
    return int(count)


@pytest.fixture(autouse=True)
def of_others(conn: psycopg.Connection) -> None:
    """An App of a module that other tests imported may have a pool still."""
    ended = "select pg_terminate_backend(pid) from pg_stat_activity where "
    conn.execute(ended + "datname = current_database() and application_name = 'pgqueue'")


def left(conn: psycopg.Connection, count: int) -> None:
    """A session ends a moment after its connection is closed, as the first one is that only finds out whether there is a server."""
    eventually(lambda: sessions(conn) == count, what=f"{count} sessions are left")


def site(app: App, lifespan: Any) -> FastAPI:
    web = FastAPI(lifespan=lifespan)

    @web.get("/async")
    async def later() -> str:
        return (await app.enqueue_async("t")).id

    @web.get("/sync")
    def now() -> str:
        return app.enqueue("t").id

    return web


def fastapi(app: App) -> FastAPI:
    return site(app, app.lifespan())


def without_a_call(app: App) -> FastAPI:
    return site(app, app.lifespan)


def composed(app: App) -> FastAPI:
    @asynccontextmanager
    async def lifespan(web: FastAPI) -> AsyncIterator[dict[str, str]]:
        async with app.lifespan():
            yield {"ours": "too"}

    return site(app, lifespan)


def starlette(app: App) -> Starlette:
    async def later(request: Request) -> PlainTextResponse:
        return PlainTextResponse((await app.enqueue_async("t")).id)

    def now(request: Request) -> PlainTextResponse:
        return PlainTextResponse(app.enqueue("t").id)

    return Starlette(routes=[Route("/async", later), Route("/sync", now)], lifespan=app.lifespan())


WEBS = pytest.mark.parametrize("web", [fastapi, without_a_call, composed, starlette])


@WEBS
def test_a_web_application_opens_and_closes_the_pools(app: App, conn: psycopg.Connection, web: Web) -> None:
    made = web(app)
    left(conn, 0)
    for _ in range(2):  # as the tests of an application do
        with TestClient(made) as client:
            left(conn, 1)  # before the first request
            assert client.get("/async").status_code == client.get("/sync").status_code == 200
            left(conn, 2)
        left(conn, 0)
    assert len(app.jobs()) == 4  # it may be used again


@WEBS
def test_without_our_tables_it_does_not_start(fresh_dsn: str, web: Web) -> None:
    app = App(fresh_dsn)
    with pytest.raises(SchemaMissing, match="run `pgqueue migrate`"), TestClient(web(app)):
        raise AssertionError("it started")
    with psycopg.connect(fresh_dsn, autocommit=True) as conn:
        left(conn, 0)
        app.migrate()
        with TestClient(web(app)) as client:
            assert client.get("/async").status_code == 200


def test_without_a_database_it_does_not_start() -> None:
    app = App("host=127.0.0.1 port=1", pool_timeout_s=1)
    with pytest.raises(DatabaseUnavailable, match="check PGQUEUE_DSN"), TestClient(fastapi(app)):
        raise AssertionError("it started")


def test_an_error_within_passes_and_closes_as_well(app: App, conn: psycopg.Connection) -> None:
    left(conn, 0)

    async def main() -> None:
        async with app.lifespan():
            left(conn, 1)
            raise LookupError("of the application's own")

    with pytest.raises(LookupError):
        asyncio.run(main())
    left(conn, 0)


def test_one_inside_another_leaves_it_usable(app: App, conn: psycopg.Connection) -> None:
    """As with an application that is mounted in another one."""
    left(conn, 0)

    async def main() -> None:
        async with app.lifespan():
            async with app.lifespan():
                await app.enqueue_async("t")
            await app.enqueue_async("t")

    asyncio.run(main())
    assert len(app.jobs()) == 2
    app.close()
    left(conn, 0)
