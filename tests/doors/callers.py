"""Each kind of connection that a program may have, with what commits it: the real libraries on the real server."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple

import asyncpg
import django
import psycopg
import psycopg2
import sqlalchemy as sa
import sqlmodel
from django.conf import settings
from django.db import connections, transaction
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker


class Caller(NamedTuple):
    """What goes to conn=, and its transaction; nested gives a block that rolls itself back."""

    conn: Any
    commit: Callable[[], Any]
    rollback: Callable[[], Any]
    nested: Callable[[], Any]


def engine(dsn: str, driver: str) -> sa.Engine:
    connect = {"psycopg": psycopg.connect, "psycopg2": psycopg2.connect}[driver]
    return sa.create_engine(f"postgresql+{driver}://", creator=lambda: connect(dsn), poolclass=sa.NullPool)


def async_engine(dsn: str, driver: str) -> AsyncEngine:
    async def connect() -> Any:
        return await (connect_asyncpg(dsn) if driver == "asyncpg" else psycopg.AsyncConnection.connect(dsn))

    return create_async_engine(f"postgresql+{driver}://", async_creator=connect, poolclass=sa.NullPool)


async def connect_asyncpg(dsn: str, **settings: Any) -> Any:
    parts: dict[str, Any] = conninfo_to_dict(dsn)
    return await asyncpg.connect(
        host=parts["host"], port=int(parts["port"]), user=parts["user"], password=parts.get("password"),
        database=parts["dbname"], **settings,
    )  # fmt: skip


# -- sync --


@contextmanager
def by_psycopg2(dsn: str) -> Iterator[Caller]:
    conn = psycopg2.connect(dsn)

    @contextmanager
    def nested() -> Iterator[None]:
        with conn.cursor() as cursor:
            cursor.execute("savepoint inner_one")
            yield
            cursor.execute("rollback to savepoint inner_one")

    try:
        yield Caller(conn, conn.commit, conn.rollback, nested)
    finally:
        conn.close()


def _rolled_back(begin: Callable[[], Any]) -> Callable[[], Any]:
    @contextmanager
    def nested() -> Iterator[None]:
        inner = begin()
        yield
        inner.rollback()

    return nested


def by_session(driver: str) -> Callable[[str], Any]:
    @contextmanager
    def opened(dsn: str) -> Iterator[Caller]:
        with Session(engine(dsn, driver)) as session:
            yield Caller(session, session.commit, session.rollback, _rolled_back(session.begin_nested))

    return opened


def by_connection(driver: str) -> Callable[[str], Any]:
    @contextmanager
    def opened(dsn: str) -> Iterator[Caller]:
        with engine(dsn, driver).connect() as conn:
            yield Caller(conn, conn.commit, conn.rollback, _rolled_back(conn.begin_nested))

    return opened


@contextmanager
def by_scoped_session(dsn: str) -> Iterator[Caller]:
    scoped = scoped_session(sessionmaker(engine(dsn, "psycopg")))
    try:
        yield Caller(scoped, scoped.commit, scoped.rollback, _rolled_back(scoped.begin_nested))
    finally:
        scoped.remove()


@contextmanager
def by_django(dsn: str) -> Iterator[Caller]:
    if not settings.configured:
        settings.configure(USE_TZ=True, DATABASES={"default": {"ENGINE": "django.db.backends.postgresql"}})
        django.setup()
    parts: dict[str, Any] = conninfo_to_dict(dsn)
    connections.settings["default"].update(
        NAME=parts["dbname"], USER=parts["user"], HOST=parts["host"], PORT=parts["port"],
        PASSWORD=parts.get("password", ""),
    )  # fmt: skip
    connection = connections["default"]

    @contextmanager
    def nested() -> Iterator[None]:
        with transaction.atomic():
            yield
            transaction.set_rollback(True)

    connection.set_autocommit(False)
    try:
        yield Caller(connection, connection.commit, connection.rollback, nested)
    finally:
        connection.close()
        del connections["default"]


@contextmanager
def by_sqlmodel(dsn: str) -> Iterator[Caller]:
    with sqlmodel.Session(engine(dsn, "psycopg")) as session:
        yield Caller(session, session.commit, session.rollback, _rolled_back(session.begin_nested))


SYNC: dict[str, Callable[[str], Any]] = {
    "SQLModel": by_sqlmodel,
    "psycopg2": by_psycopg2,
    "Django": by_django,
    "Session on psycopg": by_session("psycopg"),
    "Session on psycopg2": by_session("psycopg2"),
    "Connection on psycopg": by_connection("psycopg"),
    "Connection on psycopg2": by_connection("psycopg2"),
    "scoped_session": by_scoped_session,
}


# -- async --


@asynccontextmanager
async def by_asyncpg(dsn: str) -> AsyncIterator[Caller]:
    conn = await connect_asyncpg(dsn)
    try:
        yield await _begun(conn)
    finally:
        await conn.close()


@asynccontextmanager
async def by_asyncpg_pool(dsn: str) -> AsyncIterator[Caller]:
    parts: dict[str, Any] = conninfo_to_dict(dsn)
    async with asyncpg.create_pool(
        host=parts["host"], port=int(parts["port"]), user=parts["user"], password=parts.get("password"),
        database=parts["dbname"], min_size=1, max_size=1,
    ) as pool, pool.acquire() as conn:  # fmt: skip
        yield await _begun(conn)


async def _begun(conn: Any) -> Caller:
    transaction = conn.transaction()
    await transaction.start()

    @asynccontextmanager
    async def nested() -> AsyncIterator[None]:
        inner = conn.transaction()
        await inner.start()
        yield
        await inner.rollback()

    return Caller(conn, transaction.commit, transaction.rollback, nested)


def _rolled_back_async(begin: Callable[[], Awaitable[Any]]) -> Callable[[], Any]:
    @asynccontextmanager
    async def nested() -> AsyncIterator[None]:
        inner = await begin()
        yield
        await inner.rollback()

    return nested


def by_async_session(driver: str) -> Callable[[str], Any]:
    @asynccontextmanager
    async def opened(dsn: str) -> AsyncIterator[Caller]:
        async with AsyncSession(async_engine(dsn, driver)) as session:
            yield Caller(session, session.commit, session.rollback, _rolled_back_async(session.begin_nested))

    return opened


def by_async_connection(driver: str) -> Callable[[str], Any]:
    @asynccontextmanager
    async def opened(dsn: str) -> AsyncIterator[Caller]:
        async with async_engine(dsn, driver).connect() as conn:
            yield Caller(conn, conn.commit, conn.rollback, _rolled_back_async(conn.begin_nested))

    return opened


@asynccontextmanager
async def by_async_scoped_session(dsn: str) -> AsyncIterator[Caller]:
    scoped = async_scoped_session(async_sessionmaker(async_engine(dsn, "asyncpg")), scopefunc=lambda: None)
    try:
        yield Caller(scoped, scoped.commit, scoped.rollback, _rolled_back_async(scoped.begin_nested))
    finally:
        await scoped.remove()


ASYNC: dict[str, Callable[[str], Any]] = {
    "asyncpg": by_asyncpg,
    "asyncpg's pool": by_asyncpg_pool,
    "AsyncSession on asyncpg": by_async_session("asyncpg"),
    "AsyncSession on psycopg": by_async_session("psycopg"),
    "AsyncConnection on asyncpg": by_async_connection("asyncpg"),
    "AsyncConnection on psycopg": by_async_connection("psycopg"),
    "async_scoped_session": by_async_scoped_session,
}
