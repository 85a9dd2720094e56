"""Make a job of each event for each subscription that wants one, and a job for each lane of batches where one is due.

One call of a function in the database, which takes a lock first and then looks: so an event has exactly one job for each
subscription, whatever dies, and it costs a program one round trip. What is decided here is how much is made at a time.
"""

from typing import NamedTuple

from pgqueue.events.throttle import Throttle
from pgqueue.queries import Queries, Steps, ask

PAGE = 2000  # jobs made for one place, about: one for each event of the page and each subscription
PAGE_LEAST = 20


class Round(NamedTuple):
    """What a round came to. busy: another dispatcher was at it. more: there is more than one page. due_s: seconds until a batch
    need not wait any longer for its last events."""

    events: int = 0
    jobs: int = 0
    busy: bool = False
    more: bool = False
    due_s: float | None = None


def dispatch_round(queries: Queries, throttle: Throttle | None = None, *, here: bool = False) -> Steps[Round]:
    """One page for each place where subscriptions are.

    A place that another than a dispatcher has moved meanwhile fails the statement, and with it the round. here: in a test's own
    transaction, for its own events.
    """
    held = throttle.held if throttle else ()
    pages = yield from ask(queries.dispatch(held, size=PAGE, fewest=PAGE_LEAST, here=here))
    if throttle is not None:
        for page in pages:
            throttle.read(page.names or (), page.events, full=page.is_full)
    return Round(
        sum(page.events for page in pages if not page.busy),
        sum(page.jobs for page in pages if not page.busy),
        busy=any(page.busy for page in pages),
        more=any(page.more for page in pages),
        due_s=min((page.due_s for page in pages if page.due_s is not None), default=None),
    )
