"""The App: tasks by name, the way to the database, and everything one may ask about jobs from a program."""

import asyncio
import contextlib
import re
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, Unpack, cast, overload

from pgqueue import db
from pgqueue.client.connections import AppConnections
from pgqueue.client.enqueue import Call, GatedCall, enqueue_again, enqueue_many, enqueue_one
from pgqueue.client.framework import Framework
from pgqueue.client.handle import Job, Jobs
from pgqueue.client.lifespan import Lifespan
from pgqueue.client.names import same_function
from pgqueue.client.options import MAX_REASON, Given, Options, check_name, check_text, span_seconds
from pgqueue.client.results import CLOSED, Told, Waiter
from pgqueue.client.tries import Tries
from pgqueue.codec.calls import decode_plain, encode_plain
from pgqueue.codec.redact import MARKS
from pgqueue.config import Config
from pgqueue.errors import (
    ConfigError,
    DuplicateJob,
    InvalidOption,
    JobCancelled,
    JobDead,
    JobNotFound,
    PgQueueError,
    ResultTimeout,
)
from pgqueue.events import RELAY_ATTEMPTS, RELAY_BATCH
from pgqueue.events.publish import event_row, event_rows
from pgqueue.events.publisher import Publisher
from pgqueue.gates.breaker import Breaker
from pgqueue.gates.limit import Fair, Key, Limit, Rate, Rule, whole_gate
from pgqueue.gates.queues import QueueRules
from pgqueue.hooks import Hook, Hooks, check_hook
from pgqueue.job import ID, Snapshot, State, new_id
from pgqueue.middleware import Middleware, check_middleware
from pgqueue.ops.drain import drain
from pgqueue.ops.limits import close_gate, is_gate, limits, lower_now, open_gate, set_limit, set_weight
from pgqueue.ops.listing import Page, Wanted, check_id, listing
from pgqueue.ops.purge import purge
from pgqueue.ops.why import Why, why
from pgqueue.queries import Queries, Statement, Steps
from pgqueue.queries.events import ListedEvent, SubscriptionState
from pgqueue.queries.ops import Deed, FailedAttempt, LimitRow
from pgqueue.retry import Strategy
from pgqueue.schedules import TIMING
from pgqueue.spoils import Spoil, check_spoils
from pgqueue.strategies import cure_for
from pgqueue.task import AnyTask, Task

if TYPE_CHECKING:  # each is imported by the method that needs it: most programs enqueue, and import none of that
    from pgqueue.channels.items import Item
    from pgqueue.channels.listener import Listener
    from pgqueue.events.control import SubscriptionHandle
    from pgqueue.events.follow import Follower, Follows
    from pgqueue.events.loop import Loops, Subscribed
    from pgqueue.events.subscription import Subscription
    from pgqueue.schedules.app_schedules import AppSchedules
    from pgqueue.schedules.schedule import Missed, Overlap, Scheduled
    from pgqueue.triggers import AppTriggers, WantedTrigger
    from pgqueue.webhooks.endpoint import Endpoint

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
M = TypeVar("M", bound=Middleware)
H = TypeVar("H", bound=Hook)

ENDING = re.compile(r"[0-9a-f]{6,12}", re.IGNORECASE)


