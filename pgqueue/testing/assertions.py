"""assert_deferred and its opposite: among what an open captured() block has seen, else among the jobs of the database."""

from collections.abc import Sequence
from typing import Any

from pgqueue import db
from pgqueue.app import App
from pgqueue.queries.testing import KitQueries
from pgqueue.task import AnyTask
from pgqueue.testing.call import Deferred, by_row
from pgqueue.testing.capture import Captured
from pgqueue.testing.expectation import Expectation
from pgqueue.testing.intercept import innermost
from pgqueue.testing.subject import subject


def assert_deferred(task: AnyTask | str, /, *args: Any, **kwargs: Any) -> Deferred:
    """Assert that the task was deferred with these arguments; returns the first such call. Without arguments: with any.

    Options count if they are named, with an underscore in front: _queue, _priority, _delay, _at, _unique, _max_attempts, _timeout,
    _expires, _headers. _times: how often, exactly. _conn: the test's connection, if its transaction is open (a sync one). _app: the
    App, if `task` is only a name. An AssertionError shows the closest call and how it differs.
    """
    calls = _calls(task, kwargs)
    return Expectation(task, args, kwargs).met_by(calls)


def assert_not_deferred(task: AnyTask | str, /, *args: Any, **kwargs: Any) -> None:
    """Assert that it was not deferred like this; arguments as for assert_deferred, without any: not at all."""
    calls = _calls(task, kwargs)
    Expectation(task, args, kwargs).not_met_by(calls)


def deferred(*, app: App | None = None, conn: Any = None) -> list[Deferred]:
    """What was deferred, first to last, as the database has it: alive or ended, by whatever way it came."""
    app = subject(app)
    statement = KitQueries(app.config).deferred()
    with app._database.explained(), app._database.door(conn) as (own, _):
        return [by_row(app, row) for row in db.run(own, statement)]


def _calls(task: AnyTask | str, kwargs: dict[str, Any]) -> Sequence[Deferred]:
    """Takes the settings out of kwargs."""
    app, conn = kwargs.pop("_app", None), kwargs.pop("_conn", None)
    captured: Captured | None = innermost(Captured)
    if captured is not None:
        return captured
    return deferred(app=app or (subject() if isinstance(task, str) else task.app), conn=conn)
