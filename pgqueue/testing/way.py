"""How a sync drain reaches the database and runs a job: on connections of its own, or in the transaction of the test."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from pgqueue import db
from pgqueue.app import App
from pgqueue.errors import ConfigError
from pgqueue.job import Outcome
from pgqueue.queries import Statement, Steps
from pgqueue.task import AnyTask
from pgqueue.testing.bridge import AsyncBridge, Call, call_here
from pgqueue.testing.delivering import deliver_apart, deliver_here, subscribe_apart, subscribe_here
from pgqueue.testing.kept import close_kept, kept
from pgqueue.testing.loop import execute_in_time, execute_sync, job_loop
from pgqueue.testing.witness import Witness
from pgqueue.worker.child.contexts import Contexts

T = TypeVar("T")
R = TypeVar("R")

# As in a child: what stood there when the kit was imported. What a test sets in context variables no job sees, nor would
# a worker's.
contexts = Contexts()


class OwnWay:
    """As a worker: each statement commits by itself, and an atomic task has a connection of its own."""

    own = True

    def __init__(self, app: App, *, name: str) -> None:
        self._app = app
        self._conn = kept(app)
        self._name = name
        self._atomic: db.Connection | None = None

    def run(self, steps: Steps[T]) -> T:
        return db.run(self._conn, steps)

    def subscribe(self) -> None:
        subscribe_apart(self._app)

    def deliver(self) -> None:
        deliver_apart(self._app)

    def look(self, statement: Statement[R]) -> list[R]:
        return db.run(self._conn, statement)

    async def look_async(self, statement: Statement[R]) -> list[R]:
        return self.look(statement)

    def check(self, task: AnyTask) -> None:
        """Every task can run here."""

    def execute(self, attempt: Witness) -> Outcome:
        attempt.seen.look, attempt.seen.look_async = self.look, self.look_async
        context = contexts.fresh()
        if not attempt.task.is_async:
            return context.run(execute_sync, attempt, self._connect)
        if self._app._database._framework is not None and "django.db" in sys.modules:
            # Its async ORM then works in this thread; what it opens in another nobody closes before the database is dropped.
            outcome: Outcome = context.run(_Asgiref().to_sync(execute_in_time), attempt, self._connect_async)
            return outcome
        return job_loop.run(execute_in_time(attempt, self._connect_async), context=context)

    def _connect(self) -> db.Connection:
        if self._atomic is None or self._atomic.closed or self._atomic.broken:
            self._atomic = db.connect(self._app.dsn, name=self._name, private=False)
        return self._atomic

    async def _connect_async(self) -> db.AsyncConnection:
        return await db.connect_async(self._app.dsn, name=self._name, private=False)

    def close(self) -> None:
        if self._atomic is not None:
            self._atomic.close()
        if self._app._database._framework is not None:
            # Django's test runner drops the database, and nobody else may be connected then.
            close_kept()
            job_loop.close()


class LentWay:
    """In the test's transaction: jobs, what they defer, and their ends are there for nobody else, and gone with it.

    Each job has a savepoint, which is rolled back only where the job has spoiled the transaction: a failed statement would be the
    end of the test's transaction too, while on a connection of its own, as in a worker, it is the job's alone.
    """

    own = False

    def __init__(self, app: App, given: Any, conn: Any) -> None:
        self._app = app
        self._given = given
        self._conn = conn

    def run(self, steps: Steps[T]) -> T:
        return db.run(self._conn, steps)

    def subscribe(self) -> None:
        self.run(subscribe_here(self._app))

    def deliver(self) -> None:
        self.run(deliver_here(self._app))

    def look(self, statement: Statement[R]) -> list[R]:
        return db.run(self._conn, statement)

    async def look_async(self, statement: Statement[R]) -> list[R]:
        call = call_here if (sync := _by_asgiref(self._given)) is None else sync.call
        rows: list[R] = await call(self.look, statement)
        return rows

    def check(self, task: AnyTask) -> None:
        """Raises ConfigError for an atomic task that cannot run here."""
        if task.atomic and task.is_async:
            raise ConfigError(
                f"task {task.name} is async and atomic: it needs an async conn=, as in await drain_async(conn=...)"
            )
        if task.atomic:
            psycopg_of(task, self._driver())

    def _driver(self) -> Any:
        return self._conn.driver() if db.is_foreign(self._conn) else self._conn

    def execute(self, attempt: Witness) -> Outcome:
        attempt.seen.look, attempt.seen.look_async = self.look, self.look_async
        outcome: Outcome | None = None
        try:
            with self._block():
                outcome = contexts.fresh().run(self._executed, attempt)
                db.run(self._conn, self._app.queries.begin())
        except Exception:
            if outcome is None:
                raise
        return outcome

    def _block(self) -> Any:
        block = self._conn.transaction()
        if hasattr(block, "_from_testcase"):  # of Django: a task may say atomic(durable=True), as TestCase lets a test
            block._from_testcase = True
        return block

    def _executed(self, attempt: Witness) -> Outcome:
        if not attempt.task.is_async:
            with self._app.using(self._given):
                return execute_sync(attempt, self._driver)
        if (sync := _by_asgiref(self._given)) is not None:
            outcome: Outcome = sync.to_sync(self._executed_async)(attempt, sync.call)
            return outcome
        return job_loop.run(self._executed_async(attempt, call_here), context=contexts.fresh())

    async def _executed_async(self, attempt: Witness, call: Call) -> Outcome:
        with self._app._database.using.block(AsyncBridge(self._conn, call)):
            return await execute_in_time(attempt, _no_connection)

    def close(self) -> None:
        """The connection is the test's."""


async def _no_connection() -> Any:
    raise NotImplementedError("refused by check()")


class _Asgiref:
    """Django's way: what its async ORM does in the test's thread, whose connection it then takes."""

    def __init__(self) -> None:
        from asgiref.sync import async_to_sync, sync_to_async

        self.to_sync: Callable[..., Any] = async_to_sync
        self._to_async: Callable[..., Any] = sync_to_async

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        return await self._to_async(function)(*args)


def _by_asgiref(conn: Any) -> _Asgiref | None:
    roots = {kind.__module__.partition(".")[0] for kind in type(conn).__mro__}
    return _Asgiref() if "django" in roots else None


def psycopg_of(task: AnyTask, driver: Any) -> Any:
    """The driver's connection, if an atomic task can be given it."""
    if db.is_foreign(driver):
        raise ConfigError(
            f"task {task.name} is atomic: current_job().conn is a connection of psycopg, and conn= is on "
            f"{type(driver).__module__}: drain without conn=, or use psycopg in this test"
        )
    return driver


def given_to(app: App, conn: Any) -> Any:
    """The connection that a `defer` would take here: the one given, that of using(), or a framework's open transaction.

    Raises what the framework raises in a test that has no database: ours would be the real one.
    """
    database = app._database
    if conn is None and (conn := database.using.get()) is None and database._framework is not None:
        conn = database._framework.transaction()
        if conn is None:
            database._framework.check()
    return conn


@contextmanager
def way_of(app: App, conn: Any, *, name: str) -> Iterator[OwnWay | LentWay]:
    """conn: the test's, or None. Raises ConfigError for what is no sync connection."""
    given = given_to(app, conn)
    if given is None:
        with app._database.explained():
            way = OwnWay(app, name=name)
            try:
                yield way
            finally:
                way.close()
        return
    if db.is_async(db.adapt(given)):
        raise ConfigError("this is an async connection: await drain_async(), run_async(), or give a sync one")
    with app._database.door(given) as (adapted, _):
        yield LentWay(app, given, adapted)
