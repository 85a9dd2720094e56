"""One app's way to its database: settings, pools, the embedded server, and whose connection a statement takes.

Nothing is read or opened before it is needed, and nothing of it is kept across a fork: a forked process that closed its
parent's connections would end the parent's sessions.
"""

import asyncio
import contextlib
import logging
import os
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, overload
from weakref import WeakKeyDictionary

from tenacity import (
    AsyncRetrying,
    AttemptManager,
    Retrying,
    retry_if_exception,
    retry_if_exception_type,
    stop_after_delay,
    wait_random,
)

from pgqueue import db, embedded, schema
from pgqueue.client.framework import Framework
from pgqueue.client.lent import Lent
from pgqueue.client.results import Hub
from pgqueue.client.tries import Tries
from pgqueue.client.using import Using
from pgqueue.config import Config, Notify, environment
from pgqueue.errors import ConfigError, DatabaseUnavailable, SchemaError
from pgqueue.queries import Queries, Statement, Steps
from pgqueue.schema.retention import tidy_partitions

if TYPE_CHECKING:
    from pgqueue.channels.receiver import Receiver

logger = logging.getLogger("pgqueue")

T = TypeVar("T")
R = TypeVar("R")

TIMEOUT_S = 1.0  # a connection that fails sooner was refused: that keeps nobody waiting
LOCKED_S = 60.0  # a migration gives up after this long: whatever holds the tables is no ordinary transaction
DEFERS = "await defer_async(), enqueue_async() or defer_many_async()"
SYNC_DEFERS = "use defer(), enqueue() or defer_many()"
ORDERS = "only defers can await it; ask about jobs and give orders outside of the block of using()"
Loop = asyncio.AbstractEventLoop

_all: "weakref.WeakSet[AppConnections]" = weakref.WeakSet()
_inherited: list[object] = []  # what a fork brought along from its parent: kept, so that it is never closed here


