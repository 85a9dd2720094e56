"""When a failed attempt is tried again: tenacity's strategies, asked and never run."""

import math
import re
import threading
from datetime import timedelta
from typing import Any

import pytest
import tenacity
import tenacity.asyncio.retry
from tenacity import (
    retry_any,
    retry_if_exception_message,
    retry_if_exception_type,
    retry_if_not_exception_type,
    retry_if_result,
    retry_never,
    stop_after_attempt,
    stop_after_delay,
    stop_any,
    stop_before_delay,
    stop_never,
    wait_chain,
    wait_exponential,
    wait_exponential_jitter,
    wait_fixed,
    wait_incrementing,
    wait_none,
    wait_random_exponential,
)

from pgqueue.errors import InvalidOption
from pgqueue.retry import (
    DEFAULT_MAX_ATTEMPTS,
    MAX_DELAY_S,
    Cancel,
    Invocation,
    Policy,
    ResultRefused,
    Retry,
    Snooze,
    clamp_delay,
    policy,
)
from tests.untyped import untyped


def ask(
    made: Policy, error: BaseException | None = None, *, attempt: int = 1, most: int | None = None, age_s: float = 0.0
) -> float | None:
    return made.next_delay_s(error or ValueError("x"), attempt=attempt, max_attempts=most, age_s=age_s)


def test_the_default() -> None:
    default = policy()
    for attempt in range(1, DEFAULT_MAX_ATTEMPTS):
        delay_s = ask(default, attempt=attempt)
        assert delay_s is not None
        assert min(3600, 2 * 2 ** (attempt - 1)) <= delay_s <= min(3600, 2 * 2 ** (attempt - 1)) + 2
    assert ask(default, attempt=DEFAULT_MAX_ATTEMPTS) is None and ask(default, attempt=10**6) is None
    for error in (SystemExit(1), KeyboardInterrupt(), ExceptionGroup("x", [ValueError()])):
        assert ask(default, error) is not None
    assert len({ask(default) for _ in range(100)}) > 50  # jitter: a broken service is not hit by all at once


@pytest.mark.parametrize(
    ("wait", "delays"),
    [
        (wait_fixed(10), [10, 10, 10]),
        (wait_fixed(timedelta(minutes=1)), [60, 60, 60]),
        (wait_none(), [0, 0, 0]),
        (wait_incrementing(start=1, increment=5), [1, 6, 11]),
        (wait_exponential(multiplier=3), [3, 6, 12]),
        (wait_chain(wait_fixed(1), wait_fixed(5), wait_fixed(60)), [1, 5, 60]),
        (wait_fixed(1) + wait_fixed(2), [3, 3, 3]),
        (lambda state: state.attempt_number * 100, [100, 200, 300]),
        (lambda state: timedelta(seconds=state.attempt_number), [1, 2, 3]),
        (lambda state: len(str(state.outcome.exception())), [1, 1, 1]),
    ],
)
def test_waits(wait: Any, delays: list[float]) -> None:
    assert [ask(policy(wait=wait), attempt=attempt) for attempt in (1, 2, 3)] == delays


@pytest.mark.parametrize(
    "wait",
    [
        wait_exponential(multiplier=1, exp_base=10),
        wait_exponential_jitter(max=10**9),
        wait_random_exponential(max=10**9),
        wait_incrementing(increment=10**9),
        lambda state: 10.0**state.attempt_number,
        lambda state: math.inf,
        lambda state: timedelta.max,
        lambda state: 10**400,
    ],
)
def test_b34_no_wait_overflows(wait: Any) -> None:
    delay_s = ask(policy(wait=wait, stop=stop_never), attempt=5000)
    assert delay_s is not None and 0 <= delay_s <= MAX_DELAY_S


