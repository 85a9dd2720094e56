"""What a newcomer may do with sessions and blocks: it works, or one line says what to do; no job gets elsewhere in silence."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import asyncpg
import psycopg
import pytest
import sqlalchemy as sa
from django.db import DatabaseError, connections
from django.db import connection as django_connection
from sqlalchemy.exc import IntegrityError, InvalidRequestError, PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker

from pgqueue import App, ConfigError, Task
from tests.doors.callers import ASYNC, SYNC, async_engine, by_django, connect_asyncpg, engine
from tests.doors.test_transactions import jobs

AnyTask = Task[Any, Any, Any]


@pytest.fixture
def send(app: App) -> AnyTask:
    return app.task(name="mail.send")(lambda to: None)


def in_a_thread(call: Callable[[], Any]) -> Any:
    """Inside the block of `using` that is open here, as asyncio.to_thread would."""

    async def scenario() -> Any:
        return await asyncio.to_thread(call)

    return asyncio.run(scenario())


# -- blocks --


def test_blocks_of_different_kinds_nest(send: AnyTask, dsn: str, conn: psycopg.Connection) -> None:
    async def inner(own: Any) -> None:
        with send.app.using(own):
            await send.defer_async("inner")
            with pytest.raises(ConfigError, match=r"this is an async connection: await defer_async\(\)"):
                send.defer("of the wrong colour")
        with pytest.raises(ConfigError, match=r"this is a sync connection: use defer\(\)"):
            await send.defer_async("of the wrong colour")

    async def scenario() -> None:
        async with ASYNC["AsyncSession on asyncpg"](dsn) as caller:
            await inner(caller.conn)
            await caller.rollback()

    with SYNC["Session on psycopg2"](dsn) as outer, send.app.using(outer.conn):
        with SYNC["Django"](dsn) as middle, send.app.using(middle.conn):
            send.defer("middle")
            asyncio.run(scenario())
            middle.commit()
        send.defer("outer")
        assert jobs(conn) == 1
        outer.rollback()
    assert [args for (args,) in conn.execute("select args from pgqueue.job")] == ['["middle"]']


def test_a_session_is_the_blocks_own_in_a_thread_that_it_waits_for(
    send: AnyTask, dsn: str, conn: psycopg.Connection
) -> None:
    with SYNC["Session on psycopg"](dsn) as caller:
        with send.app.using(caller.conn):
            in_a_thread(lambda: send.defer("a@b.c"))
        assert jobs(conn) == 0
        caller.commit()
    assert jobs(conn) == 1


def test_a_scoped_session_of_another_thread_is_refused(send: AnyTask, dsn: str, conn: psycopg.Connection) -> None:
    """There it is another session, which nobody commits."""
    scoped = scoped_session(sessionmaker(engine(dsn, "psycopg")))
    with send.app.using(scoped):
        send.defer("a@b.c")
        scoped.commit()
        scoped.remove()
        send.defer("in the session that it is now")
        scoped.commit()
        with pytest.raises(ConfigError, match=r"given a scoped_session, which is another connection in this thread"):
            in_a_thread(lambda: send.defer("elsewhere"))
    scoped.remove()
    assert jobs(conn) == 2


def test_a_scoped_session_of_another_asyncio_task_is_refused(send: AnyTask, dsn: str, conn: psycopg.Connection) -> None:
    async def scenario() -> None:
        scoped = async_scoped_session(async_sessionmaker(async_engine(dsn, "asyncpg")), asyncio.current_task)
        with send.app.using(scoped):
            await send.defer_async("a@b.c")
            with pytest.raises(ConfigError, match="another connection in this thread or asyncio task"):
                await asyncio.create_task(send.defer_async("elsewhere"))
        await scoped.commit()
        await scoped.remove()

    asyncio.run(scenario())
    assert jobs(conn) == 1


def test_djangos_connection_of_another_thread_is_refused(send: AnyTask, dsn: str, conn: psycopg.Connection) -> None:
    """There Django opens another one, which commits each job by itself."""
    with by_django(dsn) as caller:
        with send.app.using(django_connection):
            send.defer("a@b.c")
            with pytest.raises(
                ConfigError, match="given a ConnectionProxy, which is another connection in this thread"
            ):
                in_a_thread(lambda: send.defer("elsewhere"))
        with send.app.using(connections["default"]):
            with pytest.raises(DatabaseError, match="can only be used in that same thread"):
                in_a_thread(lambda: send.defer("elsewhere"))
            with pytest.raises(ConfigError, match=r"is not connections\['default'\] of this thread"):
                in_a_thread(lambda: send.defer_many([("elsewhere",)]))
        caller.rollback()
    assert jobs(conn) == 0


# -- sessions --


def test_a_session_that_begins_nothing_by_itself_says_so(send: AnyTask, dsn: str, conn: psycopg.Connection) -> None:
    with Session(engine(dsn, "psycopg"), autobegin=False) as session:
        with pytest.raises(
            InvalidRequestError, match=r"Autobegin is disabled on this Session; please call session\.begin"
        ):
            send.options(conn=session).defer("a@b.c")
        with session.begin():
            send.options(conn=session).defer("a@b.c")
            assert jobs(conn) == 0
    assert jobs(conn) == 1


def test_a_block_that_was_rolled_back_takes_no_jobs(send: AnyTask, dsn: str, conn: psycopg.Connection) -> None:
    with Session(engine(dsn, "psycopg")) as session, session.begin():
        session.rollback()
        with pytest.raises(InvalidRequestError, match="closed transaction inside context manager"):
            send.options(conn=session).defer("a@b.c")
    with engine(dsn, "psycopg").begin() as own:
        own.rollback()
        with pytest.raises(InvalidRequestError, match="closed transaction inside context manager"):
            send.options(conn=own).defer("a@b.c")
    assert jobs(conn) == 0


class Base(DeclarativeBase): ...


class Thing(Base):
    __tablename__ = "odd_thing"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.mark.parametrize("nested", [False, True])
def test_a_session_whose_flush_failed_wants_its_rollback_first(
    send: AnyTask, dsn: str, conn: psycopg.Connection, nested: bool
) -> None:
    with Session(engine(dsn, "psycopg")) as session:
        session.execute(sa.text("create temp table odd_thing (id int primary key)"))
        session.add(Thing(id=1))
        session.flush()
        session.expunge_all()
        if nested:
            session.begin_nested()
        session.add(Thing(id=1))
        with pytest.raises(IntegrityError):
            session.flush()
        with pytest.raises(PendingRollbackError, match=r"Session\.rollback\(\)"):
            send.options(conn=session).defer("a@b.c")
        session.rollback()
        send.options(conn=session).defer("a@b.c")
        session.commit()
    assert jobs(conn) == 1


@pytest.mark.parametrize("kind", [*SYNC, *ASYNC])
def test_a_transaction_that_has_failed_takes_no_jobs(
    send: AnyTask, dsn: str, conn: psycopg.Connection, kind: str
) -> None:
    """The server's words, in the library's own class: 25P02."""
    send.app._database._schema_fits = True

    async def scenario() -> None:
        async with ASYNC[kind](dsn) as caller:
            with pytest.raises(Exception, match="division by zero"):
                await run_async(caller.conn, "select 1/0")
            with pytest.raises(Exception, match="current transaction is aborted"):
                await send.options(conn=caller.conn).defer_async("a@b.c")
            await caller.rollback()

    if kind in ASYNC:
        asyncio.run(scenario())
    else:
        with SYNC[kind](dsn) as caller:
            with pytest.raises(Exception, match="division by zero"):
                run(caller.conn, "select 1/0")
            with pytest.raises(Exception, match="current transaction is aborted"):
                send.options(conn=caller.conn).defer("a@b.c")
            caller.rollback()
    assert jobs(conn) == 0


def run(own: Any, sql: str) -> None:
    if hasattr(own, "cursor"):
        with own.cursor() as cursor:
            cursor.execute(sql)
    else:
        own.execute(sa.text(sql))


async def run_async(own: Any, sql: str) -> None:
    await own.execute(sql if hasattr(own, "fetch") else sa.text(sql))


def test_an_async_session_inside_its_run_sync_wants_the_one_that_it_gives(
    send: AnyTask, dsn: str, conn: psycopg.Connection
) -> None:
    async def scenario() -> None:
        async with AsyncSession(async_engine(dsn, "asyncpg")) as session:

            def inside(sync: Session) -> None:
                with send.app.using(session), pytest.raises(ConfigError, match="this is an async connection"):
                    send.defer("a@b.c")
                with send.app.using(sync):
                    send.defer("a@b.c")
                    send.defer_many([("b@b.c",)])

            await session.run_sync(inside)
            assert jobs(conn) == 0
            await session.commit()

    asyncio.run(scenario())
    assert jobs(conn) == 2


@pytest.mark.parametrize("kind", ["psycopg", "asyncpg"])
def test_a_session_that_commits_each_statement(send: AnyTask, dsn: str, conn: psycopg.Connection, kind: str) -> None:
    """One by one they are there at once; many need a transaction, and there is none."""

    async def scenario() -> None:
        async with AsyncSession(async_engine(dsn, kind).execution_options(isolation_level="AUTOCOMMIT")) as session:
            await send.options(conn=session).defer_async("a@b.c")
            assert jobs(conn) == 1
            with pytest.raises(
                ConfigError, match="commits each statement by itself, and many jobs need one transaction"
            ):
                await send.options(conn=session).defer_many_async([("a@b.c",)])
            await session.rollback()

    asyncio.run(scenario())
    assert jobs(conn) == 1


@pytest.mark.parametrize("hidden", [False, True])
def test_echo_shows_arguments_unless_they_are_hidden(
    send: AnyTask, dsn: str, caplog: pytest.LogCaptureFixture, hidden: bool
) -> None:
    """As the guide says: SQLAlchemy logs what it executes, and our INSERT is executed by it."""
    own = sa.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(dsn), poolclass=sa.NullPool, hide_parameters=hidden
    )
    with caplog.at_level(logging.INFO, "sqlalchemy.engine.Engine"), Session(own) as session:
        send.options(conn=session).defer("a secret")
    assert "Insert jobs" in caplog.text or "insert into" in caplog.text
    assert ("a secret" not in caplog.text) == hidden


def test_a_connection_that_its_pool_has_back_is_refused(send: AnyTask, dsn: str, conn: psycopg.Connection) -> None:
    async def scenario() -> None:
        async with asyncpg.create_pool(connect=lambda *_, **__: connect_asyncpg(dsn), min_size=0, max_size=1) as pool:
            async with pool.acquire() as lent:
                await send.options(conn=lent).defer_async("a@b.c")
            with pytest.raises(asyncpg.InterfaceError, match="released back to the pool"):
                await send.options(conn=lent).defer_async("a@b.c")

    asyncio.run(scenario())
    assert jobs(conn) == 1
