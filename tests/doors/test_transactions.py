"""Through each door: a job exists if and only if the caller's transaction commits, also where it is the first to speak."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest

from pgqueue import App, Task
from tests.doors.callers import ASYNC, SYNC

AnyTask = Task[Any, Any, Any]
CALLS = [(f"{n}",) for n in range(3)]


@pytest.fixture
def send(app: App) -> AnyTask:
    @app.task(name="mail.send")
    def send_email(to: str) -> None: ...

    return send_email


def one(task: AnyTask, conn: Any) -> None:
    task.options(conn=conn).defer("a@b.c")


def many(task: AnyTask, conn: Any) -> None:
    task.options(conn=conn).defer_many(CALLS)


def unique(task: AnyTask, conn: Any) -> None:
    assert task.options(conn=conn, unique="k").defer("a@b.c").created


def unique_many(task: AnyTask, conn: Any) -> None:
    jobs = task.options(conn=conn, unique=True).defer_many([*CALLS, CALLS[0]])
    assert [job.created for job in jobs] == [True, True, True, False]


def using(task: AnyTask, conn: Any) -> None:
    with task.app.using(conn):
        task.defer("a@b.c")


async def one_async(task: AnyTask, conn: Any) -> None:
    await task.options(conn=conn).defer_async("a@b.c")


async def many_async(task: AnyTask, conn: Any) -> None:
    await task.options(conn=conn).defer_many_async(CALLS)


async def unique_async(task: AnyTask, conn: Any) -> None:
    assert (await task.options(conn=conn, unique="k").defer_async("a@b.c")).created


async def unique_many_async(task: AnyTask, conn: Any) -> None:
    jobs = await task.options(conn=conn, unique=True).defer_many_async([*CALLS, CALLS[0]])
    assert [job.created for job in jobs] == [True, True, True, False]


async def using_async(task: AnyTask, conn: Any) -> None:
    with task.app.using(conn):
        await task.defer_async("a@b.c")


WAYS = [one, many, unique, unique_many, using]
WAYS_ASYNC = [one_async, many_async, unique_async, unique_many_async, using_async]
COUNTS = {"one": 1, "many": 3, "unique": 1, "unique_many": 3, "using": 1}


def jobs(conn: psycopg.Connection) -> int:
    (count,) = conn.execute("select count(*) from pgqueue.job").fetchone() or (None,)
    return int(count or 0)


@pytest.mark.parametrize("kind", SYNC)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_job_exists_if_and_only_if_the_transaction_commits(
    send: AnyTask, dsn: str, conn: psycopg.Connection, kind: str, way: Callable[[AnyTask, Any], None]
) -> None:
    for end in ("rollback", "close", "commit"):
        send.app._database._schema_fits = end != "rollback"  # the first time the schema is checked there, too
        with SYNC[kind](dsn) as caller:
            way(send, caller.conn)
            assert jobs(conn) == 0, "seen before the commit"
            if end != "close":
                getattr(caller, end)()
        assert jobs(conn) == (COUNTS[way.__name__] if end == "commit" else 0), end


@pytest.mark.parametrize("kind", SYNC)
def test_what_is_rolled_back_to_a_savepoint_takes_its_jobs_along(
    send: AnyTask, dsn: str, conn: psycopg.Connection, kind: str
) -> None:
    with SYNC[kind](dsn) as caller:
        one(send, caller.conn)
        with caller.nested():
            one(send, caller.conn)
            many(send, caller.conn)
        many(send, caller.conn)
        caller.commit()
    assert jobs(conn) == 4


@pytest.mark.parametrize("kind", ASYNC)
@pytest.mark.parametrize("way", WAYS_ASYNC, ids=lambda way: way.__name__)
def test_an_async_job_exists_if_and_only_if_the_transaction_commits(
    send: AnyTask, dsn: str, conn: psycopg.Connection, kind: str, way: Callable[[AnyTask, Any], Awaitable[None]]
) -> None:
    async def ends(end: str) -> None:
        async with ASYNC[kind](dsn) as caller:
            await way(send, caller.conn)
            assert jobs(conn) == 0, "seen before the commit"
            if end != "close":
                await getattr(caller, end)()

    for end in ("rollback", "close", "commit"):
        send.app._database._schema_fits = end != "rollback"
        asyncio.run(ends(end))
        assert jobs(conn) == (COUNTS[way.__name__.removesuffix("_async")] if end == "commit" else 0), end


@pytest.mark.parametrize("kind", ASYNC)
def test_what_is_rolled_back_to_a_savepoint_takes_its_async_jobs_along(
    send: AnyTask, dsn: str, conn: psycopg.Connection, kind: str
) -> None:
    async def scenario() -> None:
        async with ASYNC[kind](dsn) as caller:
            await one_async(send, caller.conn)
            async with caller.nested():
                await one_async(send, caller.conn)
                await many_async(send, caller.conn)
            await many_async(send, caller.conn)
            await caller.commit()

    asyncio.run(scenario())
    assert jobs(conn) == 4
