"""Make a job of each event for each subscription that wants one.

One dispatcher at a time makes them, under a lock to the end of its transaction, which also moves the places: so an event has
exactly one job for each subscription, whatever dies in between. "Lock, then look": the statement that reads the places comes
after the lock, as one that waited for it would mix what it saw before with what it finds after.
"""

from typing import NamedTuple

from pgqueue.queries import Queries, Steps, ask

PAGE = 2000  # jobs made by one statement, about: one for each event of the page and each subscription
PAGE_LEAST = 20


class Round(NamedTuple):
    """What a round came to. busy: another dispatcher was at it. more: there is more than one page."""

    events: int = 0
    jobs: int = 0
    busy: bool = False
    more: bool = False


class Moved(Exception):
    """A place was moved by another than a dispatcher meanwhile: nothing of the round was written."""


def dispatch_round(queries: Queries) -> Steps[Round]:
    """One page for each place where subscriptions stand, in one transaction that the caller sees to. Raises Moved."""
    (locked,) = yield from ask(queries.lock_dispatch())
    if not locked:
        return Round(busy=True)
    events = jobs = 0
    more = False
    for front in (yield from ask(queries.fronts())):
        if front.since == front.upto and front.next is None:
            continue
        most = max(PAGE_LEAST, PAGE // len(front.names))
        (page,) = yield from ask(queries.dispatch(front, most=most))
        if page.moved != (len(front.names) if page.events or front.next is not None else 0):
            raise Moved
        events += page.events
        jobs += page.jobs
        more |= page.events == most or front.next is not None
    return Round(events, jobs, more=more)
