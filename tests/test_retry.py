"""When a failed attempt is tried again: tenacity's strategies, asked and never run."""

import math
from datetime import timedelta
from typing import Any

import pytest
import tenacity
from tenacity import (
    retry_any,
    retry_if_exception_message,
    retry_if_exception_type,
    retry_if_not_exception_type,
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
from pgqueue.retry import DEFAULT_MAX_ATTEMPTS, MAX_DELAY_S, Cancel, Policy, Retry, Snooze, clamp_delay, policy


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


def test_every_strategy_of_tenacity_can_be_asked() -> None:
    """None of them needs more of the state than it gets here."""
    arguments: dict[str, tuple[Any, ...]] = {
        "stop_after_attempt": (3,), "stop_after_delay": (3,), "stop_before_delay": (3,),
        "wait_fixed": (1,), "wait_incrementing": (), "wait_random": (0, 1),
        "wait_chain": (wait_fixed(1),), "wait_exception": (lambda error: 1,),
        "retry_if_exception_message": ("x",), "retry_if_result": (bool,), "retry_if_not_result": (bool,),
        "retry_if_exception": (lambda error: True,),
    }  # fmt: skip
    for kind in ("wait", "stop", "retry"):
        module = getattr(tenacity, kind)
        for name, cls in vars(module).items():
            if isinstance(cls, type) and name.startswith(f"{kind}_") and not name.endswith(("_base", "_event_set")):
                delay_s = ask(policy(**{kind: cls(*arguments.get(name, ()))}), attempt=2, age_s=1)
                assert delay_s is None or 0 <= delay_s <= MAX_DELAY_S, name
