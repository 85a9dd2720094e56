"""Whether a call is among those that were deferred, and how the closest one differs. Pure."""

import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Any

from pgqueue.client.enqueue import unique_key
from pgqueue.client.options import check_integer
from pgqueue.errors import InvalidArguments, InvalidOption
from pgqueue.task import AnyTask
from pgqueue.testing.call import Deferred, short

COMPARED = ("queue", "priority", "delay", "at", "unique", "max_attempts", "timeout", "expires", "headers")
NEAR_S = 1.0  # a time in a row was written by the server, a moment after the call
MOST_TOLD = 5  # other calls in a message


class Expectation:
    """A task, its arguments and, with an underscore in front, the options that count. Without arguments: any call of the task."""

    def __init__(self, task: AnyTask | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self._task = None if isinstance(task, str) else task
        self.name = task if isinstance(task, str) else task.name
        own = self._task.codec.takes if self._task else lambda name: not name.startswith("_")
        self._options = {name[1:]: value for name, value in kwargs.items() if name.startswith("_") and not own(name)}
        named = {name: value for name, value in kwargs.items() if name[1:] not in self._options or own(name)}
        self._times = self._options.pop("times", None)
        if self._times is not None:
            check_integer("_times", self._times, low=1, high=1_000_000)
        for name in self._options.keys() - set(COMPARED):
            close = get_close_matches(name, [*COMPARED, "times", "app", "conn"], n=1)
            hint = (
                f"did you mean '_{close[0]}'?" if close else f"there are {', '.join(f'_{each}' for each in COMPARED)}"
            )
            raise InvalidOption(f"assert_deferred takes no option '_{name}'; {hint}")
        self._wanted = self._named(args, named) if args or named else None
        self._stored = self._through_json(args, named) if self._wanted is not None else None

    def met_by(self, calls: Sequence[Deferred]) -> Deferred:
        """The first that is as expected; raises AssertionError with the closest one."""
        met = [call for call in calls if not self._differences(call)]
        if not met:
            raise AssertionError(self._told_missing(calls))
        if self._times is not None and len(met) != self._times:
            raise AssertionError(
                f"{self.name} was deferred {len(met)} times like this, not {self._times}:{_listed(met)}"
            )
        return met[0]

    def not_met_by(self, calls: Sequence[Deferred]) -> None:
        """Raises AssertionError with those that are as expected."""
        if met := [call for call in calls if not self._differences(call)]:
            raise AssertionError(f"{self.name} was deferred:{_listed(met)}")

    # -- one call --

    def _differences(self, call: Deferred) -> list[str] | None:
        """Lines; empty: it is as expected. None would be another task's."""
        if call.task != self.name:
            return [f"task: expected {self.name}, was {call.task}"]
        return [*self._argument_differences(call), *self._option_differences(call)]

    def _argument_differences(self, call: Deferred) -> list[str]:
        if self._wanted is None:
            return []
        found = self._named(call.args, call.kwargs)
        return [
            f"{name}: expected {_shown(self._wanted, name)}, was {_shown(found, name)}"
            for name in {**self._wanted, **found}
            if not self._is_equal(name, found)
        ]

    def _is_equal(self, name: str, found: Mapping[str, Any]) -> bool:
        """As it was given, as a matcher such as mock.ANY is; or as JSON makes it, where a tuple may come back as a list."""
        ways = [way for way in (self._wanted, self._stored) if way is not None and name in way]
        return name in found and any(bool(way[name] == found[name]) for way in ways)

    def _option_differences(self, call: Deferred) -> list[str]:
        return [
            f"{name}: expected {short(wanted)}, was {short(getattr(call, name))}"
            for name, wanted in self._options.items()
            if not _is_near(getattr(call, name), _key(call) if name == "unique" and wanted is True else wanted)
        ]

    def _named(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments by the names of the parameters, defaults among them; by position where the function is not known."""
        if self._task is None:
            return {f"argument {n}": value for n, value in enumerate(args, 1)} | dict(kwargs)
        signature = inspect.signature(self._task.function)
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}: {error}: no such call can have been deferred") from None
        bound.apply_defaults()
        return dict(bound.arguments)

    def _through_json(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
        if self._task is None:
            return None
        try:
            return self._named(*self._task.codec.decode(*self._task.encode(tuple(args), kwargs)))
        except InvalidArguments:  # a matcher is among them
            return None

    # -- messages --

    def _told_missing(self, calls: Sequence[Deferred]) -> str:
        of_task = [call for call in calls if call.task == self.name]
        if not of_task:
            names = Counter(call.task for call in calls)
            told = ", ".join(f"{name} ({count})" for name, count in names.most_common(MOST_TOLD))
            return f"{self.name} was not deferred; deferred were: {told or 'no jobs at all'}"
        differing = [(self._differences(call) or [], call) for call in of_task]
        lines, closest = min(differing, key=lambda each: len(each[0]))
        others = [call for call in of_task if call is not closest]
        return "\n".join([
            f"{self.name} was not deferred like this. The closest call is {closest}, which differs:",
            *(f"  {line}" for line in lines),
            *([f"Other calls of it:{_listed(others)}"] if others else []),
        ])  # fmt: skip


def _listed(calls: Sequence[Deferred]) -> str:
    lines = [f"\n  {call}" for call in calls[:MOST_TOLD]]
    return "".join(lines) + (f"\n  and {len(calls) - MOST_TOLD} more" if len(calls) > MOST_TOLD else "")


def _shown(values: Mapping[str, Any], name: str) -> str:
    return short(values[name]) if name in values else "none given"


def _key(call: Deferred) -> str | None:
    return unique_key(True, task=call.task, call=call.call)


def _is_near(found: Any, wanted: Any) -> bool:
    """Equal, or times that lie no further apart than they may."""
    if isinstance(wanted, timedelta):
        wanted = wanted.total_seconds()
    if isinstance(wanted, datetime) and isinstance(found, datetime):
        return abs((found - wanted).total_seconds()) <= NEAR_S
    if isinstance(wanted, float | int) and isinstance(found, float) and not isinstance(wanted, bool):
        return abs(found - wanted) <= NEAR_S
    return bool(found == wanted)
