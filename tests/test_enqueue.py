"""A job exists exactly if the caller's transaction committed, and the caller's connection is left as found."""

import asyncio
import contextlib
import json
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest
from psycopg.pq import TransactionStatus
from psycopg.rows import class_row, dict_row, namedtuple_row, scalar_row

import pgqueue
from pgqueue import App, Job, Task, db
from tests.answers import one_value
from tests.conftest import Worker, eventually
from tests.untyped import untyped

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
    for unique in (None, True):
        jobs = send.options(conn=caller, unique=unique).defer_many([("a@b.c",), ("d@e.f",)])
        assert ids(conn) == set()
        caller.rollback()
        assert ids(conn) == set()
        jobs = send.options(conn=caller, unique=unique).defer_many([("a@b.c",), ("d@e.f",)])
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
        jobs = [send.options(conn=caller, unique=key).defer("a@b.c") for key in (None, "key", "key")]
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
    with app._database._own_pool().connection(), pytest.raises(pgqueue.DatabaseUnavailable, match="raise pool_size"):
        app.enqueue("mail.send")
    app.close()


def test_an_error_of_the_database_is_not_its_own_cause(app: App, conn: psycopg.Connection) -> None:
    with conn.transaction(force_rollback=True):
        conn.execute("set transaction read only")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction) as caught:
            app.enqueue("mail.send", conn=conn)
    assert caught.value.__cause__ is None


def test_errors_of_what_makes_the_calls_are_the_callers_own(
    send: AnyTask, caller: psycopg.Connection, dsn: str
) -> None:
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


# -- the caller's transaction --


@pytest.mark.parametrize("options", [{}, {"unique": "key"}, {"unique": True}, {"delay": 60}])
def test_a_job_exists_exactly_if_the_transaction_committed(
    send: AnyTask, caller: psycopg.Connection, conn: psycopg.Connection, options: dict[str, Any]
) -> None:
    for end in (caller.rollback, caller.commit):
        job = send.options(conn=caller, **options).defer("a@b.c")
        assert ids(conn) == set() and job.created
        end()
    assert ids(conn) == {job.id}


def test_savepoints(send: AnyTask, caller: psycopg.Connection, conn: psycopg.Connection) -> None:
    bound = send.options(conn=caller)
    with caller.transaction():
        outer = bound.defer("outer")
        with caller.transaction():
            kept = bound.defer_many([("kept",)])[0]
        with caller.transaction(force_rollback=True):
            bound.defer("undone")
            bound.defer_many([("undone",)])
        with pytest.raises(ZeroDivisionError), caller.transaction():
            bound.defer("failed")
            raise ZeroDivisionError
        assert ids(conn) == set()
    assert ids(conn) == {outer.id, kept.id}


def test_an_async_callers_transaction(send: AnyTask, dsn: str, conn: psycopg.Connection) -> None:
    async def scenario() -> set[str]:
        async with await psycopg.AsyncConnection.connect(dsn) as caller:
            bound = send.options(conn=caller)
            await bound.defer_async("rolled back")
            await caller.rollback()
            async with caller.transaction():
                one = await bound.defer_async("kept")
                async with caller.transaction(force_rollback=True):
                    await bound.defer_async("undone")
                two = await send.app.enqueue_async("mail.send", ["kept"], conn=caller)
                assert ids(conn) == set()
            return {one.id, two.id}

    assert asyncio.run(scenario()) == ids(conn)


def test_autocommit_commits_each_defer(send: AnyTask, dsn: str, conn: psycopg.Connection) -> None:
    with psycopg.connect(dsn, autocommit=True) as caller:
        one = send.options(conn=caller).defer("a@b.c")
        assert ids(conn) == {one.id}
        many = send.options(conn=caller).defer_many([("d@e.f",)] * 3)
        assert ids(conn) == {one.id, *(job.id for job in many)}
        assert caller.autocommit and caller.info.transaction_status == TransactionStatus.IDLE


