"""When a failed attempt is tried again, and after how long: tenacity's strategies, asked and never run. Pure."""

import inspect
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, NamedTuple

from tenacity import RetryCallState, Retrying, TryAgain
from tenacity.retry import retry_if_exception_type
from tenacity.stop import stop_after_attempt
from tenacity.wait import wait_exponential, wait_random

from pgqueue.codec.numeric import as_float
from pgqueue.errors import InvalidOption
from pgqueue.strategies import check, judges_results

DEFAULT_MAX_ATTEMPTS = 20  # with the waits below: about half a day of trying
MAX_DELAY_S = 30 * 86_400.0  # a strategy that overflows or asks for more waits this long

Strategy = Callable[[RetryCallState], Any]


class Retry(Exception):
    """Raise in a task to fail this attempt and try again after `delay` seconds (None: as the policy says)."""

    delay_s: float | None = None  # of a subclass whose __init__ does not call this one

    def __init__(
        self, reason: str = "the task asked for another attempt", *, delay: float | timedelta | None = None
    ) -> None:
        super().__init__(reason)
        self.delay_s = None if delay is None else _asked(delay)


class Snooze(Exception):
    """Raise in a task to run it again after `delay` seconds; this costs no attempt."""

    delay_s: float | None = None  # as in Retry

    def __init__(self, delay: float | timedelta) -> None:
        self.delay_s = _asked(delay)
        super().__init__(f"snoozed for {self.delay_s} s")


class Skip(Exception):
    """Raise in a handler of events to have these put aside at once, without another attempt: each is kept as a dead job.

    Of a batch the others are worked on again, without them.
    """

    def __init__(self, *events: Any, reason: str = "the task skipped it") -> None:
        super().__init__(reason)
        self.events = events


class Cancel(Exception):
    """Raise in a task to end the job as cancelled, with the reason."""

    def __init__(self, reason: str = "the task cancelled itself") -> None:
        super().__init__(reason)


class ResultRefused(Exception):
    """The task returned, and its policy wants another attempt after this result. The text never shows what it is."""

    def __init__(self, value: object) -> None:
        shown = repr(value) if value is None or isinstance(value, bool) else f"a {type(value).__qualname__}"
        super().__init__(f"retry= asks for another attempt after this result ({shown})")
        self.value = value


def _seconds(delay: object) -> float:
    """Always a float: no statement takes a list that is half of another kind of number."""
    if isinstance(delay, timedelta):
        return delay.total_seconds()
    number = as_float(delay)
    if number is None:
        raise TypeError(f"delay takes seconds or a timedelta, not a {type(delay).__name__}")
    return number


def _asked(delay: float | timedelta) -> float:
    """The delay that a task itself asks for; a bad one is refused right there."""
    delay_s = _seconds(delay)
    if math.isnan(delay_s):
        raise ValueError("delay takes seconds or a timedelta, not NaN")
    return clamp_delay(delay_s)


class BadDelay(TypeError):
    """A task raised something that asks for a delay, and names none that can be kept."""


def asked_s(error: Retry | Snooze) -> float | None:
    """The delay that an exception asks for, None: it names none. Subclasses are user code: raises BadDelay."""
    try:
        return None if error.delay_s is None else _asked(error.delay_s)
    except Exception as broken:
        raise BadDelay(f"{type(error).__qualname__}.delay_s cannot be used: {broken}") from broken


def snoozed_s(error: Snooze) -> float:
    """As asked_s, of one that must name a delay."""
    delay_s = asked_s(error)
    if delay_s is None:
        raise BadDelay(f"{type(error).__qualname__} has no delay_s: its __init__ must call super().__init__(delay)")
    return delay_s


def traceback_of(error: BaseException) -> TracebackType | None:
    """What the interpreter keeps, whatever the class of the error makes of the name."""
    kept: TracebackType | None = _TRACEBACK.__get__(error)
    return kept


_TRACEBACK = vars(BaseException)["__traceback__"]

