"""Events become jobs: one for each subscription that wants it, from the commit on, whatever dies in between."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from pgqueue import App
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