class AppConnections:
    """The database of one App. `overrides` are the arguments of App; they win over every other source of settings."""

    def __init__(self, overrides: Mapping[str, Any]) -> None:
        self._overrides = overrides
        self.using = Using()
        self._framework: Framework | None = None
        self._told: Mapping[str, Any] = {}  # by the framework
        self.forget()
        _all.add(self)

    def forget(self) -> None:
        """Start over: settings are read and connections opened again when they are next needed."""
        self._lock = threading.RLock()
        self._config: Config | None = None
        self._queries: Queries | None = None
        self._dsn: str | None = None
        self._pool: Any = None
        self._async_pools: dict[Loop, db.PoolLife] = {}  # not by id(loop), which the next asyncio.run() may have again
        self._async_locks: WeakKeyDictionary[Loop, asyncio.Lock] = WeakKeyDictionary()
        self._hub: Hub | None = None
        self._receiver: Receiver | None = None
        self._schema_fits = False
        self._backoff = db.Backoff(self._probe, db.may_pass)

    def bind(self, framework: Framework) -> None:
        """From now on a framework says where the database is; see App.bind."""
        self._framework = framework

    def _heed_framework(self, framework: Framework) -> None:
        """Start over if it says something else than before."""
        told = framework.settings()
        if told is not self._told:
            with self._lock:
                if told is not self._told:
                    self.close()
                    self._config, self._queries, self._dsn, self._schema_fits = None, None, None, False
                    self._async_pools.clear()  # asyncio closes each with its generator, in the loop it belongs to
                    self._told = told

    @contextlib.contextmanager
    def elsewhere(self, dsn: str) -> Iterator[None]:
        """Within the block the database is this one, whatever the settings say: that of a test."""
        given = self._overrides
        self.close()
        self._overrides = {**given, "dsn": dsn}
        self.forget()
        try:
            yield
        finally:
            self.close()
            self._overrides = given
            self.forget()

    @property
    def config(self) -> Config:
        """The settings, merged from all sources at first use; raises ConfigError."""
        if self._framework is not None:
            self._heed_framework(self._framework)
        if self._config is None:
            given = {name: value for name, value in self._overrides.items() if value is not None}
            self._config = Config.load(**{**self._told, **given})
        return self._config

    @property
    def queries(self) -> Queries:
        """The statements for this app's schema."""
        if self._framework is not None:
            self._heed_framework(self._framework)
        if self._queries is None:
            self._queries = Queries(self.config)
        return self._queries

    @property
    def dsn(self) -> str:
        """Where the database is; starts or joins the embedded server when no setting names one."""
        if self._framework is not None:
            self._heed_framework(self._framework)
        with self._lock:
            if self._dsn is None:
                self._dsn = self.config.dsn or self._embedded()
            return self._dsn

    def _embedded(self) -> str:
        if environment("PGQUEUE_ENV") == "production":
            raise ConfigError("no database is named and PGQUEUE_ENV is production: set PGQUEUE_DSN or DATABASE_URL")
        dsn = embedded.ensure()
        with db.connect(dsn) as conn:
            self._migrate(conn)
        return dsn

    def _migrate(self, conn: Any, *, roles: bool = False, up_to: int | None = None) -> list[str]:
        if not db.is_foreign(conn) and (told := db.narrow_encoding(conn)):
            logger.warning("%s", told)
        said: list[Statement[Any]] = []
        migrate = partial(schema.migrate, self.queries, schema=self.config.schema, roles=roles, up_to=up_to)
        try:
            done = _patiently(conn, lambda: schema.remembered(migrate(), said))
        except db.DatabaseError as error:
            raise db.explain_migration(error, schema=self.config.schema, said=said) from error
        if done:  # at once, while nobody writes: workers do it from now on
            _patiently(conn, partial(tidy_partitions, self.queries, self.config, version=up_to))
        return done

    @property
    def hub(self) -> Hub:
        """Where results are waited for; raises DatabaseUnavailable."""
        self._backoff.refuse()
        dsn = self.dsn
        with self._lock:
            if self._hub is None:
                self._hub = Hub(
                    dsn, self.queries, schema=self.config.schema, check=self._check_first,
                    patience_s=self.config.pool_timeout_s + db.ANSWER_S, on_silence=self._backoff.failed,
                )  # fmt: skip
            return self._hub

    @property
    def receiver(self) -> "Receiver":
        """What hears channels for this process."""
        from pgqueue.channels.receiver import Receiver  # a program that only enqueues hears nothing

        direct, dsn = self.config.direct_dsn, self.dsn
        with self._lock:
            if self._receiver is None:
                self._receiver = Receiver(
                    direct or dsn, self.queries, main_dsn=dsn if direct else None, schema=self.config.schema,
                    patience_s=self.config.pool_timeout_s + db.ANSWER_S,
                )  # fmt: skip
            return self._receiver

    @overload
    def run(self, steps: Statement[R]) -> list[R]: ...
    @overload
    def run(self, steps: Steps[T]) -> T: ...
    def run(self, steps: Steps[Any] | Statement[Any]) -> Any:
        """Run steps or a statement on a connection of our own, or on that of `using`."""
        with self.explained(), self.door(None, instead=ORDERS) as (conn, _):
            return db.run(conn, steps)

    def run_in_transaction(self, steps: Steps[T]) -> T:
        """As `run`, all or nothing; on the connection of `using` within a savepoint."""
        with self.explained(), self.door(None, instead=ORDERS) as (conn, _):
            if db.would_begin(conn):
                db.run(conn, self.queries.begin())
            with conn.transaction():
                return db.run(conn, steps)

    def look(self, steps: Steps[T]) -> T:
        """As `run`, for steps that read and stop when they have enough."""
        with self.explained(), self.door(None, instead=ORDERS) as (conn, _):
            # The planner's settings of another library's connection are not ours to change.
            with contextlib.nullcontext() if db.is_foreign(conn) else db.in_index_order(conn, self.queries):
                return db.run(conn, steps)

    def migrate(self, conn: Any = None, *, roles: bool = False, up_to: int | None = None) -> list[str]:
        """See App.migrate."""
        if conn is not None:
            return self._migrate(db.adapt(conn), roles=roles, up_to=up_to)
        with db.connect(self.dsn) as own:  # unhurried: what it does to large tables may take its time
            return self._migrate(own, roles=roles, up_to=up_to)

    def change(self, steps: Callable[[], Steps[T]], *, again: str) -> T:
        """Drive steps that change tables, all or none, on a connection of their own. again: the command to repeat."""
        with db.connect(self.dsn) as own:
            return _patiently(own, steps, again=again)

    def close(self) -> None:
        """Close the connections this process opened; the app opens new ones when it is used again."""
        with self._lock:
            if self._pool is not None:
                self._pool.close()
                self._pool = None
            if self._hub is not None:
                self._hub.close()
                self._hub = None
            if self._receiver is not None:
                self._receiver.close()
                self._receiver = None
            self._backoff.close()

    async def open_async(self) -> None:
        """Check the schema and open the pool of the running event loop with a first connection.

        Raises DatabaseUnavailable, SchemaError and what else a first defer would.
        """
        with self.explained():
            async with self.door_async(None):
                pass

    async def close_async(self) -> None:
        """Close the connections opened for the running event loop. asyncio.run() does so by itself at its end."""
        pool = self._async_pools.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            await pool.close()

    def allowance(self, *, silence_s: float | None = None) -> db.Allowance:
        """How long a call that begins now may wait on connections of ours; silence_s as for db.Allowance."""
        return db.Allowance(self.config.pool_timeout_s, silence_s=silence_s)

    def door(
        self, conn: Any, allowance: db.Allowance | None = None, *, instead: str = DEFERS
    ) -> contextlib.AbstractContextManager[tuple[db.Connection, Notify]]:
        """The connection to use and when to ring: the caller's, that of using() or of a framework, or one of ours.

        allowance: how long to wait for and on ours; it means nothing to the caller's. instead: what to do with an async one.
        """
        conn = conn if conn is not None else self.using.get()
        if conn is None and self._framework is not None:
            conn = self._framework.transaction()
            if conn is None:
                self._framework.check()
        if conn is None:
            return db.Borrowed(self._own_pool(), self.config.notify, allowance or self.allowance())
        conn = db.adapt(conn)
        if db.is_async(conn):
            raise ConfigError(f"this is an async connection: {instead}")
        lent = self._lent(conn)
        if not self._schema_fits and not (db.is_foreign(conn) and conn.counted):
            with lent:
                db.run(conn, schema.check(self.queries, schema=self.config.schema))
            self._schema_fits = True
        return lent

    def _lent(self, conn: Any) -> Lent:
        """A caller's connection."""
        return Lent(conn, self._ring(conn), schema=self.config.schema)

    @contextlib.asynccontextmanager
    async def door_async(
        self, conn: Any, allowance: db.Allowance | None = None, *, instead: str = SYNC_DEFERS
    ) -> AsyncIterator[tuple[db.AsyncConnection, Notify]]:
        conn = conn if conn is not None else self.using.get()
        if conn is None:
            if self._framework is not None:
                self._framework.check()
            allowance = allowance or self.allowance()
            async with db.borrowed_async(await self._own_async_pool(), allowance) as own:
                yield own, self.config.notify
            return
        conn = db.adapt(conn)
        if not db.is_async(conn):
            raise ConfigError(f"this is a sync connection: {instead}, or give an async connection")
        with self._lent(conn) as lent:
            if not self._schema_fits:
                await db.run_async(conn, schema.check(self.queries, schema=self.config.schema))
                self._schema_fits = True
            yield lent

    @contextlib.contextmanager
    def transaction(self, tries: Tries) -> Iterator[tuple[db.Connection, Notify]]:
        """As `door` to a connection of ours, in a transaction, for a further try."""
        tries.allowance.begin_again()
        with self.door(None, tries.allowance) as (conn, _), conn.transaction():
            yield conn, self._ring(conn)

    @contextlib.asynccontextmanager
    async def transaction_async(self, tries: Tries) -> AsyncIterator[tuple[db.AsyncConnection, Notify]]:
        tries.allowance.begin_again()
        async with self.door_async(None, tries.allowance) as (conn, _), conn.transaction():
            yield conn, self._ring(conn)

    def tries(self, conn: Any, allowance: db.Allowance | None = None, **job: Any) -> Tries:
        """The tries of what is called with this `conn=`; job as for Tries."""
        given = conn if conn is not None else self.using.get()
        if given is None and self._framework is not None:
            given = self._framework.transaction()
        alone = given is None or getattr(given, "autocommit", False)
        return Tries(ours=given is None, alone=alone, allowance=allowance or self.allowance(), **job)

    def again(self, tries: Tries) -> Iterable[AttemptManager]:
        """Further attempts at what may be repeated, for as long as a defer waits for a connection."""
        return Retrying(**self._policy(tries))

    def again_async(self, tries: Tries) -> AsyncRetrying:
        return AsyncRetrying(**self._policy(tries))

    def _policy(self, tries: Tries) -> dict[str, Any]:
        return {
            "retry": retry_if_exception(tries.may_repeat), "wait": wait_random(0, 0.1), "reraise": True,
            "stop": stop_after_delay(tries.allowance.begin_again()),
        }  # fmt: skip

    def _ring(self, conn: Any) -> Notify:
        """In an open transaction we cannot know who sleeps when it commits, so it rings always."""
        if self.config.notify == "idle" and (db.is_foreign(conn) or not db.is_idle_autocommit(conn)):
            return "always"
        return self.config.notify

    def _own_pool(self) -> Any:
        if self._backoff.is_down:
            self._backoff.refuse()
        dsn = self.dsn
        if self._pool is None:
            with self._lock:
                if self._pool is None:
                    with self._opening():
                        self._check_schema()
                        self._pool = db.pool(dsn, **self._pool_settings())
        return self._pool

    def _pool_settings(self) -> dict[str, Any]:
        return {
            "size": self.config.pool_size, "timeout_s": self.config.pool_timeout_s, "backoff": self._backoff,
        }  # fmt: skip

    @contextlib.contextmanager
    def _opening(self) -> Iterator[None]:
        """Around the first contact with a database, which one caller makes while others wait for it: if that caller waits in
        vain, they need not do the same one after the other.
        """
        self._backoff.refuse()
        began = time.monotonic()
        try:
            yield
        except (DatabaseUnavailable, db.DatabaseError) as error:
            if time.monotonic() - began >= TIMEOUT_S and db.may_pass(error):
                self._backoff.failed(error)
            raise

    def ask(self) -> None:
        """Whether a database that is known to be down answers now, for a caller that was told that its job may be there."""
        self._backoff.ask()

    def _probe(self) -> None:
        db.connect(self.dsn, silence_s=db.SILENCE_S).close()

    async def _own_async_pool(self) -> Any:
        if self._backoff.is_down:
            self._backoff.refuse()
        loop = asyncio.get_running_loop()
        if loop not in self._async_pools:
            async with self._async_locks.setdefault(
                loop, asyncio.Lock()
            ):  # or a hundred first defers make a hundred pools
                if loop not in self._async_pools:
                    await self._open_async_pool(loop)
        return self._async_pools[loop].pool

    async def _open_async_pool(self, loop: Loop) -> None:
        dsn = await asyncio.to_thread(lambda: self.dsn)
        for ended in [other for other in self._async_pools if other.is_closed()]:
            del self._async_pools[ended]
        with self._opening():
            await asyncio.to_thread(self._check_schema)
            self._async_pools[loop] = await db.pool_async(dsn, **self._pool_settings())

    def _check_first(self) -> None:
        with self._opening():
            self._check_schema()

    def _check_schema(self) -> None:
        if not self._schema_fits:
            with db.connect(self.dsn, silence_s=db.SILENCE_S) as conn:
                db.run(conn, schema.check(self.queries, schema=self.config.schema))
            self._schema_fits = True

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Database errors in our own words where we know the cure; all others pass unchanged."""
        try:
            yield
        except db.DatabaseError as error:
            self._heed(error)
            explained = db.explain(error, schema=self.config.schema)
            if explained is None:
                raise
            raise explained from error

    def _heed(self, error: db.DatabaseError) -> None:
        """Note that a call waited in vain, if it did. Other callers may also have held a pool's connections for that long."""
        pools = [self._pool, *(life.pool for life in list(self._async_pools.values()))]
        if isinstance(error, db.Silent) or (
            db.is_timeout(error) and any(db.is_starved(pool) for pool in pools if pool is not None)
        ):
            self._backoff.failed(error)


