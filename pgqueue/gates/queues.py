"""What an app says of a queue: how many of its jobs are under way at once, and by which key they take turns."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pgqueue.client.options import check_integer, check_name
from pgqueue.errors import ConfigError, InvalidOption
from pgqueue.gates.limit import (
    MOST_GATES,
    MOST_SLOTS,
    Fair,
    Gate,
    Key,
    Limits,
    Rule,
    check_rule_of,
    in_order,
    key_of,
    whole_gate,
)


@dataclass(frozen=True, slots=True)
class QueueRules:
    """Those of one queue. Its key is an argument that the tasks of the queue take, or a function of their arguments."""

    name: str
    limit: Rule | None = None
    turns: Gate | None = None

    def but(self, limit: int | None, fair: Key | Fair | None) -> "QueueRules":
        """With what is given in place of what was. Raises InvalidOption."""
        rule, turns = self.limit, self.turns
        check_rule_of("queue", check_name("queue", self.name))
        if limit is None and fair is None:
            raise InvalidOption(f"queue({self.name!r}): say limit=, fair=, or both")
        if limit is not None:
            rule = Rule(f"queue:{self.name}", check_integer("limit", limit, low=0, high=MOST_SLOTS), keyed=False)
        if fair is not None:
            if not isinstance(fair, Fair | str) and not callable(fair):
                raise InvalidOption(
                    f"queue({self.name!r}): the key of fair is an argument's name or a function, not {fair!r:.60}"
                )
            turns = (fair if isinstance(fair, Fair) else Fair(fair)).gate(f"queue:{self.name}")
        return QueueRules(self.name, rule, turns)

    @property
    def rules(self) -> list[Rule]:
        """Narrow before wide."""
        return [*([self.turns.rule] if self.turns else ()), *([self.limit] if self.limit else ())]

    def check(self, task: str, limits: Limits) -> None:
        """Raise ConfigError if the jobs of this task cannot be in this queue."""
        own = limits.rules
        names = [rule.name for rule in [*own, *(rule for rule in self.rules if rule not in own)]]
        if len(names) > MOST_GATES:
            raise ConfigError(
                f"@task {task} has {_number(names)} limits ({', '.join(names)}): a job passes at most two"
            )
        if self.turns is not None:
            self._check_order(task, limits)
            limits.check_key(self.turns.key, f"the fair share of the queue {self.name!r}")

    def _check_order(self, task: str, limits: Limits) -> None:
        if any(rule.keeps and not rule.keyed for rule in limits.rules):
            raise InvalidOption(
                f"{task}: ordered=True is one line for all, and in the queue {self.name!r} keys take turns; choose another queue"
            )

    def lacks_turn(self, gates: list[str] | None) -> bool:
        """Whether a job with these gates has yet to take its turn. One that has two passes no third."""
        return self.turns is not None and len(gates or ()) < MOST_GATES and not self._has_turn(gates or ())

    def with_turn(
        self, gates: Iterable[str], task: str, limits: Limits, args: Iterable[object], kwargs: Mapping[str, object],
        *, key: str | None = None,
    ) -> list[str]:  # fmt: skip
        """These gates of a call of the task, and that of its turn. Raises InvalidOption if its key cannot be told."""
        held = [*gates]
        if self.turns is not None and not self._has_turn(held):
            self._check_order(task, limits)
            held.append(limits.gate_of_call(self.turns, args, kwargs, key=key))
        return in_order(held)

    def with_limit(self, gates: list[str], task: str) -> list[str]:
        """These gates of a call, and that of the queue's limit. Raises InvalidOption where they are more than a job can pass."""
        if self.limit is not None and self.limit.name not in gates:
            gates = in_order([*gates, self.limit.name])
        if len(gates) > MOST_GATES:
            raise InvalidOption(
                f"{task}: {_number(gates)} limits ({', '.join(gates)}): a job passes at most two; choose another queue"
            )
        return gates

    def of_stranger(
        self, task: str, args: Iterable[object], kwargs: Mapping[str, object], *, key: str | None
    ) -> list[str]:
        """The gates of a call whose task this app does not know, as far as they can be told: a worker adds the others."""
        held = []
        if key is not None and (self.turns is None or "=" in key):
            held.append(whole_gate(key, task=task))
            key = None
        if self.turns is not None and not self._has_turn(held):
            turns = self.turns
            if key is not None or callable(turns.key) or turns.key in kwargs:
                found = key_of(turns, args, kwargs, key=key, task=task, argument=kwargs.__getitem__)
                held.append(f"{turns.rule.name}={found}")
        return self.with_limit(in_order(held), task)

    def _has_turn(self, gates: Iterable[str]) -> bool:
        assert self.turns is not None
        return any(gate.startswith(f"{self.turns.rule.name}=") for gate in gates)


def _number(gates: list[str]) -> str:
    return "three" if len(gates) == 3 else "four"
