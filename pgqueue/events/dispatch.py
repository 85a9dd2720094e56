"""Make a job of each event for each subscription that wants one, and a job for each lane of batches where one is due.

One dispatcher at a time makes them, under a lock to the end of its transaction, which also moves the places: so an event has
exactly one job for each subscription, whatever dies in between. "Lock, then look": the statement that reads the places comes
after the lock, as one that waited for it would mix what it saw before with what it finds after.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from pgqueue.events.throttle import Throttle
from pgqueue.queries import Queries, TogetherSteps
from pgqueue.queries.events import Dispatched, Front, LaneFront, Offered

PAGE = 2000  # jobs made by one statement, about: one for each event of the page and each subscription
PAGE_LEAST = 20

F = TypeVar("F", Front, LaneFront)


class Round(NamedTuple):
    """What a round came to. busy: another dispatcher was at it. more: there is more than one page. due_s: seconds until a batch
    need not wait any longer for its last events."""

    events: int = 0
    jobs: int = 0
    busy: bool = False
    more: bool = False
    due_s: float | None = None


def dispatch_round(queries: Queries, throttle: Throttle | None = None) -> TogetherSteps[Round]:
    """One page for each place where subscriptions stand, in a transaction that it begins and ends.

    A place that another than a dispatcher has moved meanwhile fails the statement, and with it the round.
    """
    _, (locked,), fronts, lanes = yield (
        queries.transaction_begin(), queries.lock_dispatch(), queries.fronts(held=throttle.held if throttle else ()),
        queries.lanes(),
    )  # fmt: skip
    ahead, waiting = _ahead(fronts), _ahead(lanes)
    if not locked or not (ahead or waiting):
        yield (queries.transaction_commit(),)
        return Round(busy=not locked)
    pages = [_page_of(front) for front in ahead]
    said = [queries.dispatch(front, most=most) for front, most in zip(ahead, pages, strict=True)]
    *answers, _ = yield *said, *(queries.offer(front, most=PAGE) for front in waiting), queries.transaction_commit()
    done: list[Dispatched] = [row for (row,) in answers[: len(said)]]
    offered: list[Offered] = [row for (row,) in answers[len(said) :]]
    full = [page.events == most for page, most in zip(done, pages, strict=True)]
    if throttle is not None:
        for front, page, whole in zip(ahead, done, full, strict=True):
            throttle.read(front.names, page.events, full=whole)
    return Round(
        sum(page.events for page in done) + sum(page.jobs + page.moved for page in offered),
        sum(page.jobs for page in done) + sum(page.jobs for page in offered),
        more=any(full)
        or any(front.next is not None for front in ahead)
        or any(page.more and page.moved for page in offered),
        due_s=min((page.due_s for page in offered if page.due_s is not None), default=None),
    )


def _ahead(fronts: Sequence[F]) -> list[F]:
    """Those after which there is something."""
    return [front for front in fronts if front.next is not None or front.since != front.upto]


def _page_of(front: Front) -> int:
    return max(PAGE_LEAST, PAGE // len(front.names))
