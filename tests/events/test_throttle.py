"""No more jobs are made for a subscription that has many unfinished ones: its events wait, and it says why."""

from collections.abc import Callable

import psycopg
import pytest

from pgqueue import App
from pgqueue.events.throttle import MOST_UNFINISHED, RECOUNT_S, Throttle
from tests.answers import one_value
from tests.conftest import Worker, eventually
from tests.events.test_windows import subscribe

MADE = "select count(*) from pgqueue.job where task = 'one'"


def test_jobs_are_counted_only_where_there_may_be_many() -> None:
    throttle = Throttle()
    throttle.read(["a", "b"], 10, full=False)
    assert throttle.to_count(0) == []
    throttle.read(["b", "c"], 2000, full=True)
    assert throttle.to_count(0) == ["c"]  # the others are known to have few
    throttle.counted({"c": 400}, asked=["c"], now=0)
    for _ in range(4):
        throttle.read(["c"], 2000, full=True)
        assert throttle.to_count(0) == []
    throttle.read(["c"], 2000, full=True)
    assert throttle.to_count(0) == ["c"]
    assert throttle.counted({"c": MOST_UNFINISHED}, asked=["c"], now=0) == ["c"] and throttle.held == ["c"]
    assert throttle.look_in_s(0) == RECOUNT_S and throttle.to_count(0) == [] and throttle.to_count(RECOUNT_S) == ["c"]
    assert throttle.counted({"c": MOST_UNFINISHED}, asked=["c"], now=1) == []  # as before
    throttle.counted({"c": 9000}, asked=["c"], now=2)
    assert throttle.held == [] and throttle.look_in_s(2) is None
    assert throttle.counted({}, asked=["gone"], now=2) == []


def test_what_is_counted(app: App, conn: psycopg.Connection) -> None:
    subscribe(app, "one")
    conn.execute('update pgqueue.subscription set headers = \'{"webhook": "x"}\', priority = 1')
    job = "insert into pgqueue.job (id, task, state, priority, headers, worker) select gen_random_uuid(), "
    mine = '1, \'{"webhook": "x"}\''
    conn.execute(f"{job} 'one', 'queued', {mine}, null from generate_series(1, 3)")
    conn.execute(f"{job} 'one', 'scheduled', {mine}, null from generate_series(1, 5)")
    conn.execute(f"{job} 'one', 'running', {mine}, gen_random_uuid() from generate_series(1, 7)")
    conn.execute(f"{job} 'two', 'queued', {mine}, null from generate_series(1, 3)")
    conn.execute(f"{job} 'one', 'queued', 1, '{{\"webhook\": \"y\"}}', null from generate_series(1, 3)")
    assert app.run(app.queries.unfinished(["one", "none"], most=100)) == [("one", 15)]
    assert app.run(app.queries.unfinished(["one"], most=10)) == [("one", 10)]


@pytest.mark.long
def test_a_subscription_with_many_unfinished_jobs_waits(
    start_worker: Callable[..., Worker], conn: psycopg.Connection, app: App
) -> None:
    """Nobody has its task, so they pile up; another subscription gets its events meanwhile."""
    subscribe(app, "one", "two")
    app.publish_many({"type": "t", "payload": n} for n in range(MOST_UNFINISHED + 9000))
    start_worker("-c", "1").ready()
    eventually(lambda: one_value(conn, MADE) >= MOST_UNFINISHED, what="many jobs are made")
    eventually(lambda: [s.why for s in app.subscription_states() if "unfinished" in s.why], what="it says why")
    conn.execute("delete from pgqueue.job where task = 'two'")
    count = "select count(*) from pgqueue.job where task = 'two'"
    eventually(lambda: one_value(conn, count) > 0, what="the other one continues")
    made = one_value(conn, MADE)
    assert MOST_UNFINISHED <= made <= MOST_UNFINISHED + 3000
    app.publish("t", 0)
    assert one_value(conn, MADE) == made
    conn.execute("delete from pgqueue.job where task = 'one'")
    eventually(lambda: one_value(conn, MADE) >= MOST_UNFINISHED + 9001 - made, what="the rest")
    eventually(lambda: [s.why for s in app.subscription_states()] == ["", ""], what="nothing is left to say")
