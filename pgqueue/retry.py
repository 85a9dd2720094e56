"""When a failed attempt is tried again, and after how long: tenacity's strategies, asked and never run. Pure."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tenacity import Future, RetryCallState, Retrying
from tenacity.retry import retry_if_exception_type
from tenacity.stop import stop_after_attempt
from tenacity.wait import wait_exponential, wait_random

from pgqueue.errors import InvalidOption

DEFAULT_MAX_ATTEMPTS = 20  # with the waits below: about half a day of trying
MAX_DELAY_S = 30 * 86_400.0  # a strategy that overflows or asks for more waits this long

Strategy = Callable[[RetryCallState], Any]


class Retry(Exception):
    """Raise in a task to fail this attempt and try again after `delay` seconds (None: as the policy says)."""

    def __init__(
        self, reason: str = "the task asked for another attempt", *, delay: float | timedelta | None = None
    ) -> None:
        super().__init__(reason)
        self.delay_s = None if delay is None else _seconds(delay)


class Snooze(Exception):
    """Raise in a task to run it again after `delay` seconds; this costs no attempt."""

    def __init__(self, delay: float | timedelta) -> None:
        self.delay_s = _seconds(delay)
        super().__init__(f"snoozed for {self.delay_s} s")


class Cancel(Exception):
    """Raise in a task to end the job as cancelled, with the reason."""

    def __init__(self, reason: str = "the task cancelled itself") -> None:
        super().__init__(reason)


def _seconds(delay: object) -> float:
    if isinstance(delay, timedelta):
        return delay.total_seconds()
    if isinstance(delay, bool) or not isinstance(delay, int | float):
        raise TypeError(f"delay takes seconds or a timedelta, not a {type(delay).__name__}")
    return delay


# BaseException: a task that calls sys.exit() has failed like any other.
_ANY = retry_if_exception_type(BaseException)
_TWENTY = stop_after_attempt(DEFAULT_MAX_ATTEMPTS)
_BACKOFF = wait_exponential(multiplier=2, max=3600) + wait_random(0, 2)


@dataclass(frozen=True, slots=True)
class Policy:
    """How one task is retried. Each part is a tenacity strategy: wait -> seconds, stop -> bool, retry -> bool."""

    retry: Strategy = _ANY
    stop: Strategy = _TWENTY
    wait: Strategy = _BACKOFF

    def next_delay_s(
        self, error: BaseException, *, attempt: int, max_attempts: int | None, age_s: float
    ) -> float | None:
        """Seconds until the next attempt, or None when the job shall be given up.

        attempt counts from 1 and is the one that failed; max_attempts overrides `stop`; age_s is the job's age in seconds.
        """
        state = _call_state(error, attempt=attempt, age_s=age_s)
        if not isinstance(error, Retry) and not self.retry(state):
            return None
        asked_s = error.delay_s if isinstance(error, Retry) else None
        delay_s = clamp_delay(self._wait_s(state) if asked_s is None else asked_s)
        state.upcoming_sleep = delay_s  # before the stop, as in tenacity: stop_before_delay looks at it
        if attempt >= max_attempts if max_attempts is not None else self.stop(state):
            return None
        return delay_s

    def _wait_s(self, state: RetryCallState) -> float:
        try:
            return float(_seconds(self.wait(state)))
        except OverflowError:  # an exponential at attempt 5,000
            return MAX_DELAY_S


def clamp_delay(delay_s: float) -> float:
    """A delay the database can hold: no negative, no NaN, no more than a month."""
    return min(max(delay_s, 0.0), MAX_DELAY_S) if delay_s == delay_s else 0.0


def policy(
    *,
    retry: Strategy | None = None,
    stop: Strategy | None = None,
    wait: Strategy | None = None,
    max_attempts: int | None = None,
) -> Policy:
    """Build a Policy from what `@task` was given; raises InvalidOption."""
    if stop is not None and max_attempts is not None:
        raise InvalidOption(
            "give max_attempts= or stop=, not both: max_attempts=5 is short for stop=stop_after_attempt(5)"
        )
    if max_attempts is not None:
        stop = stop_after_attempt(max_attempts)
    given = {"retry": retry, "stop": stop, "wait": wait}
    for name, strategy in given.items():
        if strategy is not None and not callable(strategy):
            raise InvalidOption(
                f"{name}= takes a tenacity strategy such as tenacity.{_EXAMPLES[name]}, not {strategy!r}"
            )
    return Policy(**{name: strategy for name, strategy in given.items() if strategy is not None})


_EXAMPLES = {"retry": "retry_if_exception_type(OSError)", "stop": "stop_after_attempt(8)", "wait": "wait_fixed(10)"}
_UNUSED = Retrying()  # a RetryCallState must have one; strategies do not look at it


def _call_state(error: BaseException, *, attempt: int, age_s: float) -> RetryCallState:
    """The state tenacity would hand its strategies had it run the attempts itself in one process."""
    state = RetryCallState(retry_object=_UNUSED, fn=None, args=(), kwargs={})
    state.attempt_number = attempt
    outcome = Future(attempt)
    outcome.set_exception(error)
    state.outcome = outcome
    state.outcome_timestamp = time.monotonic()
    state.start_time = state.outcome_timestamp - age_s
    return state
