"""As way.py, for a test that is async: its event loop runs the async jobs, threads of its own the sync ones."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import Any, TypeVar

from pgqueue import db
from pgqueue.app import App
from pgqueue.errors import ConfigError
from pgqueue.job import Outcome
from pgqueue.queries import Statement, Steps, ask
from pgqueue.task import AnyTask
from pgqueue.testing.bridge import SyncBridge
from pgqueue.testing.delivering import deliver_apart, deliver_here, subscribe_apart, subscribe_here
from pgqueue.testing.kept import kept
from pgqueue.testing.loop import execute_in_time, execute_sync
from pgqueue.testing.way import contexts, psycopg_of
from pgqueue.testing.witness import Witness
from pgqueue.testing.wording import in_text

T = TypeVar("T")
R = TypeVar("R")


class OwnAsyncWay:
    """As OwnWay, and on the same connection: a thread waits for it, as no loop outlives its test."""

    own = True

    def __init__(self, app: App, *, name: str) -> None:
        self._app = app
        self._name = name

    async def run(self, steps: Steps[T]) -> T:
        return await asyncio.to_thread(lambda: db.run(kept(self._app), steps))

    async def subscribe(self) -> None:
        await asyncio.to_thread(subscribe_apart, self._app)

    async def deliver(self) -> None:
        await asyncio.to_thread(deliver_apart, self._app)

    async def check(self, task: AnyTask) -> None:
        """Every task can run here."""

    async def execute(self, attempt: Witness) -> Outcome:
        _let_look(self, attempt)
        context = contexts.fresh()
        if attempt.task.is_async:
            work = execute_in_time(attempt, self._connect_async)
            return await asyncio.get_running_loop().create_task(work, context=context)
        return await in_a_thread(lambda: context.run(self._executed, attempt))

    def _executed(self, attempt: Witness) -> Outcome:
        opened: list[db.Connection] = []

        def connect() -> db.Connection:
            opened.append(db.connect(self._app.dsn, name=self._name, private=False))
            return opened[0]

        try:
            return execute_sync(attempt, connect)
        finally:
            for conn in opened:
                conn.close()

    async def _connect_async(self) -> db.AsyncConnection:
        return await db.connect_async(self._app.dsn, name=self._name, private=False)


class LentAsyncWay:
    """As LentWay."""

    own = False

    def __init__(self, app: App, given: Any, conn: Any) -> None:
        self._app = app
        self._given = given
        self._conn = conn

    async def run(self, steps: Steps[T]) -> T:
        if not db.is_foreign(self._conn):
            return await db.run_async(self._conn, steps)
        return await db.run_async(self._conn, in_text(steps))

    async def subscribe(self) -> None:
        await self.run(subscribe_here(self._app))

    async def deliver(self) -> None:
        await self.run(deliver_here(self._app))

    async def check(self, task: AnyTask) -> None:
        """Raises ConfigError for an atomic task that cannot run here."""
        if task.atomic and not task.is_async:
            raise ConfigError(f"task {task.name} is sync and atomic: it needs a sync conn=, as in drain(conn=...)")
        if task.atomic:
            psycopg_of(task, await self._driver())

    async def _driver(self) -> Any:
        return await self._conn.driver() if db.is_foreign(self._conn) else self._conn

    async def execute(self, attempt: Witness) -> Outcome:
        _let_look(self, attempt)
        outcome: Outcome | None = None
        try:
            async with self._conn.transaction():
                outcome = await self._executed(attempt)
                await db.run_async(self._conn, self._app.queries.begin())
        except Exception:
            if outcome is None:
                raise
        return outcome

    async def _executed(self, attempt: Witness) -> Outcome:
        context, loop = contexts.fresh(), asyncio.get_running_loop()
        if attempt.task.is_async:
            return await loop.create_task(self._executed_async(attempt), context=context)
        bridge = SyncBridge(self._conn, loop)
        return await in_a_thread(lambda: context.run(self._executed_sync, attempt, bridge))

    async def _executed_async(self, attempt: Witness) -> Outcome:
        with self._app.using(self._given):
            return await execute_in_time(attempt, self._kept_open)

    async def _kept_open(self) -> Any:
        """An attempt closes the connection that it was given, and this one is the test's."""
        return nullcontext(await self._driver())

    def _executed_sync(self, attempt: Witness, bridge: SyncBridge) -> Outcome:
        with self._app._database.using.block(bridge):
            return execute_sync(attempt, _no_connection)


def _let_look(way: "OwnAsyncWay | LentAsyncWay", attempt: Witness) -> None:
    """A sync task is in a thread next to the loop."""
    loop = asyncio.get_running_loop()

    async def look(statement: Statement[R]) -> list[R]:
        return await way.run(ask(statement))

    attempt.seen.look_async = look
    attempt.seen.look = lambda statement: asyncio.run_coroutine_threadsafe(look(statement), loop).result()


def _no_connection() -> Any:
    raise NotImplementedError("refused by check()")


async def in_a_thread(work: Callable[[], T]) -> T:
    """Run it in a thread of its own: what tasks keep for each thread, such as a connection, should end with it."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            value = work()
        except BaseException as error:
            loop.call_soon_threadsafe(done.set_exception, error)
        else:
            loop.call_soon_threadsafe(done.set_result, value)

    threading.Thread(target=run, name="pgqueue drain", daemon=True).start()
    return await done


@asynccontextmanager
async def way_of_async(app: App, conn: Any, *, name: str) -> AsyncIterator[OwnAsyncWay | LentAsyncWay]:
    """conn: the test's, or None. Raises ConfigError for what is no async connection."""
    given = conn if conn is not None else app._database.using.get()  # a framework's transaction is a sync one
    if given is None:
        if app._database._framework is not None:
            app._database._framework.check()
        with app._database.explained():
            yield OwnAsyncWay(app, name=name)
        return
    if not db.is_async(db.adapt(given)):
        raise ConfigError("this is a sync connection: use drain(), run(), or give an async one")
    async with app._database.door_async(given) as (adapted, _):
        yield LentAsyncWay(app, given, adapted)
