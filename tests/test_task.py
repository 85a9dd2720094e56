"""What `@task` makes of a function, and what it refuses at import."""

import asyncio
import functools
import operator
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest
from tenacity import retry_if_exception_type, stop_after_attempt, wait_fixed

import pgqueue
from pgqueue import App, ConfigError, InvalidOption, Task
from pgqueue.client.options import Options
from tests.untyped import untyped

shop = App("postgresql://nobody@nowhere.invalid/nothing")


@shop.task
def bare(a: int, b: str = "x") -> str:
    """Says what it got."""
    return f"{a}{b}"


@shop.task()
def empty_brackets() -> None: ...


@shop.task(queue="slow", timeout=timedelta(minutes=2), name="shop.named", atomic=True)
async def with_options(a: int) -> int:
    return a + 1


class Shop:
    @shop.task
    def method(self) -> None: ...

    @staticmethod
    @shop.task
    def static(a: int) -> int:
        return a


def test_names() -> None:
    assert bare.name == "tests.test_task.bare" and repr(bare) == "<Task tests.test_task.bare>"
    assert empty_brackets.name == "tests.test_task.empty_brackets"
    assert with_options.name == "shop.named"
    assert Shop.static.name == "tests.test_task.Shop.static"
    assert shop.tasks["shop.named"] is with_options and shop.tasks["tests.test_task.bare"] is bare


def test_a_plain_call_is_plain() -> None:
    assert bare(1, b="y") == "1y" and Shop.static(3) == 3 and Shop().static(4) == 4
    assert asyncio.run(with_options(1)) == 2
    with pytest.raises(TypeError, match="bare"):
        untyped(bare)()


def test_it_looks_like_the_function() -> None:
    seen = untyped(bare)
    assert (seen.__name__, seen.__doc__, seen.__module__) == ("bare", "Says what it got.", "tests.test_task")
    assert seen.__wrapped__ is bare.function and isinstance(bare, Task) and bare.app is shop


def test_defaults_and_options() -> None:
    assert (bare.queue, bare.timeout_s, bare.atomic, bare.is_async) == ("default", None, False, False)
    assert (with_options.queue, with_options.timeout_s, with_options.atomic) == ("slow", 120.0, True)
    assert with_options.is_async


def test_a_method_of_an_instance_is_refused_with_the_cure() -> None:
    with pytest.raises(ConfigError, match="is a method: move it out of the class and pass what it needs as arguments"):
        untyped(Shop()).method.defer()


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


def plain() -> None: ...


class Callable:
    def __call__(self) -> None: ...

    def method(self) -> None: ...