@pytest.mark.parametrize("factory", [psycopg.Cursor, psycopg.RawCursor, psycopg.ClientCursor])
@pytest.mark.parametrize("rows", [dict_row, namedtuple_row, class_row(dict), scalar_row])
def test_any_kind_of_connection_is_left_as_found(
    send: AnyTask, caller: psycopg.Connection, conn: psycopg.Connection, factory: Any, rows: Any
) -> None:
    caller.cursor_factory, caller.row_factory = factory, rows
    caller.prepare_threshold = None
    job = send.options(conn=caller, unique="one").defer("a@b.c")
    again = send.options(conn=caller, unique="one").defer("a@b.c")
    many = send.options(conn=caller).defer_many([("d@e.f",)])
    assert (again.id, again.created) == (job.id, False)
    assert (caller.cursor_factory, caller.row_factory, caller.autocommit) == (factory, rows, False)
    assert caller.info.transaction_status == TransactionStatus.INTRANS
    caller.commit()
    assert ids(conn) == {job.id, many[0].id}


@pytest.mark.parametrize("level", [psycopg.IsolationLevel.REPEATABLE_READ, psycopg.IsolationLevel.SERIALIZABLE])
def test_stricter_isolation(
    send: AnyTask, caller: psycopg.Connection, conn: psycopg.Connection, level: psycopg.IsolationLevel
) -> None:
    caller.isolation_level = level
    caller.execute("select 1")
    jobs = [
        send.options(conn=caller, unique="ours").defer("a@b.c"),
        *send.options(conn=caller).defer_many([("d@e.f",)]),
    ]
    send.options(conn=conn, unique="theirs").defer("x@y.z")
    with pytest.raises(psycopg.errors.SerializationFailure), caller.transaction():
        send.options(conn=caller, unique="theirs").defer("a@b.c")  # newer than our snapshot: try the transaction again
    caller.commit()
    assert {job.id for job in jobs} < ids(conn)
    assert not send.options(conn=caller, unique="theirs").defer("a@b.c").created
    assert caller.isolation_level == level


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda send, caller: send.options(conn=caller).defer(), TypeError),
        (lambda send, caller: send.options(conn=caller).defer(object()), pgqueue.InvalidArguments),
        (lambda send, caller: send.options(conn=caller, queue="\0").defer("a"), pgqueue.InvalidOption),
        (lambda send, caller: send.options(conn=caller, headers={1: 2}).defer("a"), pgqueue.InvalidArguments),
        (lambda send, caller: send.options(conn=caller).defer_many([("a",), 5]), TypeError),
        (lambda send, caller: send.options(conn=caller).defer_many([("a",), ("b", "c", "d")]), TypeError),
        (lambda send, caller: send.options(conn=caller).defer_many([("a",), {"nobody": 1}]), TypeError),
        (lambda send, caller: send.options(conn=caller, unique=True).defer_many([("a",), 5]), TypeError),
        (lambda send, caller: send.options(conn=caller).defer_many([("a",), ("\0",)]), pgqueue.InvalidArguments),
        (lambda send, caller: send.options(conn=caller).defer_many(["abc"]), TypeError),
        (lambda send, caller: send.options(conn=caller).defer_many(1 / 0 for _ in "x"), ZeroDivisionError),
    ],
)
def test_b1_b27_an_error_leaves_the_transaction_usable_and_nothing_behind(
    send: AnyTask, caller: psycopg.Connection, conn: psycopg.Connection, wrong: Any, error: type[Exception]
) -> None:
    first = send.options(conn=caller).defer("first")
    with pytest.raises(error):
        wrong(send, caller)
    assert caller.info.transaction_status == TransactionStatus.INTRANS
    second = send.options(conn=caller).defer("second")
    caller.commit()
    assert ids(conn) == {first.id, second.id}


