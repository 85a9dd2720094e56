"""Which calls a decorated task takes: what its wrappers really accept, checked as far as anybody can tell."""

import asyncio
import contextlib
import functools
import inspect
import logging
import time
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import pytest
import tenacity

from pgqueue import App, ConfigError, InvalidArguments
from pgqueue.codec.calls import Codec
from tests.untyped import untyped

DAY = date(2024, 1, 1)
LIMIT = 10_000
Function = Callable[..., Any]


def codec(function: Function) -> Codec:
    return Codec(function, name="t")


def passes(function: Function, *args: Any, **kwargs: Any) -> Any:
    """What comes out when a worker calls it with what was stored."""
    made = codec(function)
    read_args, read_kwargs = made.decode(*made.encode(args, kwargs, max_bytes=LIMIT))
    return function(*read_args, **read_kwargs)


def refuses(function: Function, *args: Any, **kwargs: Any) -> None:
    """Both defer and a plain call do."""
    with pytest.raises(TypeError, match=r"t: .*(take|plain|four)\(\)"):
        codec(function).encode(args, kwargs, max_bytes=LIMIT)
    with pytest.raises(TypeError):
        function(*args, **kwargs)


def take(session: Any, day: date, by: int = 1, *, note: str = "") -> Any:
    return session, day, by, note


def plain(day: date, by: int = 1, *, note: str = "") -> Any:
    return day, by, note


# -- decorators, as people write them --


def honest(function: Function) -> Function:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        began = time.monotonic()
        try:
            logging.getLogger("t").debug("%s %s %s", function.__name__, args, kwargs)
            return function(*args, **kwargs)
        finally:
            logging.getLogger("t").debug(f"{args} {kwargs} {time.monotonic() - began}")

    return wrapper


def in_front(function: Function) -> Function:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function("session", *args, **kwargs)

    return wrapper


def by_name(function: Function) -> Function:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with contextlib.nullcontext("session") as session:
            return function(*args, session=session, **kwargs)

    return wrapper


def by_dict(function: Function) -> Function:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        kwargs["session"] = "session"
        return function(*args, **kwargs)

    return wrapper


def by_default(function: Function) -> Function:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        kwargs.setdefault("session", "session")
        return function(*args, **kwargs)

    return wrapper


def by_binding(function: Function) -> Function:
    """As frameworks for the injection of dependencies do it."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind_partial("session", *args, **kwargs)
        return function(*bound.args, **bound.kwargs)

    return wrapper


def of_its_own(function: Function) -> Function:
    @functools.wraps(function)
    def wrapper(day: date, **kwargs: Any) -> Any:
        return function("session", day, **kwargs)

    return wrapper


def exactly(function: Function) -> Function:
    @functools.wraps(function)
    def wrapper(day: date, by: int = 2) -> Any:
        return function("session", day, by)

    return wrapper


def drops(function: Function) -> Function:
    @functools.wraps(function)
    def wrapper(request: Any, *args: Any, dry_run: bool = False, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def pops(function: Function) -> Function:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        kwargs.pop("dry_run", None)
        return function(*args, **kwargs)

    return wrapper


def positions_only(function: Function) -> Function:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


def names_only(function: Function) -> Function:
    @functools.wraps(function)
    def wrapper(**kwargs: Any) -> Any:
        return function("session", **kwargs)

    return wrapper


def through(call: Function) -> Function:
    def decorator(function: Function) -> Function:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return call(function, *args, **kwargs)  # who knows what it makes of them

        return wrapper

    return decorator


def says_so(function: Function) -> Function:
    """As the libraries `decorator` and `wrapt` do."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function("session", *args, **kwargs)

    signature = inspect.signature(function)
    untyped(wrapper).__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])
    return wrapper


class Proxy:
    """As wrapt makes of a decorated function: an object that passes for it, and calls it as it likes."""

    def __init__(self, function: Function) -> None:
        self.__wrapped__ = function

    @property
    def __class__(self) -> Any:
        return type(self.__wrapped__)

    @__class__.setter
    def __class__(self, _: Any) -> None: ...

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__wrapped__, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__wrapped__("session", *args, **kwargs)