class App:
    """A set of tasks and the database their jobs live in.

    dsn: libpq string or URL. Without it PGQUEUE_DSN, DATABASE_URL or [tool.pgqueue] in pyproject.toml name the database; if
    none does, the project's embedded server is started. schema and settings: see Config. Nothing is read or connected before
    it is needed, and nothing of it is kept across a fork. spoils: exceptions (classes, or their full names as text) after which
    the process of a worker is of no more use and is replaced, like MemoryError and those of CUDA devices.
    """

    def __init__(
        self, dsn: str | None = None, *, schema: str | None = None, spoils: Iterable[Spoil] = (), **settings: Any
    ) -> None:
        self.spoils = check_spoils(spoils, where="App()")
        self._database = AppConnections({"dsn": dsn, "schema": schema, **settings})
        self._publisher = Publisher(self._database)
        self._middleware: tuple[Middleware, ...] = ()
        self.hooks = Hooks()
        """What its children call at their start and stop."""
        self.tasks: dict[str, AnyTask] = {}
        """Every task of this app by name; only these ever run."""
        self._read_by: dict[str, Loops | Follows] = {}
        """What reads events for this process, once it was needed."""
        self.subscriptions: dict[str, Subscription] = {}
        """What `on` declares, by name; a worker makes them at its start."""
        self.webhooks: dict[str, Endpoint] = {}
        """What `webhook` declares, by name."""
        self.queues: dict[str, QueueRules] = {}
        """The limits of queues, by their names."""

    @cached_property
    def schedules(self) -> "AppSchedules":
        """The declared schedules, which a worker makes at its start."""
        from pgqueue.schedules.app_schedules import AppSchedules

        return AppSchedules(self.tasks)

    @cached_property
    def triggers(self) -> "AppTriggers":
        """The declared triggers, and the way to those in the database."""
        from pgqueue.triggers import AppTriggers

        return AppTriggers(self._database, self.tasks)

    @property
    def _loops(self) -> "Loops":
        from pgqueue.events.loop import Loops

        return cast("Loops", self._read_by.get("loops") or self._read_by.setdefault("loops", Loops()))

    @property
    def _follows(self) -> "Follows":
        from pgqueue.events.follow import Follows

        # Two threads may come here first: both get that of one of them, as setdefault is one step.
        return cast(
            "Follows", self._read_by.get("follows") or self._read_by.setdefault("follows", Follows(self._database))
        )

    # -- tasks --

    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, Coroutine[Any, Any, R], R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R, R]: ...
    @overload
    def task(
        self,
        *,
        name: str | None = None,
        queue: str | None = None,
        priority: int | None = None,
        max_attempts: int | None = None,
        timeout: float | timedelta | None = None,
        expires: float | timedelta | None = None,
        retry: Strategy | None = None,
        stop: Strategy | None = None,
        wait: Strategy | None = None,
        atomic: bool = False,
        keep: int | None = None,
        redact: Iterable[str] = (),
        spoils: Iterable[Spoil] = (),
        middleware: Iterable[Middleware] = (),
        async_limit: int | None = None,
        limit: "int | Limit | Iterable[int | Limit] | None" = None,
        rate: str | Rate | None = None,
        burst: int | None = None,
        ordered: Key | bool | None = None,
        on_dead: Literal["next", "halt"] | None = None,
        fair: Key | Fair | None = None,
        breaker: Breaker | None = None,
        cron: str | None = None,
        every: float | timedelta | None = None,
        tz: str | tzinfo | None = None,
        missed: "Missed | None" = None,
        overlap: "Overlap | None" = None,
        jitter: float | timedelta | None = None,
    ) -> "Decorator": ...
    def task(self, *function: Any, **options: Any) -> Any:
        """Make a function a task: `@task` or `@task(queue="mail", max_attempts=5, timeout=30)`.

        name: default module.function. queue, priority, timeout (seconds an attempt may take), expires: defaults of its jobs.
        max_attempts, retry, stop, wait: when a failed attempt is repeated (tenacity strategies; default: any exception, 20
        attempts, exponential from 2 s to 1 h); a result that retry refuses, as retry_if_result may, is a failed attempt.
        atomic: the job's result commits together with what the task writes through current_job().conn. keep=0: a success
        leaves nothing, neither a result nor a row in history, and nobody can ask for it; what fails is kept all the same.
        redact: names of arguments that are never shown with a job, as are those that look like a password, token or key
        by their name (setting secret_names). spoils: as those of App, for this task alone. middleware: inside that of the app.
        async_limit: of an async task, how many jobs each child of a worker runs at once; the others stay in the queue.
        limit: how many jobs are under way at once in all workers together; `Limit(5, key="tenant")` is for each value of that
        argument; at most two. rate: how many start, as in "100/m", `burst` of them at once after a pause. ordered: the name of an
        argument, or a function of them; jobs of one key run one at a time, in the order in which they were put in, each to its
        end with all its retries; on_dead="halt" stops the line behind one that is dead, until `pgqueue resume`. fair: the name of
        an argument, a function of them, or a Fair; keys take turns, so that nobody waits behind all jobs of another. breaker: when
        too many runs fail, run none for a while, and then try with one: see Breaker. cron or every, tz, missed, overlap, jitter:
        run it again and again, without arguments: see `schedule`. Raises ConfigError at import for what cannot work.
        """
        if function:
            return self._register(*function)
        timing: Mapping[str, Any] = {}
        if TIMING & options.keys():
            from pgqueue.schedules.app_schedules import timing_of

            timing = timing_of(options)
        return lambda function: self._register(function, timing, **options)

    def _register(self, function: Callable[..., Any], timing: Mapping[str, Any] = {}, **options: Any) -> AnyTask:
        try:
            task: AnyTask = Task(function, app=self, **options)
        except TypeError as error:
            if "unexpected keyword argument" not in str(error):
                raise
            option = str(error).split("'")[1]
            raise InvalidOption(f"@task has no option '{option}'; {cure_for(option)}") from None
        known = self.tasks.get(task.name)
        if known is not None and not same_function(known.function, task.function):
            raise ConfigError(f"two functions claim the task name {task.name}: give one of them @task(name=...)")
        task.surround(self._middleware)
        self._share(task)
        if timing:
            self.schedules.of_task(task, timing)
        self.tasks[task.name] = task
        return task

    def _share(self, task: AnyTask) -> None:
        """Raise ConfigError if another task says something else of a limit that they share."""
        if task.queue in self.queues:
            self.queues[task.queue].check(task.name, task.limits)
        if not task.limits:
            return
        known = {rule.name: rule for rule in self.rules()}
        for own in task.limits.rules:
            if known.get(own.name, own) != own:
                raise ConfigError(
                    f"@task {task.name}: the limit {own.name} is not as another task declares it: let both say the same"
                )

    def rules(self) -> list[Rule]:
        """The limits that its code declares."""
        rules = {rule.name: rule for task in self.tasks.values() for rule in task.limits.rules}
        rules.update({rule.name: rule for queue in self.queues.values() for rule in queue.rules})
        return [*rules.values()]

    def queue(self, name: str, *, limit: int | None = None, fair: Key | Fair | None = None) -> None:
        """Limit how many jobs of a queue are under way at once in all workers together: `app.queue("money", limit=20)`.

        fair: an argument that all tasks of the queue take, a function of their arguments, or a Fair; keys take turns, whatever
        their tasks are. Programs that do not say so put jobs in all the same: the workers that do hold the limit. What is left
        out is as it was said before. Raises ConfigError for a task of that queue that cannot be in it, as one with two limits of
        its own.
        """
        made = self.queues.get(name, QueueRules(name)).but(limit, fair)
        others = [queue.rules for queue in self.queues.values() if queue.name != name]
        known = {
            rule.name: rule
            for rules in (*others, *(task.limits.rules for task in self.tasks.values()))
            for rule in rules
        }
        for own in made.rules:
            if known.get(own.name, own) != own:
                raise ConfigError(
                    f"queue({name!r}): the limit {own.name} is not as a task or another queue declares it: let both say the same"
                )
        for task in self.tasks.values():
            if task.queue == name:
                made.check(task.name, task.limits)
        self.queues[name] = made

    def schedule(
        self, name: str, task: AnyTask | str, *, args: Iterable[Any] = (), kwargs: Mapping[str, Any] | None = None,
        **when: "Unpack[Scheduled]",
    ) -> None:  # fmt: skip
        """Run a task again and again: `app.schedule("nightly", report, cron="0 3 * * *", tz="Europe/Berlin", args=["sales"])`.

        cron: five fields, or six with the second first, or `@daily`; tz: the zone of its clocks, default UTC. Instead of it
        every: seconds (or a timedelta). missed: what happens after an outage: "once" (default) runs the last time that was
        missed, "skip" none, "all" each, up to 100. overlap: while the last job has not ended, "skip" (default) makes none, "allow"
        another, "queue" one that waits for its end. jitter: each job starts up to this many seconds later. Other options are those
        of its jobs, as of Task.options.

        Workers make the schedule at their start, and one of them each job. `current_job().due_at` says for which time it is.
        Raises ConfigError, and what `Task.defer` raises.
        """
        self.schedules.declare(name, task, args, kwargs, when)

    def middleware(self, function: M) -> M:
        """Put a generator function around every job of this app, as a decorator or called with it.

        It gets the CurrentJob, runs up to its `yield` before the task, and gets the Outcome from the `yield` after it, before
        anything of that is recorded. The first one registered is the outermost. A plain generator goes around all tasks (of
        async ones it must not block), an async one around async tasks. What it raises is the attempt's, as if the task had
        raised it: Snooze, Retry and Cancel too. It does not hear of what ends with the process: a crash or a kill.
        """
        self._middleware += check_middleware([function], where="app.middleware")
        for task in self.tasks.values():
            task.surround(self._middleware)
        return function

    def on_child_start(self, function: H) -> H:
        """Have every child of a worker call this once the app is imported, before its first job; as a decorator.

        Functions are called in order; an async one runs on the event loop of the async jobs, where it may open a pool for them.
        A child whose function fails does not start: at a worker's start that ends the worker, later it is tried again.
        """
        self.hooks.child_start.append(check_hook(function, where="app.on_child_start"))
        return function

    def on_child_stop(self, function: H) -> H:
        """Have every child call this when it has ended its last job, the last registered first; as a decorator.

        Three seconds are granted to all of them and to what is registered with atexit. A child that is killed calls nothing.
        """
        self.hooks.child_stop.append(check_hook(function, where="app.on_child_stop"))
        return function

    def on(
        self, *types: str, batch: int | None = None, batch_wait: float | timedelta | None = None, lanes: int | None = None,
        on_poison: Literal["skip", "stop"] | None = None, **options: Any,
    ) -> "Decorator":  # fmt: skip
        """Make a function a task that gets a job for each event of these types: `@app.on("user.created", "order.*")`.

        The function takes one argument, an Event; `Event[User]` reads its payload as a User. options are those of `task`. The
        subscription has the task's name, and gets what is published from the first start of a worker on. Its jobs are jobs as
        any: they are retried, may be dead, and are shown by all commands.

        batch: a job gets a list of this many events at most, and the function takes that, `list[Event[User]]`. batch_wait: seconds
        that a batch which is not full waits for more. lanes: this many batches are worked on at once, events of one key always in
        one lane, in order. A batch that fails is halved until the event that fails is alone; its job is retried as the
        options say, and when it is dead the lane continues (on_poison="skip"), or stops ("stop").
        """
        from pgqueue.events.handler import batches, check_handler
        from pgqueue.events.subscription import Subscription
        from pgqueue.events.types import check_patterns

        patterns = check_patterns(types)
        made = batches(batch=batch, batch_wait=batch_wait, lanes=lanes, on_poison=on_poison)

        def decorate(function: Any) -> AnyTask:
            if isinstance(function, Task):
                raise ConfigError(
                    f"{function.name} is a task already, and @app.on makes one: write it alone above the function"
                )
            check_handler(function, batch=batch is not None)
            if batch is not None and (counted := {"limit", "rate", "ordered", "fair", "breaker"} & options.keys()):
                raise ConfigError(f"@app.on(batch=) takes no {min(counted)}=: lanes= says how many batches run at once")
            task = self._register(function, **options)
            common: dict[str, Any] = {
                "mode": "job",
                "priority": task.defaults.priority or 0,
                "timeout_s": task.timeout_s,
            }
            self.subscriptions[task.name] = Subscription(
                name=task.name, types=patterns, task=task.name, queue=task.queue, **common | made
            )
            return task

        return cast("Decorator", decorate)

    def trigger(self, table: str, **wanted: Unpack["WantedTrigger"]) -> None:
        """Declare what the database does when rows of a table change: `app.trigger("users", on=["update"], task=sync_user)`.

        Nothing is written before `pgqueue trigger sync`, or triggers.sync(). See WantedTrigger; raises InvalidOption.
        """
        self.triggers.declare(table, **wanted)

    def webhook(
        self,
        url: str,
        types: str | Iterable[str],
        *,
        secret: str | Iterable[str],
        name: str | None = None,
        allow_private: bool = False,
    ) -> None:
        """Send a signed POST for each event of these types: `app.webhook("https://host/in", "user.*", secret="env:HOOK_SECRET")`.

        secret: env:NAME, the variable of the workers that holds it; while it is rotated several, the new one first. name: the
        default is the URL's host. allow_private: private and local addresses too, and http://. A worker makes the endpoint at
        its start, and it gets what is published from then on. Its deliveries are jobs of the task pgqueue.webhook in the
        queue `webhooks`, one for each event. Raises ConfigError.
        """
        from pgqueue.webhooks.endpoint import Endpoint, subscription_of

        endpoint = Endpoint.make(url, types, secret=secret, name=name, allow_private=allow_private)
        if endpoint.name in self.webhooks:
            raise ConfigError(f"two webhooks have the name {endpoint.name}: give one of them name=")
        made = subscription_of(endpoint, in_code=True)
        self.webhooks[endpoint.name], self.subscriptions[made.name] = endpoint, made

    # -- jobs go in --

    def enqueue(
        self, task: str, args: Iterable[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Unpack[Given]
    ) -> Job[Any]:
        """Insert a job by the task's name, without its code: nothing checks the signature.

        options as for Task.options; what they leave open is as the task says, if this app knows it.
        """
        call, made = self._by_name(task, args, kwargs, options)
        return self.insert(task, call, options=made)

    async def enqueue_async(
        self, task: str, args: Iterable[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Unpack[Given]
    ) -> Job[Any]:
        """As `enqueue`, for asyncio."""
        call, made = self._by_name(task, args, kwargs, options)
        return await self.insert_async(task, call, options=made)

    def _by_name(
        self, task: str, args: Iterable[Any], kwargs: Mapping[str, Any] | None, options: Given
    ) -> tuple[Call, Options]:
        check_name("task", task)
        if isinstance(args, str | bytes | Mapping):
            raise TypeError(f"{task}: args takes a list, not a {type(args).__name__}; write args=[...]")
        args = list(args)  # they are read twice
        limit = self.config.max_payload_bytes
        call = (
            encode_plain(list(args), path=f"{task}: args", max_bytes=limit),
            encode_plain(dict(kwargs or {}), path=f"{task}: kwargs", max_bytes=limit),
        )
        made = Options.make(task, **options)
        known = self.tasks.get(task)
        if known is not None:
            made = made.over(known.defaults)
            if made.key is not None:
                known.check_key(made.queue)
            gates = known.gates_of(args, kwargs or {}, queue=made.queue, key=made.key)
        elif (queue := self.queues.get(made.queue or "default")) is not None:
            gates = queue.of_stranger(task, args, kwargs or {}, key=made.key)
        else:
            gates = [] if made.key is None else [whole_gate(made.key, task=task)]
        return (GatedCall.of(call, gates) if gates else call), made

    def _marked(self, task: str, options: Options) -> Options:
        """With the headers that say which arguments of this task are secret."""
        known = self.tasks.get(task)
        if known is None or not known.marks or not isinstance(options.headers, Mapping | None):
            return options
        return replace(options, headers={**(options.headers or {}), MARKS: known.marks})

    def insert(self, task: str, call: Call, *, options: Options) -> Job[Any]:
        """Insert one encoded call; Task.defer and enqueue end here."""
        job_id, options = new_id(), self._marked(task, options)
        allowance = self._database.allowance(silence_s=db.SILENCE_S)
        try:
            with self._database.door(options.conn, allowance) as (conn, ring):
                steps = enqueue_one(self.queries, task, call, job_id=job_id, options=options, ring=ring)
                inserted = db.run(conn, steps)
        except db.DatabaseError as error:
            return self._insert_again(task, call, job_id, options, error, allowance)
        return Job(inserted.id, task, inserted.created, self)

    def _insert_again(
        self, task: str, call: Call, job_id: str, options: Options, error: Any = None, allowance: Any = None
    ) -> Job[Any]:
        tries = self._tries(task, call, job_id, options, allowance)
        if error is None:
            self._database.ask()
        with tries, self._database.explained():
            tries.after(error)
            for attempt in self._database.again(tries):
                with attempt, self._database.transaction(tries) as (conn, ring):
                    steps = enqueue_again(self.queries, task, call, job_id=job_id, options=options, ring=ring)
                    inserted = db.run(conn, steps)
        return Job(inserted.id, task, inserted.created, self)

    def _tries(self, task: str, call: Call, job_id: str, options: Options, allowance: Any) -> Tries:
        repeats = (
            partial(self._insert_again, task, call, job_id, options),
            partial(self._insert_again_async, task, call, job_id, options),
        )
        return self._database.tries(options.conn, allowance, job_id=job_id, repeats=repeats)

    async def insert_async(self, task: str, call: Call, *, options: Options) -> Job[Any]:
        """As `insert`, for asyncio."""
        job_id, options = new_id(), self._marked(task, options)
        allowance = self._database.allowance(silence_s=db.SILENCE_S)
        try:
            async with self._database.door_async(options.conn, allowance) as (conn, ring):
                steps = enqueue_one(self.queries, task, call, job_id=job_id, options=options, ring=ring)
                inserted = await db.run_async(conn, steps)
        except db.DatabaseError as error:
            return await self._insert_again_async(task, call, job_id, options, error, allowance)
        return Job(inserted.id, task, inserted.created, self)

    async def _insert_again_async(
        self, task: str, call: Call, job_id: str, options: Options, error: Any = None, allowance: Any = None
    ) -> Job[Any]:
        tries = self._tries(task, call, job_id, options, allowance)
        if error is None:
            await asyncio.to_thread(self._database.ask)
        with tries, self._database.explained():
            tries.after(error)
            async for attempt in self._database.again_async(tries):
                with attempt:
                    async with self._database.transaction_async(tries) as (conn, ring):
                        steps = enqueue_again(self.queries, task, call, job_id=job_id, options=options, ring=ring)
                        inserted = await db.run_async(conn, steps)
        return Job(inserted.id, task, inserted.created, self)

    def insert_many(self, task: str, calls: Iterable[Call], *, options: Options) -> Jobs[Any]:
        """Insert many encoded calls, all or none; in the caller's transaction they share a savepoint."""
        options = self._marked(task, options)
        tries = self._database.tries(options.conn)
        with tries, self._database.explained(), self._database.door(options.conn, tries.allowance) as (conn, ring):
            if db.would_begin(conn):
                db.run(conn, self.queries.begin())
            with conn.transaction():
                inserted = db.run(conn, enqueue_many(self.queries, task, calls, options=options, ring=ring))
                tries.commit(inserted)
        return Jobs(inserted.ids, task=task, found=inserted.found, app=self)

    async def insert_many_async(self, task: str, calls: Iterable[Call], *, options: Options) -> Jobs[Any]:
        """As `insert_many`, for asyncio."""
        options = self._marked(task, options)
        tries = self._database.tries(options.conn)
        with tries, self._database.explained():
            async with self._database.door_async(options.conn, tries.allowance) as (conn, ring):
                if db.would_begin(conn):
                    await db.run_async(conn, self.queries.begin())
                async with conn.transaction():
                    inserted = await db.run_async(
                        conn, enqueue_many(self.queries, task, calls, options=options, ring=ring)
                    )
                    tries.commit(inserted)
        return Jobs(inserted.ids, task=task, found=inserted.found, app=self)

    def using(self, conn: db.CallerConnection) -> contextlib.AbstractContextManager[None]:
        """Within the block, defers of this thread or asyncio task go into this connection's transaction; conn as in Options.

        So do those of what is started inside (asyncio tasks, asyncio.to_thread), until the block ends. A FastAPI dependency with
        `yield` may hold the block, sync or async: its endpoint is inside. Raises ConfigError where it could not be.
        Orders (cancel, retry, pause, resume, purge) and questions take the same connection, which must be a sync one for them:
        on another they could wait without end for what its transaction holds. `result` alone waits on one of our own.
        """
        return self._database.using.block(conn)

    # -- events --

    def publish(
        self, type: str, payload: object = None, *, key: str | None = None, headers: Mapping[str, Any] | None = None,
        conn: db.CallerConnection | None = None,
    ) -> str:  # fmt: skip
        """Append an event to the log, in the transaction of conn= or using(), else in one of its own; returns its id.

        type: as `user.created`; payload: anything that a task takes; key: what its events are about, whose order is kept.
        Raises InvalidOption and InvalidArguments, before anything is written, and what `Task.defer` raises.
        """
        row = event_row(type, payload, key=key, headers=headers, max_bytes=self.config.max_payload_bytes)
        return self._publisher.one(row, conn=conn)

    async def publish_async(
        self, type: str, payload: object = None, *, key: str | None = None, headers: Mapping[str, Any] | None = None,
        conn: db.CallerConnection | None = None,
    ) -> str:  # fmt: skip
        """As `publish`, for asyncio."""
        row = event_row(type, payload, key=key, headers=headers, max_bytes=self.config.max_payload_bytes)
        return await self._publisher.one_async(row, conn=conn)

    def publish_many(
        self, events: Iterable[Mapping[str, Any]], *, conn: db.CallerConnection | None = None
    ) -> list[str]:
        """Append many events by COPY, all or none, in order; returns their ids. Each is a dict of what `publish` takes.

        `events` may be a generator: its events are streamed. Raises as `publish`.
        """
        rows = event_rows(events, max_bytes=self.config.max_payload_bytes)
        return self._publisher.many(rows, conn=conn)

    async def publish_many_async(
        self, events: Iterable[Mapping[str, Any]], *, conn: db.CallerConnection | None = None
    ) -> list[str]:
        """As `publish_many`, for asyncio."""
        rows = event_rows(events, max_bytes=self.config.max_payload_bytes)
        return await self._publisher.many_async(rows, conn=conn)

    def subscribe(
        self, *types: str, name: str, batch: int = 100, lanes: int = 1, start: str | datetime = "now",
    ) -> "Subscribed":  # fmt: skip
        """Loop over events in a program: `for events in app.subscribe("orders.*", name="search"):`, or `async for`.

        The subscription of that name is made if it is not there; its place is in the database, moves when the loop asks for more,
        and stays when it breaks or raises: each event comes at least once, those of one key in order. batch: events at most in one
        turn. start, of a new one: `now`, `begin`, an aware datetime, or the id of an event, which is then the first one, as in a
        replay. lanes: this many loops of one name may run at once, events of one key always in one of them; further ones wait.
        `App.close()` ends it.

        Raises ConfigError, and DatabaseUnavailable where the database is away when it starts; later it waits for it.
        """
        from pgqueue.events.loop import Subscribed, subscribed
        from pgqueue.events.start import check_start

        wanted = subscribed(types, name=name, batch=batch, lanes=lanes)
        return Subscribed(self._loops, self._database, wanted, start=check_start(start))

    def follow(self, *types: str, after: str | None = None, timeout: float | None = None) -> "Follower":
        """What is published from now on, for one `for` or `async for` loop: Listening first, then Event and Gap.

        For live pages, of which each gets all: nothing is kept for it in the database, and all loops of a process share one
        connection. after: the `position` of an earlier loop, to read on from there with nothing lost and nothing twice. A Gap
        says that this cannot be done, as its events are not kept any longer or are more than 10,000: read your state again.
        timeout: as for `listen`, and it ends and raises as that does, but works behind a connection pooler too.
        """
        from pgqueue.channels.names import check_timeout
        from pgqueue.events.types import check_patterns

        return self._follows.follow(check_patterns(types), after=after, timeout_s=check_timeout(timeout))

    def relay(
        self, to: str, types: str | Iterable[str] = "*", *, name: str | None = None, lanes: int = 1, batch: int = RELAY_BATCH,
        max_attempts: int = RELAY_ATTEMPTS, on_poison: Literal["skip", "stop"] = "skip",
    ) -> None:  # fmt: skip
        """Have workers send events to a bus: `app.relay(to="redis://host/0/users", types="user.*")`, from their first start on.

        to: a URL, whose password stays out of the database, or `env:NAME` of a variable that holds it; buses/destination.py has
        their forms. At least once, in order in each lane; lanes: processes that send at once, events of one key in one of them.
        batch: events that are sent in one. Each try that fails is repeated; after max_attempts an event that the bus refuses
        becomes a dead job, and the lane continues (`skip`), or the lane stops (`stop`). Raises ConfigError.
        """
        from pgqueue.events.relay import relayed

        wanted = relayed(
            to, types, name=name, lanes=lanes, batch=batch, max_attempts=max_attempts, on_poison=on_poison, in_code=True
        )
        if wanted.name in self.subscriptions:
            raise ConfigError(
                f"there are two subscriptions of the name {wanted.name!r}: give the relay another by name="
            )
        self.subscriptions[wanted.name] = wanted

    def events(
        self, *types: str, since: float | timedelta | datetime | None = None, limit: int = 100
    ) -> list[ListedEvent]:
        """The newest events of these types or patterns (none: of all), newest first.

        since: an aware datetime, or seconds before now.
        """
        from pgqueue.events.control import newest

        return self.look(newest(self.queries, types or ("*",), since=since, limit=limit))

    def subscription(self, name: str) -> "SubscriptionHandle":
        """A handle to a subscription by its name: pause, resume, replay, drop; nothing is asked of the database yet."""
        from pgqueue.events.control import SubscriptionHandle

        return SubscriptionHandle(name, self._database)

    def subscription_states(self) -> list[SubscriptionState]:
        """All subscriptions, with how far each is behind."""
        from pgqueue.events.control import states

        return self.run(states(self.queries))

    # -- asking about jobs --

    def job(self, job_id: str) -> Job[Any]:
        """A handle to a job by its id; nothing is asked of the database yet."""
        return Job(job_id, _app=self)

    def jobs(
        self,
        *,
        state: str | None = None,
        queue: str | None = None,
        task: str | None = None,
        since: float | timedelta | datetime | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page:
        """The newest jobs, alive or ended, that match: a list that also says how far the search went; see Page.

        since: an aware datetime, or seconds before now: live jobs created, ended ones finished from then on. after: an id; only
        jobs whose id is smaller, which are older, as `Page.next`. Looks at 10,000 jobs, or at `limit` if that is more.
        """
        wanted = Wanted(state=state, queue=queue, task=task, since=since, after=after)
        return self.look(listing(self.queries, wanted, limit=limit))

    def snapshot(self, job_id: str) -> Snapshot:
        """One job's row as of now; raises JobNotFound."""
        look = self.queries.job(check_id(job_id))
        rows = self.run(look) or self.run(look)  # twice: see retention.py
        if not rows:
            raise _not_found(job_id)
        return rows[0]

    def find(self, ending: str) -> str:
        """The whole id of the job whose id ends like this, as the dashboard shows it: of a running or lately failed job.

        Raises JobNotFound when there is none, or more than one.
        """
        if ID.fullmatch(ending):
            return ending
        found = self.run(self.queries.find(ending.lower())) if ENDING.fullmatch(ending) else []
        if len(found) != 1:
            raise JobNotFound(
                f"{ending!r} is {'the end of several job ids' if found else 'not a known job id'}: give the whole id",
                ending,
            )
        return found[0]

    def attempts(self, job_id: str) -> list[FailedAttempt]:
        """The failed attempts of a job: (attempt, started_at, failed_at, worker, cause, error, traceback)."""
        return self.run(self.queries.attempts(check_id(job_id)))

    def audit(self, job_id: str) -> list[Deed]:
        """Who cancelled or retried a job, and when: (at, who, action, the state it was in), kept for a year."""
        return self.run(self.queries.audit(check_id(job_id)))

    def why(self, job_id: str) -> Why:
        """What keeps a job from running, or how it ended, in sentences; raises JobNotFound."""
        return self.run(why(self.queries, self.snapshot(job_id)))

    def cancel(self, job_id: str, *, reason: str = "cancelled by request", kill: bool = False) -> bool:
        """See Job.cancel."""
        reason = check_text("reason", reason, at_most=MAX_REASON)
        if self.run(self.queries.cancel(check_id(job_id), reason=reason, kill=kill)):
            return True
        self.snapshot(job_id)
        return False

    def retry(self, job_id: str) -> bool:
        """See Job.retry."""
        if self.run(self.queries.retry(check_id(job_id))):
            return True
        found = self.snapshot(job_id)
        if State(found.state).ended:
            raise DuplicateJob(
                f"job {job_id} cannot run again: another live job has its unique key {found.unique_key!r}", job_id
            )
        return False

    def result(self, job_id: str, *, timeout_s: float | None = None) -> object:
        """See Job.result."""
        done = threading.Event()
        ends: list[Told] = []

        def wake(end: Told) -> None:
            ends.append(end)
            done.set()

        waiter = Waiter(check_id(job_id), wake)
        hub = self._database.hub
        hub.add(waiter)
        try:
            if not done.wait(timeout_s):
                raise _too_late(job_id, timeout_s)
        finally:
            hub.remove(waiter)
        return self._value(job_id, ends[0])

    async def result_async(self, job_id: str, *, timeout_s: float | None = None) -> object:
        """See Job.result_async."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Told] = loop.create_future()

        def arrive(end: Told) -> None:
            if not future.done():
                future.set_result(end)

        def wake(end: Told) -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed; the hub's thread has others to wake
                loop.call_soon_threadsafe(arrive, end)

        waiter = Waiter(check_id(job_id), wake)
        hub = await asyncio.to_thread(lambda: self._database.hub)
        hub.add(waiter)
        try:
            return self._value(job_id, await asyncio.wait_for(future, timeout_s))
        except TimeoutError:
            raise _too_late(job_id, timeout_s) from None
        finally:
            hub.remove(waiter)

    def _value(self, job_id: str, end: Told) -> object:
        if isinstance(end, PgQueueError):
            raise type(end)(str(end))  # each waiter gets one of its own
        if end is None:
            raise _not_found(job_id)
        if end is CLOSED:
            raise PgQueueError(f"App.close() was called while waiting for job {job_id}; the job itself continues")
        if end.state == State.DEAD:
            raise JobDead(f"job {job_id} ({end.task}) is dead: {end.error}", job_id, end.error)
        if end.state == State.CANCELLED:
            raise JobCancelled(f"job {job_id} ({end.task}) was cancelled: {end.error}", job_id)
        task = self.tasks.get(end.task)
        return task.codec.decode_result(end.result) if task else decode_plain(end.result)

    # -- live channels --

    def listen(self, *channels: str, timeout: float | None = None) -> "Listener[Item]":
        """What comes in on these channels, for one `for` or `async for` loop: Listening first, then Notification and Gap.

        Read your state when Listening comes and at each Gap: what changes later is heard. timeout: the loop ends when nothing
        has come for this many seconds. It also ends when the App is closed. All loops of a process share one connection. Raises
        InvalidOption at once; in the loop DatabaseUnavailable if there was no connection to begin with, and NotSupported
        behind a connection pooler, where it needs the setting direct_dsn.
        """
        from pgqueue.channels.listener import Listener
        from pgqueue.channels.mailbox import Mailbox
        from pgqueue.channels.names import check_channels, check_timeout

        names = check_channels(channels, doorbells=self.config.doorbells)
        return Listener(Mailbox(names), lambda: self._database.receiver, timeout_s=check_timeout(timeout))

    def notify(
        self, channel: str, payload: object, *, conn: db.CallerConnection | None = None, distinct: bool = False
    ) -> None:
        """Send a value to those who listen to a channel now, and to nobody else; it is kept nowhere.

        payload: what JSON can say, within max_payload_bytes. conn: as in Options; it is sent when that transaction commits, and
        never if it is rolled back. Of equal notifications of one transaction one is sent; distinct: each of them. Raises
        InvalidOption and InvalidArguments before anything is sent.
        """
        steps = self._notification(channel, payload, distinct=distinct)
        with self._database.explained(), self._database.door(conn, instead="await notify_async()") as (own, _):
            db.run(own, steps)

    async def notify_async(
        self, channel: str, payload: object, *, conn: db.CallerConnection | None = None, distinct: bool = False
    ) -> None:
        """As `notify`, for asyncio."""
        steps = self._notification(channel, payload, distinct=distinct)
        with self._database.explained():
            async with self._database.door_async(conn, instead="use notify()") as (own, _):
                await db.run_async(own, steps)

    def _notification(self, channel: str, payload: object, *, distinct: bool) -> Steps[None]:
        from pgqueue.channels.names import check_channel
        from pgqueue.channels.notify import notify
        from pgqueue.channels.payloads import pack

        name = check_channel(channel, doorbells=self.config.doorbells)
        packed = pack(payload, channel=channel, distinct=distinct, max_bytes=self.config.max_payload_bytes)
        return notify(self.queries, name, packed)

    # -- queues --

    def pause(self, queue: str, *, for_: float | timedelta | str | None = None, why: str | None = None) -> None:
        """Stop claiming from a queue until `resume`, or for a time; running jobs continue. Of two pauses the last says how long.

        A task, or one key of a limit: `pause("task:shop.charge")`, `pause("tenant=42", for_="10m")`. for_: seconds, a timedelta or
        a text as in "10m", by the database's clock. why: of a task or key alone. Raises InvalidOption.
        """
        for_s = None if for_ is None else span_seconds("for_", for_)
        if for_s == 0:
            raise InvalidOption("a pause of no time is none: say for how long, as in 10m, or leave for_ out")
        if is_gate(queue):
            reason = None if why is None else check_text("why", why, at_most=MAX_REASON)
            self.run(close_gate(self.queries, queue, for_s=for_s, why=reason))
            return
        if why is not None:
            raise InvalidOption(
                f"why= is of a task or a key that is paused, as in task:NAME or tenant=42, not of queue {queue}"
            )
        self.run(self.queries.pause(check_name("queue", queue), for_s=for_s))

    def drain(self, queue: str, *, timeout: float | timedelta | str | None = None) -> int:
        """Wait until no job of a queue is due or runs, then pause it. Nothing is refused meanwhile: what comes is run.

        Returns 0; or how many jobs are left at the timeout, counted to 1,000, and then the queue is not paused. Jobs that are due
        later stay. timeout: seconds, a timedelta or a text as in "10m". Raises ConfigError for a queue that is paused already
        with jobs that are due, and inside using().
        """
        timeout_s = None if timeout is None else span_seconds("timeout", timeout)
        return drain(self._database, check_name("queue", queue), timeout_s=timeout_s)

    def resume(self, queue: str) -> bool:
        """Claim from a paused queue again, or let jobs through a closed gate; False: it was not paused."""
        if is_gate(queue):
            return self._database.run_in_transaction(open_gate(self.queries, queue))
        return bool(self.run(self.queries.resume(check_name("queue", queue))))

    # -- limits --

    def limit(
        self, name: str, slots: int | Literal["code", ""] | None = "", *, weight: int | None = None, now: bool = False
    ) -> int:
        """Set how many jobs may be past a gate at once, from now on: `app.limit("tenant=42", 2)`.

        name: task:NAME, queue:NAME, the name= of a Limit, or one key of these, as in `tenant=42`. None takes away the limit, and
        of a key its own. It stays through deploys, until "code" leaves it to the code again. weight: instead of slots, of a key
        that takes turns, as in `app.limit("fair:task:shop.send=acme", weight=2)`: how many shares it has. now: have those wait
        again that were let through and are more than that, as long as they do not run yet. Returns how many did.

        Raises InvalidOption.
        """
        if (slots == "") is (weight is None):
            raise InvalidOption(f"{name}: say either how many at once, or weight=")
        if now:
            return lower_now(self._database, name, slots)
        if weight is None:
            self._database.run_in_transaction(set_limit(self.queries, name, slots))
        else:
            self._database.run_in_transaction(set_weight(self.queries, name, weight))
        return 0

    def limits(self) -> list[LimitRow]:
        """The gates that anybody has set, or at which jobs wait. The reader's role sees the former, and no counts of jobs."""
        return self.run(limits(self.queries))

    def purge(self, *, state: str, queue: str | None = None, task: str | None = None) -> int:
        """Delete every job in one state (not running), a thousand at a time; returns how many. Raises InvalidOption."""
        return purge(self._database, state=state, queue=queue, task=task)

    # -- the database --

    @property
    def config(self) -> Config:
        """The settings, merged from all sources at first use; raises ConfigError."""
        return self._database.config

    @property
    def queries(self) -> Queries:
        """The statements for this app's schema."""
        return self._database.queries

    @property
    def dsn(self) -> str:
        """Where the database is; starts or joins the embedded server when no setting names one."""
        return self._database.dsn

    @overload
    def run(self, steps: Statement[R]) -> list[R]: ...
    @overload
    def run(self, steps: Steps[T]) -> T: ...
    def run(self, steps: Steps[Any] | Statement[Any]) -> Any:
        """Run steps or a statement on a connection of our own, or on that of `using`."""
        return self._database.run(steps)

    def look(self, steps: Steps[T]) -> T:
        """As `run`, for steps that only read, at a cost that does not depend on what the server knows of its tables."""
        return self._database.look(steps)

    def bind(self, framework: Framework) -> None:
        """Ask a framework for the settings, and for the transaction of a sync `defer` without conn=. Arguments of App win.

        Its settings are asked for at each use: when they have changed, the connections that were opened are closed. pgqueue's own
        integrations call this; see pgqueue.client.framework.
        """
        self._database.bind(framework)

    def migrate(self, conn: Any = None, *, roles: bool = False, up_to: int | None = None) -> list[str]:
        """Bring the schema up to date; returns the migrations applied. Safe when two run at once.

        conn: a sync connection as conn= takes it, without an open transaction; default: one of our own. roles: also make the
        group roles for logins that may do only their part, and grant them their rights. up_to: the last migration to
        apply, by its number. Raises NotAllowed, SchemaTooNew, SchemaError.
        """
        return self._database.migrate(conn, roles=roles, up_to=up_to)

    def close(self) -> None:
        """Close the connections this process opened; the app opens new ones when it is used again."""
        for reading in list(self._read_by.values()):
            reading.close()
        self._database.close()

    def lifespan(self, web: object = None, /) -> Lifespan:
        """For a web application: `FastAPI(lifespan=app.lifespan())`, or `async with app.lifespan():` in a lifespan of its own.

        At its start it checks the schema and connects, so that what is wrong is said then and not to the first request: it raises
        DatabaseUnavailable, SchemaMissing, SchemaTooOld or SchemaTooNew. At its end it closes the connections.
        """
        return Lifespan(self._database, self._close_follows)

    def _close_follows(self) -> None:
        if "follows" in self._read_by:
            self._follows.close()

    async def close_async(self) -> None:
        """Close the connections opened for the running event loop. asyncio.run() does so by itself at its end."""
        await self._database.close_async()


class Decorator:
    """The type of `task(...)` with options: keeps the signature of what it decorates."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, Coroutine[Any, Any, R], R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R, R]: ...
    def __call__(self, function: Any, /) -> Any:
        raise NotImplementedError


def _not_found(job_id: str) -> JobNotFound:
    return JobNotFound(
        f"no job {job_id}: it never existed, its transaction was rolled back or is still open, its retention is over, "
        "or it succeeded and its task keeps nothing (keep=0)",
        job_id,
    )


def _too_late(job_id: str, timeout_s: float | None) -> ResultTimeout:
    return ResultTimeout(f"job {job_id} not finished after {timeout_s} s; it continues", job_id)
