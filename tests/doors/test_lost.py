"""A caller's connection that goes away in the middle: in a transaction nothing is left, and where none was, nobody knows."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
import psycopg2
import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from pgqueue import App, DatabaseUnavailable, OutcomeUnknown, Task, db
from tests.conftest import eventually
from tests.doors.callers import ASYNC, SYNC, async_engine, connect_asyncpg, engine
from tests.doors.test_autocommit import django_outside_of_atomic, psycopg2_autocommit

AnyTask = Task[Any, Any, Any]


@pytest.fixture
def send(app: App) -> AnyTask:
    app.migrate()
    app._database._schema_fits = True
    return app.task(name="mail.send")(lambda to: None)


@pytest.fixture
def waits(dsn: str, conn: psycopg.Connection) -> Iterator[None]:
    """A defer waits for a lock; then its session is ended."""
    with psycopg.connect(dsn) as holder:
        holder.execute("lock table pgqueue.job")
        ended = threading.Event()

        def end() -> None:
            def blocked() -> Any:
                return conn.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
                    " and wait_event_type = 'Lock' and query ~ 'pgqueue'"
                ).fetchall()

            eventually(blocked, what="a defer waits")
            ended.set()

        thread = threading.Thread(target=end)
        thread.start()
        yield
        thread.join()
        assert ended.is_set()


@pytest.mark.parametrize("library", [psycopg, psycopg2])
def test_a_connection_that_has_gone_without_a_word_is_lost(library: Any) -> None:
    """As through a network that was cut: no code of the server's."""
    cut = library.OperationalError("server closed the connection unexpectedly")
    for error in (cut, OperationalError("insert", {}, cut)):
        same = db.as_psycopg(error)
        assert same is not None and db.is_lost(same) and "closed" in str(same)
    assert db.as_psycopg(library.InterfaceError("connection already closed")) is None  # nothing was sent


@contextmanager
def session_autocommit(dsn: str) -> Iterator[Any]:
    with Session(engine(dsn, "psycopg").execution_options(isolation_level="AUTOCOMMIT")) as session:
        yield session


@asynccontextmanager
async def async_session_autocommit(dsn: str) -> AsyncIterator[Any]:
    async with AsyncSession(async_engine(dsn, "asyncpg").execution_options(isolation_level="AUTOCOMMIT")) as session:
        yield session


@asynccontextmanager
async def asyncpg_alone(dsn: str) -> AsyncIterator[Any]:
    yield await connect_asyncpg(dsn)


@contextmanager
def psycopg_autocommit(dsn: str) -> Iterator[Any]:
    with psycopg.connect(dsn, autocommit=True) as own:
        yield own


ALONE = {
    "psycopg": psycopg_autocommit,
    "psycopg2": psycopg2_autocommit,
    "Django": django_outside_of_atomic,
    "Session": session_autocommit,
}
ALONE_ASYNC = {"asyncpg": asyncpg_alone, "AsyncSession": async_session_autocommit}


def lost(send: AnyTask, opened: Any, kind: str) -> DatabaseUnavailable:
    async def scenario() -> None:
        async with opened as own:
            await send.options(conn=getattr(own, "conn", own)).defer_async("a@b.c")

    with pytest.raises(DatabaseUnavailable) as caught:
        if kind in {**ASYNC, **ALONE_ASYNC}:
            asyncio.run(scenario())
        else:
            with opened as own:
                send.options(conn=getattr(own, "conn", own)).defer("a@b.c")
    return caught.value


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize("kind", [*SYNC, *ASYNC])
def test_in_a_transaction_nothing_is_left(send: AnyTask, dsn: str, kind: str) -> None:
    assert not isinstance(lost(send, {**SYNC, **ASYNC}[kind](dsn), kind), OutcomeUnknown)


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize("kind", [*ALONE, *ALONE_ASYNC])
def test_where_each_statement_commits_nobody_knows(send: AnyTask, dsn: str, kind: str) -> None:
    told = lost(send, {**ALONE, **ALONE_ASYNC}[kind](dsn), kind)
    assert isinstance(told, OutcomeUnknown) and "on the given connection" in str(told)
    assert send.app.job(told.job_id)
