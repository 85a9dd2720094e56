"""Make a job of each event for each subscription that wants one.

One dispatcher at a time makes them, under a lock to the end of its transaction, which also moves the places: so an event has
exactly one job for each subscription, whatever dies in between. "Lock, then look": the statement that reads the places comes
after the lock, as one that waited for it would mix what it saw before with what it finds after.
"""

from typing import NamedTuple

from pgqueue.queries import Queries, TogetherSteps
from pgqueue.queries.events import Dispatched, Front

PAGE = 2000  # jobs made by one statement, about: one for each event of the page and each subscription
PAGE_LEAST = 20


class Round(NamedTuple):
    """What a round came to. busy: another dispatcher was at it. more: there is more than one page."""

    events: int = 0
    jobs: int = 0
    busy: bool = False
    more: bool = False


def dispatch_round(queries: Queries) -> TogetherSteps[Round]:
    """One page for each place where subscriptions stand, in a transaction that it begins and ends.

    A place that another than a dispatcher has moved meanwhile fails the statement, and with it the round.
    """
    _, (locked,), fronts = yield queries.transaction_begin(), queries.lock_dispatch(), queries.fronts()
    ahead = [front for front in fronts if front.next is not None or front.since != front.upto]
    if not locked or not ahead:
        yield (queries.transaction_commit(),)
        return Round(busy=not locked)
    pages = [_page_of(front) for front in ahead]
    said = [queries.dispatch(front, most=most) for front, most in zip(ahead, pages, strict=True)]
    *answers, _ = yield *said, queries.transaction_commit()
    done: list[Dispatched] = [row for (row,) in answers]
    full = any(page.events == most for page, most in zip(done, pages, strict=True))
    return Round(
        sum(page.events for page in done),
        sum(page.jobs for page in done),
        more=full or any(front.next is not None for front in ahead),
    )


def _page_of(front: Front) -> int:
    return max(PAGE_LEAST, PAGE // len(front.names))