@contextlib.contextmanager
def around() -> Iterator[None]:
    yield


def without_wraps(function: Function) -> Function:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function("session", *args, **kwargs)

    return wrapper


ADDING: list[Function] = [in_front, by_name, by_dict, by_default, by_binding, of_its_own, says_so, without_wraps, Proxy]


@pytest.mark.parametrize("decorator", ADDING)
def test_a_decorator_that_fills_in_an_argument(decorator: Function) -> None:
    wrapped = decorator(take)
    expected = {} if decorator is without_wraps else {"day": DAY}  # nothing tells what a def without annotations takes
    if expected:
        assert passes(wrapped, day=DAY) == ("session", DAY, 1, "")
        assert passes(wrapped, day=DAY, by=3, note="x") == ("session", DAY, 3, "x")
    if decorator not in (by_name, by_dict, by_default):  # to which Python gives what comes first as the session
        assert passes(wrapped, 5) == ("session", 5, 1, "") if decorator is by_binding else True


@pytest.mark.parametrize("decorator", [in_front, of_its_own, says_so, exactly])
def test_where_it_shows_what_is_filled_in_calls_are_checked_and_read_as_declared(decorator: Function) -> None:
    wrapped = decorator(take)
    assert passes(wrapped, DAY)[:2] == ("session", DAY)
    refuses(wrapped)
    refuses(wrapped, DAY, 2, 3, 4)
    refuses(wrapped, DAY, unknown=1)
    refuses(wrapped, DAY, session=1)


def test_what_is_filled_in_by_name_leaves_the_others_to_their_names() -> None:
    wrapped = by_name(take)
    assert passes(wrapped, day=DAY, by=3) == ("session", DAY, 3, "")
    refuses(wrapped, DAY)
    refuses(wrapped)
    last = by_name(lambda day, session: (day, session))
    untyped(last).__wrapped__.__annotations__["day"] = date
    assert passes(last, DAY) == (DAY, "session")


@pytest.mark.parametrize("layers", [[honest], [honest, honest], [around()], [around(), honest]])
def test_a_decorator_that_hands_on_all_it_gets_keeps_the_checks(layers: list[Function]) -> None:
    wrapped = functools.reduce(lambda function, decorator: decorator(function), layers, take)
    assert passes(wrapped, "s", DAY, by=3) == ("s", DAY, 3, "")
    refuses(wrapped, "s")
    refuses(wrapped, "s", DAY, unknown=1)
    assert codec(wrapped)._opaque is None


@pytest.mark.parametrize("layers", [[in_front, honest], [honest, in_front], [honest, in_front, around(), honest]])
def test_layers_are_seen_through_one_by_one(layers: list[Function]) -> None:
    wrapped = functools.reduce(lambda function, decorator: decorator(function), layers, take)
    assert passes(wrapped, DAY) == ("session", DAY, 1, "")
    refuses(wrapped)
    refuses(wrapped, DAY, unknown=1)


def test_two_that_fill_in() -> None:
    def four(a: str, b: str, day: date, n: int) -> Any:
        return a, b, day, n

    wrapped = in_front(in_front(four))
    assert passes(wrapped, DAY, 4) == ("session", "session", DAY, 4)
    refuses(wrapped, DAY)


def test_what_a_decorator_drops_is_accepted() -> None:
    assert passes(drops(plain), "request", DAY, by=3, dry_run=True) == (DAY, 3, "")
    refuses(drops(plain), "request")
    refuses(drops(plain), "request", DAY, unknown=1)
    with pytest.raises(
        InvalidArguments, match=r"argument 1 is a date, .* do not show which parameter takes it: pass it by"
    ):
        passes(pops(plain), DAY, dry_run=True)
    assert passes(pops(plain), day=DAY, dry_run=True) == (DAY, 1, "")


def test_stars_of_one_kind() -> None:
    assert passes(positions_only(plain), DAY, 3) == (DAY, 3, "")
    refuses(positions_only(plain), day=DAY)
    refuses(positions_only(plain), DAY, note="x")
    refuses(positions_only(plain))
    assert passes(names_only(take), day=DAY) == ("session", DAY, 1, "")
    refuses(names_only(take), DAY)


