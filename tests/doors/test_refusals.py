"""What is no connection gets one line with the cure, and an error of the server means the same through every door."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import psycopg
import pytest
import sqlalchemy as sa
from psycopg_pool import ConnectionPool
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from pgqueue import App, ConfigError, Job, Jobs, NotAllowed, PgQueueError, SchemaMissing, Task
from tests.doors.callers import ASYNC, SYNC, async_engine, connect_asyncpg, engine

AnyTask = Task[Any, Any, Any]


@pytest.fixture
def send(app: App) -> AnyTask:
    @app.task(name="mail.send")
    def send_email(to: str) -> None: ...

    return send_email


WRONG: dict[str, tuple[Callable[[str], Any], str]] = {
    "Engine": (lambda dsn: engine(dsn, "psycopg"), "with engine.begin() as conn"),
    "AsyncEngine": (lambda dsn: async_engine(dsn, "asyncpg"), "with engine.begin() as conn"),
    "sessionmaker": (lambda dsn: sessionmaker(engine(dsn, "psycopg")), "session = Session()"),
    "async_sessionmaker": (lambda dsn: async_sessionmaker(async_engine(dsn, "asyncpg")), "session = Session()"),
    "psycopg_pool": (lambda dsn: ConnectionPool(dsn, open=False), "not a psycopg_pool.pool.ConnectionPool"),
    "a DSN": (lambda dsn: dsn, "not a builtins.str"),
    "SQLite": (lambda dsn: Session(sa.create_engine("sqlite://")), "jobs go through SQLAlchemy over psycopg"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_has_no_transaction_is_refused(send: AnyTask, dsn: str, conn: psycopg.Connection, wrong: str) -> None:
    make, told = WRONG[wrong]
    with pytest.raises(ConfigError) as caught:
        send.options(conn=make(dsn)).defer("a@b.c")
    assert told in str(caught.value) and "\n" not in str(caught.value)
    assert conn.execute("select from pgqueue.job").fetchall() == []


def test_a_pool_of_asyncpg_is_refused(send: AnyTask, dsn: str) -> None:
    async def scenario() -> None:
        pool = asyncpg.create_pool(min_size=0)
        with pytest.raises(ConfigError, match=r"async with pool\.acquire\(\) as conn"):
            await send.options(conn=pool).defer_async("a@b.c")

    asyncio.run(scenario())


def test_the_wrong_colour_is_refused(send: AnyTask, dsn: str) -> None:
    async def scenario() -> None:
        session = AsyncSession(async_engine(dsn, "asyncpg"))
        with pytest.raises(ConfigError, match=r"await defer_async\(\)"):
            send.options(conn=session).defer("a@b.c")
        with Session(engine(dsn, "psycopg")) as sync, pytest.raises(ConfigError, match=r"use defer\(\)"):
            await send.options(conn=sync).defer_async("a@b.c")
        await session.close()

    asyncio.run(scenario())


def test_a_session_of_an_async_one_is_told_by_its_own_name(send: AnyTask, dsn: str) -> None:
    session = AsyncSession(async_engine(dsn, "asyncpg"))
    with pytest.raises(ConfigError, match="belongs to an AsyncSession: await defer_async"):
        send.options(conn=session.sync_session).defer("a@b.c")


def test_inside_run_sync_such_a_session_is_as_good_as_any(send: AnyTask, dsn: str, conn: psycopg.Connection) -> None:
    async def scenario() -> None:
        async with AsyncSession(async_engine(dsn, "asyncpg")) as session:
            await session.run_sync(lambda sync: send.options(conn=sync).defer("a@b.c"))
            await session.commit()

    asyncio.run(scenario())
    assert len(conn.execute("select from pgqueue.job").fetchall()) == 1


def test_a_session_with_an_engine_for_each_model_says_which_connection(send: AnyTask, dsn: str) -> None:
    class Base(DeclarativeBase): ...

    class Thing(Base):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)

    with Session(binds={Thing: engine(dsn, "psycopg")}) as session:
        with pytest.raises(ConfigError, match=r"bind_arguments=\{'mapper': Model\}"):
            send.options(conn=session).defer("a@b.c")
        send.options(conn=session.connection(bind_arguments={"mapper": Thing})).defer("a@b.c")


@pytest.mark.parametrize("many", [False, True])
def test_defers_at_once_on_one_asyncpg_connection_are_refused(
    send: AnyTask, dsn: str, conn: psycopg.Connection, many: bool
) -> None:
    async def scenario() -> list[Any]:
        async with ASYNC["asyncpg"](dsn) as caller:
            bound = send.options(conn=caller.conn)
            calls = [bound.defer_many_async([(f"{n}",)]) if many else bound.defer_async(f"{n}") for n in range(3)]
            found = await asyncio.gather(*calls, return_exceptions=True)
            await caller.commit()  # it is as good as before
        return found

    first, *others = asyncio.run(scenario())
    assert isinstance(first, Jobs if many else Job)
    assert all(isinstance(other, ConfigError) and "one statement at a time" in str(other) for other in others)
    assert len(conn.execute("select from pgqueue.job").fetchall()) == 1


@pytest.mark.parametrize("kind", ["asyncpg", "AsyncSession on asyncpg"])
def test_a_lost_plan_names_the_caches_to_switch_off(send: AnyTask, dsn: str, kind: str) -> None:
    """As behind a pooler that gives each transaction another session."""

    async def scenario() -> None:
        async with ASYNC[kind](dsn) as caller:
            await send.options(conn=caller.conn).defer_async("a@b.c")
            forget = "deallocate all"
            if kind == "asyncpg":
                await caller.conn.execute(forget)
            else:
                await caller.conn.execute(sa.text(forget))
            with pytest.raises(
                ConfigError, match="statement_cache_size=0 for asyncpg, and prepared_statement_cache_size=0"
            ):
                await send.options(conn=caller.conn).defer_async("a@b.c")

    asyncio.run(scenario())


def refused(dsn: str, kind: str, task: AnyTask) -> BaseException:
    """The error of a defer through one door."""

    async def scenario() -> None:
        async with ASYNC[kind](dsn) as caller:
            await task.options(conn=caller.conn).defer_async("a@b.c")

    with pytest.raises(PgQueueError) as caught:
        if kind in SYNC:
            with SYNC[kind](dsn) as caller:
                task.options(conn=caller.conn).defer("a@b.c")
        else:
            asyncio.run(scenario())
    return caught.value


@pytest.mark.parametrize("kind", [*SYNC, *ASYNC])
def test_a_missing_schema_is_told_by_every_door(fresh_dsn: str, kind: str) -> None:
    app = App(fresh_dsn)
    app._database._schema_fits = True  # else the check before it tells
    assert isinstance(refused(fresh_dsn, kind, app.task(name="t")(lambda to: None)), SchemaMissing)


@pytest.mark.parametrize("kind", [*SYNC, *ASYNC])
def test_a_missing_right_is_told_by_every_door(app: App, dsn: str, conn: psycopg.Connection, kind: str) -> None:
    conn.execute("drop role if exists pgqueue_outsider")
    conn.execute("create role pgqueue_outsider login")
    conn.execute("grant usage on schema pgqueue to pgqueue_outsider")
    try:
        outsider = psycopg.conninfo.make_conninfo(dsn, user="pgqueue_outsider")
        other = App(outsider)
        other._database._schema_fits = True
        assert isinstance(refused(outsider, kind, other.task(name="t")(lambda to: None)), NotAllowed)
    finally:
        conn.execute("drop owned by pgqueue_outsider")
        conn.execute("drop role pgqueue_outsider")


@pytest.fixture
def read_only(app: App, dsn: str, conn: psycopg.Connection) -> Iterator[str]:
    """A role that may defer, but for a setting."""
    conn.execute("drop role if exists pgqueue_reading")
    conn.execute("create role pgqueue_reading login; grant usage on schema pgqueue to pgqueue_reading")
    conn.execute("grant all on all tables in schema pgqueue to pgqueue_reading")
    conn.execute("grant all on all sequences in schema pgqueue to pgqueue_reading")
    conn.execute("alter role pgqueue_reading set default_transaction_read_only = on")
    yield psycopg.conninfo.make_conninfo(dsn, user="pgqueue_reading")
    conn.execute("drop owned by pgqueue_reading")
    conn.execute("drop role pgqueue_reading")


@pytest.mark.parametrize("kind", [*SYNC, *ASYNC])
def test_a_setting_that_refuses_writes_is_named_by_every_door(read_only: str, kind: str) -> None:
    told = refused(read_only, kind, App(read_only).task(name="t")(lambda to: None))
    assert isinstance(told, NotAllowed) and "\n" not in str(told)
    assert "default_transaction_read_only is on for role pgqueue_reading" in str(told)


def test_what_the_caller_has_set_read_only_fails_in_the_librarys_own_words(send: AnyTask, dsn: str) -> None:
    """As on psycopg: no setting refuses it, and a statement of the caller's would fail alike."""

    async def scenario() -> None:
        own = await connect_asyncpg(dsn)
        async with own.transaction(readonly=True):
            with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                await send.options(conn=own).defer_async("a@b.c")
        await own.close()

    asyncio.run(scenario())


def test_nobody_imports_a_library_for_nothing(dsn: str) -> None:
    program = (
        "import sys, psycopg, pgqueue\n"
        f"app = pgqueue.App({dsn!r})\n"
        "task = app.task(name='t')(lambda: None)\n"
        f"with psycopg.connect({dsn!r}) as conn:\n"
        "    task.options(conn=conn).defer(); task.options(conn=conn).defer_many([()])\n"
        "    conn.rollback()\n"
        "known = {'sqlalchemy', 'asyncpg', 'django', 'psycopg2', 'sqlmodel'}\n"
        "assert not known & {name.partition('.')[0] for name in sys.modules}, sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
