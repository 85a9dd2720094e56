"""Events become jobs: one for each subscription that wants it, from the commit on, whatever dies in between."""

from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
import pytest

from pgqueue import App, PgQueueError
from tests.conftest import Worker, eventually

Start = Callable[..., Worker]


@pytest.fixture
def start(start_worker: Start) -> Start:
    return lambda *options, **settings: start_worker(*options, **{"app": "tests.event_tasks", **settings})


def ended(conn: psycopg.Connection) -> list[tuple[Any, ...]]:
    return conn.execute("select task, state::text, result, queue, priority from pgqueue.jobs order by id").fetchall()


def test_an_event_is_a_job_of_each_subscription_that_wants_it(start: Start, conn: psycopg.Connection, app: App) -> None:
    app.publish("user.created", {"id": 0}, key="user:0")  # before anybody subscribed
    start("-c", "1").ready()
    with psycopg.connect(app.dsn) as mine:
        first = app.publish("user.created", {"id": 1}, key="user:1", conn=mine)
        app.publish("order.paid", 5, conn=mine)
    with psycopg.connect(app.dsn) as mine:
        app.publish("user.created", {"id": 2}, conn=mine)
        mine.rollback()
    second = app.publish("user.changed")
    eventually(lambda: [state for _, state, *_ in ended(conn)] == ["succeeded"] * 3, what="three jobs", within_s=8)
    assert sorted(ended(conn)) == sorted(
        [
            ("tests.event_tasks.index_user", "succeeded", '["user.created","user:1",{"id":1}]', "default", 0),
            ("tests.event_tasks.audit", "succeeded", f'"{first}"', "audit", 3),
            ("tests.event_tasks.audit", "succeeded", f'"{second}"', "audit", 3),
        ]
    )


def test_a_burst_ends_when_no_event_waits(start: Start, conn: psycopg.Connection, app: App) -> None:
    """Nor one that the last job has published."""
    assert start("-c", "1", "--burst").wait() == 0  # it makes the subscriptions
    app.publish("chain", 5)
    worker = start("-c", "1", "--burst")
    assert worker.wait() == 0, worker.output
    assert sorted(result for _, _, result, *_ in ended(conn)) == list("012345")


def test_a_worker_without_handlers_makes_jobs_of_events_too(
    start: Start, start_worker: Start, conn: psycopg.Connection, app: App
) -> None:
    assert start("-c", "1", "--burst").wait() == 0
    app.publish("user.created")
    start_worker("-c", "1").ready()
    waiting = "select count(*) from pgqueue.job where state = 'queued'"
    eventually(lambda: conn.execute(waiting).fetchone() == (2,), what="two jobs for a worker that knows the handlers")


def test_killed_in_every_step_it_has_made_each_job_once(start: Start, conn: psycopg.Connection, app: App) -> None:
    """A worker is killed again and again while it makes jobs; its successor goes on where it was."""
    assert start("-c", "1", "--burst").wait() == 0
    events: list[str] = []
    made = "select count(*) > %s from pgqueue.jobs where task = 'tests.event_tasks.audit'"

    def some(before: int) -> bool:
        return conn.execute(made, [before]).fetchone() == (True,)

    for _ in range(4):
        before = len(events)
        worker = start("-c", "1").ready()
        events += app.publish_many({"type": "user.created", "payload": n} for n in range(3000))
        eventually(partial(some, before), what="some jobs are made")
        worker.process.kill()
        worker.wait()
    worker = start("-c", "2", "--burst")
    assert worker.wait() == 0, worker.output
    for task in ("audit", "index_user"):
        named = "select args::json -> 0 ->> 'id' from pgqueue.jobs where task = %s"
        assert sorted(id_ for (id_,) in conn.execute(named, [f"tests.event_tasks.{task}"])) == sorted(events)


def test_bad_handlers_and_types_are_refused(app: App) -> None:
    def refused(what: Callable[[], Any]) -> str:
        with pytest.raises(PgQueueError) as raised:
            what()
        return str(raised.value)

    def none() -> None: ...
    def two(a: int, b: int) -> None: ...

    assert "calls none with one argument, the event" in refused(lambda: app.on("t")(none)).replace(
        "test_bad_handlers_and_types_are_refused.<locals>.", ""
    )
    assert "one argument, the event: write `def two(event: Event)`" in refused(lambda: app.on("t")(two))
    assert "at least one type of event" in refused(lambda: app.on())
    assert "only 'user.*' and '*' are understood" in refused(lambda: app.on("us*er"))
    assert "holds a `*`" in refused(lambda: app.publish("user.*"))
    assert "event t: payload" in refused(lambda: app.publish("t", object()))
    assert "event t: key" in refused(lambda: app.publish("t", key=""))
    assert "event t: headers takes a dict" in refused(lambda: app.publish("t", headers=[1]))  # type: ignore[arg-type]
    assert "event 1 has kind" in refused(lambda: app.publish_many([{"type": "t"}, {"kind": "t"}]))
    with psycopg.connect(app.dsn) as conn:
        assert conn.execute("select count(*) from pgqueue.event").fetchone() == (0,)


def test_events_that_are_published_in_sql(start: Start, conn: psycopg.Connection, app: App) -> None:
    start("-c", "1").ready()
    first = conn.execute("select pgqueue.publish('user.created', '{\"id\": 1}', key => 'user:1')::text").fetchone()
    second = conn.execute("select pgqueue.publish('user.x', headers => '{\"a\": 1}')::text").fetchone()
    assert first and second
    eventually(lambda: [state for _, state, *_ in ended(conn)] == ["succeeded"] * 3, what="three jobs")
    assert {result for _, _, result, *_ in ended(conn)} == {
        '["user.created","user:1",{"id":1}]', f'"{first[0]}"', f'"{second[0]}"',
    }  # fmt: skip
    for wrong in ("null", "''", "'user.*'", "'*'"):
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="none that can be published"):
            conn.execute(f"select pgqueue.publish({wrong})")