@pytest.mark.parametrize(
    ("delay_s", "clamped"),
    [(5, 5), (-1, 0), (math.nan, 0), (math.inf, MAX_DELAY_S), (-math.inf, 0), (1e300, MAX_DELAY_S)],
)
def test_clamped(delay_s: float, clamped: float) -> None:
    assert clamp_delay(delay_s) == clamped
    assert ask(policy(wait=lambda _: delay_s)) == clamped
    if not math.isnan(delay_s):
        assert ask(policy(), Retry(delay=delay_s)) == clamped


@pytest.mark.parametrize(
    ("stop", "last"),
    [
        (stop_after_attempt(1), 1),
        (stop_after_attempt(5), 5),
        (stop_any(stop_after_attempt(3), stop_after_delay(60)), 3),
    ],
)
def test_stops(stop: Any, last: int) -> None:
    made = policy(stop=stop, wait=wait_none())
    assert [ask(made, attempt=attempt) for attempt in range(1, last + 2)] == [0] * (last - 1) + [None, None]


def test_stopping_by_the_age_of_the_job() -> None:
    made = policy(stop=stop_after_delay(timedelta(hours=1)), wait=wait_fixed(600))
    assert ask(made, attempt=100, age_s=3599) == 600
    assert ask(made, attempt=1, age_s=3601) is None
    before = policy(stop=stop_before_delay(3600), wait=wait_fixed(600))
    assert ask(before, age_s=2900) == 600
    assert ask(before, age_s=3100) is None  # the next attempt would come too late


@pytest.mark.parametrize(
    ("retry", "again", "over"),
    [
        (retry_if_exception_type(OSError), ConnectionError(), KeyError()),
        (retry_if_not_exception_type(OSError), KeyError(), ConnectionError()),
        (retry_if_exception_message(match="busy"), ValueError("busy now"), ValueError("gone")),
        (retry_any(retry_if_exception_type(OSError), retry_if_exception_type(KeyError)), KeyError(), ValueError()),
        (retry_if_exception_type(OSError) | retry_if_exception_type(KeyError), OSError(), ValueError()),
        (
            lambda state: state.attempt_number == 1 and "again" in str(state.outcome.exception()),
            ValueError("again"),
            OSError(),
        ),
    ],
)
def test_which_errors(retry: Any, again: Exception, over: Exception) -> None:
    made = policy(retry=retry, wait=wait_fixed(7))
    assert ask(made, again) == 7 and ask(made, over) is None


def test_retry_raised_by_the_task() -> None:
    made = policy(retry=retry_never, wait=wait_fixed(7), stop=stop_after_attempt(3))
    assert ask(made) is None
    assert ask(made, Retry()) == 7 and ask(made, Retry("not yet")) == 7
    assert ask(made, Retry(delay=0)) == 0 and ask(made, Retry(delay=1.5)) == 1.5
    assert ask(made, Retry(delay=timedelta(minutes=2))) == 120
    assert ask(made, Retry(delay=5), attempt=3) is None  # it costs an attempt like any other failure
    assert str(Retry("busy")) == "busy" and str(Cancel("no use")) == "no use"
    assert Snooze(timedelta(minutes=1)).delay_s == 60 and Snooze(5).delay_s == 5


@pytest.mark.parametrize("delay", ["5", None, True, [1]])
def test_a_delay_that_is_none_fails_where_it_is_raised(delay: Any) -> None:
    with pytest.raises(TypeError, match="delay takes seconds or a timedelta, not a"):
        Snooze(delay)
    if delay is not None:
        with pytest.raises(TypeError, match="delay takes seconds or a timedelta, not a"):
            Retry(delay=delay)


def test_the_jobs_own_max_attempts_overrides_stop() -> None:
    made = policy(stop=stop_after_attempt(3), wait=wait_none())
    assert ask(made, attempt=3) is None and ask(made, attempt=3, most=4) == 0
    assert ask(made, attempt=1, most=1) is None and ask(policy(stop=stop_never), attempt=9, most=9) is None
    assert ask(policy(retry=retry_never), attempt=1, most=9) is None