def test_a_missing_schema_leaves_the_transaction_usable(fresh_dsn: str) -> None:
    app = App(fresh_dsn)
    with psycopg.connect(fresh_dsn) as caller:
        caller.execute("create table mine (x int)")
        send = app.task(name="mail.send")(send_email).options(conn=caller)
        calls: list[Callable[[], object]] = [
            lambda: app.enqueue("mail.send", conn=caller),
            lambda: send.defer_many([("a@b.c",)]),
        ]
        for call in calls:
            with pytest.raises(pgqueue.SchemaMissing, match="run `pgqueue migrate`"):
                call()
        caller.execute("insert into mine values (1)")
        caller.commit()
        with pytest.raises(pgqueue.SchemaMissing, match="run `pgqueue migrate`"):
            app.enqueue("mail.send")
        app.migrate()
        app.enqueue("mail.send", conn=caller)
        assert caller.execute("select count(*) from pgqueue.job, mine").fetchone() == (1,)
    app.close()


def test_the_wrong_colour_of_connection(send: AnyTask, caller: psycopg.Connection, dsn: str) -> None:
    async def scenario() -> None:
        async with await psycopg.AsyncConnection.connect(dsn) as other:
            for wrong in (send.options(conn=other).defer, lambda to: send.options(conn=other).defer_many([(to,)])):
                with pytest.raises(pgqueue.ConfigError, match="defer_async"):
                    wrong("a@b.c")
            with pytest.raises(pgqueue.ConfigError, match="sync connection"):
                await send.options(conn=caller).defer_async("a@b.c")
            with pytest.raises(pgqueue.ConfigError, match="sync connection"):
                await send.options(conn=caller).defer_many_async([("a@b.c",)])
            await send.options(conn=other).defer_async("a@b.c")

    asyncio.run(scenario())
    send.options(conn=caller).defer("a@b.c")
    with pytest.raises(pgqueue.ConfigError, match=r"conn= takes a connection of psycopg.*, not a builtins\.str"):
        send.options(conn=untyped("postgresql://")).defer("a@b.c")


def test_a_generator_that_uses_the_same_connection(
    send: AnyTask, caller: psycopg.Connection, conn: psycopg.Connection
) -> None:
    caller.execute("create temp table person as select n || '@b.c' as address from generate_series(1, 2500) as n")
    bound = send.options(conn=caller)
    with caller.cursor("by_server") as cursor:
        cursor.execute("select address from person")
        jobs = bound.defer_many(cursor)
    jobs_of_jobs = bound.defer_many((bound.defer("inner").id,) for _ in range(3))
    caller.commit()
    assert arguments(conn)[:2500] == [f'["{n}@b.c"]' for n in range(1, 2501)]
    assert len(jobs) == 2500 and len(jobs_of_jobs) == 3 and len(ids(conn)) == 2506


# -- using() --


def test_using_nests_and_ends(send: AnyTask, caller: psycopg.Connection, conn: psycopg.Connection, dsn: str) -> None:
    with psycopg.connect(dsn) as inner, send.app.using(caller):
        send.defer("outer")
        with send.app.using(inner):
            job = send.defer("inner")
            assert job.state == "queued"  # questions go through the same connection, which sees its own jobs
        send.app.enqueue("mail.send", ["outer"])
        with pytest.raises(ZeroDivisionError), send.app.using(inner):
            raise ZeroDivisionError
        send.defer_many([("outer",)])
        send.options(conn=conn).defer("given")  # conn= is nearer than using()
        inner.rollback()
    assert arguments(conn) == ['["given"]']
    caller.commit()
    assert arguments(conn).count('["outer"]') == 3
    send.defer("alone")
    assert '["alone"]' in arguments(conn)


def test_using_belongs_to_one_asyncio_task(send: AnyTask, dsn: str, conn: psycopg.Connection) -> None:
    async def inside(name: str, meet: asyncio.Barrier) -> None:
        async with await psycopg.AsyncConnection.connect(dsn) as caller:
            with send.app.using(caller):
                await meet.wait()
                await send.defer_async(name)
                await meet.wait()
            if name == "kept":
                await caller.commit()
            else:
                await caller.rollback()

    async def outside(meet: asyncio.Barrier) -> None:
        await meet.wait()
        await send.defer_async("outside")
        assert arguments(conn) == ['["outside"]']
        await meet.wait()

    async def scenario() -> None:
        meet = asyncio.Barrier(3)
        await asyncio.gather(inside("kept", meet), inside("undone", meet), outside(meet))

    asyncio.run(scenario())
    assert sorted(arguments(conn)) == ['["kept"]', '["outside"]']


