"""What a task says of its limits: the rules it is under, and the gates that one call of it has to pass."""

import hashlib
import inspect
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from pgqueue.client.options import MAX_KEY, check_integer, check_name
from pgqueue.errors import InvalidOption

Key = str | Callable[..., object]

MOST_GATES = 2  # a job: each has an index of those that are past it
MOST_SLOTS = 1_000_000


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
    slots: int | None
    keyed: bool

    def as_json(self) -> dict[str, Any]:
        """As it travels; `Rule(**_)` reads it."""
        return asdict(self)


class Gate(NamedTuple):
    """A rule of a task, and where a call's key comes from; none: the rule is one gate for all."""

    rule: Rule
    key: Key | None


class Limits:
    """Those of one task, narrow before wide. False where there are none."""

    def __init__(self, given: object, *, task: str, function: Callable[..., object]) -> None:
        self._task = task
        self._function = function
        self._signature: inspect.Signature | None = None
        self.gates = self._read(given)

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
        gates = [self._gate(limit if isinstance(limit, Limit) else _plain(limit, self._where)) for limit in limits]
        names = [gate.rule.name for gate in gates]
        if len(gates) > MOST_GATES:
            raise InvalidOption(
                f"{self._where}: limit= gives {len(gates)} limits ({', '.join(names)}); a job passes at most two"
            )
        if len(set(names)) < len(names):
            raise InvalidOption(f"{self._where}: two limits are called {names[0]}: give one of them name=")
        return sorted(gates, key=lambda gate: _width(gate.rule.name, keyed=gate.rule.keyed))

    @property
    def _where(self) -> str:
        return f"@task {self._task}"

    def _gate(self, limit: Limit) -> Gate:
        if isinstance(limit.key, str) and limit.key not in inspect.signature(self._function).parameters:
            raise InvalidOption(f"{self._where}: limit has the key {limit.key!r}, which the function does not take")
        return Gate(Rule(limit.name or f"task:{self._task}", limit.slots, limit.key is not None), limit.key)

    def of_call(self, args: Iterable[object], kwargs: Mapping[str, object], *, key: str | None = None) -> list[str]:
        """The gates that this call has to pass. Raises InvalidOption if its key cannot be told."""
        given = tuple(args)
        return [
            gate.rule.name if gate.key is None else f"{gate.rule.name}={self._key_of(gate, given, kwargs, key)}"
            for gate in self.gates
        ]

    def _key_of(self, gate: Gate, args: tuple[object, ...], kwargs: Mapping[str, object], key: str | None) -> str:
        if key is not None:
            return stored(key)
        if isinstance(gate.key, str):
            if self._signature is None:
                self._signature = inspect.signature(self._function)
            bound = self._signature.bind(*args, **kwargs)
            bound.apply_defaults()
            found, what = bound.arguments[gate.key], f"the argument {gate.key}"
        else:
            assert gate.key is not None
            what = "the function of key="
            try:
                found = gate.key(*args, **kwargs)
            except Exception as error:
                raise InvalidOption(f"{self._task}: {what} raised {type(error).__name__}: {error}") from error
        if isinstance(found, bool) or not isinstance(found, str | int | uuid.UUID):
            raise InvalidOption(
                f"{self._task}: {what} gives a {type(found).__name__} as key of the limit {gate.rule.name}: give text or a "
                "whole number"
            )
        return stored(str.__str__(found) if isinstance(found, str) else str(found))


def _plain(slots: object, where: str) -> Limit:
    try:
        return Limit(slots)  # type: ignore[arg-type]
    except InvalidOption as error:
        raise InvalidOption(f"{where}: {error}") from None


def in_order(gates: Iterable[str]) -> list[str]:
    """Narrow before wide. All jobs pass two gates in one order, so no two hold what the other waits for."""
    return sorted(gates, key=lambda gate: _width(gate, keyed="=" in gate))


def _width(name: str, *, keyed: bool) -> tuple[int, str]:
    return (0 if keyed else 2 if name.startswith("queue:") else 1, name)


def check_rule(name: object) -> str:
    """A rule's name as users give it."""
    checked = check_name("name", name)
    if "=" in checked or checked.startswith(("task:", "queue:")):
        raise InvalidOption(f"a limit cannot be called {checked!r}: leave out '=', and a leading 'task:' or 'queue:'")
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
