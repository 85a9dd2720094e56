"""A task: a function that can also be called later. Called plainly it stays the plain function."""

import functools
import inspect
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypeVar, Unpack

from pgqueue.client.enqueue import Call, GatedCall
from pgqueue.client.handle import Job, Jobs
from pgqueue.client.names import name_of
from pgqueue.client.options import Given, Options, check_name
from pgqueue.codec.calls import Codec
from pgqueue.codec.redact import Marks
from pgqueue.codec.signature import returns_as_it_is
from pgqueue.errors import ConfigError, InvalidOption
from pgqueue.gates.breaker import Breaker
from pgqueue.gates.limit import Fair, Key, Limit, Limits, Rate, is_bare
from pgqueue.job import Claimed
from pgqueue.middleware import Middleware, check_middleware, is_async, title
from pgqueue.retry import Policy, Strategy, policy
from pgqueue.spoils import Spoil, check_spoils

if TYPE_CHECKING:
    from pgqueue.app import App

logger = logging.getLogger("pgqueue")

P = ParamSpec("P")
R = TypeVar("R")  # what the job's result is
C = TypeVar("C")  # what a plain call returns: R, or a coroutine of it


class Bound(Generic[P, R]):
    """A task with options for the calls made through it. `defer` has exactly the function's own signature."""

    __slots__ = ("_options", "task")

    def __init__(self, task: "Task[P, Any, R]", options: Options) -> None:
        self.task = task
        self._options = options

    def defer(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Insert one job, in the transaction of conn= or using(), else in one of its own; returns its handle.

        Raises TypeError for a call the function would refuse and InvalidArguments for what cannot be stored, or not be read
        back as declared, both before anything is written;
        DatabaseUnavailable, and OutcomeUnknown where the job may be there all the same.
        """
        task = self.task
        call = task.encode(args, kwargs, options=self._options)
        return task.app.insert(task.name, call, options=self._options)

    delay = defer

    async def defer_async(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """As `defer`, for asyncio."""
        task = self.task
        call = task.encode(args, kwargs, options=self._options)
        return await task.app.insert_async(task.name, call, options=self._options)

    def defer_many(self, calls: Iterable[tuple[Any, ...] | Mapping[str, Any]]) -> Jobs[R]:
        """Insert one job per call, all in one transaction; a call is a tuple of arguments or a dict of named ones.

        `calls` may be a generator of millions: rows are streamed. All or none: an error leaves nothing behind.
        With unique= they are held in memory, and equal priorities run in no particular order.
        """
        task = self.task
        self._options.check_bulk(task.name)
        return task.app.insert_many(task.name, self._encoded(calls), options=self._options)

    async def defer_many_async(self, calls: Iterable[tuple[Any, ...] | Mapping[str, Any]]) -> Jobs[R]:
        """As `defer_many`, for asyncio."""
        task = self.task
        self._options.check_bulk(task.name)
        return await task.app.insert_many_async(task.name, self._encoded(calls), options=self._options)

    def _encoded(self, calls: Iterable[tuple[Any, ...] | Mapping[str, Any]]) -> Iterable[Call]:
        encode = self.task.encode_call
        plain = self._options.key is None and not self.task.app.queues
        return map(encode if plain else partial(encode, options=self._options), calls)


class Task(Bound[P, R], Generic[P, C, R]):
    """What `@task` makes of a function. Attributes: name, app, function, options (of its calls), policy, atomic, keeps,
    async_limit, limits."""

    __slots__ = ("__dict__", "__weakref__")

    def __init__(
        self,
        function: Callable[P, C],
        *,
        app: "App",
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
    ) -> None:
        _check_function(function)
        self.name = check_name("name", name or name_of(function))
        where = f"@task {self.name}"
        # max_attempts stays out of the row: the policy holds it, so that a deploy changes it for jobs already queued.
        defaults = Options.make(where, queue=queue, priority=priority, timeout=timeout, expires=expires)
        Options.make(where, max_attempts=max_attempts)
        try:
            self.policy: Policy = policy(retry=retry, stop=stop, wait=wait, max_attempts=max_attempts)
        except InvalidOption as error:
            raise InvalidOption(f"{where}: {error}") from None
        super().__init__(self, defaults)
        self.app = app
        self.function = function
        self.atomic = atomic
        self.keeps = _check_keep(keep, where)
        self.is_async = inspect.iscoroutinefunction(function)
        self.async_limit = _check_async_limit(async_limit, is_async=self.is_async, where=where)
        self.codec = Codec(function, name=self.name)
        self.limits = Limits(
            limit,
            task=self.name,
            function=function,
            rate=rate,
            burst=burst,
            ordered=ordered,
            on_dead=on_dead,
            fair=fair,
            breaker=breaker,
        )
        self._redact = self._check_redact(redact)
        self.spoils = app.spoils | check_spoils(spoils, where=where)
        self._own_middleware = self._check_middleware(middleware)
        self.surround(())
        self._warned = False
        functools.update_wrapper(self, function, updated=())
        for attribute, value in vars(function).items():  # it looks like the function, and stays a Task
            if attribute not in vars(self) and not hasattr(type(self), attribute):
                setattr(self, attribute, value)

    def _check_middleware(self, functions: Iterable[Middleware]) -> tuple[Middleware, ...]:
        checked = check_middleware(functions, where=f"@task {self.name}")
        for function in checked:
            if is_async(function) and not self.is_async:
                raise ConfigError(
                    f"@task {self.name}: middleware {title(function)} is async and the task is not: write it with a plain def"
                )
        return checked

    def surround(self, outer: Iterable[Middleware]) -> None:
        """Put the app's middleware around this task's own; what is async goes around async tasks only."""
        fitting = (function for function in outer if self.is_async or not is_async(function))
        self.middleware = (*fitting, *self._own_middleware)

    def _check_redact(self, names: Iterable[str]) -> frozenset[str]:
        if isinstance(names, str):
            raise InvalidOption(f"@task {self.name}: redact takes names of arguments, as in redact=[{names!r}]")
        wanted = frozenset(names)
        for name in wanted:
            if not isinstance(name, str) or not self.codec.takes(name):
                raise InvalidOption(f"@task {self.name}: redact names {name!r}, which the function does not take")
        return wanted

    @functools.cached_property
    def marks(self) -> Marks:
        """Which of its arguments are never shown: those of redact=, and those that the setting secret_names finds."""
        find = re.compile(self.app.config.secret_names).search
        return self.codec.marks(lambda name: name in self._redact or find(name) is not None)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> C:
        """A plain call of the function: nothing is queued."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    def __get__(self, instance: object, owner: type | None = None) -> "Task[P, C, R]":
        if instance is not None:
            raise ConfigError(
                f"task {self.name} is a method: move it out of the class and pass what it needs as arguments"
            )
        return self

    def options(self, **options: Unpack[Given]) -> Bound[P, R]:
        """The same task with options for the next calls: conn, queue, priority, delay, at, unique, on_duplicate, debounce,
        debounce_max, once_per, once_key, aligned, max_attempts, timeout, expires, headers, key (see Options for units). Raises
        InvalidOption."""
        made = Options.make(self.name, **options)
        if made.key is not None:
            self.check_key(made.queue or self._options.queue)
        return Bound(self, made.over(self._options))

    def check_key(self, queue: str | None) -> None:
        """Raise InvalidOption where key= would say nothing of a job in this queue."""
        rules = self.app.queues.get(queue or "default")
        if not self.limits.keyed and (rules is None or rules.turns is None):
            raise InvalidOption(f"{self.name}: key= is for a task whose limit has a key, as in limit=Limit(5, key=...)")

    @property
    def defaults(self) -> Options:
        """The options of its jobs where a call says nothing else."""
        return self._options

    @property
    def queue(self) -> str:
        """The queue its jobs go to unless a call says otherwise."""
        return self._options.queue or "default"

    @property
    def timeout_s(self) -> float | None:
        """Seconds one attempt may take unless a call says otherwise."""
        timeout = self._options.timeout
        return timeout.total_seconds() if isinstance(timeout, timedelta) else timeout

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, options: Options | None = None) -> Call:
        """Check a call against the signature and turn it into JSON. options: of the call, which say what gates it has to pass."""
        config = self.app.config
        call: Call = self.codec.encode(args, kwargs, max_bytes=config.max_payload_bytes, check_types=config.check_types)
        if len(call[0]) + len(call[1]) > config.warn_payload_bytes and not self._warned:
            self._warned = True
            logger.warning(
                "%s: arguments of %d bytes: each claim and each look at the job carries them; better pass an id of the data",
                self.name, len(call[0]) + len(call[1]),
            )  # fmt: skip
        if self.limits.gates or self.app.queues:
            options = options or self._options
            if gates := self.gates_of(args, kwargs, queue=options.queue, key=options.key):
                call = GatedCall.of(call, gates)
        return call

    def gates_of(
        self, args: Iterable[object], kwargs: Mapping[str, object], *, queue: str | None, key: str | None = None
    ) -> list[str]:
        """The gates that a call has to pass in this queue. key: in place of what its keys say. Raises InvalidOption."""
        own = self.limits.of_call(args, kwargs, key=key)
        rules = self.app.queues.get(queue or "default")
        if rules is None:
            return own
        return rules.with_limit(rules.with_turn(own, self.name, self.limits, args, kwargs, key=key), self.name)

    def lacks_gates(self, job: Claimed) -> bool:
        """Whether the job came without gates that only its code can tell."""
        if self.limits.gates and is_bare(job.gates):
            return True
        rules = self.app.queues.get(job.queue) if self.app.queues else None
        return rules is not None and rules.lacks_turn(job.gates)

    def all_gates(self, job: Claimed, args: Iterable[object], kwargs: Mapping[str, object]) -> list[str]:
        """Those of such a job that can be told, but for the limit of its queue. Raises InvalidOption where a key cannot."""
        own = job.gates or []
        held = [*own, *self.limits.of_call(args, kwargs)] if is_bare(own) else own
        rules = self.app.queues.get(job.queue)
        if rules is None or not rules.lacks_turn(held):
            return held
        return rules.with_turn(held, self.name, self.limits, args, kwargs)

    def encode_call(self, call: tuple[Any, ...] | Mapping[str, Any], *, options: Options | None = None) -> Call:
        """One call of defer_many: a tuple (or list) of arguments, or a dict of named ones."""
        if isinstance(call, tuple | list):
            return self.encode(tuple(call), {}, options=options)
        if isinstance(call, Mapping):
            return self.encode((), call, options=options)
        raise TypeError(
            f"{self.name}.defer_many takes tuples of arguments or dicts of named ones, not a {type(call).__name__}; "
            "write [(x,) for x in ...] for one argument each"
        )


