"""Where the caller has begun no transaction, each defer commits by itself, and many jobs do so together or not at all."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
import psycopg2
import pytest
from django.db import transaction

from pgqueue import App, ConfigError, Task
from tests.doors.callers import by_django, connect_asyncpg, engine
from tests.doors.test_transactions import jobs

AnyTask = Task[Any, Any, Any]
MANY = 12_000  # more than one COPY


@pytest.fixture
def count(app: App) -> AnyTask:
    return app.task(name="count")(lambda n: None)


def broken() -> Iterator[tuple[int]]:
    """What makes the calls fails when some have been sent."""
    for n in range(MANY):
        yield (n,)
    raise OSError("the disk is gone")


@contextmanager
def psycopg2_autocommit(dsn: str) -> Iterator[Any]:
    conn = psycopg2.connect(dsn)
    conn.autocommit = True
    yield conn
    conn.close()


@contextmanager
def django_outside_of_atomic(dsn: str) -> Iterator[Any]:
    with by_django(dsn) as caller:
        caller.conn.set_autocommit(True)
        yield caller.conn


@asynccontextmanager
async def asyncpg_outside_of_a_transaction(dsn: str) -> AsyncIterator[Any]:
    conn = await connect_asyncpg(dsn)
    yield conn
    await conn.close()


@pytest.mark.parametrize("opened", [psycopg2_autocommit, django_outside_of_atomic])
def test_each_call_commits_by_itself(count: AnyTask, dsn: str, conn: psycopg.Connection, opened: Any) -> None:
    with opened(dsn) as own:
        bound = count.options(conn=own)
        bound.defer(1)
        assert jobs(conn) == 1
        bound.defer_many([(1,), (2,)])
        count.options(conn=own, unique=True).defer_many([(3,), (4,)])
        assert jobs(conn) == 5
        with pytest.raises(OSError, match="the disk is gone"):
            bound.defer_many(broken())
        assert jobs(conn) == 5
        bound.defer(6)  # and the connection is as good as before
        assert jobs(conn) == 6


def test_each_call_of_asyncpg_commits_by_itself(count: AnyTask, dsn: str, conn: psycopg.Connection) -> None:
    async def scenario() -> None:
        async with asyncpg_outside_of_a_transaction(dsn) as own:
            bound = count.options(conn=own)
            await bound.defer_async(1)
            assert jobs(conn) == 1
            await bound.defer_many_async([(1,), (2,)])
            assert jobs(conn) == 3
            with pytest.raises(OSError, match="the disk is gone"):
                await bound.defer_many_async(broken())
            await bound.defer_async(4)
            assert jobs(conn) == 4

    asyncio.run(scenario())


def test_an_atomic_block_of_django_commits_at_its_end(count: AnyTask, dsn: str, conn: psycopg.Connection) -> None:
    with django_outside_of_atomic(dsn) as own:
        with transaction.atomic():
            count.options(conn=own).defer(1)
            count.options(conn=own).defer_many([(2,)])
            with pytest.raises(OSError, match="the disk is gone"):
                count.options(conn=own).defer_many(broken())
            assert jobs(conn) == 0
        assert jobs(conn) == 2


def test_many_jobs_need_a_transaction_that_sqlalchemy_was_told_not_to_begin(
    count: AnyTask, dsn: str, conn: psycopg.Connection
) -> None:
    with engine(dsn, "psycopg").connect().execution_options(isolation_level="AUTOCOMMIT") as own:
        count.options(conn=own).defer(1)
        assert jobs(conn) == 1
        with pytest.raises(ConfigError, match="commits each statement by itself"):
            count.options(conn=own).defer_many([(2,)])
    assert jobs(conn) == 1
