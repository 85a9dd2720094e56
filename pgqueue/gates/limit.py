"""What a task says of its limits: the rules it is under, and the gates that one call of it has to pass."""

import hashlib
import inspect
import json
import math
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any, NamedTuple

from pgqueue.client.options import MAX_KEY, check_integer, check_name, seconds
from pgqueue.codec.numeric import as_float
from pgqueue.errors import InvalidOption
from pgqueue.gates.breaker import Breaker

Key = str | Callable[..., object]

MOST_GATES = 2  # a job: each has an index of those that are past it
MOST_SLOTS = 1_000_000
MOST_SHARES = 100  # shares of one key
FAIR = "fair:"
NAMED_AFTER = ("task:", "queue:", "order:", "schedule:", FAIR)  # rules that are called after what they are for
TURN = "schedule:queue"
"""The rule of jobs that wait until the last one of their schedule has ended; its key is the schedule's name."""


@dataclass(frozen=True, slots=True)
class Limit:
    """How many jobs may be under way at once, in all workers together.

    slots: 0 lets none through. key: an argument's name, or a function that is called with the arguments of the task: the limit
    is for each key. name: tasks that say the same one share the limit; by default it is the task's own. Raises InvalidOption.
    """

    slots: int
    key: Key | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "slots", check_integer("limit", self.slots, low=0, high=MOST_SLOTS))
        if self.key is not None and not callable(self.key):
            check_name("key", self.key)
        if self.name is not None:
            check_rule(self.name)


@dataclass(frozen=True, slots=True)
class Rule:
    """A row of the table `gate`, as code declares it."""

    name: str
    slots: int | None = None
    keyed: bool = False
    every_s: float | None = None
    burst: int = 1
    keeps: bool = False
    halts: bool = False
    shares: str | None = None
    """Of a rule by which keys take turns: JSON of the keys that have more than one share."""
    break_share: float | None = None
    break_of: int | None = None
    break_per_s: float | None = None
    break_rest_s: float | None = None

    def as_json(self) -> dict[str, Any]:
        """As it travels; `Rule(**_)` reads it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Fair:
    """Jobs of different keys take turns, so that nobody waits behind all jobs of another.

    key: an argument's name, or a function that is called with the arguments of the task. weights: keys that have more than one
    share, as in {"acme": 2}. name: tasks that say the same one take turns together; by default a task is alone. Raises
    InvalidOption.
    """

    key: Key
    weights: Mapping[str, int] | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if not callable(self.key):
            check_name("key", self.key)
        if not isinstance(self.weights, Mapping | None):
            raise InvalidOption(f"weights takes a dict, as in {{'acme': 2}}, not a {type(self.weights).__name__}")
        for key, weight in (self.weights or {}).items():
            if isinstance(key, bool) or not isinstance(key, str | int | uuid.UUID):
                raise InvalidOption(f"weights has the key {key!r:.60}: keys are text or whole numbers")
            check_integer(f"the weight of {key!r:.60}", weight, low=1, high=MOST_SHARES)
        if self.name is not None:
            check_rule(self.name)

    def gate(self, name: str) -> "Gate":
        """What it is for jobs that are called by this name."""
        weights = {stored(str(key)): weight for key, weight in (self.weights or {}).items()}
        shares = json.dumps(weights, sort_keys=True)  # two tasks that say the same in another order agree
        return Gate(Rule(f"{FAIR}{self.name or name}", keyed=True, shares=shares), self.key)


class Gate(NamedTuple):
    """A rule of a task, and where a call's key comes from; none: the rule is one gate for all."""

    rule: Rule
    key: Key | None


