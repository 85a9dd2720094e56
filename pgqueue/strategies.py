"""Which strategies of tenacity `@task` takes, and what each of them looks at. Pure.

A strategy that cannot be asked, or whose answer would mean something else than was meant, is refused here, at import: each of
them is callable and most answers count as true, so a mistake would show as jobs that run again and again, or never.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from tenacity import BaseRetrying, RetryCallState, retry_always, retry_never, wait_exception
from tenacity.retry import (
    retry_all,
    retry_any,
    retry_base,
    retry_if_exception,
    retry_if_exception_cause_type,
    retry_if_not_exception_message,
    retry_if_not_result,
    retry_if_result,
    retry_unless_exception_type,
)
from tenacity.stop import stop_base
from tenacity.wait import wait_base

from pgqueue.errors import InvalidOption

_KINDS = {"retry": retry_base, "stop": stop_base, "wait": wait_base}
_EXAMPLES = {"retry": "retry_if_exception_type(OSError)", "stop": "stop_after_attempt(8)", "wait": "wait_fixed(10)"}
_PARTS = ("retries", "stops", "wait_funcs", "strategies")  # where strategies made of others keep those


def _calls(*classes: type) -> frozenset[Any]:
    """How these answer; a subclass that answers otherwise is another strategy."""
    return frozenset(vars(cls)["__call__"] for cls in classes)


_EXCEPTIONS_ONLY = _calls(retry_if_exception, retry_if_exception_cause_type, type(retry_never))
_RESULTS_ONLY = _calls(retry_if_result, retry_if_not_result)
_ALL_RESULTS = _calls(retry_unless_exception_type, retry_if_not_exception_message, type(retry_always))
_ANY, _ALL, _BY_EXCEPTION = _calls(retry_any), _calls(retry_all), _calls(wait_exception)

# Options of tenacity's Retrying, which runs the attempts itself and waits between them.
_OF_RETRYING = {
    "before": "put what should happen before an attempt at the start of the task",
    "after": "put what should happen after an attempt into a `finally` of the task",
    "before_sleep": "each failed attempt is logged, and kept with its traceback in pgqueue.attempt",
    "retry_error_callback": "a job that is given up is dead: look at it by `pgqueue jobs --state dead`",
    "retry_error_cls": "a job that is given up is dead, and its result() raises JobDead",
    "reraise": "a job that is given up is dead, and its result() raises JobDead with the last error",
    "sleep": "nothing sleeps between attempts, the job waits in the database",
}


def cure_for(option: str) -> str:
    """What to do instead of an option that `@task` does not have."""
    if option in _OF_RETRYING:
        return f"workers run the attempts, not tenacity: {_OF_RETRYING[option]}"
    if option in ("batch", "batch_wait"):
        return "batches are of events: see @app.on(..., batch=)"
    return "see help(App.task)"


def check(**given: Any) -> None:
    """Raises InvalidOption for a retry=, stop= or wait= that cannot work."""
    for name, strategy in given.items():
        if strategy is not None:
            for part in _parts(strategy):
                _check_part(name, part)
    retry, wait = given["retry"], given["wait"]
    if retry is not None and _repeats_successes(retry):
        raise InvalidOption(
            "retry= would run again what succeeded, so that no job could ever succeed: take retry_if_not_exception_type(...), "
            "or `retry_if_exception_type() & ...` for one that looks at exceptions alone"
        )
    by_exception = any(_call(part) in _BY_EXCEPTION for part in _parts(wait))
    if by_exception and any(_call(part) in _RESULTS_ONLY for part in _parts(retry)):
        raise InvalidOption(
            "wait_exception has no exception to look at when retry= refuses a result: take another wait=, "
            "such as one of your own, `def wait(state): return state.outcome ...`"
        )


def judges_results(retry: Any) -> bool:
    """Whether it may want another attempt although the task returned."""
    if _call(retry) in _ANY | _ALL:
        return any(judges_results(part) for part in retry.retries)
    return _call(retry) not in _EXCEPTIONS_ONLY


def _repeats_successes(retry: Any) -> bool:
    """Whether it wants another attempt after every result."""
    if _call(retry) in _ANY:
        return any(_repeats_successes(part) for part in retry.retries)
    if _call(retry) in _ALL:
        return all(_repeats_successes(part) for part in retry.retries)
    return _call(retry) in _ALL_RESULTS


def _call(strategy: Any) -> Any:
    return getattr(type(strategy), "__call__", None)  # noqa: B004 (which one, not whether)


def _parts(strategy: Any) -> Iterator[Any]:
    """The strategy and those it is made of."""
    yield strategy
    if isinstance(strategy, tuple(_KINDS.values())):
        for name in _PARTS:
            for part in getattr(strategy, name, ()):
                yield from _parts(part)


def _check_part(name: str, part: Any) -> None:
    own, kind = _KINDS[name], type(part).__name__
    if isinstance(part, BaseRetrying) or getattr(part, "__qualname__", "") == "retry.<locals>.wrap":
        raise InvalidOption(f"{name}= takes one strategy, not a whole Retrying: give @task its retry=, stop= and wait=")
    if isinstance(part, type) and issubclass(part, BaseException):
        raise InvalidOption(
            f"{name}= takes a strategy, not an exception: write retry=retry_if_exception_type({part.__name__})"
        )
    if isinstance(part, type):
        raise InvalidOption(f"{name}= takes a strategy, not its class: write {part.__name__}(...)")
    if not callable(part):
        raise InvalidOption(f"{name}= takes a tenacity strategy such as tenacity.{_EXAMPLES[name]}, not {part!r}")
    for other, base in _KINDS.items():
        if isinstance(part, base) and base is not own:
            raise InvalidOption(f"{name}= takes a {name} strategy, not a {kind}: that belongs in {other}=")
    if any(map(inspect.iscoroutinefunction, (part, _call(part), getattr(part, "predicate", None)))):
        raise InvalidOption(
            f"{name}= is asked outside of any event loop, where {getattr(part, '__name__', kind)} cannot be awaited: "
            "write it without async"
        )
    if not isinstance(part, own):
        _check_callable(name, part)


def _check_callable(name: str, function: Callable[..., Any]) -> None:
    """A function of the user's own."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # one written in C that does not tell
        return
    try:
        signature.bind(RetryCallState)
    except TypeError as error:
        raise InvalidOption(f"{name}= is called with one argument, tenacity's RetryCallState: {error}") from None