AnyTask = Task[Any, Any, Any]


def _check_keep(keep: object, where: str) -> bool:
    """Whether a success is kept for as long as the setting keep_succeeded_days says."""
    if keep is None or (keep == 0 and isinstance(keep, int) and not isinstance(keep, bool)):
        return keep is None
    raise InvalidOption(
        f"{where}: keep takes only 0 (a success leaves nothing behind), not {keep!r}; "
        "the setting keep_succeeded_days says how long all others are kept"
    )


def _check_async_limit(limit: object, *, is_async: bool, where: str) -> int | None:
    """How many jobs of the task a child runs at once; None: no limit of its own."""
    if limit is None:
        return None
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise InvalidOption(f"{where}: async_limit must be a whole number of at least 1, not {limit!r}")
    if not is_async:
        raise InvalidOption(
            f"{where}: async_limit bounds async tasks, and this one is a plain def: `pgqueue worker --threads` says how many of "
            "those a child runs at once"
        )
    return limit


_CURES = {
    "staticmethod": "put @staticmethod above @task",
    "classmethod": "no worker has its class: move it out of the class",
    "property": "no worker has its object: move it out of the class, and pass what it needs as arguments",
    "method": "no worker has its object: write a def that makes one and calls it",
    "_lru_cache_wrapper": "a job whose result is remembered would not run; let the task call what is cached",
    "singledispatchmethod": "move it out of the class",
}


def _check_function(function: object) -> None:
    if isinstance(function, Task):
        raise ConfigError(f"{function.name} is a task already; @task was applied twice")
    if inspect.isclass(function):
        raise ConfigError(f"@task decorates a function, not the class {function.__qualname__}")
    if not inspect.isfunction(function):
        kind = type(function).__name__
        raise ConfigError(f"@task decorates a function, not a {kind}: {_CURES.get(kind, 'write a def that calls it')}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigError(
            f"@task cannot run the generator function {function.__qualname__}: return a list, or defer a job per item"
        )
    inner = inspect.unwrap(function)
    if inspect.iscoroutinefunction(inner) and not inspect.iscoroutinefunction(function) and returns_as_it_is(function):
        raise ConfigError(
            f"a decorator around the async function {function.__qualname__} is a plain def and returns its coroutine, which "
            "is never awaited: make it an `async def` that awaits, or put @task below it"
        )
