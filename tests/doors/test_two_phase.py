"""A transaction that is to be prepared must not have rung: PostgreSQL refuses it then, and with it the caller's own data."""

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from benchmarks.chaos.cluster import Cluster
from pgqueue import App, Task
from tests.doors.callers import async_engine, engine
from tests.servers import shop_server

AnyTask = Task[Any, Any, Any]


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    """One of this module's own that prepares transactions, which few do."""
    with shop_server(max_prepared_transactions="5") as cluster:
        yield cluster


@pytest.fixture
def send(server: Cluster) -> Iterator[AnyTask]:
    app = App(server.dsn("shop"), notify="always")
    yield app.task(name="t")(lambda n: None)
    app.close()


def defer_all(send: AnyTask, conn: Any) -> list[str]:
    jobs = [send.options(conn=conn).defer(1), *send.options(conn=conn).defer_many([(2,)])]
    return [job.id for job in [*jobs, *send.options(conn=conn, unique=True).defer_many([(uuid.uuid4().hex,)])]]


def there(server: Cluster, ids: list[str]) -> int:
    with server.connect("shop") as conn:
        return len(conn.execute("select from pgqueue.job where id = any (%s)", [ids]).fetchall())


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_session_commits_in_two_phases(server: Cluster, send: AnyTask, driver: str) -> None:
    with Session(engine(server.dsn("shop"), driver), twophase=True) as session:
        ids = defer_all(send, session)
        session.commit()
    assert there(server, ids) == 3


def test_an_async_session_commits_in_two_phases(server: Cluster, send: AnyTask) -> None:
    async def scenario() -> str:
        async with AsyncSession(async_engine(server.dsn("shop"), "psycopg"), twophase=True) as session:
            job = await send.options(conn=session).defer_async(1)
            await session.commit()
        return job.id

    assert there(server, [asyncio.run(scenario())]) == 1


def test_orders_do_not_ring_either(server: Cluster, send: AnyTask) -> None:
    ended, waiting = (send.app.enqueue("t", [n], queue="closed") for n in range(2))
    ended.cancel()
    send.app.pause("closed")
    with Session(engine(server.dsn("shop"), "psycopg"), twophase=True) as session:
        with send.app.using(session):
            assert ended.retry() and waiting.cancel() and send.app.resume("closed")
        session.commit()
    assert (ended.state, waiting.state) == ("queued", "cancelled")


def test_psycopg2_prepares_what_an_app_defers_that_never_rings(server: Cluster) -> None:
    """psycopg2 keeps it to itself that a transaction is to be prepared, so the app has to say it."""
    silent = App(server.dsn("shop"), notify="never")
    caller = psycopg2.connect(server.dsn("shop"))
    caller.tpc_begin(caller.xid(1, "here", "there"))
    ids = defer_all(silent.task(name="t")(lambda n: None), caller)
    caller.tpc_prepare()
    caller.tpc_commit()
    caller.close()
    assert there(server, ids) == 3
