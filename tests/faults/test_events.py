"""The log of events under faults: a dispatcher that ends at any point of its round, a reader that stands still between two.

That relays and buses are killed and frozen is in tests/events/test_relays.py and tests/buses; that listeners lose their session
in test_channels.py; a migration while events flow in test_load.py.
"""

import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from benchmarks.chaos.cluster import Cluster
from benchmarks.chaos.proxy import Proxy
from pgqueue import App, db
from pgqueue.events.dispatch import Round, dispatch_round
from pgqueue.events.line import ReaderLine
from pgqueue.events.reader import Reader
from pgqueue.events.reader_thread import ReaderThread
from pgqueue.events.subscription import Subscription, declare
from pgqueue.queries import Statement
from tests.conftest import Worker, eventually

POINTS = ("insert on pgqueue.job", "insert on pgqueue.tick", "update on pgqueue.place")
SLEEPS = "select pid from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'"


@pytest.fixture
def stop_at(conn: psycopg.Connection) -> Callable[[str | None], None]:
    """Whoever comes to this point of a round of the dispatcher sleeps there."""
    conn.execute(
        "create function public.sleep() returns trigger language plpgsql as $$ begin perform pg_sleep(600); return null; end $$"
    )

    def stop(point: str | None) -> None:
        for each in POINTS:
            what, table = each.split(" on ")
            conn.execute(f"drop trigger if exists stop on {table}")
            if each == point:
                conn.execute(
                    f"create trigger stop after {what} on {table} referencing new table as written for each statement"
                    " execute function public.sleep()"
                )

    return stop


@pytest.mark.parametrize("end", ["its session is ended", "its statement is cancelled", "its answer is lost"])
def test_f61_a_dispatcher_that_ends_at_any_point_of_its_round(
    app: App, cluster: Cluster, proxy: Proxy, conn: psycopg.Connection, stop_at: Callable[[str | None], None], end: str
) -> None:
    """Its successor makes each job that it has not, and none twice, also where subscriptions stand at different places."""
    wanted: list[tuple[str, str]] = []

    def publish(*types: str) -> None:
        for type_ in types:
            event = app.publish(type_)
            wanted.extend((name, event) for name, each in subscriptions.items() if type_ in each.types)

    subscriptions = {
        name: Subscription(name=name, mode="job", types=types, task=name)
        for name, types in (("early", ["a", "b"]), ("late", ["b", "c"]))
    }
    with conn.transaction():
        db.run(conn, declare(app.queries, subscriptions["early"]))
    publish("a")
    wanted = [pair for pair in wanted if pair[0] == "early"]
    with conn.transaction():
        db.run(conn, declare(app.queries, subscriptions["late"]))
    made = "select task, args::json -> 0 ->> 'id' from pgqueue.job"
    for point in POINTS if end != "its answer is lost" else [None]:
        publish("a", "b", "c")
        before = sorted(conn.execute(made).fetchall())
        stop_at(point)
        if point is None:
            with db.connect(cluster.dsn("shop", port=proxy.port), name="dispatcher", silence_s=1.0) as own:
                proxy.lose("replies")
                with pytest.raises(db.DatabaseError):
                    db.run(own, dispatch_round(app.queries))
            proxy.heal()
            eventually(lambda: conn.execute(made).rowcount, what="it was committed")
            continue
        with ThreadPoolExecutor(1) as pool:
            ended = pool.submit(dispatch, app)
            eventually(lambda: conn.execute(SLEEPS).rowcount, what="it is there")
            how = "pg_terminate_backend" if end == "its session is ended" else "pg_cancel_backend"
            conn.execute(f"select {how}(pid) from ({SLEEPS}) as there")
            with pytest.raises(db.DatabaseError):
                ended.result()
        assert sorted(conn.execute(made).fetchall()) == before
    stop_at(None)
    while (done := dispatch(app)).events or done.more:
        pass
    assert sorted(conn.execute(made).fetchall()) == sorted(wanted)


def dispatch(app: App) -> Round:
    """A round of a dispatcher of its own."""
    with db.connect(app.dsn, name="dispatcher") as conn:
        return db.run(conn, dispatch_round(app.queries))


def test_f61_each_value_of_each_statement_of_a_dispatcher_may_be_refused(
    start_worker: Callable[..., Worker], app: App, conn: psycopg.Connection
) -> None:
    said: list[Statement[Any]]
    said = [app.queries.dispatch([], size=1, fewest=1), app.queries.mark_reader(reader="", asleep=True)]
    names = ("dispatch", "mark")
    wanted = {f"refused: {name}.{place}" for name, one in zip(names, said, strict=True) for place in one.params}
    worker = start_worker("-c", "1", app="tests.event_tasks", program="tests.faults.refusing").ready()
    events: list[str] = []
    made = "select args::json -> 0 ->> 'id' from pgqueue.jobs where task = 'tests.event_tasks.audit'"

    def none_is_left() -> bool:
        if conn.execute(made).rowcount >= len(events):  # so that it sleeps in between
            events.append(app.publish("user.created"))
        return wanted <= {*worker.lines}

    eventually(none_is_left, what="each was refused", within_s=120)
    eventually(lambda: conn.execute(made).rowcount >= len(events), what="a job of each event")
    assert sorted(id_ for (id_,) in conn.execute(made)) == sorted(events)
    assert worker.stop() == 0 and "Traceback" not in worker.output, worker.output