# BaseException: a task that calls sys.exit() has failed like any other.
_ANY = retry_if_exception_type(BaseException)
_TWENTY = stop_after_attempt(DEFAULT_MAX_ATTEMPTS)
_BACKOFF = wait_exponential(multiplier=2, max=3600) + wait_random(0, 2)


class Invocation(NamedTuple):
    """What was called: strategies find it in their RetryCallState. Without arguments where those could not be read."""

    fn: Callable[..., Any] | None = None
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Policy:
    """How one task is retried. Each part is a tenacity strategy: wait -> seconds, stop -> bool, retry -> bool."""

    retry: Strategy = _ANY
    stop: Strategy = _TWENTY
    wait: Strategy = _BACKOFF
    judges_results: bool = False
    """Whether `retry` may want another attempt after a result; if not, no result is shown to it."""

    def check_result(self, value: object, *, attempt: int, age_s: float, call: Invocation) -> None:
        """Raises ResultRefused if the policy wants another attempt after what the task returned."""
        state = _call_state(call, attempt=attempt, age_s=age_s)
        state.set_result(value)
        if _answer("retry", self.retry(state)):
            raise ResultRefused(value)

    def next_delay_s(
        self,
        error: BaseException,
        *,
        attempt: int,
        max_attempts: int | None,
        age_s: float,
        call: Invocation = Invocation(),  # noqa: B008 (it cannot be changed)
    ) -> float | None:
        """Seconds until the next attempt, or None when the job is to be given up.

        attempt counts from 1 and is the one that failed; max_attempts overrides `stop`; age_s is the job's age in seconds.
        """
        state = _call_state(call, attempt=attempt, age_s=age_s)
        if isinstance(error, ResultRefused):
            state.set_result(error.value)
        else:
            state.set_exception((type(error), error, traceback_of(error)))
        decided = isinstance(error, Retry | TryAgain | ResultRefused)
        if not decided and not _answer("retry", self.retry(state)):
            return None
        asked = asked_s(error) if isinstance(error, Retry) else None
        delay_s = clamp_delay(self._wait_s(state) if asked is None else asked)
        state.upcoming_sleep = delay_s  # before the stop, as in tenacity: stop_before_delay looks at it
        over = attempt >= max_attempts if max_attempts is not None else _answer("stop", self.stop(state))
        return None if over else delay_s

    def _wait_s(self, state: RetryCallState) -> float:
        try:
            return _seconds(_answer("wait", self.wait(state)))
        except OverflowError:  # an exponential at attempt 5,000
            return MAX_DELAY_S


def clamp_delay(delay_s: float) -> float:
    """A delay the database can hold: not negative, not NaN, at most a month."""
    return float(min(max(delay_s, 0.0), MAX_DELAY_S)) if delay_s == delay_s else 0.0


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
    check(retry=retry, stop=stop, wait=wait)
    given = {"retry": retry, "stop": stop, "wait": wait}
    return Policy(
        **{name: strategy for name, strategy in given.items() if strategy is not None},
        judges_results=retry is not None and judges_results(retry),
    )


_UNUSED = Retrying()  # a RetryCallState must have one; strategies do not look at it


def _call_state(call: Invocation, *, attempt: int, age_s: float) -> RetryCallState:
    """The state tenacity would hand its strategies had it run the attempts itself in one process."""
    state = RetryCallState(retry_object=_UNUSED, fn=call.fn, args=tuple(call.args), kwargs=dict(call.kwargs))
    state.attempt_number = attempt
    state.start_time = time.monotonic() - age_s
    return state


def _answer(name: str, answer: Any) -> Any:
    """What a strategy said. A coroutine would count as yes."""
    if inspect.isawaitable(answer):
        close = getattr(answer, "close", None)
        if close is not None:
            close()
        raise TypeError(f"{name}= gave a coroutine instead of an answer: policies are asked outside of any event loop")
    return answer