def test_using_belongs_to_one_thread(send: AnyTask, caller: psycopg.Connection, conn: psycopg.Connection) -> None:
    with send.app.using(caller):
        thread = threading.Thread(target=send.defer, args=["from the thread"])
        thread.start()
        thread.join()
        send.defer("from here")
    assert arguments(conn) == ['["from the thread"]']


def test_using_refuses_what_is_no_connection(app: App) -> None:
    with pytest.raises(pgqueue.ConfigError, match="conn= takes a connection of psycopg"), app.using(untyped(None)):
        pass


# -- many --


def test_defer_many_takes_any_iterable_and_keeps_its_order(send: AnyTask, conn: psycopg.Connection) -> None:
    jobs = send.defer_many({"to": f"{n}"} if n % 2 else (f"{n}", "odd") for n in range(100))
    rows = conn.execute("select id::text, args, kwargs, queue, task from pgqueue.job order by seq").fetchall()
    assert [row[0] for row in rows] == [job.id for job in jobs]
    assert rows[0][1:] == ('["0","odd"]', "{}", "mail", "mail.send") and rows[1][1:3] == ("[]", '{"to":"1"}')
    assert all(isinstance(job, Job) and job.created and job.task == "mail.send" for job in jobs)


def test_defer_many_of_nothing(send: AnyTask, conn: psycopg.Connection) -> None:
    for unique in (None, True):
        jobs = send.options(unique=unique).defer_many([])
        assert len(jobs) == 0 and list(jobs) == [] and not ids(conn)


@pytest.mark.parametrize("threshold", [5, 0])
def test_no_plan_is_kept_that_grows_wrong_with_the_tables(
    send: AnyTask, app: App, caller: psycopg.Connection, threshold: int
) -> None:
    caller.autocommit = True
    caller.prepare_threshold = threshold
    with app.using(caller):
        for n in range(10):
            job = send.defer(f"{n}")
            assert job.state == "queued"  # a few jobs; later there may be a million, and this connection still open
            db.run(caller, app.queries.finish(worker=str(uuid.uuid4()), ids=[job.id], tokens=[1], results=["1"]))
    kept = caller.execute("select statement from pg_prepared_statements", prepare=False).fetchall()
    assert len(kept) == 1 and "Insert jobs" in kept[0][0]


@pytest.mark.parametrize("options", [{}, {"unique": True}])
def test_twenty_thousand_at_once(send: AnyTask, conn: psycopg.Connection, options: dict[str, Any]) -> None:
    jobs = send.options(**options).defer_many((f"{n}\\ü\t\n\"'\\u0000",) for n in range(20_000))
    stored = conn.execute("select id::text, args from pgqueue.job order by id").fetchall()
    assert {id_: json.loads(args)[0] for id_, args in stored} == {
        job.id: f"{n}\\ü\t\n\"'\\u0000" for n, job in enumerate(jobs)
    }


def test_an_async_bulk_defer(send: AnyTask, conn: psycopg.Connection) -> None:
    async def scenario() -> list[str]:
        jobs = await send.defer_many_async((f"{n}",) for n in range(1500))
        with pytest.raises(TypeError, match=r"mail\.send"):
            await send.defer_many_async([("fine",), ()])
        unique = await send.options(unique=True).defer_many_async([("a",), ("a",)])
        assert [job.created for job in unique] == [True, False] and unique[0] == unique[1]
        return [*(job.id for job in jobs), unique[0].id]

    assert asyncio.run(scenario()) == [id_ for (id_,) in conn.execute("select id::text from pgqueue.job order by seq")]


def test_jobs_are_a_sequence(send: AnyTask) -> None:
    jobs = send.defer_many([("a",), ("b",), ("c",)])
    assert repr(jobs) == "<Jobs: 3 of mail.send>"
    assert jobs[-1] == jobs[2] != jobs[0] and jobs[1:] == [jobs[1], jobs[2]] and jobs[::-1][0] == jobs[2]
    assert jobs[1] in jobs and jobs.index(jobs[2]) == 2 and len(set(jobs)) == 3
    for wrong in (3, -4):
        with pytest.raises(IndexError):
            jobs[wrong]
    assert [job.state for job in jobs] == ["queued"] * 3