@pytest.mark.parametrize(
    "decorator",
    [
        through(lambda function, *args, **kwargs: function(*args, **kwargs)),
        tenacity.retry(stop=tenacity.stop_after_attempt(1)),
        pops,
    ],
)
def test_of_an_opaque_decorator_what_fits_is_read_as_declared(decorator: Function) -> None:
    wrapped = decorator(plain)
    assert passes(wrapped, DAY, 3) == (DAY, 3, "") and passes(wrapped, day=DAY) == (DAY, 1, "")
    codec(wrapped).encode((), {"unknown": 1}, max_bytes=LIMIT)  # who knows what it is good for


def test_an_opaque_decorator_and_what_does_not_fit() -> None:
    inject = through(lambda function, *args, **kwargs: function("session", *args, **kwargs))
    assert passes(inject(take), day=DAY) == ("session", DAY, 1, "")
    assert passes(inject(take), 5) == ("session", 5, 1, "")
    made = codec(inject(take))
    with pytest.raises(InvalidArguments, match="argument day is stored as a str, which cannot be read as date"):
        made.decode("[]", '{"day": "x"}')


def test_a_secret_is_one_at_whatever_place() -> None:
    def log_in(session: Any, password: str) -> None: ...

    def marks(decorator: Function) -> list[Any]:
        return list(codec(decorator(log_in)).marks(lambda name: name == "password"))

    assert marks(honest) == [1, "password"] and marks(in_front) == [0, "password"]
    assert marks(through(lambda function, *args, **kwargs: None)) == [1, "password", "*0"]
    assert codec(pops(plain)).marks(lambda name: name == "password") == []


def test_a_wrapper_whose_source_cannot_be_read_is_opaque() -> None:
    space: dict[str, Any] = {"functools": functools}
    exec(
        inspect.getsource(in_front)
        .replace(": Function", "")
        .replace(" -> Function", "")
        .replace(": Any", "")
        .replace(" -> Any", ""),
        space,
    )
    assert passes(space["in_front"](take), day=DAY) == ("session", DAY, 1, "")
    assert codec(space["in_front"](take))._opaque is not None


def test_a_wrapper_that_can_only_fail_is_opaque() -> None:
    """It fills in what the function does not take: to say so is Python's."""
    assert codec(by_name(plain))._opaque is not None


# -- async --


async def later(day: date) -> date:
    return day


def keeps_result(function: Function) -> Function:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        logging.getLogger("t").debug("done")
        return result

    return wrapper


def awaits(function: Function) -> Function:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    return wrapper


def runs(function: Function) -> Function:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return asyncio.run(function(*args, **kwargs))

    return wrapper


def runs_later(function: Function) -> Function:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        if inspect.iscoroutine(result):
            result = asyncio.run(result)
        return result

    return wrapper


def either(function: Function) -> Function:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if inspect.iscoroutinefunction(function):
            return asyncio.run(function(*args, **kwargs))
        return function(*args, **kwargs)

    return wrapper


@pytest.mark.parametrize("decorator", [honest, keeps_result, in_front, positions_only])
def test_b45_a_plain_wrapper_around_an_async_function_is_told_at_import(decorator: Function) -> None:
    with pytest.raises(
        ConfigError,
        match=r"a decorator around the async function later is a plain def and returns its coroutine, which is never awaited: "
        r"make it an `async def` that awaits, or put @task below it",
    ):
        App().task(decorator(later))


@pytest.mark.parametrize(
    ("decorator", "is_async"), [(awaits, True), (runs, False), (runs_later, False), (either, False)]
)
def test_decorators_that_await_or_run_what_they_wrap_are_fine(decorator: Function, is_async: bool) -> None:
    task = App().task(decorator(later))
    assert task.is_async is is_async
    assert task.codec.decode(*task.encode((DAY,), {})) == ([DAY], {})
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        task.encode((), {})
    result = task(DAY)
    assert (asyncio.run(result) if is_async else result) == DAY
