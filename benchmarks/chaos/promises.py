"""What is promised of events, held against a run; a part of the checker.

Each committed event is one job of each subscription, one entry of the relay's stream, and read by the loop; one that was rolled
back is nowhere. Within a key, stream and loop have the order of the commits. What was notified was heard, or lies in a gap.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import inf
from typing import Any, NamedTuple

Found = Iterable[tuple[str, str]]
Records = Sequence[Mapping[str, Any]]
NOTHING_COMMITTED = ("rolled_back", "error")


class Told(NamedTuple):
    """A row that was committed with an event: by which turn of a publisher, and the how manyth of its key it is."""

    event: str
    turn: str
    key: str
    nth: int


class Logged(NamedTuple):
    """An event of the log."""

    event: str
    type: str
    turn: str


@dataclass(frozen=True, kw_only=True)
class Events:
    """What a run left behind of its events."""

    told: Sequence[Told]
    log: Sequence[Logged]
    subscriptions: Mapping[str, Sequence[str]]
    """Of those that get a job for each event: the types."""
    jobs: Sequence[tuple[str, str]]
    """(subscription, event) of every job of an event, live or ended."""
    stream: Sequence[str]
    """The events in the relay's stream, in its order."""
    records: Records


def check_events(events: Events) -> Found:
    """All rules."""
    yield from _published(events)
    yield from _jobs(events)
    yield from _relayed(events)
    yield from _pulled(events)
    yield from _heard(events)


def _of(events: Events, kind: str) -> Records:
    """The records of a kind, in the order of their time."""
    return sorted((record for record in events.records if record["kind"] == kind), key=lambda record: record["t"])


def _outcomes(events: Events) -> dict[str, str]:
    """What each publisher knew of each turn in the end."""
    return {record["turn"]: record["outcome"] for record in _of(events, "publish")}


def _published(events: Events) -> Found:
    beside, logged = {told.event for told in events.told}, Counter(event.event for event in events.log)
    alone = Counter(event.turn for event in events.log if event.event not in beside)
    turns = {told.turn for told in events.told} | alone.keys()
    for event in beside - logged.keys():
        yield "event torn", f"the row beside {event} is there, and the event is not"
    for event, count in logged.items():
        if count > 1:
            yield "event doubled", f"{event} is {count} times in the log"
    for event in events.log:
        if event.event not in beside and event.type != "chaos.alone":
            yield "event torn", f"{event.event} is there, and the row beside it is not"
    for turn, count in alone.items():
        if count > 1:
            yield "event doubled", f"{turn} was published once and is {count} events"
    for turn, outcome in _outcomes(events).items():
        if outcome == "ack" and turn not in turns:
            yield "event lost", f"{turn} was acknowledged and is not in the log"
        if outcome in NOTHING_COMMITTED and turn in turns:
            yield "event unexpected", f"{turn} was {outcome} and is in the log"


def _jobs(events: Events) -> Found:
    made = Counter(events.jobs)
    wanted = {
        (name, event.event)
        for name, types in events.subscriptions.items()
        for event in events.log
        if any(fnmatchcase(event.type, pattern) for pattern in types)
    }
    for name, event in wanted - made.keys():
        yield "event lost", f"{event} is no job of {name}"
    for (name, event), count in made.items():
        if count > 1:
            yield "event doubled", f"{event} is {count} jobs of {name}"
        if (name, event) not in wanted:
            yield "event unexpected", f"{event} is a job of {name}, and was not committed or not wanted"


def _relayed(events: Events) -> Found:
    logged = {event.event for event in events.log}
    for event, count in Counter(events.stream).items():
        if count > 1:
            yield "relay doubled", f"{event} is {count} times in the stream"
        if event not in logged:
            yield "relay unexpected", f"{event} is in the stream and was never committed"
    for event in logged - set(events.stream):
        yield "relay lost", f"{event} is not in the stream"
    yield from _order(events, events.stream, where="the stream")


def _pulled(events: Events) -> Found:
    """The loop may get what it was given before its death once more; the first time counts."""
    logged = {event.event for event in events.log}
    read = list(dict.fromkeys(record["event"] for record in _of(events, "pulled")))
    for event in logged - set(read):
        yield "event lost", f"{event} never came to the loop"
    for event in set(read) - logged:
        yield "event unexpected", f"{event} came to the loop and was never committed"
    yield from _order(events, read, where="the loop")


def _order(events: Events, read: Sequence[str], *, where: str) -> Found:
    places = {told.event: told for told in events.told}
    last: dict[str, int] = {}
    for told in (places[event] for event in read if event in places):
        if told.nth < last.get(told.key, 0):
            yield "event order", f"number {told.nth} of {told.key} is behind {last[told.key]} in {where}"
        last[told.key] = told.nth


def _heard(events: Events) -> Found:
    began = {record["turn"]: record["t"] for record in _of(events, "publish") if record["outcome"] == "begins"}
    ended = {record["turn"]: record["t"] for record in _of(events, "publish") if record["outcome"] == "ack"}
    committed = {told.turn for told in events.told}
    heard = Counter(record["turn"] for record in _of(events, "heard"))
    gaps = _gaps(events, began)
    for turn in committed - heard.keys():
        if not any(ended.get(turn, inf) >= begin and began[turn] <= end for begin, end in gaps):
            yield "notification lost", f"{turn} was notified, was not heard, and lies in no gap"
    for turn, count in heard.items():
        if count > 1:
            yield "notification doubled", f"{turn} was heard {count} times"
        if turn not in committed:
            yield "notification unexpected", f"{turn} was heard and never committed"


def _gaps(events: Events, began: Mapping[str, float]) -> list[tuple[float, float]]:
    """Notifications come in the order of their commits: what is missing was committed after the last one that was heard before,
    which is after that one's turn began, and before the listener was told. A new listener's beginning is told like a gap.
    """
    gaps, since = [], 0.0
    for record in sorted(events.records, key=lambda record: record["t"]):
        if record["kind"] == "heard":
            since = began.get(record["turn"], since)
        elif record["kind"] in ("listening", "gap"):
            gaps.append((since, record["t"]))
    return gaps


def event_figures(events: Events) -> dict[str, Any]:
    """For the page."""
    outcomes = Counter(_outcomes(events).values())
    return {
        "events": len(events.log),
        "turns of publishers": dict(sorted(outcomes.items())),
        "jobs of events": len(events.jobs),
        "entries of the relay": len(events.stream),
        "came to the loop": len(_of(events, "pulled")),
        "notifications": f"{len(_of(events, 'heard'))} heard, {len(_of(events, 'gap'))} gaps",
    }
