"""What an event costs: statements, rows, WAL, and blocks in a log of a million."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import psycopg
import pytest

from pgqueue import App, db
from pgqueue.events.scroll import make_tick
from tests.answers import one_value
from tests.conftest import Worker, eventually
from tests.events.test_windows import dispatch_once, drain, subscribe
from tests.servers import shop_server
from tests.test_costs import Counter

PAYLOAD = {"id": 123456, "email": "somebody@example.org", "plan": "free", "n": 123456789, "abcd": 123456789}  # 89 bytes


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server of this module's own that counts, with nobody else on it."""
    with shop_server(
        extension="pg_stat_statements", shared_preload_libraries="pg_stat_statements", autovacuum="off"
    ) as cluster:  # fmt: skip
        yield cluster.dsn("shop")


@pytest.fixture
def dsn(server: str) -> str:
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute("truncate pgqueue.event, pgqueue.tick, pgqueue.subscription, pgqueue.place, pgqueue.job")
    return server


def wal(conn: psycopg.Connection) -> int:
    ((bytes_,),) = conn.execute("select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint")
    return int(bytes_)


def test_a_publish_is_one_statement_and_340_bytes_of_wal(app: App, conn: psycopg.Connection) -> None:
    app.publish("user.created", PAYLOAD, key="user:1")  # looks at the schema
    app.close()
    counter = Counter(conn, inserted=0)
    for number in range(500):
        app.publish("user.created", PAYLOAD, key=f"user:{number}")
    before = wal(conn)
    for number in range(500):
        app.publish("user.created", PAYLOAD, key=f"user:{number}")
    each = (wal(conn) - before) / 500
    app.close()
    assert each <= 340
    ours = {text: calls for text, calls in counter.statements().items() if calls >= 10}
    assert list(ours.values()) == [1000], ours


def test_a_plain_job_touches_no_table_of_events(app: App, conn: psycopg.Connection) -> None:
    app.enqueue("t")
    touched = (
        "select coalesce(sum(seq_scan + coalesce(idx_scan, 0) + n_tup_ins + n_tup_upd), 0) from pg_stat_user_tables "
        "where relname ~ '^(event|tick|place|subscription)'"
    )
    conn.execute("select pg_stat_reset()")
    for _ in range(20):
        app.enqueue("t")
    app.close()
    assert conn.execute(touched).fetchone() == (0,)


IDLE_S = 20.0  # the longest pause between two looks at the log is 15 s
EDGES = 4  # kinds of statements in it, each of which may fall into the span once more than its share; 18 were seen
LOOKS = "select coalesce(sum(calls), 0)::integer from pg_stat_statements where query like 'with marked as%'"


@pytest.mark.long
def test_ten_subscriptions_without_events_cost_an_idle_worker_no_statement_a_second(
    app: App, conn: psycopg.Connection, start_worker: Callable[..., Worker]
) -> None:
    for number in range(10):
        subscribe(app, f"tests.event_tasks.{number}")  # one by one: each has a place of its own
        app.publish("of no interest")
    start_worker("-c", "1", app="tests.event_tasks").ready()
    eventually(lambda: conn.execute("select from pgqueue.event_reader where asleep").rowcount, what="it sleeps")
    conn.execute("select pg_stat_statements_reset()")
    eventually(lambda: one_value(conn, LOOKS) >= 4, what="it looks less and less often")
    counter = Counter(conn, inserted=0)
    time.sleep(IDLE_S)
    calls = counter.statements()
    assert sum(calls.values()) < IDLE_S + EDGES, calls
    assert one_value(conn, LOOKS) >= 1  # it still looks, in case that no bell reaches it
    assert one_value(conn, "select count(distinct tick) from pgqueue.place") == 1


def blocks_of(conn: db.Connection, sql: str, params: Mapping[str, Any]) -> int:
    """Of the plan that is in force."""
    ((told,),) = conn.execute(("explain (analyze, buffers, format json) " + sql).encode(), params, prepare=False)
    plan = told[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def blocks_of_pages(app: App) -> Iterator[int]:
    """Of 500 events in the midst of a large window: for a reader, and for the dispatcher, each as it plans."""
    with db.connect(app.dsn) as own:
        db.run(own, db.plan_steadily(own, app.queries))
        (place,) = db.run(own, app.queries.places(subscription="one", reader="01a208e7-51ed-7198-a687-0270704ff6cf"))
        place = place._replace(types=["old"])
        db.run(own, make_tick(app.queries, after=place.tick))
        (window,) = db.run(own, app.queries.next_tick(place.tick))
        (seq,) = own.execute("select min(seq) + 500000 from pgqueue.event").fetchone() or (0,)
        page = app.queries.page(window, seq=seq, until=None, most=500, size=10**9, place=place)
        yield blocks_of(own, page.sql, page.params)
        yield blocks_of(own, PAGE, {**window._asdict(), "seq": seq})


PAGE = (
    "select * from pgqueue.event_page("
    "%(since)s::pg_snapshot, %(upto)s::pg_snapshot, %(era)s::smallint, %(seq)s, '-infinity', 500, 64, false)"
)


@pytest.mark.long
def test_a_look_at_the_head_of_a_long_log_reads_few_blocks(app: App, conn: psycopg.Connection) -> None:
    subscribe(app, "one")
    conn.execute(
        "insert into pgqueue.event (id, type) select gen_random_uuid(), 'old' from generate_series(1, 1000000)"
    )
    assert max(blocks_of_pages(app)) < 100  # also before the server knows how many there are
    conn.execute("vacuum analyze pgqueue.event")
    assert max(blocks_of_pages(app)) < 100  # of 500 events: 40 of them are the events' own
    assert drain(app) == 1_000_000
    conn.execute("vacuum analyze")
    with db.connect(app.dsn) as own:
        db.run(own, db.plan_steadily(own, app.queries))
        for number in range(20):
            app.publish("t", number)
            assert dispatch_once(app, own).jobs == 1
        app.publish("t", 20)
        (place,) = db.run(own, app.queries.places(subscription="one", reader="01a208e7-51ed-7198-a687-0270704ff6cf"))
        (window,) = db.run(own, app.queries.next_tick(place.tick))
        assert blocks_of(own, PAGE, {**window._asdict(), "seq": place.seq}) < 50
