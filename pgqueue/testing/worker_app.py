"""What a WorkerProcess runs: `python -m pgqueue.testing worker -A pgqueue.testing.worker_app:app`.

As the program it is the supervisor, as a module it is what children import: the App under test, with all modules whose tasks the
test has, under the fault that the test wants. Both read that from the environment.
"""

import inspect
import json
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from contextvars import ContextVar
from functools import wraps
from importlib import import_module
from typing import Any, NamedTuple

from pgqueue import db
from pgqueue.app import App
from pgqueue.config import environment
from pgqueue.loader import load_app
from pgqueue.queries import Statement
from pgqueue.queries.statement import sql_file
from pgqueue.testing.faults import Fault, Harm
from pgqueue.worker.child.executor import Attempt
from pgqueue.worker.supervisor.connection import WorkConnection

logger = logging.getLogger("pgqueue.testing")

WHAT = "PGQUEUE_TESTING"
_job: ContextVar[Any] = ContextVar("pgqueue_testing_job", default=None)


_whole_life = ExitStack()


class WhatToRun(NamedTuple):
    """Where the App is, which modules hold its tasks, at which database, and the fault."""

    app: str
    modules: list[str]
    dsn: str
    names: dict[str, str]
    """Of Django's databases by their alias: in the test another one than the settings say."""
    fault: Fault | None

    def environment(self) -> dict[str, str]:
        """For the worker."""
        return {WHAT: json.dumps({**self._asdict(), "fault": self.fault and self.fault.text()})}


def told() -> WhatToRun:
    """What the test that started this process wants."""
    given = json.loads(environment(WHAT) or "{}")
    return WhatToRun(**{**given, "fault": Fault.read(given["fault"]) if given["fault"] else None})


def __getattr__(name: str) -> App:
    """`app`, when a child asks for it."""
    if name != "app":
        raise AttributeError(name)
    what = told()
    for module in what.modules:
        import_module(module)
    app = load_app(what.app)
    _whole_life.enter_context(app._database.elsewhere(what.dsn))  # whatever its own settings say
    if what.names:
        _rename_databases(what.names)
    if what.fault is not None:
        _harm_children(what.fault)
    return app


# -- in a child --


def _rename_databases(names: dict[str, str]) -> None:
    """A task's models must not reach the real database, which Django's settings name."""
    from django.db import connections

    for alias, name in names.items():
        connections.settings[alias]["NAME"] = name


def _harm_children(fault: Fault) -> None:
    execute, execute_async = Attempt.execute, Attempt.execute_async

    def harmed(attempt: Attempt, connection: Callable[[], db.Connection]) -> Any:
        _job.set(attempt.job)
        outcome = execute(attempt, lambda: _harmed(connection(), attempt, fault))
        _end_here(fault)
        return outcome

    async def harmed_async(attempt: Attempt, connection: Callable[[], Any]) -> Any:
        async def connect() -> Any:
            return _harmed_async(await connection(), attempt, fault)

        _job.set(attempt.job)
        outcome = await execute_async(attempt, connect)
        _end_here(fault)
        return outcome

    setattr(Attempt, "execute", harmed)  # noqa: B010  # in the place of the method
    setattr(Attempt, "execute_async", harmed_async)  # noqa: B010
    if fault.after is not None:
        _kill_after(fault.after, fault)


def _end_here(fault: Fault) -> None:
    if fault.harm == Harm.CHILD_KILLED and fault.after is None:
        _kill(fault)


def _kill(fault: Fault) -> None:
    if _job.get() is not None and _job.get().crashes < fault.times:
        logger.warning("as the test wants it: %s, job %s", fault.harm, _job.get().id)
        os.kill(os.getpid(), signal.SIGKILL)


def _kill_after(name: str, fault: Fault) -> None:
    """Put a function in the place of the named one, which is looked up in its module when it is called."""
    module, _, attribute = name.rpartition(".")
    owner = import_module(module)
    function = getattr(owner, attribute)

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        value = function(*args, **kwargs)
        _kill(fault)
        return value

    @wraps(function)
    async def call_async(*args: Any, **kwargs: Any) -> Any:
        value = await function(*args, **kwargs)
        _kill(fault)
        return value

    setattr(owner, attribute, call_async if inspect.iscoroutinefunction(function) else call)


def _harmed(conn: db.Connection, attempt: Attempt, fault: Fault) -> db.Connection:
    """An atomic task's connection, whose COMMIT fails, or is not answered."""
    if attempt.job.attempt > fault.times or fault.harm == Harm.CHILD_KILLED:
        return conn
    begin = conn.transaction
    logger.warning("as the test wants it: %s, job %s", fault.harm, attempt.job.id)

    @contextmanager
    def transaction() -> Iterator[Any]:
        with begin() as inner:
            yield inner
            if fault.harm == Harm.CONNECTION_LOST:
                db.sever(conn)
        db.sever(conn)
        db.run(conn, attempt.task.app.queries.begin())  # fails as one does whose answer is lost

    setattr(conn, "transaction", transaction)  # noqa: B010
    return conn


def _harmed_async(conn: db.AsyncConnection, attempt: Attempt, fault: Fault) -> db.AsyncConnection:
    if attempt.job.attempt > fault.times or fault.harm == Harm.CHILD_KILLED:
        return conn
    begin = conn.transaction
    logger.warning("as the test wants it: %s, job %s", fault.harm, attempt.job.id)

    @asynccontextmanager
    async def transaction() -> AsyncIterator[Any]:
        async with begin() as inner:
            yield inner
            if fault.harm == Harm.CONNECTION_LOST:
                db.sever(conn)
        db.sever(conn)
        await db.run_async(conn, attempt.task.app.queries.begin())

    setattr(conn, "transaction", transaction)  # noqa: B010
    return conn


# -- in the supervisor --


def harm_supervisor(fault: Fault) -> None:
    """Lose a connection, or an answer, where ends of jobs are recorded."""
    drive, left = WorkConnection._drive, [fault.times]
    ends = tuple(sql_file(f"worker/{name}.sql").partition("\n")[0] for name in ("finish", "settle"))

    async def harmed(self: Any, conn: db.AsyncConnection, steps: Any, *, transaction: bool) -> Any:
        records = isinstance(steps, Statement) and steps.sql.startswith(ends)
        if not records or not left[0] or fault.harm == Harm.CHILD_KILLED:
            return await drive(self, conn, steps, transaction=transaction)
        left[0] -= 1
        logger.warning("as the test wants it: %s", fault.harm)
        if fault.harm == Harm.ANSWER_LOST:
            await drive(self, conn, steps, transaction=transaction)
        db.sever(conn)
        return await drive(self, conn, steps, transaction=transaction)  # fails

    setattr(WorkConnection, "_drive", harmed)  # noqa: B010