@dataclass(frozen=True, slots=True)
class Rate:
    """How many jobs may start in `per` seconds, in all workers together.

    key, name: as of a Limit. burst: how many may follow each other at once after a pause. Raises InvalidOption.
    """

    count: float
    per: float | timedelta = 1.0
    key: Key | None = None
    name: str | None = None
    burst: int = 1

    def __post_init__(self) -> None:
        per, count = seconds("per", self.per), as_float(self.count)
        if count is None or not 0 < count < math.inf or per <= 0:
            raise InvalidOption(f"a rate of {self.count} per {per:g} s lets nothing through: give numbers above 0")
        object.__setattr__(self, "per", per)
        object.__setattr__(self, "count", count)
        object.__setattr__(self, "burst", check_integer("burst", self.burst, low=1, high=MOST_SLOTS))
        if self.name is not None:
            check_rule(self.name)

    @classmethod
    def read(cls, text: str, **options: Any) -> "Rate":
        """From `100/m`, `14/s`, `5/10s`, `1000/h` or `10000/d`."""
        found = _RATE.fullmatch(text)
        if found is None:
            raise InvalidOption(f"rate={text[:60]!r} is not a rate: write 100/m, 14/s, 5/10s, 1000/h or 10000/d")
        return cls(float(found[1]), per=float(found[2] or 1) * _UNITS[found[3]], **options)

    @property
    def every_s(self) -> float:
        """Seconds from one to the next."""
        return float(self.per) / self.count  # type: ignore[arg-type]


_RATE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)/(\d{1,9})?([smhd])")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


