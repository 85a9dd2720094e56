"""app.notify through every door: it is heard when the caller's transaction commits, and not before; and what is refused there."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from pgqueue import App, ConfigError, Job
from tests.channels.ways import Loop
from tests.doors.callers import ASYNC, SYNC, Caller, async_engine, connect_asyncpg, engine

LARGE = "x" * 8_000


@pytest.fixture
def loop(app: App) -> Iterator[Loop]:
    with Loop(app, "orders") as made:
        yield made


@asynccontextmanager
async def by_psycopg(dsn: str) -> AsyncIterator[Caller]:
    conn = await psycopg.AsyncConnection.connect(dsn)
    try:
        yield Caller(conn, conn.commit, conn.rollback, lambda: conn.transaction(force_rollback=True))
    finally:
        await conn.close()


@pytest.mark.parametrize("kind", SYNC)
def test_it_is_heard_if_and_only_if_the_transaction_commits(app: App, loop: Loop, dsn: str, kind: str) -> None:
    for end in ("rollback", "close", "commit"):
        with SYNC[kind](dsn) as caller:
            app.notify("orders", end, conn=caller.conn)
            app.notify("orders", LARGE, conn=caller.conn)
            with app.using(caller.conn):
                app.notify("orders", f"{end}, using")
            with caller.nested():
                app.notify("orders", "inner", conn=caller.conn)
            app.notify("orders", "marker")
            if end != "close":
                getattr(caller, end)()
    assert loop.heard(6) == ["marker", "marker", "marker", "commit", LARGE, "commit, using"]


@pytest.mark.parametrize("kind", [*ASYNC, "psycopg"])
def test_it_is_heard_if_and_only_if_an_async_transaction_commits(app: App, loop: Loop, dsn: str, kind: str) -> None:
    opened: Any = (ASYNC | {"psycopg": by_psycopg})[kind]

    async def ends(end: str) -> None:
        async with opened(dsn) as caller:
            await app.notify_async("orders", end, conn=caller.conn)
            await app.notify_async("orders", LARGE, conn=caller.conn)
            with app.using(caller.conn):
                await app.notify_async("orders", f"{end}, using")
            async with caller.nested():
                await app.notify_async("orders", "inner", conn=caller.conn)
            await app.notify_async("orders", "marker")
            if end != "close":
                await getattr(caller, end)()

    for end in ("rollback", "close", "commit"):
        asyncio.run(ends(end))
    assert loop.heard(6) == ["marker", "marker", "marker", "commit", LARGE, "commit, using"]


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_two_phase_transaction_cannot_notify_and_is_not_harmed(app: App, dsn: str, driver: str) -> None:
    with engine(dsn, driver).connect() as conn:
        transaction = conn.begin_twophase()
        conn.execute(sa.text("create table if not exists public.shop_line (id int)"))
        for payload in (1, LARGE):
            with pytest.raises(
                ConfigError, match=r"a transaction that is to be prepared \(two-phase commit\) cannot notify"
            ):
                app.notify("orders", payload, conn=conn)
        assert conn.execute(sa.text("select count(*) from pgqueue.notice")).scalar() == 0
        transaction.rollback()


def test_psycopgs_own_two_phase_transaction_too(app: App, dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        conn.tpc_begin(conn.xid(1, "gtrid", "bqual"))
        with pytest.raises(ConfigError, match="cannot notify"):
            app.notify("orders", 1, conn=conn)
        conn.tpc_rollback()


def test_the_wrong_colour_is_said(app: App, dsn: str) -> None:
    async def scenario() -> None:
        conn = await connect_asyncpg(dsn)
        with pytest.raises(ConfigError, match=r"this is an async connection: await notify_async\(\)"):
            app.notify("orders", 1, conn=conn)
        await conn.close()
        with (
            psycopg.connect(dsn) as sync,
            pytest.raises(ConfigError, match=r"this is a sync connection: use notify\(\), or"),
        ):
            await app.notify_async("orders", 1, conn=sync)
        with pytest.raises(ConfigError, match="an Engine has no transaction"):
            await app.notify_async("orders", 1, conn=async_engine(dsn, "asyncpg"))  # type: ignore[arg-type]

    asyncio.run(scenario())


def test_inside_of_a_pipeline(app: App, loop: Loop, dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        with conn.pipeline():
            app.notify("orders", 1, conn=conn)
            app.notify("orders", 2, conn=conn)
        conn.commit()
    assert loop.heard(2) == [1, 2]


def test_it_is_one_statement_of_the_callers_transaction_with_its_job(app: App, loop: Loop, dsn: str) -> None:
    @app.task(name="shop.ship")
    def ship(order: int) -> None: ...

    with psycopg.connect(dsn) as conn:
        job: Job[Any] = ship.options(conn=conn).defer(7)
        app.notify("orders", {"job": job.id}, conn=conn)
        conn.commit()
    assert loop.heard(1) == [{"job": job.id}] and job.state == "queued"
