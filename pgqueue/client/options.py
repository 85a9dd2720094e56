"""What a caller may say about one call of a task, checked by name and range before anything is written."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Any, Literal, Self, TypedDict, get_args

from pgqueue.codec.calls import encode_plain
from pgqueue.codec.numeric import as_float, as_int
from pgqueue.context import OWN
from pgqueue.db import CallerConnection
from pgqueue.errors import InvalidOption
from pgqueue.spans import span_of

OnDuplicate = Literal["ignore", "replace", "raise"]

MAX_NAME = 128  # characters of a queue name: it is a payload of NOTIFY and a column on a screen
MAX_KEY = 200  # characters of a unique key before it is hashed: an index row holds 2,700 bytes
MAX_REASON = 1000  # characters of why a job was cancelled: a sentence or two on a screen
MAX_SECONDS = 10 * 365 * 86_400.0  # a longer delay or timeout is a mistake in units
MIN_TIMEOUT_S = 0.001  # nothing runs in less, and the column, a real, cannot hold the tiniest numbers
SMALLINT = (-32_768, 32_767)
MAX_ATTEMPTS = 100_000
MAX_HEADERS_BYTES = 64_000
MIN_PERIOD_S = 0.001  # with less every call would make a job
DEBOUNCE_MOST = 10  # times its quiet time a stream of calls may put a job off, unless debounce_max says otherwise


class Given(TypedDict, total=False):
    """The same for type checkers, as keywords of a call."""

    conn: CallerConnection | None
    queue: str | None
    priority: int | None
    delay: float | timedelta | None
    at: datetime | None
    unique: str | bool | None
    on_duplicate: OnDuplicate | None
    debounce: float | timedelta | str | None
    debounce_max: float | timedelta | str | None
    once_per: float | timedelta | str | None
    once_key: str | None
    aligned: bool | None
    max_attempts: int | None
    timeout: float | timedelta | None
    expires: float | timedelta | datetime | None
    headers: Mapping[str, Any] | None
    key: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of one call; None leaves it to the task or to the default."""

    conn: CallerConnection | None = None
    """The caller's connection: the job is inserted in its transaction. One of psycopg, psycopg2 or asyncpg, a session or connection
    of SQLAlchemy, or Django's connection; sync ones for defer, async ones for defer_async.

    After `conn.tpc_begin()` no worker is woken, as PostgreSQL prepares no transaction that has notified; a worker polls every few
    seconds. For psycopg2's tpc_begin() and for PREPARE TRANSACTION by hand use an App(notify="never").
    """
    queue: str | None = None
    priority: int | None = None
    """Larger runs first, -32768 to 32767."""
    delay: float | timedelta | None = None
    """Seconds (or a timedelta) from now on the database's clock; negative is now, as in a time minus the time it is."""
    at: datetime | None = None
    """An aware datetime before which the job does not start; one in a gap or overlap of daylight saving as its `fold` says."""
    unique: str | bool | None = None
    """A key of which only one job may be alive; True makes it of the task and its arguments."""
    on_duplicate: OnDuplicate | None = None
    """What happens if one is: "ignore" (default) returns it, "replace" gives it these arguments, "raise" DuplicateJob."""
    debounce: float | timedelta | str | None = None
    """Seconds, a timedelta, or a span as in "2m": calls of one key that come sooner after another make one job, the last one's. It
    is due when there was none for so long. The key is `unique`, else the task and its arguments. For `defer`, not defer_many."""
    debounce_max: float | timedelta | str | None = None
    """The most that a debounced job is put off after the first call; without it, ten times as long as debounce."""
    once_per: float | timedelta | str | None = None
    """Seconds, a timedelta, or a span as in "1h": within that time after the first call others make no job, and get the first one's
    handle, whatever became of it. For `defer`, not defer_many."""
    once_key: str | None = None
    """Which calls that are; without it, those of the same task with the same arguments."""
    aligned: bool | None = None
    """True: the time does not begin with the first call, but ends as the clock does, in UTC: "1h" at the full hour."""
    max_attempts: int | None = None
    timeout: float | timedelta | None = None
    """Seconds one attempt may take."""
    expires: float | timedelta | datetime | None = None
    """Seconds from now, or an aware datetime, after which a job that has not started is cancelled."""
    headers: Mapping[str, Any] | None = None
    """Anything JSON that travels with the arguments, such as a trace context."""
    key: str | None = None
    """What a limit with a key counts the job under, instead of what the task's own key says."""

    @classmethod
    def make(cls, where: str, **given: Any) -> Self:
        """Check what was given; raises InvalidOption starting with `where` and naming the option."""
        known = {field.name for field in fields(cls)}
        for name in given.keys() - known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(sorted(known))}"
            raise InvalidOption(f"{where}: no option '{name}'; {hint}")
        made = cls(**given)
        try:
            made._check()
        except InvalidOption as error:
            raise InvalidOption(f"{where}: {error}") from None
        return made

    def over(self, defaults: "Options") -> "Options":
        """These options, with the gaps filled from others."""
        given = {name: value for field in fields(self) if (value := getattr(self, name := field.name)) is not None}
        return replace(defaults, **given)

    def _check(self) -> None:
        if self.queue is not None:
            check_name("queue", self.queue)
        if self.priority is not None:
            self._own("priority", check_integer("priority", self.priority, low=SMALLINT[0], high=SMALLINT[1]))
        if self.max_attempts is not None:
            self._own("max_attempts", check_integer("max_attempts", self.max_attempts, low=1, high=MAX_ATTEMPTS))
        if self.delay is not None and self.at is not None:
            raise InvalidOption("give delay= or at=, not both")
        if self.delay is not None:
            _from_now("delay", self.delay)
        if self.at is not None:
            check_aware("at", self.at)
        if self.timeout is not None and seconds("timeout", self.timeout) < MIN_TIMEOUT_S:
            raise InvalidOption(f"timeout must be at least {MIN_TIMEOUT_S} seconds")
        if isinstance(self.expires, datetime):
            check_aware("expires", self.expires)
        elif self.expires is not None:
            seconds("expires", self.expires)
        if isinstance(self.headers, Mapping) and any(str(name).startswith(OWN) for name in self.headers):
            raise InvalidOption(f"headers: names that begin with {OWN} are pgqueue's own")
        if self.on_duplicate is not None and self.on_duplicate not in get_args(OnDuplicate):
            raise InvalidOption(
                f"on_duplicate must be one of {', '.join(get_args(OnDuplicate))}, not {self.on_duplicate!r}"
            )
        if self.debounce is not None or self.debounce_max is not None:
            self._check_debounce()
        if self.once_per is not None or self.once_key is not None or self.aligned is not None:
            self._check_once()
        if self.on_duplicate is not None and not self.unique:
            raise InvalidOption("on_duplicate= needs unique=: say which jobs count as the same")
        if isinstance(self.unique, str):
            check_text("unique", self.unique)
        elif self.unique is not None and not isinstance(self.unique, bool):
            raise InvalidOption(f"unique takes a string or True, not a {type(self.unique).__name__}")
        if self.key is not None and not isinstance(self.key, str):
            raise InvalidOption(f"key takes a string, not a {type(self.key).__name__}")

    def _check_debounce(self) -> None:
        if self.debounce is None:
            raise InvalidOption("debounce_max= needs debounce=: say for how long it must have been quiet")
        if self.delay is not None or self.at is not None:
            raise InvalidOption("debounce= says when the job is due: leave delay= and at= out")
        if self.on_duplicate is not None:
            raise InvalidOption(
                "debounce= gives the job that waits the arguments of each call: leave on_duplicate= out"
            )
        quiet_s = span_seconds("debounce", self.debounce)
        if self.debounce_max is not None and span_seconds("debounce_max", self.debounce_max) < quiet_s:
            raise InvalidOption(
                f"debounce_max={self.debounce_max} is less than debounce={self.debounce}: a job would never be put off so far"
            )

    def _check_once(self) -> None:
        if self.once_per is None:
            name = "once_key" if self.once_key is not None else "aligned"
            raise InvalidOption(f"{name}= needs once_per=: say how long one job is enough")
        if self.unique or self.debounce is not None:
            name = "unique" if self.unique else "debounce"
            cure = (
                "once_key= says which calls are the same"
                if self.unique
                else "they say different things of a second call"
            )
            raise InvalidOption(f"give once_per= or {name}=, not both: {cure}")
        if not span_seconds("once_per", self.once_per) >= MIN_PERIOD_S:
            raise InvalidOption(f"once_per must be at least {MIN_PERIOD_S} seconds")
        if self.once_key is not None:
            check_text("once_key", self.once_key)
        if self.aligned is not None and not isinstance(self.aligned, bool):
            raise InvalidOption(f"aligned must be true or false, not {self.aligned!r}")

    def check_bulk(self, where: str) -> None:
        """Raise InvalidOption for options of calls that come one by one."""
        for name in ("debounce", "once_per"):
            if getattr(self, name) is not None:
                raise InvalidOption(
                    f"{where}: {name}= is about calls that come one by one: use defer(), not defer_many()"
                )

    @property
    def debounce_most_s(self) -> float:
        """The most seconds that a debounced job is put off after its first call."""
        if self.debounce_max is not None:
            return span_seconds("debounce_max", self.debounce_max)
        return DEBOUNCE_MOST * span_seconds("debounce", self.debounce)

    def _delay_s(self) -> float | None:
        if self.debounce is not None:
            return span_seconds("debounce", self.debounce)
        return None if self.delay is None else _from_now("delay", self.delay)

    def _own(self, name: str, number: int) -> None:
        """A statement takes no numpy.int64, nor a policy."""
        object.__setattr__(self, name, number)

    def columns(self, *, where: str) -> dict[str, Any]:
        """The columns of a job row that these options fill, in database units; unique_key is left to the caller."""
        relative_expiry = self.expires is not None and not isinstance(self.expires, datetime)
        return {
            "queue": self.queue or "default",
            "priority": self.priority or 0,
            "headers": check_headers(self.headers, where=where),
            "max_attempts": self.max_attempts,
            "timeout_s": None if self.timeout is None else seconds("timeout", self.timeout),
            "run_at": _utc(self.at),
            "delay_s": None if self.delay is None and self.debounce is None else self._delay_s(),
            "expires_at": _utc(self.expires) if isinstance(self.expires, datetime) else None,
            "expires_s": seconds("expires", self.expires) if relative_expiry else None,
        }


