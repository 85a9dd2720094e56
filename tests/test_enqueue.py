"""How jobs get in: a job exists exactly if the caller's transaction committed, and the caller's connection is left as found."""

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

import pgqueue
from pgqueue import App, Task
from tests.conftest import eventually

AnyTask = Task[Any, Any, Any]


def send_email(to: str, subject: str = "hi") -> str:
    """The task of these tests; nobody runs it."""
    return f"{to}: {subject}"


@pytest.fixture
def send(app: App) -> AnyTask:
    return app.task(name="mail.send", queue="mail")(send_email)


@pytest.fixture
def caller(dsn: str) -> Iterator[psycopg.Connection]:
    """A caller's connection as psycopg makes them: without autocommit."""
    with psycopg.connect(dsn) as connection:
        yield connection
        connection.rollback()


def ids(conn: psycopg.Connection) -> set[str]:
    """The jobs that everybody sees."""
    return {id_ for (id_,) in conn.execute("select id::text from pgqueue.job")}


def arguments(conn: psycopg.Connection) -> list[str]:
    """The arguments of all jobs in the order in which they will run."""
    return [args for (args,) in conn.execute("select args from pgqueue.job order by seq")]


def test_a_bulk_defer_does_not_commit_the_callers_transaction(
    send: AnyTask, caller: psycopg.Connection, conn: psycopg.Connection
) -> None:
    send.options(conn=caller).defer("first@a.b")  # from here on the schema is known to fit
    caller.rollback()
    for options in ({}, {"unique": True}):
        jobs = send.options(conn=caller, **options).defer_many([("a@b.c",), ("d@e.f",)])
        assert ids(conn) == set()
        caller.rollback()
        assert ids(conn) == set()
        jobs = send.options(conn=caller, **options).defer_many([("a@b.c",), ("d@e.f",)])
        caller.commit()
        assert ids(conn) == {job.id for job in jobs}
        conn.execute("truncate pgqueue.job")


def test_an_async_bulk_defer_does_not_commit_the_callers_transaction(
    send: AnyTask, dsn: str, conn: psycopg.Connection
) -> None:
    async def scenario() -> set[str]:
        async with await psycopg.AsyncConnection.connect(dsn) as caller:
            await send.options(conn=caller).defer_async("first@a.b")
            await caller.rollback()
            await send.options(conn=caller).defer_many_async([("a@b.c",)])
            await caller.rollback()
            assert ids(conn) == set()
            jobs = await send.options(conn=caller).defer_many_async([("a@b.c",), ("d@e.f",)])
            assert ids(conn) == set()
            await caller.commit()
            return {job.id for job in jobs}

    assert asyncio.run(scenario()) == ids(conn)


def test_in_a_pipeline(send: AnyTask, caller: psycopg.Connection, conn: psycopg.Connection) -> None:
    with caller.pipeline():
        sent = caller.execute("select 'sent before'")
        jobs = [send.options(conn=caller, **options).defer("a@b.c") for options in ({}, {"unique": "key"}, {"unique": "key"})]
        jobs += send.options(conn=caller, unique=True).defer_many([("d@e.f",)])
        with pytest.raises(pgqueue.ConfigError, match=r"outside of conn\.pipeline"):
            send.options(conn=caller).defer_many([("d@e.f",)])
        assert sent.fetchone() == ("sent before",)
    assert [job.created for job in jobs] == [True, True, False, True] and ids(conn) == set()
    caller.commit()
    assert ids(conn) == {job.id for job in jobs}


def test_in_an_async_pipeline(send: AnyTask, dsn: str, conn: psycopg.Connection) -> None:
    async def scenario() -> set[str]:
        async with await psycopg.AsyncConnection.connect(dsn) as caller:
            async with caller.pipeline():
                job = await send.options(conn=caller).defer_async("a@b.c")
                with pytest.raises(pgqueue.ConfigError, match=r"outside of conn\.pipeline"):
                    await send.options(conn=caller).defer_many_async([("d@e.f",)])
            return {job.id}

    assert asyncio.run(scenario()) == ids(conn)


def end_sessions(conn: psycopg.Connection) -> int:
    """End every session of pgqueue's own in this database, as a restart of the server does; returns how many."""
    ended = conn.execute(
        "select pg_terminate_backend(pid, 10000) from pg_stat_activity"
        " where datname = current_database() and application_name = 'pgqueue'"
    ).fetchall()
    return len(ended)


def test_pooled_connections_survive_a_restart_of_the_server(send: AnyTask, conn: psycopg.Connection) -> None:
    for _ in range(3):
        send.defer("a@b.c")
        assert end_sessions(conn)
    assert len(ids(conn)) == 3


def test_async_pooled_connections_survive_a_restart_of_the_server(send: AnyTask, conn: psycopg.Connection) -> None:
    async def scenario() -> None:
        for _ in range(3):
            await send.defer_async("a@b.c")
            assert end_sessions(conn)

    asyncio.run(scenario())
    assert len(ids(conn)) == 3


def test_a_pool_that_is_used_up_says_so(dsn: str) -> None:
    app = App(dsn, pool_size=1, pool_timeout_s=0.05)
    with app._own_pool().connection(), pytest.raises(pgqueue.DatabaseUnavailable, match="raise pool_size"):
        app.enqueue("mail.send")
    app.close()


def test_an_error_of_the_database_is_not_its_own_cause(app: App, conn: psycopg.Connection) -> None:
    with conn.transaction(force_rollback=True):
        conn.execute("set transaction read only")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction) as caught:
            app.enqueue("mail.send", conn=conn)
    assert caught.value.__cause__ is None


def test_errors_of_what_makes_the_calls_are_the_callers_own(send: AnyTask, caller: psycopg.Connection, dsn: str) -> None:
    def addresses() -> Iterator[tuple[str]]:
        yield ("a@b.c",)
        with psycopg.connect(dsn) as other:
            yield from other.execute("select address from no_such_table")

    caller.execute("create temp table mine ()")
    with pytest.raises(psycopg.errors.UndefinedTable, match="no_such_table"):
        send.options(conn=caller).defer_many(addresses())
    assert caller.execute("select count(*) from pgqueue.job, mine").fetchone() == (0,)


def sessions(conn: psycopg.Connection) -> int:
    """How many sessions pgqueue has in this database."""
    ((count,),) = conn.execute(
        "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'pgqueue'"
    )
    return int(count)


def test_one_event_loop_after_the_other(send: AnyTask, conn: psycopg.Connection) -> None:
    for n in range(10):
        asyncio.run(send.defer_async(f"{n}@b.c"))
    assert len(ids(conn)) == 10
    eventually(lambda: sessions(conn) == 0, what="each loop took its connections with it")


def test_many_first_defers_at_once_share_one_pool(dsn: str, conn: psycopg.Connection) -> None:
    app = App(dsn, pool_size=2)
    most = 0

    async def scenario() -> None:
        nonlocal most
        defers = asyncio.gather(*(app.enqueue_async("mail.send", [n]) for n in range(100)))
        while not defers.done():
            most = max(most, await asyncio.to_thread(sessions, conn))
        assert len(await defers) == 100

    asyncio.run(scenario())
    assert len(ids(conn)) == 100 and most <= 4  # two, while those that checked the schema and the DSN are going