def nested() -> Any:
    def inside() -> None: ...

    return inside


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: None, r"a lambda cannot be a task without a name: give @task\(name="),
        (nested(), "defined inside a function, where a worker cannot find it: move it to the module"),
        (Callable, "not the class Callable"),
        (generator, "cannot run the generator function generator: return a list, or defer a job per item"),
        (async_generator, "cannot run the generator function async_generator"),
        (bare, "is a task already"),
        (5, "decorates a function, not a int"),
        ("mail", "decorates a function, not a str"),
        (property(lambda self: 1), "decorates a function, not a property"),
        (classmethod(lambda cls: 1), "decorates a function, not a classmethod: no worker has its class: move it out"),
        (staticmethod(plain), "decorates a function, not a staticmethod: put @staticmethod above @task"),
        (Callable().method, "decorates a function, not a method: no worker has its object: write a def that makes one"),
        (functools.cache(plain), "not a _lru_cache_wrapper: a job whose result is remembered would not run"),
        (functools.singledispatchmethod(plain), "not a singledispatchmethod: move it out of the class"),
        (operator.itemgetter(1), "not a itemgetter: write a def that calls it"),
        (operator.add, "not a builtin_function_or_method: write a def that calls it"),
        (Callable(), "decorates a function, not a Callable: write a def that calls it"),
        (functools.partial(print, 1), "decorates a function, not a partial: write a def that calls it"),
        (print, "decorates a function, not a builtin_function_or_method"),
    ],
)
def test_b46_what_is_no_task(function: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        App().task(function)


def test_attributes_of_the_function_stay_beside_the_tasks_own() -> None:
    """As frameworks and other queues leave them there."""

    def function() -> None: ...

    own = {name: getattr(bare, name) for name in dir(Task) if not name.startswith("_")}
    own |= {name: value for name, value in vars(bare).items() if not name.startswith("_")}
    foreign = dict.fromkeys(own, "foreign") | {"_options": 1, "_redact": 1, "_warned": 1, "route": "/here"}
    vars(function).update(foreign)
    task: Any = App(secret_names="(?!)").task(name="t", queue="q", redact=())(function)
    assert (task.name, task.queue, task.function, task.route) == ("t", "q", function, "/here")
    assert [name for name in own if getattr(task, name) == "foreign"] == []
    assert isinstance(task._options, Options) and task._redact == frozenset() and callable(task.defer)
    assert len(own) > 20


def test_with_a_name_they_work() -> None:
    app = App()
    for number, function in enumerate((lambda a: a, nested())):
        app.task(name=f"t{number}")(function)
        assert app.tasks[f"t{number}"].function is function


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queue": ""}, "queue must not be empty"),
        ({"timeout": 0}, "timeout must be"),
        ({"timeout": "30"}, "timeout takes seconds"),
        ({"priority": 1.5}, "priority takes a whole number"),
        ({"expires": -1}, "expires=-1 is negative"),
        ({"max_attempts": 0}, "max_attempts=0 is out of range"),
        ({"max_attempts": True}, "max_attempts takes a whole number"),
        ({"max_attempts": 3, "stop": stop_after_attempt(3)}, "give max_attempts= or stop=, not both"),
        ({"wait": 5}, r"wait= takes a tenacity strategy such as tenacity\.wait_fixed\(10\), not 5"),
        ({"stop": 3}, r"stop= takes a tenacity strategy such as tenacity\.stop_after_attempt\(8\)"),
        ({"retry": True}, r"retry= takes a tenacity strategy such as tenacity\.retry_if_exception_type"),
        ({"keep": 5}, r"keep takes only 0 \(a success leaves nothing behind\), not 5"),
        ({"keep": False}, "keep takes only 0"),
        ({"que": "x"}, "@task has no option 'que'; see help"),
        (
            {"before": print},
            "@task has no option 'before'; workers run the attempts, not tenacity: put what should happen before",
        ),
        ({"after": print}, "@task has no option 'after'; .* into a `finally` of the task"),
        ({"before_sleep": print}, "@task has no option 'before_sleep'; .* each failed attempt is logged"),
        ({"retry_error_callback": print}, "@task has no option 'retry_error_callback'; .* is dead"),
        ({"retry_error_cls": ValueError}, r"@task has no option 'retry_error_cls'; .* raises JobDead"),
        ({"reraise": True}, r"@task has no option 'reraise'; .* its result\(\) raises JobDead with the last error"),
        ({"sleep": print}, "@task has no option 'sleep'; .* the job waits in the database"),
        ({"delay": 5}, "@task has no option 'delay'"),
        ({"name": "a\0b"}, "name contains a control character"),
        ({"name": "x" * 129}, "at most 128"),
        ({"name": 5}, "name takes a string"),
    ],
)
def test_wrong_options_fail_at_import(options: dict[str, Any], message: str) -> None:
    app = App()
    with pytest.raises(InvalidOption, match=message):
        app.task(**options)(plain)
    assert app.tasks == {}


def test_policies_reach_the_task() -> None:
    app = App()
    task = app.task(name="t", max_attempts=2, wait=wait_fixed(7), retry=retry_if_exception_type(OSError))(plain)
    assert task.policy.next_delay_s(OSError(), attempt=1, max_attempts=None, age_s=0) == 7
    assert task.policy.next_delay_s(OSError(), attempt=2, max_attempts=None, age_s=0) is None
    assert task.policy.next_delay_s(KeyError(), attempt=1, max_attempts=None, age_s=0) is None


def test_b46_two_functions_of_one_name() -> None:
    app = App()
    app.task(name="same")(nested())
    app.task(name="same")(nested())  # the module was loaded again
    with pytest.raises(ConfigError, match=r"two functions claim the task name same: give one of them @task\(name="):
        app.task(name="same")(asyncio.sleep)


def test_the_default_app_has_its_own_tasks() -> None:
    assert untyped(pgqueue.task).__self__ is pgqueue.app and "shop.named" not in pgqueue.app.tasks