def _patiently(conn: db.Connection, steps: Callable[[], Steps[T]], *, again: str = "pgqueue migrate") -> T:
    """Drive steps that change tables, in a transaction, and again for as long as somebody holds a lock that they need.

    While one waits for a lock, everybody else queues up behind it; so it never waits long and lets the others pass in between.
    """
    try:
        for attempt in Retrying(
            retry=retry_if_exception_type(db.Blocked), wait=wait_random(0.5, 1.5), reraise=True,
            stop=stop_after_delay(LOCKED_S), before_sleep=lambda _: logger.info("the tables are in use: trying again"),
        ):  # fmt: skip
            with attempt, _as_psycopg(), conn.transaction():
                done = db.run(conn, steps())
    except db.Blocked:
        raise SchemaError(
            f"the tables were in use for {LOCKED_S:.0f} s: end the transaction that holds them "
            f"(`pgqueue doctor` names old ones), then run `{again}` again"
        ) from None
    return done


@contextlib.contextmanager
def _as_psycopg() -> Iterator[None]:
    """What another library raises, in the classes by which we know it; psycopg's own, where that library has it inside."""
    try:
        yield
    except Exception as error:
        own = error.__cause__ if isinstance(error.__cause__, db.DatabaseError) else db.as_psycopg(error)
        if own is None or isinstance(error, db.DatabaseError):
            raise
        raise own from error


def _after_fork() -> None:
    for database in _all:
        _inherited.append(vars(database).copy())
        database.forget()


os.register_at_fork(after_in_child=_after_fork)