def check_name(option: str, value: object) -> str:
    """A queue or task name: 1 to 128 printable characters without a space at the ends."""
    return check_text(option, value, at_most=MAX_NAME)


def check_text(option: str, value: object, *, at_most: int | None = None) -> str:
    """A non-empty string that PostgreSQL and a terminal can both show."""
    if not isinstance(value, str):
        raise InvalidOption(f"{option} takes a string, not a {type(value).__name__}")
    if not value or value != value.strip():
        raise InvalidOption(f"{option} must not be empty nor begin or end with a space")
    if at_most is not None and len(value) > at_most:
        raise InvalidOption(f"{option} is {len(value)} characters long; at most {at_most} fit")
    if not value.isprintable():
        raise InvalidOption(f"{option} contains a control character such as NUL or a newline; take printable text")
    return str.__str__(value)  # of a member of a str Enum its value, which is what gets stored


def seconds(option: str, value: object) -> float:
    """A duration in seconds from a number or timedelta; refuses bool, NaN, infinity, the negative and the absurd."""
    number = _number(option, value)
    if number < 0:
        raise InvalidOption(f"{option}={number:g} is negative; give seconds from now")
    return number


def span_seconds(option: str, value: object) -> float:
    """As `seconds`, also from a text such as 90s, 15m, 2h, 3d or 1w."""
    if not isinstance(value, str):
        return seconds(option, value)
    span = span_of(value)
    if span is None:
        raise InvalidOption(
            f"{option}={value!r} is not a span of time: write seconds, a timedelta, or as in 90s, 15m, 2h, 3d, 1w"
        )
    return seconds(option, span)


