"""What a defer costs the server through each door: one statement, as counted there."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.chaos.cluster import Cluster
from pgqueue import App, Task
from tests.doors.callers import ASYNC, SYNC
from tests.servers import shop_server

AnyTask = Task[Any, Any, Any]
DEFERS = 10
# What a transaction costs whoever uses it.
FRAME = "^(begin|commit|rollback|start transaction)"


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    """One of this module's own, which counts statements."""
    with shop_server(extension="pg_stat_statements", shared_preload_libraries="pg_stat_statements") as cluster:
        yield cluster


@pytest.fixture
def send(server: Cluster) -> Iterator[AnyTask]:
    app = App(server.dsn("shop"))
    yield app.task(name="t")(lambda n: None)
    app.close()


def said(server: Cluster) -> dict[str, int]:
    """The statements since the last reset, but for our own questions."""
    with server.connect("shop") as conn:
        return dict(
            conn.execute(
                "select left(query, 80), sum(calls)::int from pg_stat_statements"
                " where query !~* %s and query not like '%%pg_stat_%%' group by 1",
                [FRAME],
            ).fetchall()
        )


def reset(server: Cluster) -> None:
    with server.connect("shop") as conn:
        conn.execute("select pg_stat_statements_reset()")


def check(found: dict[str, int]) -> None:
    ((text, calls),) = found.items()
    assert text.startswith("-- Insert jobs") or text.startswith("with given as"), found
    assert calls == DEFERS


@pytest.mark.parametrize("kind", SYNC)
def test_one_statement_a_defer(server: Cluster, send: AnyTask, kind: str) -> None:
    with SYNC[kind](server.dsn("shop")) as caller:
        send.options(conn=caller.conn).defer(0)
        reset(server)
        for n in range(DEFERS):
            send.options(conn=caller.conn).defer(n)
        check(said(server))
        caller.rollback()


@pytest.mark.parametrize("kind", ASYNC)
def test_one_statement_an_async_defer(server: Cluster, send: AnyTask, kind: str) -> None:
    async def scenario() -> None:
        async with ASYNC[kind](server.dsn("shop")) as caller:
            await send.options(conn=caller.conn).defer_async(0)
            reset(server)
            for n in range(DEFERS):
                await send.options(conn=caller.conn).defer_async(n)
            check(said(server))
            await caller.rollback()

    asyncio.run(scenario())
