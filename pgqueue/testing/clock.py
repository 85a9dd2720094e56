"""Time that a test lets pass: the database's clock is the only one, so the jobs' times are moved, not the clock."""

from datetime import timedelta
from typing import Any

from pgqueue import db
from pgqueue.app import App
from pgqueue.client.options import seconds
from pgqueue.queries import Steps, ask
from pgqueue.queries.testing import KitQueries
from pgqueue.testing.scheduling import fire_schedules
from pgqueue.testing.subject import subject


class Clock:
    """Moves the times of all jobs in an App's database back, as if time had passed for them. conn: in the test's transaction.

    What is scheduled, to be retried or to expire falls due, and schedules (`@task(cron=)`, `app.schedule`) make the jobs of all
    times that fall into the span, for which it is as late as all that has passed by this Clock. A job that has not been drained
    counts as one that still runs: see overlap= of App.schedule. What waits for a rate (`@task(rate=)`), or at a gate that is
    closed for a time, may pass as if it had waited so long. What does not move: Python's time, PostgreSQL's now(), times in
    tables of your own or in arguments, the leases of workers, and jobs that are deferred later.
    """

    def __init__(self, *, app: App | None = None, conn: Any = None) -> None:
        self._app = app
        self._conn = conn
        self._passed_s = 0.0

    def advance(self, span: float | timedelta) -> None:
        """Let this many seconds pass, or a timedelta. Jobs that are due then are queued, and workers hear of them."""
        app = subject(self._app)
        passed_s = seconds("span", span)
        with app._database.explained(), app._database.door(self._conn) as (conn, _):
            db.run(conn, _advance(app, passed_s))
            end_s = self._passed_s + passed_s
            db.run(conn, fire_schedules(app, begin_s=self._passed_s, end_s=end_s))
            self._passed_s = end_s


def _advance(app: App, passed_s: float) -> Steps[None]:
    queries = KitQueries(app.config)
    yield queries.advance(passed_s)
    promoted = True
    while promoted:
        (now,) = yield from ask(queries.now())
        (due,) = yield from ask(app.queries.promote(worker=NOBODY, now=now))
        promoted = due.promoted > 0
    for gate in (yield from ask(queries.gates())):
        yield app.queries.poke(gate)  # a worker that knows when its rate lets the next one pass would wait until then


NOBODY = "00000000-0000-0000-0000-000000000000"  # no worker, so that all of them hear the bell
