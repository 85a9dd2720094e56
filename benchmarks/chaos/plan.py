"""Which fault strikes whom, when and for how long: drawn from a seed, before anything runs, so that a run can be repeated.

Those who deal with events have a plan of their own beside that of the workers: each of its faults strikes in every run.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

MOST_AT_ONCE = 3


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: `at_s` seconds after the beginning, for `length_s` seconds. target: a worker group's name, server, app,
    relays, bus, or reader.
    """

    at_s: float
    length_s: float
    kind: str
    target: str

    def __str__(self) -> str:
        return f"{self.at_s:6.1f} s  {self.kind:<14} {self.target:<8} {self.length_s:.1f} s"


@dataclass(frozen=True, slots=True)
class Kind:
    """What is drawn for one kind of fault: how often compared with others, and how long in seconds."""

    weight: float
    shortest_s: float
    longest_s: float


WORKER: Mapping[str, Kind] = {
    "kill_child": Kind(4, 0, 0),
    "kill_worker": Kind(3, 0.5, 3),  # the length is the time until it is started again
    "kill_group": Kind(2, 0.5, 3),
    "freeze_worker": Kind(1, 17, 20),  # longer than a lease
    "nap": Kind(1, 1, 4),  # a freeze shorter than a lease
    "deploy": Kind(2, 0, 1),
    "cut": Kind(2, 4, 20),
    "lose_replies": Kind(2, 1, 4),
    "lose_commits": Kind(2, 0.3, 2),
    "delay": Kind(1, 3, 6),
    "reset": Kind(2, 0, 0),
}
SERVER: Mapping[str, Kind] = {
    "restart_fast": Kind(2, 0, 0),
    "restart_immediate": Kind(2, 0, 0),
    "kill_server": Kind(1, 0, 2),
    "freeze_server": Kind(1, 2, 8),
    "end_sessions": Kind(2, 0, 0),
    "cancel_all": Kind(1, 1, 2),
    "lock_jobs": Kind(1, 1, 4),
}
STANDBY: Mapping[str, Kind] = {"fail_over": Kind(2, 0, 0)}  # of the server, if it has one
APP: Mapping[str, Kind] = {
    "lose_replies": Kind(1, 0.3, 1),
    "lose_commits": Kind(3, 0.3, 1),
    "reset": Kind(2, 0, 0),
}
EVENTS: Mapping[tuple[str, str], Kind] = {  # by target and name; no weights, as each has its turn
    ("relays", "kill_relays"): Kind(1, 0, 0),
    ("relays", "oversleep"): Kind(1, 17, 20),  # longer than a lease
    ("bus", "kill_bus"): Kind(1, 0, 3),
    ("bus", "freeze_bus"): Kind(1, 1, 10),  # its clients wait for 8 s
    ("reader", "kill_reader"): Kind(1, 0, 2),
    ("reader", "end_listeners"): Kind(1, 0, 0),
    ("reader", "cut"): Kind(1, 1, 10),
    ("server", "end_dispatchers"): Kind(1, 1, 3),
}
REST_S = 2.0  # a target is left alone for so long after a fault
EVENTS_GAP_S = 8.0  # shorter where the run is: each fault strikes once at least


def draw(seed: int, *, seconds: float, groups: Sequence[str], gap_s: float, standby: bool = False) -> list[Fault]:
    """A plan with exponential gaps, at most three faults at once and one per target."""
    chance = random.Random(seed)
    kinds = {"server": {**SERVER, **(STANDBY if standby else {})}, "app": APP} | dict.fromkeys(groups, WORKER)
    busy: dict[str, float] = {}
    faults = []
    for at_s in _moments(chance, seconds=seconds, gap_s=gap_s):
        free = [target for target in (*groups, "server", "app") if busy.get(target, 0.0) <= at_s]
        if not free or sum(until - REST_S > at_s for until in busy.values()) >= MOST_AT_ONCE:
            continue
        choices = [(target, name, kind) for target in free for name, kind in kinds[target].items()]
        ((target, name, kind),) = chance.choices(choices, [kind.weight for _, _, kind in choices])
        length_s = min(chance.uniform(kind.shortest_s, kind.longest_s), max(0.0, seconds - at_s))
        busy[target] = at_s + length_s + REST_S
        faults.append(Fault(round(at_s, 2), round(length_s, 2), name, target))
    return faults


def draw_events(seed: int, *, seconds: float) -> list[Fault]:
    """A plan for those who deal with events: all of them in a shuffled order, again and again until the time is over."""
    chance = random.Random(f"{seed}/events")
    gap_s = min(EVENTS_GAP_S, seconds / (len(EVENTS) + 1))
    faults, turns = [], []
    for number in range(int(seconds / gap_s)):
        turns = turns or chance.sample(list(EVENTS), len(EVENTS))
        target, name = turns.pop()
        kind = EVENTS[target, name]
        at_s = (number + chance.random()) * gap_s
        length_s = min(chance.uniform(kind.shortest_s, kind.longest_s), max(0.0, seconds - at_s))
        faults.append(Fault(round(at_s, 2), round(length_s, 2), name, target))
    return faults


def _moments(chance: random.Random, *, seconds: float, gap_s: float) -> Iterator[float]:
    at_s = 0.0
    while (at_s := at_s + chance.expovariate(1 / gap_s)) < seconds:
        yield at_s