class Limits:
    """Those of one task, in the order in which a job passes them. False where there are none."""

    def __init__(
        self,
        given: object,
        *,
        task: str,
        function: Callable[..., object],
        rate: object = None,
        burst: int | None = None,
        ordered: Key | bool | None = None,
        on_dead: str | None = None,
        fair: Key | Fair | None = None,
        breaker: object = None,
    ) -> None:
        self._task = task
        self._function = function
        self._signature: inspect.Signature | None = None
        gates = [*self._read(given), *self._order(ordered, on_dead), *self._turns(fair, ordered)]
        self.gates = self._checked(self._with_breaker(self._with_rate(gates, rate, burst), breaker))

    def __bool__(self) -> bool:
        return bool(self.gates)

    @property
    def keyed(self) -> bool:
        """Whether only user code can tell which gates a call has to pass."""
        return any(gate.key is not None for gate in self.gates)

    @property
    def rules(self) -> list[Rule]:
        """What is declared, without what is of each call."""
        return [gate.rule for gate in self.gates]

    def _read(self, given: object) -> list[Gate]:
        if given is None:
            return []
        limits = list(given) if isinstance(given, list | tuple) else [given]
        return [self._gate(limit if isinstance(limit, Limit) else _plain(limit, self._where)) for limit in limits]

    def _order(self, key: Key | bool | None, on_dead: str | None) -> list[Gate]:
        if on_dead not in (None, "next", "halt"):
            raise InvalidOption(f"{self._where}: on_dead takes 'next' or 'halt', not {on_dead!r:.60}")
        if key is None or key is False:
            if on_dead is not None:
                raise InvalidOption(f"{self._where}: on_dead= is for a task with ordered=")
            return []
        if key is not True:
            self.check_key(key, "ordered")
        keyed = key is not True
        rule = Rule(f"order:{self._task}", 1, keyed=keyed, keeps=True, halts=on_dead == "halt")
        return [Gate(rule, key if keyed else None)]  # type: ignore[arg-type]

    def _turns(self, given: object, ordered: object) -> list[Gate]:
        if given is None:
            return []
        if ordered is True:
            raise InvalidOption(f"{self._where}: ordered=True is one line for all, without turns: leave out fair=")
        self.check_key(given.key if isinstance(given, Fair) else given, "fair")
        fair = given if isinstance(given, Fair) else Fair(given)  # type: ignore[arg-type]
        return [fair.gate(f"task:{self._task}")]

    def _with_rate(self, gates: list[Gate], given: object, burst: int | None) -> list[Gate]:
        """A rate is at the gate of a limit with the same name and key, if there is one."""
        if given is None:
            if burst is not None:
                raise InvalidOption(f"{self._where}: burst= is for a task with rate=")
            return gates
        try:
            if isinstance(given, str):
                rate = Rate.read(given, burst=1 if burst is None else burst)
            elif isinstance(given, Rate):
                rate = given if burst is None else replace(given, burst=burst)
            else:
                raise InvalidOption(f"rate takes text such as '100/m', or a Rate, not a {type(given).__name__}")
        except InvalidOption as error:
            raise InvalidOption(f"{self._where}: {error}") from None
        if rate.key is not None:
            self.check_key(rate.key, "rate")
        name = rate.name or f"task:{self._task}"
        paced = [
            gate._replace(rule=replace(gate.rule, every_s=rate.every_s, burst=rate.burst))
            if (gate.rule.name, gate.key) == (name, rate.key)
            else gate
            for gate in gates
        ]
        if paced != gates:
            return paced
        rule = Rule(name, None, keyed=rate.key is not None, every_s=rate.every_s, burst=rate.burst)
        return [*gates, Gate(rule, rate.key)]

    def _with_breaker(self, gates: list[Gate], given: object) -> list[Gate]:
        """A breaker is at the gate of the whole task, which a limit or a rate may share."""
        if given is None:
            return gates
        if not isinstance(given, Breaker):
            raise InvalidOption(f"{self._where}: breaker takes a Breaker, not a {type(given).__name__}")
        name = f"task:{self._task}"
        of_task = [gate for gate in gates if gate.rule.name == name]
        if any(gate.key is not None for gate in of_task):
            raise InvalidOption(
                f"{self._where}: its breaker is at the gate {name}, and so is a limit or a rate with a key: give that one name="
            )
        if of_task:
            return [
                gate._replace(rule=replace(gate.rule, **given.columns)) if gate in of_task else gate for gate in gates
            ]
        return [*gates, Gate(Rule(name, **given.columns), None)]

    def _checked(self, gates: list[Gate]) -> list[Gate]:
        names = [gate.rule.name for gate in gates]
        if len(gates) > MOST_GATES:
            names = [
                f"the breaker's {name}" if gate.rule.break_share else name
                for name, gate in zip(names, gates, strict=True)
            ]
            raise InvalidOption(f"{self._where}: {len(gates)} limits ({', '.join(names)}); a job passes at most two")
        if len(set(names)) < len(names):
            raise InvalidOption(f"{self._where}: two limits are called {names[0]}: give one of them name=")
        if any(name.startswith(NAMED_AFTER) for name in names):
            check_rule_of("task", self._task)
        return sorted(gates, key=lambda gate: _width(gate.rule.name, keyed=gate.rule.keyed))

    @property
    def _where(self) -> str:
        return f"@task {self._task}"

    def _gate(self, limit: Limit) -> Gate:
        self.check_key(limit.key, "limit")
        return Gate(Rule(limit.name or f"task:{self._task}", limit.slots, limit.key is not None), limit.key)

    def check_key(self, key: object, option: str) -> None:
        """Raise InvalidOption where this key of an option is none of the function's."""
        if isinstance(key, str):
            if key not in inspect.signature(self._function).parameters:
                raise InvalidOption(f"{self._where}: {option} has the key {key!r}, which the function does not take")
        elif key is not None and not callable(key):
            raise InvalidOption(
                f"{self._where}: the key of {option} is an argument's name or a function, not {key!r:.60}"
            )

    def of_call(self, args: Iterable[object], kwargs: Mapping[str, object], *, key: str | None = None) -> list[str]:
        """The gates that this call has to pass. Raises InvalidOption if its key cannot be told."""
        given = tuple(args)
        return [
            gate.rule.name if gate.key is None else self.gate_of_call(gate, given, kwargs, key=key)
            for gate in self.gates
        ]

    def gate_of_call(
        self, gate: Gate, args: Iterable[object], kwargs: Mapping[str, object], *, key: str | None = None
    ) -> str:
        """As `of_call`, of one gate that has a key."""
        given = tuple(args)
        found = key_of(
            gate, given, kwargs, key=key, task=self._task, argument=lambda name: self._argument(name, given, kwargs)
        )
        return f"{gate.rule.name}={found}"

    def _argument(self, name: str, args: tuple[object, ...], kwargs: Mapping[str, object]) -> object:
        if self._signature is None:
            self._signature = inspect.signature(self._function)
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        if name not in bound.arguments:
            raise InvalidOption(f"{self._task}: its queue has the key {name!r}, which the function does not take")
        return bound.arguments[name]