def test_max_attempts_is_short_for_stop() -> None:
    made = policy(max_attempts=2, wait=wait_none())
    assert [ask(made, attempt=attempt) for attempt in (1, 2)] == [0, None]
    with pytest.raises(InvalidOption, match="give max_attempts= or stop=, not both"):
        policy(max_attempts=2, stop=stop_after_attempt(2))


async def never(_: object) -> bool:
    return False


class Async:
    async def __call__(self, _: object) -> bool:
        return False


# Every strategy that tenacity has, as one would write it, and what it says of ValueError("x") or of a result that is refused:
# True: another attempt, None: no look at it, False: given up or taken as it is, a text: refused at import with these words.
NEVER = "no job could ever succeed"
STRATEGIES: dict[str, tuple[Any, Any, Any]] = {
    # name: an instance, after an error, after the result "no"
    "retry_always": (tenacity.retry_always, NEVER, NEVER),
    "retry_never": (retry_never, False, None),
    "retry_if_exception": (tenacity.retry_if_exception(lambda error: str(error) == "x"), True, None),
    "retry_if_exception_type": (retry_if_exception_type(ValueError), True, None),
    "retry_if_not_exception_type": (retry_if_not_exception_type(ValueError), False, None),
    "retry_unless_exception_type": (tenacity.retry_unless_exception_type(OSError), NEVER, NEVER),
    "retry_if_exception_cause_type": (tenacity.retry_if_exception_cause_type(OSError), False, None),
    "retry_if_exception_message": (retry_if_exception_message(match="x"), True, None),
    "retry_if_not_exception_message": (tenacity.retry_if_not_exception_message("y"), NEVER, NEVER),
    "retry_if_result": (retry_if_result(lambda result: result == "no"), False, True),
    "retry_if_not_result": (tenacity.retry_if_not_result(lambda result: result != "no"), False, True),
    "retry_any": (
        retry_any(retry_if_exception_type(OSError), retry_if_result(lambda result: result == "no")),
        False,
        True,
    ),
    "retry_all": (tenacity.retry_all(retry_if_exception_type(), retry_if_exception_message("x")), True, None),
    "asyncio.retry_if_exception": (tenacity.asyncio.retry_if_exception(never), "write it without async", ""),
    "asyncio.retry_if_result": (tenacity.asyncio.retry_if_result(never), "write it without async", ""),
    "asyncio.retry_any": (
        retry_if_exception_type() | tenacity.asyncio.retry_if_result(never),
        "write it without async",
        "",
    ),
    "asyncio.retry_all": (tenacity.asyncio.retry_all(retry_if_exception_type()), "write it without async", ""),
    "stop_after_attempt": (stop_after_attempt(3), True, True),
    "stop_after_delay": (stop_after_delay(30), True, True),
    "stop_before_delay": (stop_before_delay(1), False, False),
    "stop_never": (stop_never, True, True),
    "stop_all": (tenacity.stop_all(stop_after_attempt(1), stop_after_delay(30)), True, True),
    "stop_any": (stop_any(stop_after_attempt(1), stop_after_delay(30)), False, False),
    "stop_when_event_set": (tenacity.stop_when_event_set(threading.Event()), True, True),
    "wait_chain": (wait_chain(wait_fixed(1), wait_fixed(2)), True, True),
    "wait_combine": (wait_fixed(1) + wait_fixed(2), True, True),
    "wait_exception": (tenacity.wait_exception(lambda error: 5), True, "no exception to look at"),
    "wait_exponential": (wait_exponential(), True, True),
    "wait_exponential_jitter": (wait_exponential_jitter(), True, True),
    "wait_fixed": (wait_fixed(1), True, True),
    "wait_full_jitter": (tenacity.wait_full_jitter(), True, True),
    "wait_incrementing": (wait_incrementing(), True, True),
    "wait_none": (wait_none(), True, True),
    "wait_random": (tenacity.wait_random(), True, True),
    "wait_random_exponential": (wait_random_exponential(), True, True),
}