def _from_now(option: str, value: object) -> float:
    return max(0.0, _number(option, value))


def _number(option: str, value: object) -> float:
    number = value.total_seconds() if isinstance(value, timedelta) else as_float(value)
    if number is None:
        hint = "; an absolute time goes into at=" if isinstance(value, datetime) and option == "delay" else ""
        raise InvalidOption(f"{option} takes seconds or a timedelta, not a {type(value).__name__}{hint}")
    if not abs(number) <= MAX_SECONDS:  # NaN is not either
        raise InvalidOption(f"{option}={_shown(number)} is not a valid duration: give seconds between 0 and ten years")
    return number


def check_integer(option: str, value: object, *, low: int, high: int) -> int:
    """A whole number within limits, as Python's own."""
    number = as_int(value)
    if number is None:
        raise InvalidOption(f"{option} takes a whole number, not a {type(value).__name__}")
    if not low <= number <= high:
        raise InvalidOption(f"{option}={_shown(number)} is out of range: {low} to {high}")
    return number


def _shown(number: float) -> str:
    """A number in a message. Python refuses to write very long ones, and nobody wants to read them."""
    return repr(number) if isinstance(number, float) or number.bit_length() <= 64 else "(a huge number)"


def check_aware(option: str, value: object) -> None:
    """A datetime with a time zone, in a plausible year."""
    if not isinstance(value, datetime):
        raise InvalidOption(f"{option} takes an aware datetime, not a {type(value).__name__}")
    if value.tzinfo is None or value.utcoffset() is None:
        raise InvalidOption(f"{option}={value.isoformat()} has no time zone: add one, as in datetime.now(timezone.utc)")
    if not 1970 <= value.year <= 2200:
        raise InvalidOption(f"{option}={value.isoformat()} is outside the years 1970 to 2200")


def _utc(moment: datetime | None) -> datetime | None:
    """In UTC: PostgreSQL knows no zone more than 16 hours away, Python does."""
    return None if moment is None else moment.astimezone(UTC)


def check_headers(headers: Mapping[str, Any] | None, *, where: str) -> str | None:
    if headers is None:
        return None
    if not isinstance(headers, Mapping):
        raise InvalidOption(f"{where}: headers takes a dict, not a {type(headers).__name__}")
    return encode_plain(dict(headers), path=f"{where}: headers", max_bytes=MAX_HEADERS_BYTES)