# -- options and columns --


def test_options_fill_their_columns(send: AnyTask, conn: psycopg.Connection) -> None:
    at = datetime(2150, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=5)))
    for place in ("single", "bulk", "unique", "async"):
        options: dict[str, Any] = {
            "queue": "slow; --'\"%s🐘", "priority": -7, "at": at, "expires": at + timedelta(1), "max_attempts": 3,
            "timeout": timedelta(minutes=1), "headers": {"trace": "ü"},
        }  # fmt: skip
        bound = send.options(**options, unique=True if place == "unique" else None)
        if place == "single":
            bound.defer("a")
        elif place == "async":
            asyncio.run(bound.defer_async("a"))
        else:
            bound.defer_many([("a",)])
        row = conn.execute(
            "delete from pgqueue.job"
            " returning queue, priority, run_at, expires_at, max_attempts, timeout_s, headers, state::text"
        ).fetchone()
        assert row == ("slow; --'\"%s🐘", -7, at, at + timedelta(1), 3, 60.0, '{"trace":"ü"}', "scheduled"), place


@pytest.fixture
def cheap(conn: psycopg.Connection) -> Iterator[None]:
    """No job of priority 7 is taken."""
    conn.execute("alter table pgqueue.job add constraint cheap check (priority <> 7)")
    yield
    conn.execute("alter table pgqueue.job drop constraint cheap")


@pytest.mark.usefixtures("cheap")
def test_calls_that_share_a_cursor_are_stored_each_as_it_is(dsn: str, conn: psycopg.Connection) -> None:
    """A pool's connection keeps its cursor, and with it how psycopg wrote the values of the call before, which may have failed."""
    app = App(dsn, pool_size=1)
    send = app.task(name="mail.send")(send_email)
    calls: list[dict[str, Any]] = [
        {"priority": 1},
        {"priority": 30_000, "timeout": 2.5, "headers": {"a": "☃"}, "unique": True},
        {"priority": 7},
        {},
        {"priority": -30_000, "timeout": timedelta(days=2), "max_attempts": 70_000},
        {"queue": "other", "max_attempts": 1, "timeout": 1, "unique": "ü"},
    ]

    async def there_too() -> None:
        for number, options in enumerate(calls):
            with _refused(options):
                await send.options(**options).defer_async("☃" * number)

    for number, options in enumerate(calls):
        with _refused(options):
            send.options(**options).defer("☃" * number)
    stored = "delete from pgqueue.job returning seq, queue, priority, timeout_s, headers, max_attempts, args"
    rows = sorted(conn.execute(stored).fetchall())
    asyncio.run(there_too())
    for found in (rows, sorted(conn.execute(stored).fetchall())):
        assert [row[1:] for row in found] == [
            ("default", 1, None, None, None, '[""]'),
            ("default", 30_000, 2.5, '{"a":"☃"}', None, '["☃"]'),
            ("default", 0, None, None, None, '["☃☃☃"]'),
            ("default", -30_000, 172_800, None, 70_000, '["☃☃☃☃"]'),
            ("other", 0, 1, None, 1, '["☃☃☃☃☃"]'),
        ]
    app.close()


def _refused(options: dict[str, Any]) -> contextlib.AbstractContextManager[Any]:
    return pytest.raises(psycopg.errors.CheckViolation) if options.get("priority") == 7 else contextlib.nullcontext()


