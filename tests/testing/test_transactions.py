"""drain(conn=) stays in the transaction of the test, whatever library it is of."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
import pytest

from pgqueue import App, ConfigError, State
from pgqueue.testing import Drained, drain, drain_async
from tests.answers import one_value
from tests.doors.callers import ASYNC, SYNC, Caller
from tests.testing import tasks


def rows(conn: psycopg.Connection) -> int:
    counted: int = one_value(conn, "select (select count(*) from pgqueue.jobs) + (select count(*) from pgqueue.worker)")
    return counted


def as_expected(done: Drained) -> None:
    assert [(ran.task.rpartition(".")[2], ran.result) for ran in done if ran.error is None] == [
        ("add", 3), ("add_later", 7), ("fan_out", None), ("fan_out_later", None),
        ("add", 1), ("add", 2), ("add", 1),
    ]  # fmt: skip
    (failed,) = done.failed
    assert failed.state == State.SCHEDULED and isinstance(failed.error, ValueError)


def quick_ones(libraries: dict[str, Any], *quick: str) -> list[Any]:
    """psycopg and these; the others in `make test-long`."""
    marks = [() if library in quick else pytest.mark.long for library in libraries]
    return ["psycopg", *(pytest.param(library, marks=mark) for library, mark in zip(libraries, marks, strict=True))]


@contextmanager
def opened(library: str, dsn: str) -> Iterator[Caller]:
    if library == "psycopg":
        with psycopg.connect(dsn) as conn:
            yield Caller(conn, conn.commit, conn.rollback, conn.transaction)
    else:
        with SYNC[library](dsn) as caller:
            yield caller


@asynccontextmanager
async def opened_async(library: str, dsn: str) -> AsyncIterator[Caller]:
    if library == "psycopg":
        async with await psycopg.AsyncConnection.connect(dsn) as conn:
            yield Caller(conn, conn.commit, conn.rollback, conn.transaction)
    else:
        async with ASYNC[library](dsn) as caller:
            yield caller


@pytest.mark.parametrize("library", quick_ones(SYNC, "Django", "Session on psycopg"))
def test_jobs_and_what_they_defer_stay_in_it(app: App, dsn: str, conn: psycopg.Connection, library: str) -> None:
    with opened(library, dsn) as caller:
        given = caller.conn
        with app.using(given):
            tasks.add.defer(1, 2)
            tasks.add_later.defer(3, 4)
            tasks.add.defer(-1, 0)
            tasks.fan_out.defer(2)
            tasks.fan_out_later.defer(1)
        as_expected(drain(app=app, conn=given, raises=False))
        with app.using(given):
            assert drain(app=app) == []
        assert rows(conn) == 0
        caller.rollback()
    assert rows(conn) == 0


@pytest.mark.parametrize("library", quick_ones(ASYNC, "asyncpg", "AsyncSession on asyncpg"))
def test_async_ones_too(app: App, dsn: str, conn: psycopg.Connection, library: str) -> None:
    async def test() -> None:
        async with opened_async(library, dsn) as caller:
            given = caller.conn
            with app.using(given):
                await tasks.add.defer_async(1, 2)
                await tasks.add_later.defer_async(3, 4)
                await tasks.add.defer_async(-1, 0)
                await tasks.fan_out.defer_async(2)
                await tasks.fan_out_later.defer_async(1)
            as_expected(await drain_async(app=app, conn=given, raises=False))
            assert rows(conn) == 0
            await caller.rollback()
        assert rows(conn) == 0

    asyncio.run(test())


@pytest.mark.parametrize("library", ["psycopg", "Django", "Session on psycopg", "Connection on psycopg"])
def test_an_atomic_task_has_a_savepoint_in_it(app: App, dsn: str, conn: psycopg.Connection, library: str) -> None:
    with opened(library, dsn) as caller:
        given = caller.conn
        with app.using(given):
            tasks.write.defer("kept")
            tasks.write.defer("lost", fails=True)
            tasks.write.defer("kept too")
        done = drain(app=app, conn=given, raises=False)
        assert [ran.state for ran in done] == [State.SUCCEEDED, State.SCHEDULED, State.SUCCEEDED]
        assert [ran.result for ran in done] == ["kept", None, "kept too"]
        caller.commit()
    assert conn.execute("select text from written").fetchall() == [("kept",), ("kept too",)]


def test_an_async_atomic_task_too(app: App, dsn: str, conn: psycopg.Connection) -> None:
    async def test() -> None:
        async with ASYNC["AsyncSession on psycopg"](dsn) as caller:
            await tasks.write_later.options(conn=caller.conn).defer_async("kept")
            (ran,) = await drain_async(app=app, conn=caller.conn)
            assert ran.result == "kept"
            await caller.commit()

    asyncio.run(test())
    assert conn.execute("select text from written").fetchall() == [("kept",)]


def test_a_statement_that_fails_ends_the_job_and_not_the_test(
    app: App, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(dsn) as given, app.using(given):
        monkeypatch.setattr(tasks, "bound", given)
        tasks.break_transaction.defer()
        tasks.add.defer(1, 2)
        broken, fine = drain(app=app, raises=False)
        assert isinstance(broken.error, psycopg.errors.UndefinedTable) and broken.state == State.SCHEDULED
        assert fine.result == 3
        given.execute("select 1")
        given.rollback()


def test_what_cannot_run_there(app: App, dsn: str) -> None:
    with SYNC["psycopg2"](dsn) as caller, app.using(caller.conn):
        tasks.write.defer("never")
        with pytest.raises(ConfigError, match="is a connection of psycopg, and conn= is on psycopg2"):
            drain(app=app)
        caller.rollback()
    with psycopg.connect(dsn) as conn, app.using(conn):
        job = tasks.write_later.defer("never")
        with pytest.raises(ConfigError, match=r"is async and atomic: it needs an async conn="):
            drain(app=app)
        assert conn.execute("select state::text, attempt from pgqueue.job where id = %s", [job.id]).fetchall() == [
            ("queued", 0)
        ]
        conn.rollback()


def test_a_connection_of_the_wrong_colour(app: App, dsn: str) -> None:
    async def test() -> None:
        async with await psycopg.AsyncConnection.connect(dsn) as conn:
            with pytest.raises(ConfigError, match=r"await drain_async\(\)"):
                await asyncio.to_thread(lambda: drain(app=app, conn=conn))
        with psycopg.connect(dsn) as sync, pytest.raises(ConfigError, match=r"use drain\(\)"):
            await drain_async(app=app, conn=sync)

    asyncio.run(test())