def test_f66_a_loop_that_stands_still_in_the_midst_of_a_tick(
    start_worker: Callable[..., Worker], cluster: Cluster, proxy: Proxy, dsn: str, app: App,
    conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Whoever makes ticks holds a lock that others wait for. A program that is frozen then, or cut off, must not keep it.

    A dispatcher cannot: it locks and unlocks in one statement.
    """
    monkeypatch.setattr("pgqueue.queries.events.STILL_S", 1)
    worker = start_worker("-c", "1", app="tests.event_tasks").ready()
    cut = _cut_off_once_it_locks(proxy)
    beyond = App(cluster.dsn("shop", port=proxy.port))
    thread = threading.Thread(target=_read, args=[beyond], daemon=True)
    app.subscribe("user.*", name="loop")
    thread.start()
    eventually(
        lambda: conn.execute("select from pgqueue.subscription where name = 'loop'").rowcount, what="it is there"
    )
    worker.process.send_signal(signal.SIGSTOP)  # or its dispatcher makes the tick, and the loop has none to make
    cut.set()
    first = app.publish("user.created", 1)
    holds = (
        "select from pg_stat_activity join pg_locks using (pid) where locktype = 'advisory' and state = 'idle in transaction'"
        " and granted"
    )
    eventually(lambda: proxy.torn, what="it is cut off")
    worker.process.send_signal(signal.SIGCONT)
    second = app.publish("user.created", 2)
    made = "select args::json -> 0 ->> 'id' from pgqueue.jobs where task = 'tests.event_tasks.audit'"
    eventually(lambda: {id_ for (id_,) in conn.execute(made)} >= {first, second}, what="their jobs")
    eventually(lambda: not conn.execute(holds).rowcount, what="nobody holds it")
    assert sorted(id_ for (id_,) in conn.execute(made)) == sorted([first, second])
    proxy.heal()
    beyond.close()
    thread.join(20)
    assert worker.stop() == 0


def _cut_off_once_it_locks(proxy: Proxy) -> threading.Event:
    """Once the event is set, the answer to a transaction's first statement, the lock of ticks, is lost, and all after it."""
    cut = threading.Event()
    begun = threading.Event()
    locking = threading.Event()

    def sent(data: bytes) -> bool:
        if begun.is_set():
            locking.set()
        elif cut.is_set() and b"BEGIN" in data:
            begun.set()
        return True

    def answered(kind: bytes, body: bytes) -> bool:
        if locking.is_set():
            proxy.cut()
        return True

    proxy.request, proxy.reply = sent, answered
    return cut


def _read(app: App) -> None:
    for _ in app.subscribe("user.*", name="loop"):
        pass


def test_a_page_that_was_read_ahead_is_there_although_the_database_is_away(
    app: App, cluster: Cluster, proxy: Proxy
) -> None:
    """As a relay reads on while its bus answers. What fails then is left to the next one who asks."""
    subscription = Subscription(name="relay", mode="relay", types=["t"], target="redis://somewhere/0")
    line = ReaderLine(cluster.dsn("shop", port=proxy.port), app.queries, schema="pgqueue", name="reader")
    reader = ReaderThread(Reader(line, app.queries, subscription))
    reader.declare().result(20)
    ids = app.publish_many([{"type": "t"}] * 10)
    first = reader.next(10).result(20)
    ids += app.publish_many([{"type": "t"}] * 10)
    reader.read_ahead(10).result(20)
    proxy.refuse()
    proxy.reset()
    ids += app.publish_many([{"type": "t"}] * 10)
    second = reader.next(10).result(20)
    reader.read_ahead(10).result(20)
    proxy.accept()
    assert reader.done(second).result(20)
    third = reader.next(10).result(20)
    assert [fetched.row.id for page in (first, second, third) for fetched in page.events] == ids
    reader.close()


def test_f61_the_server_is_killed_right_after_a_round(app: App, cluster: Cluster, conn: psycopg.Connection) -> None:
    """A round does not wait for the disk. Its jobs are lost together with the move of the place, or neither is; and one of which
    somebody has written since, as who claims it, is there."""
    with conn.transaction():
        db.run(conn, declare(app.queries, Subscription(name="all", mode="job", types=["t"], task="t")))
    conn.execute("alter system set wal_writer_delay = '10s'")  # which is how long the last commits may be lost
    conn.execute("select pg_reload_conf()")
    made = "select args::json -> 0 ->> 'id' from pgqueue.job order by 1"
    published, kept, lost = list[str](), set[str](), 0
    for number in range(8):
        published.append(app.publish("t"))
        while dispatch(app).events:
            pass
        if number % 2:
            with cluster.connect("shop") as other:
                other.execute("update pgqueue.job set progress = '1'")
                kept = {*published}
        cluster.kill()
        cluster.start()
        with cluster.connect("shop") as other:
            there = {id_ for (id_,) in other.execute(made)}
        assert kept <= there <= {*published}
        lost += len(published) - len(there)
    assert lost, "the test has no teeth"
    while dispatch(app).events:
        pass
    with cluster.connect("shop") as other:
        assert [id_ for (id_,) in other.execute(made)] == sorted(published)