def key_of(
    gate: Gate, args: Iterable[object], kwargs: Mapping[str, object], *, key: str | None, task: str,
    argument: Callable[[str], object],
) -> str:  # fmt: skip
    """What a call is counted under at a gate with a key; `key` if somebody has said so. argument: the value of one by its name.

    Raises InvalidOption if it cannot be told.
    """
    if key is not None:
        return stored(key)
    if isinstance(gate.key, str):
        found, what = argument(gate.key), f"the argument {gate.key}"
    else:
        assert gate.key is not None
        what = "the function of key="
        try:
            found = gate.key(*args, **kwargs)
        except Exception as error:
            raise InvalidOption(f"{task}: {what} raised {type(error).__name__}: {error}") from error
    if isinstance(found, bool) or not isinstance(found, str | int | uuid.UUID):
        raise InvalidOption(
            f"{task}: {what} gives a {type(found).__name__} as key of the limit {gate.rule.name}: give text or a whole number"
        )
    return stored(str.__str__(found) if isinstance(found, str) else str(found))


def turn_of(schedule: str) -> str:
    """The gate of the jobs of one schedule, of which one at a time is past it."""
    return f"{TURN}={stored(schedule)}"


def is_bare(gates: Sequence[str] | None) -> bool:
    """Whether nobody has said which limits of its task the job is under: it has no gates, or that of its schedule alone."""
    return not gates or (len(gates) == 1 and gates[0].startswith(f"{TURN}="))


def _plain(slots: object, where: str) -> Limit:
    try:
        return Limit(slots)  # type: ignore[arg-type]
    except InvalidOption as error:
        raise InvalidOption(f"{where}: {error}") from None


def in_order(gates: Iterable[str]) -> list[str]:
    """A line, then narrow before wide. All jobs pass two gates in one order, so no two hold what the other waits for."""
    return sorted(gates, key=lambda gate: _width(gate, keyed="=" in gate))


def _width(name: str, *, keyed: bool) -> tuple[int, str]:
    """A line comes first: else those behind pass who waits for another limit. settle.sql keeps the first place alone.

    Who waits for a turn may hold the place of a key, which is of that turn as a rule, and never that of a task or queue.
    """
    kind = name.partition(":")[0]
    return ({"order": 0, "fair": 2, "queue": 4}.get(kind, 1 if keyed else 3), name)


def check_rule_of(what: str, name: str) -> None:
    """Whether a limit can be called as the task or queue is."""
    if "=" in name:
        raise InvalidOption(
            f"the {what} {name!r} cannot have a limit: in one, what comes after '=' is a key; give it another name"
        )


def check_rule(name: object) -> str:
    """A rule's name as users give it."""
    checked = check_name("name", name)
    if "=" in checked or checked.startswith(NAMED_AFTER):
        raise InvalidOption(
            f"a limit cannot be called {checked!r}: leave out '=', and a leading {' or '.join(NAMED_AFTER)}"
        )
    return checked


def whole_gate(name: str, *, task: str) -> str:
    """A gate that is named by who does not know the task: its limit and the key, as in `tenant=42`."""
    rule, sign, key = name.partition("=")
    if not sign:
        raise InvalidOption(
            f"{task}: this app does not know the task, so key= takes the limit too, as in 'tenant={name[:60]}'"
        )
    return f"{check_name('key', rule)}={stored(key)}"


def stored(key: str) -> str:
    """A key as it becomes part of a gate's name: as given, or a hash where it is long or cannot be shown."""
    if len(key) <= MAX_KEY and key.isprintable():
        return key
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
