"""Tables for one run: a schema of its own in the database that is measured, dropped at the end."""

import secrets
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pgqueue import db
from pgqueue.app import App
from pgqueue.bench import tasks
from pgqueue.bench.bench import FULL, Bench
from pgqueue.errors import NotAllowed

PREFIX = "pgqueue_bench_"


@contextmanager
def scratch(dsn: str, *, jobs: int, repeat: int, concurrency: int, check: Callable[[], None]) -> Iterator[Bench]:
    """A Bench in a fresh schema, which is dropped however the block ends. Raises NotAllowed without the right to make one.

    check: as for Bench.
    """
    app = tasks.registered(App(dsn, schema=f"{PREFIX}{secrets.token_hex(4)}"))
    _check_right(app)
    try:
        app.migrate()
        yield Bench(
            app=app, tasks=tasks.__name__, concurrency=concurrency, scale=jobs / FULL, repeat=repeat, check=check
        )
    finally:
        app.close()
        _drop(app)


def _check_right(app: App) -> None:
    with db.connect(app.dsn) as conn:
        (creator,) = db.run(conn, app.queries.bench_may_create())
    if not creator.allowed:
        role = creator.role
        raise NotAllowed(
            f"{role} may not create the schema that the measurements need: grant create on database {creator.database} to "
            f"{role}, or name another database"
        )


def _drop(app: App) -> None:
    """A second Ctrl-C must not leave the tables behind; it counts once they are gone, a moment later."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        with db.connect(app.dsn) as conn:
            db.run(conn, app.queries.bench_drop())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
