"""Events that were put aside, each in a job that is dead or cancelled: look at them, try them again, forget them; and let a lane
continue that has stopped at one."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from pgqueue.client.options import check_integer, check_name
from pgqueue.errors import InvalidOption
from pgqueue.job import ID
from pgqueue.queries import Queries, Steps, ask
from pgqueue.queries.events import AsideJob

ASIDE_WINDOW = 10_000  # of the jobs that ended last those are found which are of one subscription
RELAY = "relay"


class AsideEvent(NamedTuple):
    """An event that was put aside, and the job that keeps it. at: when; event and type are None for what is no event."""

    job: str
    state: str
    at: datetime
    attempt: int
    event: str | None
    type: str | None
    key: str | None
    error: str | None


def aside(queries: Queries, name: str, *, limit: int, jobs: Sequence[str] | None = None) -> Steps[list[AsideEvent]]:
    """Those of a subscription, newest first. Raises InvalidOption where there is none of that name."""
    yield from mode_of(queries, name)
    check_integer("limit", limit, low=1, high=ASIDE_WINDOW)
    found = yield from ask(queries.aside(name, window=ASIDE_WINDOW, limit=limit, jobs=jobs))
    return [_as_event(row) for row in found]


def chosen(queries: Queries, name: str, jobs: Sequence[str]) -> Steps[list[AsideEvent]]:
    """These of them, or all. Raises InvalidOption for a job that is none of them."""
    wrong = [job for job in jobs if not ID.fullmatch(job)]
    if wrong:
        raise InvalidOption(f"{wrong[0]!r} is not a job id: `pgqueue subscription aside {name}` lists them")
    found = yield from aside(queries, name, limit=ASIDE_WINDOW, jobs=list(jobs) or None)
    missing = {job.lower() for job in jobs} - {event.job for event in found}
    if missing:
        raise InvalidOption(
            f"job {min(missing)} keeps no event that was put aside of {name}: `pgqueue subscription aside {name}`"
        )
    return found


def check_retry(mode: str, name: str) -> None:
    """Raise InvalidOption for a relay: an event that is sent later would have the number of another."""
    if mode == RELAY:
        raise InvalidOption(
            f"{name} is a relay, whose events have numbers in order: `pgqueue subscription replay {name} --from EVENT --in-place` "
            "sends one again, with all that came after it"
        )


def mode_of(queries: Queries, name: str) -> Steps[str]:
    """Raises InvalidOption where there is none of that name."""
    found = yield from ask(queries.subscription_mode(check_name("subscription", name)))
    if not found:
        raise unknown(name)
    return found[0]


def start(queries: Queries, name: str, *, lane: int | None) -> Steps[list[int]]:
    """Let its lanes, or one, continue that have stopped; those that did."""
    yield from mode_of(queries, name)
    if lane is not None:
        check_integer("lane", lane, low=0, high=255)
    return (yield from ask(queries.start_lanes(name, lane=lane)))


def unknown(name: str) -> InvalidOption:
    """There is no such subscription."""
    return InvalidOption(f"there is no subscription {name!r}: `pgqueue subscriptions` lists them")


def _as_event(row: AsideJob) -> AsideEvent:
    event = _event_of(row.args)
    told = {name: event.get(name) for name in ("id", "type", "key")}
    return AsideEvent(row.job, row.state, row.at, row.attempt, told["id"], told["type"], told["key"], row.error)


def _event_of(args: str) -> dict[str, Any]:
    """Of a job that takes an event, or a list of one; a payload that is no JSON spoils it all."""
    try:
        (found,) = json.loads(args)
    except (ValueError, TypeError, RecursionError):
        return {}
    if isinstance(found, list) and len(found) == 1:
        (found,) = found
    return found if isinstance(found, dict) else {}