def test_no_strategy_of_tenacity_is_missing_here() -> None:
    """A new one wants a decision."""
    listed = {name for name in tenacity.__all__ if re.match("(retry|stop|wait)_", name)} - {"retry_base"}
    listed |= {f"asyncio.{name}" for name in tenacity.asyncio.__all__ if name.startswith("retry_")}
    for kind in "retry", "stop", "wait":
        modules = getattr(tenacity, kind), getattr(tenacity.asyncio, kind, None)
        for prefix, module in zip(("", "asyncio."), modules, strict=True):
            names = vars(module) if module else {}
            own = {name for name, cls in names.items() if isinstance(cls, type) and cls.__module__ == module.__name__}
            listed |= {f"{prefix}{name}" for name in own if not name.startswith("_") and not name.endswith("_base")}
    assert STRATEGIES.keys() == listed


@pytest.mark.parametrize(("name", "strategy", "expected"), [(name, row[0], row[1]) for name, row in STRATEGIES.items()])
def test_every_strategy_decides_about_an_error_or_is_refused(name: str, strategy: Any, expected: Any) -> None:
    kind = name.removeprefix("asyncio.").partition("_")[0]
    if isinstance(expected, str):
        with pytest.raises(InvalidOption, match=expected):
            policy(**{kind: strategy})
        return
    delay_s = ask(policy(**{kind: strategy}), attempt=1, age_s=10)
    assert (delay_s is not None) is expected
    assert delay_s is None or 0 <= delay_s <= MAX_DELAY_S


@pytest.mark.parametrize(
    ("name", "strategy", "expected"), [(name, row[0], row[2]) for name, row in STRATEGIES.items() if row[2] != ""]
)
def test_every_strategy_decides_about_a_result_or_is_refused(name: str, strategy: Any, expected: Any) -> None:
    kind = name.partition("_")[0]
    parts = {"retry": retry_if_result(lambda result: result == "no"), "wait": wait_fixed(3)} | {kind: strategy}
    if isinstance(expected, str):
        with pytest.raises(InvalidOption, match=expected):
            policy(**parts)
        return
    made = policy(**parts)
    assert made.judges_results is (expected is not None)
    if expected is None:
        return
    made.check_result("yes", attempt=1, age_s=10, call=Invocation())
    with pytest.raises(ResultRefused) as refused:
        made.check_result("no", attempt=1, age_s=10, call=Invocation())
    assert (ask(made, refused.value, attempt=1, age_s=10) is not None) is expected


def test_parts_of_a_policy_are_asked_together() -> None:
    no = retry_if_result(lambda result: result == "no")
    both, either = no & (lambda state: state.attempt_number < 3), retry_if_exception_type(OSError) | no
    for strategy, attempt, refused in (both, 1, True), (both, 3, False), (either, 3, True):
        try:
            policy(retry=strategy).check_result("no", attempt=attempt, age_s=0, call=Invocation())
            assert not refused
        except ResultRefused:
            assert refused
    assert ask(policy(retry=either), OSError()) is not None and ask(policy(retry=either), KeyError()) is None
    assert not policy(retry=retry_if_exception_type(OSError) | retry_if_exception_message("x")).judges_results
    with pytest.raises(InvalidOption, match=NEVER):
        policy(retry=retry_if_exception_type() | tenacity.retry_if_not_exception_message("x"))
    only_errors = policy(retry=retry_if_exception_type() & tenacity.retry_if_not_exception_message("x"))
    assert ask(only_errors, ValueError("x")) is None and ask(only_errors, ValueError("y")) is not None
    only_errors.check_result("any", attempt=1, age_s=0, call=Invocation())


