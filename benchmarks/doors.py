"""What the doors cost: `defer` through a session beside its bare INSERT on the same session, `defer_many` beside psycopg's own.

Shares, each of a pair that took turns: the figures themselves say little on a machine that others use too. A defer is measured as a
program makes it, with its commit; and by the hundred in one transaction, which shows our own work undiluted. Nobody waits for the
disk.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import repeat
from typing import Any

import asyncpg
import django
import psycopg
import psycopg2
import sqlalchemy as sa
from django.conf import settings
from django.db import connections
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from benchmarks.bench import Bench
from pgqueue import App
from pgqueue.bench.measurement import Measurement, at_least, typical
from pgqueue.client.enqueue import enqueue_one
from pgqueue.client.options import Options
from pgqueue.db.doors.text import arguments, numbered
from pgqueue.job import new_id

PAIRS = 120
WARM = 2  # pairs more at the beginning, in which statements are prepared
BLOCK = 25  # defers between two turns
NO_WAIT = sa.text("set synchronous_commit = off")
MANY = 100_000
DEFER = at_least(85)  # % of the rate of the bare INSERT
DEFER_MANY = at_least(60)  # % of the rate on a psycopg connection
Pair = tuple[float, float]


def measure(bench: Bench) -> Iterator[Measurement]:
    """Pairs begin with one and with the other in turn."""
    for commits, note, target in ((True, "", DEFER), (False, ", in one transaction", None)):
        found = asyncio.run(_async_defers(bench, commits=commits))
        yield _share(f"defer, AsyncSession on asyncpg{note}", found, target)
        for driver in ("psycopg", "psycopg2"):
            yield _share(f"defer, Session on {driver}{note}", _defers(bench, driver, commits=commits), target)
    for kind, rate in MANY_KINDS.items():
        found = [_many_pair(bench, rate, turn) for turn in range(bench.repeat)]
        yield _share(f"defer_many of {MANY:,}, {kind}", found, DEFER_MANY)
    bench.empty()


def _share(name: str, pairs: list[Pair], target: Any) -> Measurement:
    """In seconds of one and the other."""
    return typical(f"{name}: share of its floor", [100 * base / ours for ours, base in pairs], "%", target)


# -- one by one --


def _bare(app: App) -> tuple[str, dict[str, Any]]:
    """What `defer` says."""
    (statement,) = enqueue_one(app.queries, "noop", ("[]", "{}"), job_id=new_id(), options=Options(), ring="always")
    return statement.sql, dict(statement.params)


def _defers(bench: Bench, driver: str, *, commits: bool) -> list[Pair]:
    sql, params = _bare(bench.app)
    with Session(_engine(bench.app.dsn, driver)) as session:
        session.execute(NO_WAIT)
        defer = bench.task("noop").options(conn=session).defer

        def insert() -> None:
            session.connection().exec_driver_sql(sql, {**params, "id": new_id()}).all()

        def block(call: Callable[[], Any]) -> float:
            began = time.perf_counter()
            for _ in range(BLOCK):
                call()
                if commits:
                    session.commit()
            return time.perf_counter() - began

        found = []
        for turn in range(bench.count(PAIRS) + WARM):
            if turn % 2:
                base, ours = block(insert), block(defer)
            else:
                ours, base = block(defer), block(insert)
            found.append((ours, base))
            session.commit()
    return found[WARM:]


async def _async_defers(bench: Bench, *, commits: bool) -> list[Pair]:
    sql, params = _bare(bench.app)
    text, places = numbered(sql)
    async with _async_session(bench.app.dsn, "asyncpg") as session:
        await session.execute(NO_WAIT)
        defer = bench.task("noop").options(conn=session).defer_async

        async def insert() -> None:
            conn = await session.connection()
            (await conn.exec_driver_sql(text, arguments(places, {**params, "id": new_id()}))).all()

        async def block(call: Callable[[], Any]) -> float:
            began = time.perf_counter()
            for _ in range(BLOCK):
                await call()
                if commits:
                    await session.commit()
            return time.perf_counter() - began

        found = []
        for turn in range(bench.count(PAIRS) + WARM):
            if turn % 2:
                base, ours = await block(insert), await block(defer)
            else:
                ours, base = await block(defer), await block(insert)
            found.append((ours, base))
            await session.commit()
    return found[WARM:]


# -- many --


def _many_pair(bench: Bench, seconds: Callable[[Bench, int], float], turn: int) -> Pair:
    jobs = bench.count(MANY)
    if turn % 2:
        base, ours = _many_by_psycopg(bench, jobs), seconds(bench, jobs)
    else:
        ours, base = seconds(bench, jobs), _many_by_psycopg(bench, jobs)
    return ours, base


def _timed(bench: Bench, conn: Any, commit: Callable[[], Any], jobs: int) -> float:
    """Until they are committed, by a connection that has spoken before."""
    bench.empty()
    bound = bench.task("noop").options(conn=conn)
    bound.defer()
    began = time.perf_counter()
    bound.defer_many(repeat((), jobs))
    commit()
    return time.perf_counter() - began


async def _timed_async(bench: Bench, conn: Any, commit: Callable[[], Any], jobs: int) -> float:
    bench.empty()
    bound = bench.task("noop").options(conn=conn)
    await bound.defer_async()
    began = time.perf_counter()
    await bound.defer_many_async(repeat((), jobs))
    await commit()
    return time.perf_counter() - began


def _many_by_psycopg(bench: Bench, jobs: int) -> float:
    with psycopg.connect(bench.app.dsn) as conn:
        return _timed(bench, conn, conn.commit, jobs)


def _many_by_psycopg2(bench: Bench, jobs: int) -> float:
    conn = psycopg2.connect(bench.app.dsn)
    try:
        return _timed(bench, conn, conn.commit, jobs)
    finally:
        conn.close()


def _many_by_session(driver: str) -> Callable[[Bench, int], float]:
    def timed(bench: Bench, jobs: int) -> float:
        with Session(_engine(bench.app.dsn, driver)) as session:
            return _timed(bench, session, session.commit, jobs)

    return timed


def _many_by_async_session(driver: str) -> Callable[[Bench, int], float]:
    async def timed(bench: Bench, jobs: int) -> float:
        async with _async_session(bench.app.dsn, driver) as session:
            return await _timed_async(bench, session, session.commit, jobs)

    return lambda bench, jobs: asyncio.run(timed(bench, jobs))


def _many_by_asyncpg(bench: Bench, jobs: int) -> float:
    async def timed() -> float:
        conn = await _connect_asyncpg(bench.app.dsn)
        transaction = conn.transaction()
        await transaction.start()
        try:
            return await _timed_async(bench, conn, transaction.commit, jobs)
        finally:
            await conn.close()

    return asyncio.run(timed())


def _many_by_django(bench: Bench, jobs: int) -> float:
    with _django_connection(bench.app.dsn) as conn:
        return _timed(bench, conn, conn.commit, jobs)


MANY_KINDS = {
    "psycopg2": _many_by_psycopg2,
    "asyncpg": _many_by_asyncpg,
    "Django": _many_by_django,
    "Session on psycopg": _many_by_session("psycopg"),
    "Session on psycopg2": _many_by_session("psycopg2"),
    "AsyncSession on asyncpg": _many_by_async_session("asyncpg"),
    "AsyncSession on psycopg": _many_by_async_session("psycopg"),
}


# -- connections --


def _engine(dsn: str, driver: str) -> sa.Engine:
    connect = {"psycopg": psycopg.connect, "psycopg2": psycopg2.connect}[driver]
    return sa.create_engine(f"postgresql+{driver}://", creator=lambda: connect(dsn))


@asynccontextmanager
async def _async_session(dsn: str, driver: str) -> AsyncIterator[AsyncSession]:
    async def connect() -> Any:
        return await (_connect_asyncpg(dsn) if driver == "asyncpg" else psycopg.AsyncConnection.connect(dsn))

    engine = create_async_engine(f"postgresql+{driver}://", async_creator=connect)
    async with AsyncSession(engine) as session:
        yield session
    await engine.dispose()


async def _connect_asyncpg(dsn: str) -> Any:
    parts: dict[str, Any] = conninfo_to_dict(dsn)
    return await asyncpg.connect(
        host=parts["host"], port=int(parts["port"]), user=parts["user"], password=parts.get("password"),
        database=parts["dbname"],
    )  # fmt: skip


@contextmanager
def _django_connection(dsn: str) -> Iterator[Any]:
    parts: dict[str, Any] = conninfo_to_dict(dsn)
    if not settings.configured:
        settings.configure(USE_TZ=True, DATABASES={"default": {"ENGINE": "django.db.backends.postgresql"}})
        django.setup()
    connections.settings["default"].update(
        NAME=parts["dbname"], USER=parts["user"], HOST=parts["host"], PORT=parts["port"],
        PASSWORD=parts.get("password", ""),
    )  # fmt: skip
    conn = connections["default"]
    conn.set_autocommit(False)
    try:
        yield conn
    finally:
        conn.close()
        del connections["default"]