@pytest.mark.parametrize("bulk", [False, True, "unique"])
@pytest.mark.parametrize(
    ("options", "state", "due_s"),
    [
        ({}, "queued", 0),
        ({"delay": 0}, "queued", 0),
        ({"delay": 90.5}, "scheduled", 90.5),
        ({"delay": timedelta(days=2)}, "scheduled", 172_800),
        ({"at": datetime(2000, 1, 1, tzinfo=UTC)}, "queued", None),
        ({"at": datetime(2199, 1, 1, tzinfo=UTC)}, "scheduled", None),
    ],
)
def test_when_by_the_databases_clock(
    send: AnyTask, conn: psycopg.Connection, options: dict[str, Any], state: str, due_s: float | None, bulk: Any
) -> None:
    bound = send.options(**options, unique=True if bulk == "unique" else None, expires=30)
    bound.defer_many([("a",)]) if bulk else bound.defer("a")
    row = conn.execute(
        "select state::text, extract(epoch from run_at - created_at)::float8,"
        " extract(epoch from expires_at - created_at)::float8, run_at from pgqueue.job"
    ).fetchone()
    assert row is not None and row[0] == state and row[2] == pytest.approx(30, abs=1)
    assert row[1] == pytest.approx(due_s, abs=1) if due_s is not None else row[3] == options["at"]


def test_a_tasks_own_options_are_the_defaults_of_its_calls(app: App, conn: psycopg.Connection) -> None:
    task = app.task(name="t", queue="own", priority=3, timeout=9, expires=timedelta(hours=1), max_attempts=4)(
        send_email
    )
    task.defer("a")
    task.options(queue="other", priority=0, timeout=1.5).defer("a")
    rows = conn.execute(
        "select queue, priority, timeout_s, max_attempts, expires_at > now() from pgqueue.job order by seq"
    )
    # max_attempts lives in the policy: a deploy changes it for jobs that wait already.
    assert rows.fetchall() == [("own", 3, 9.0, None, True), ("other", 0, 1.5, None, True)]


def test_delay_is_another_name_for_defer(send: AnyTask, conn: psycopg.Connection) -> None:
    assert {send.delay("a").id, send.options(priority=1).delay("b").id} == ids(conn)


# -- by name --