def test_a_strategy_sees_the_call_and_what_came_of_it() -> None:
    seen: list[Any] = []

    def look(state: tenacity.RetryCallState) -> bool:
        seen.append((state.fn, state.args, state.kwargs, state.attempt_number, round(state.seconds_since_start or -1)))
        assert state.outcome is not None
        seen.append(state.outcome.exception() if state.outcome.failed else state.outcome.result())
        return True

    call, error = Invocation(look, [1], {"b": 2}), ValueError("x")
    made = policy(retry=look, stop=lambda state: not look(state), wait=lambda state: look(state) and 3)
    with pytest.raises(ResultRefused):
        made.check_result("value", attempt=4, age_s=60, call=call)
    assert made.next_delay_s(error, attempt=4, max_attempts=None, age_s=60, call=call) == 3
    assert made.next_delay_s(ResultRefused("value"), attempt=4, max_attempts=None, age_s=60, call=call) == 3
    assert seen[::2] == [(look, (1,), {"b": 2}, 4, 60)] * 6
    assert seen[1::2] == [
        "value",
        error,
        error,
        error,
        "value",
        "value",
    ]  # whether a refused result is retried is decided


def test_try_again_of_tenacity_is_heeded() -> None:
    made = policy(retry=retry_never, wait=wait_fixed(7), stop=stop_after_attempt(3))
    assert ask(made, tenacity.TryAgain()) == 7 and ask(made, tenacity.TryAgain(), attempt=3) is None


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"retry": OSError}, r"not an exception: write retry=retry_if_exception_type\(OSError\)"),
        ({"retry": retry_if_exception_type}, r"not its class: write retry_if_exception_type\(\.\.\.\)"),
        ({"stop": stop_after_attempt}, r"not its class: write stop_after_attempt\(\.\.\.\)"),
        ({"retry": tenacity.Retrying()}, "not a whole Retrying: give @task its retry=, stop= and wait="),
        ({"retry": tenacity.AsyncRetrying()}, "not a whole Retrying"),
        ({"retry": tenacity.retry(stop=stop_never)}, "not a whole Retrying"),
        (
            {"retry": stop_after_attempt(3)},
            "retry= takes a retry strategy, not a stop_after_attempt: that belongs in stop=",
        ),
        ({"wait": retry_never}, "that belongs in retry="),
        ({"stop": wait_fixed(3)}, "that belongs in wait="),
        ({"stop": stop_any(untyped(wait_fixed(3)), stop_never)}, "that belongs in wait="),
        ({"retry": never}, "where never cannot be awaited: write it without async"),
        ({"stop": never}, "write it without async"),
        ({"wait": never}, "write it without async"),
        ({"retry": Async()}, "where Async cannot be awaited"),
        ({"retry": retry_if_result(untyped(never))}, "where retry_if_result cannot be awaited"),
        ({"retry": tenacity.retry_any(retry_never, retry_if_result(untyped(never)))}, "cannot be awaited"),
        ({"wait": wait_fixed(1) + untyped(never)}, "cannot be awaited"),
        (
            {"retry": lambda: True},
            "is called with one argument, tenacity's RetryCallState: too many positional arguments",
        ),
        ({"wait": lambda state, more: 1}, "missing a required argument: 'more'"),
        (
            {"stop": stop_any(untyped(5))},
            r"stop= takes a tenacity strategy such as tenacity.stop_after_attempt\(8\), not 5",
        ),
        (
            {
                "retry": retry_if_result(bool) | retry_if_exception_type(),
                "wait": wait_fixed(1) + tenacity.wait_exception(untyped(len)),
            },
            "wait_exception has no exception to look at",
        ),
    ],
)
def test_what_cannot_be_asked_is_refused_at_import(parts: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        policy(**parts)


@pytest.mark.parametrize("kind", ["retry", "stop", "wait"])
def test_a_coroutine_is_no_answer(kind: str) -> None:
    """As of a plain function that calls an async one, which nothing shows at import."""
    parts: dict[str, Any] = {kind: lambda state: never(state)}
    with pytest.raises(TypeError, match=f"{kind}= gave a coroutine instead of an answer"):
        ask(policy(**parts))


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "None"), (False, "False"), ("secret", "a str"), ({"password": "x"}, "a dict")]
)
def test_a_refused_result_is_not_shown(value: object, shown: str) -> None:
    assert str(ResultRefused(value)) == f"retry= asks for another attempt after this result ({shown})"
