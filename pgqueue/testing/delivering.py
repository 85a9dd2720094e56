"""Jobs of events: a drain makes them as a worker's dispatcher does, before it looks for the next job.

In a test's own transaction no snapshot tells what was published: there the transaction's id does. The places move with it, and
nothing of that is left when it is rolled back.
"""

from pgqueue import db
from pgqueue.app import App
from pgqueue.events.dispatch import dispatch_round
from pgqueue.events.start import StartAt
from pgqueue.events.subscription import Subscription, declare
from pgqueue.queries import Steps, ask
from pgqueue.testing.kept import kept


def handled(app: App) -> list[Subscription]:
    """The subscriptions that `@app.on` declares."""
    return [wanted for wanted in app.subscriptions.values() if wanted.mode == "job" and wanted.task in app.tasks]


def subscribe(app: App, *, start: StartAt, lent: bool = False) -> Steps[None]:
    """Make them as a worker does at its start, in a transaction that the caller sees to. start: of those that are new; lent: the
    transaction is the test's."""
    there = {state.name for state in (yield from ask(app.queries.subscription_states()))}
    old, new = ([wanted for wanted in handled(app) if (wanted.name in there) is known] for known in (True, False))
    yield from declare(app.queries, *old, lent=lent)
    yield from declare(app.queries, *new, start=start, lent=lent)


def subscribe_apart(app: App) -> None:
    """In a transaction of its own. What was published before is delivered too: a test publishes first, and then it drains."""
    if handled(app):
        conn = kept(app)
        with conn.transaction():
            db.run(conn, subscribe(app, start="begin"))


def deliver_apart(app: App) -> None:
    """Make the jobs of all that is committed."""
    if not handled(app):
        return
    while (done := db.run(kept(app), dispatch_round(app.queries))).events or done.more:
        pass


def subscribe_here(app: App) -> Steps[None]:
    """In the test's transaction, whose events are delivered whatever came first."""
    if handled(app):
        yield from subscribe(app, start="now", lent=True)


def deliver_here(app: App) -> Steps[None]:
    """Make the jobs of what the test's transaction has published, and of what others have committed since."""
    if not handled(app):
        return
    yield from dispatch_round(app.queries, here=True)