def test_enqueue_by_name(app: App, conn: psycopg.Connection) -> None:
    one = app.enqueue("shop.buy", ["x", 1], {"b": [None]}, queue="q", priority=2)
    two = asyncio.run(app.enqueue_async("shop.buy", (n for n in range(2)), delay=60))
    rows = conn.execute(
        "select id::text, task, args, kwargs, queue, priority, state::text from pgqueue.job order by seq"
    )
    assert rows.fetchall() == [
        (one.id, "shop.buy", '["x",1]', '{"b":[null]}', "q", 2, "queued"),
        (two.id, "shop.buy", "[0,1]", "{}", "default", 0, "scheduled"),
    ]


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        ({"task": ""}, pgqueue.InvalidOption, "task must not be empty"),
        ({"task": "a\nb"}, pgqueue.InvalidOption, "control character"),
        ({"task": "x" * 10_000}, pgqueue.InvalidOption, "at most 128"),
        ({"task": send_email}, pgqueue.InvalidOption, "task takes a string, not a function"),
        ({"task": "t", "args": "abc"}, TypeError, r"write args=\[...\]"),
        ({"task": "t", "args": {"a": 1}}, TypeError, r"write args=\[...\]"),
        ({"task": "t", "args": [object()]}, pgqueue.InvalidArguments, r"t: args\[0\] is an object"),
        ({"task": "t", "kwargs": {"a": {"b": "\0"}}}, pgqueue.InvalidArguments, r"t: kwargs\.a\.b contains NUL"),
        ({"task": "t", "kwargs": {1: 1}}, pgqueue.InvalidArguments, "int as a key"),
        ({"task": "t", "qeue": "x"}, pgqueue.InvalidOption, "did you mean 'queue'"),
        ({"task": "t", "args": ["x" * 1_000_001]}, pgqueue.InvalidArguments, "limit of 1,000,000"),
    ],
)
def test_enqueue_refuses(app: App, conn: psycopg.Connection, call: dict[str, Any], error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        app.enqueue(**call)
    assert not ids(conn)


@pytest.mark.parametrize("call", [((), {}), (("a", "b", "c"), {}), (("a",), {"to": "b"}), ((), {"too": "a"})])
def test_a_wrong_call_is_a_type_error_that_names_the_task(send: AnyTask, conn: psycopg.Connection, call: Any) -> None:
    with pytest.raises(TypeError, match=r"^mail\.send: "):
        send.defer(*call[0], **call[1])
    with pytest.raises(TypeError, match=r"^mail\.send: "):
        asyncio.run(send.defer_async(*call[0], **call[1]))
    assert not ids(conn)


# -- processes --


def test_a_forked_child_has_connections_of_its_own(send: AnyTask, conn: psycopg.Connection) -> None:
    before = send.defer("before")
    with pytest.raises(pgqueue.ResultTimeout):
        before.result(timeout=0.01)  # the results thread and its connection do not cross either
    child = os.fork()
    if child == 0:
        code = 1
        try:
            job = send.defer("from the child")
            with contextlib.suppress(pgqueue.ResultTimeout):
                job.result(timeout=0.1)
            send.defer_many([("from the child",)] * 3)
            asyncio.run(send.defer_async("from the child"))
            code = 0
        finally:
            os._exit(code)
    during = [send.defer("from the parent") for _ in range(50)]
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    during.append(send.defer("after"))
    assert {before.id, *(job.id for job in during)} < ids(conn)
    assert arguments(conn).count('["from the child"]') == 5


def test_an_app_goes_on_after_close(send: AnyTask, conn: psycopg.Connection) -> None:
    for _ in range(2):
        send.defer("a")
        send.app.close()
        send.app.close()
    assert len(ids(conn)) == 2
    eventually(lambda: sessions(conn) == 0, what="its connections are closed")


def test_by_name_a_known_task_keeps_its_defaults(app: App, conn: psycopg.Connection) -> None:
    app.task(name="known", queue="mail", priority=7, timeout=5)(print_nothing)
    app.enqueue("known")
    app.enqueue("known", queue="other")
    app.enqueue("unknown")
    rows = conn.execute("select queue, priority, timeout_s from pgqueue.job order by seq").fetchall()
    assert rows == [("mail", 7, 5.0), ("other", 7, 5.0), ("default", 0, None)]


def print_nothing() -> None:
    """A function to name."""


def test_delay_and_expires_count_from_the_call(send: AnyTask, app: App, dsn: str) -> None:
    """Not from the transaction's begin: after a minute of other work a delay of a minute would be over, and the job expired."""
    with psycopg.connect(dsn) as caller:
        began = one_value(caller, "select now()")
        caller.execute("select pg_sleep(1)")
        waits = [
            send.options(conn=caller, delay=60).defer("a@b.c"),
            *send.options(conn=caller, delay=60).defer_many([("b",)]),
        ]
        waits += send.options(conn=caller, delay=60, unique=True).defer_many([("c",), ("d",)])
        ends = [
            send.options(conn=caller, expires=60).defer("e"),
            *send.options(conn=caller, expires=60).defer_many([("f",)]),
        ]
        by_hand = one_value(caller, "select pgqueue.enqueue('t', delay => interval '60 s')::text")
        past = send.options(conn=caller, at=began + timedelta(seconds=0.5)).defer("g")  # over by now
    for job in (*waits, app.job(by_hand)):
        assert job.snapshot().run_at >= began + timedelta(seconds=61) and job.state == "scheduled"
        # What a policy's stop_after_delay counts from.
        assert job.snapshot().created_at >= began + timedelta(seconds=1)
    with psycopg.connect(dsn) as conn:
        rows = conn.execute(
            "select expires_at from pgqueue.job where id = any (%s)", [[job.id for job in ends]]
        ).fetchall()
    assert len(rows) == 2 and all(at >= began + timedelta(seconds=61) for (at,) in rows)
    assert past.state == "queued"


def test_an_atomic_task_ends_when_it_ends(dsn: str, app: App) -> None:
    """Its transaction began with it."""
    job = app.enqueue("tests.tasks.sleep_atomically", [1.0])
    assert Worker(dsn, "-c", "1", "--burst").wait() == 0
    found = job.snapshot()
    assert found.started_at is not None and found.finished_at is not None
    assert found.finished_at - found.started_at >= timedelta(seconds=1)
