"""Async tasks that share a small pool of connections, as those of a web application do."""

import asyncpg
from psycopg_pool import AsyncConnectionPool
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from pgqueue import App
from tests.addresses import url

app = App()
HOLD_S = 0.1  # how long a job keeps its connection
engine = create_async_engine(url(app.dsn), pool_size=5, max_overflow=10, pool_timeout=0.15)


@app.task(name="query", max_attempts=1)
async def query() -> int:
    async with engine.connect() as conn:
        return int((await conn.execute(text(f"select 1 from pg_sleep({HOLD_S})"))).scalar_one())


# -- each of these waits for the one connection of its pool, which it holds itself --


@app.task(name="sqlalchemy", max_attempts=1)
async def exhaust_sqlalchemy() -> None:
    own = create_async_engine(url(app.dsn), pool_size=1, max_overflow=0, pool_timeout=0.01)
    async with own.connect(), own.connect():
        raise AssertionError("it has one connection")


@app.task(name="psycopg", max_attempts=1, async_limit=3)
async def exhaust_psycopg() -> None:
    async with AsyncConnectionPool(app.dsn, min_size=1, max_size=1) as pool, pool.connection():
        try:
            await pool.getconn(timeout=0.01)
        except Exception as error:
            raise OSError("as a program might say it") from error


@app.task(name="asyncpg", max_attempts=1)
async def exhaust_asyncpg() -> None:
    async with asyncpg.create_pool(url(app.dsn, "postgresql"), min_size=1, max_size=1) as pool, pool.acquire():
        await pool.acquire(timeout=0.01)


@app.task(name="asyncpg without end", max_attempts=1, timeout=2)
async def wait_for_asyncpg() -> None:
    async with asyncpg.create_pool(url(app.dsn, "postgresql"), min_size=1, max_size=1) as pool, pool.acquire():
        await pool.acquire()


# -- and these do not --


@app.task(name="alone", max_attempts=1, async_limit=1)
async def exhaust_alone() -> None:
    await exhaust_asyncpg()


@app.task(name="other", max_attempts=1)
async def fail_otherwise() -> None:
    async with engine.connect() as conn:
        await conn.execute(text("select 1 / 0"))


@app.task(name="late", max_attempts=1)
async def be_late() -> None:
    raise TimeoutError("of something else")
