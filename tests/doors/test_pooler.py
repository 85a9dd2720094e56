"""asyncpg behind a pooler that gives each transaction another session: its caches must be off, and who leaves them on is told."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple

import asyncpg
import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.chaos import pooler
from benchmarks.chaos.cluster import Cluster
from benchmarks.chaos.pooler import Pooler
from pgqueue import App, ConfigError, Task
from tests.servers import shop_server

pytestmark = pytest.mark.skipif(
    pooler.find() is None, reason="pgbouncer is not installed (Debian: apt-get install pgbouncer)"
)

AnyTask = Task[Any, Any, Any]
DEFERS = 1000
CLIENTS = 4  # more than the pooler has sessions
ASYNCPG_OFF = {"statement_cache_size": 0}
SQLALCHEMY_OFF = {**ASYNCPG_OFF, "prepared_statement_cache_size": 0}


class Site(NamedTuple):
    """A server with a database `shop`, and the pooler before it."""

    server: Cluster
    pooler: Pooler

    @property
    def address(self) -> dict[str, Any]:
        return {"host": "127.0.0.1", "port": self.pooler.port, "database": "shop"}


class Client(NamedTuple):
    """What goes to conn=, a transaction on it, and which session serves that."""

    conn: Any
    transaction: Callable[[], AbstractAsyncContextManager[Any]]
    session: Callable[[], Any]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with shop_server() as server, Pooler(server, sessions=2) as made:
        yield Site(server, made)


@pytest.fixture
def send(site: Site) -> Iterator[AnyTask]:
    with site.server.connect("shop") as conn:
        conn.execute("truncate pgqueue.job")
    app = App(site.server.dsn("shop", port=site.pooler.port))
    yield app.task(name="t")(lambda n: None)
    app.close()


def jobs(site: Site) -> int:
    with site.server.connect("shop") as conn:
        return len(conn.execute("select from pgqueue.job").fetchall())


@asynccontextmanager
async def by_asyncpg(site: Site, settings: dict[str, Any]) -> AsyncIterator[Client]:
    conn = await asyncpg.connect(**site.address, user=site.server.user, **settings)
    try:
        yield Client(conn, conn.transaction, lambda: conn.fetchval("select pg_backend_pid()"))
    finally:
        await conn.close()


@asynccontextmanager
async def by_sqlalchemy(site: Site, settings: dict[str, Any]) -> AsyncIterator[Client]:
    url = sa.URL.create("postgresql+asyncpg", username=site.server.user, **site.address)
    engine = create_async_engine(url, connect_args=settings, poolclass=sa.NullPool)
    async with engine.connect() as conn:
        yield Client(conn, conn.begin, lambda: conn.scalar(sa.text("select pg_backend_pid()")))


KINDS = {"asyncpg": (by_asyncpg, ASYNCPG_OFF), "SQLAlchemy": (by_sqlalchemy, SQLALCHEMY_OFF)}


async def defer_on_two_sessions(site: Site, send: AnyTask, kind: str, settings: dict[str, Any]) -> None:
    """One client defers in two transactions, of which the pooler gives the second to another session than the first."""
    opened, _ = KINDS[kind]
    async with opened(site, settings) as client:
        async with client.transaction():
            first = await client.session()
            await send.options(conn=client.conn).defer_async(1)
        async with (
            await psycopg.AsyncConnection.connect(send.app.dsn) as one,
            await psycopg.AsyncConnection.connect(send.app.dsn) as other,
        ):
            # Both sessions are taken; the one that did not serve the first transaction is given back.
            pids = {conn: await (await conn.execute("select pg_backend_pid()")).fetchone() for conn in (one, other)}
            (free,) = (conn for conn, pid in pids.items() if pid != (first,))
            await free.rollback()
            async with client.transaction():
                await send.options(conn=client.conn).defer_async(2)
                assert await client.session() != first


@pytest.mark.parametrize("kind", KINDS)
def test_without_caches_any_session_will_do(site: Site, send: AnyTask, kind: str) -> None:
    asyncio.run(defer_on_two_sessions(site, send, kind, KINDS[kind][1]))
    assert jobs(site) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_who_leaves_the_caches_on_is_told_which(site: Site, send: AnyTask, kind: str) -> None:
    with pytest.raises(ConfigError) as caught:
        asyncio.run(defer_on_two_sessions(site, send, kind, {}))
    assert "statement_cache_size=0 for asyncpg, and prepared_statement_cache_size=0" in str(caught.value)
    assert jobs(site) == 1


def test_a_lost_plan_is_not_tried_again_on_the_callers_connection(site: Site, send: AnyTask) -> None:
    """Outside of a transaction a second try would pass."""

    async def scenario() -> None:
        async with by_asyncpg(site, {}) as client:
            await send.options(conn=client.conn).defer_async(1)
            async with (
                await psycopg.AsyncConnection.connect(send.app.dsn) as one,
                await psycopg.AsyncConnection.connect(send.app.dsn) as other,
            ):
                for conn in (one, other):  # each within a transaction: both sessions there are
                    await conn.execute("deallocate all")
            with pytest.raises(ConfigError, match="statement_cache_size=0"):
                await send.options(conn=client.conn).defer_async(2)

    asyncio.run(scenario())
    assert jobs(site) == 1


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_defers_without_caches(site: Site, send: AnyTask, kind: str) -> None:
    opened, off = KINDS[kind]

    async def client(number: int) -> None:
        async with opened(site, off) as own:
            for n in range(DEFERS // CLIENTS):
                async with own.transaction():
                    await send.options(conn=own.conn).defer_async(n)

    async def scenario() -> None:
        await asyncio.gather(*map(client, range(CLIENTS)))

    asyncio.run(scenario())
    assert jobs(site) == DEFERS
