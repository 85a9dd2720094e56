"""Nothing is lost, doubled or out of order in its key, whatever publishers do: windows between two snapshots."""

import json
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest

from pgqueue import App, db
from pgqueue.events import dispatch, scroll
from pgqueue.events.dispatch import Round, dispatch_round
from pgqueue.events.subscription import Subscription, declare
from pgqueue.queries import events
from tests.conftest import eventually
from tests.events.publishers import Hostile, Naive


def subscribe(app: App, *names: str) -> None:
    with db.connect(app.dsn) as conn, conn.transaction():
        made = [Subscription(name=name, mode="job", types=["t"], task=name) for name in names]
        db.run(conn, declare(app.queries, *made))


@contextmanager
def dispatchers(app: App, *, several: int, fails: float = 0.1) -> Iterator[None]:
    """So many at work, of whose rounds some do not commit."""
    over, errors = threading.Event(), list[BaseException]()

    def run(seed: int) -> None:
        chance = random.Random(seed)
        try:
            with db.connect(app.dsn) as conn:
                while not over.is_set():
                    dispatch_once(app, conn, ends="rollback" if chance.random() < fails else "commit")
                    time.sleep(0.003)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(several)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert errors == []


def dispatch_once(app: App, conn: db.Connection, *, ends: str = "commit") -> Round:
    """One round, as a dispatcher's; or one that does not commit."""
    with conn.transaction(force_rollback=ends == "rollback"):
        return db.run(conn, dispatch_round(app.queries))


def drain(app: App) -> int:
    """Dispatch until nothing is left; how many events."""
    count = 0
    with db.connect(app.dsn) as conn:
        while True:
            done = dispatch_once(app, conn)
            count += done.events
            if not (done.events or done.more or done.busy):
                return count


@pytest.mark.parametrize(
    ("page", "few"), [(3, 64), (20, 10**9), (500, 0)], ids=["3", "20, always of few", "500, never"]
)
def test_nothing_is_lost_or_doubled_and_each_key_has_its_order(
    app: App, conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, page: int, few: int
) -> None:
    """few: of how many transactions a window is read along the index of each, where it has more than a page."""
    monkeypatch.setattr(events, "FEW", few)
    monkeypatch.setattr(dispatch, "PAGE", 2 * page)
    monkeypatch.setattr(dispatch, "PAGE_LEAST", 1)
    subscribe(app, "one", "two")
    hostile, naive = Hostile(app, seconds=5), Naive()
    with dispatchers(app, several=2):
        with hostile.at_work():
            while not hostile.over:
                naive.look(conn)
                time.sleep(0.003)
    naive.look(conn)
    drain(app)
    made: dict[str, list[tuple[str, int, float]]] = {"one": [], "two": []}
    for task, args in conn.execute("select task, args from pgqueue.job order by seq"):
        (event,) = json.loads(args)
        made[task].append((event["id"], event["payload"], 0))
    assert len(hostile.sent) > 100
    for told in made.values():
        assert sorted(id_ for id_, *_ in told) == sorted(
            hostile.sent
        )  # none lost, none doubled, none that was rolled back
        last: dict[str | None, int] = {}
        for id_, number, _ in told:
            key, _ = hostile.sent[id_]
            assert key is None or number == last.get(key, 0) + 1
            last[key] = number
    assert len(hostile.sent.keys() - naive.seen) > 10, "the test has no teeth"


def test_a_place_that_somebody_moved_meanwhile_undoes_the_round(app: App, conn: psycopg.Connection) -> None:
    subscribe(app, "one")
    app.publish("t", 1)
    with ThreadPoolExecutor(1) as pool, db.connect(app.dsn) as beside:
        with conn.transaction():
            conn.execute("update pgqueue.place set number = number + 1, seq = (select max(seq) from pgqueue.event)")
            round_ = pool.submit(drain, app)  # it has read the place, and cannot write it yet
            eventually(lambda: beside.execute(WAITS).rowcount, what="it waits")
        with pytest.raises(psycopg.errors.SerializationFailure, match="only 0 of 1 places are where they were"):
            round_.result()
    assert conn.execute("select count(*) from pgqueue.job").fetchone() == (0,)
    assert drain(app) == 0  # as it was told that the place is behind this event


WAITS = "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


def test_an_idle_look_writes_nothing(app: App, conn: psycopg.Connection) -> None:
    subscribe(app, "one", "two")
    app.publish("t", 1)
    assert drain(app) == 1
    conn.execute("create schema shop; create table shop.noise (n int)")  # another snapshot, and yet no event
    with db.connect(app.dsn) as own, own.transaction():
        done = db.run(own, dispatch_round(app.queries))
        assert done == Round()
        assert own.execute("select pg_current_xact_id_if_assigned() is null").fetchone() == (True,)


@pytest.mark.parametrize("few", [0, 64])
def test_both_ways_through_a_window_find_the_same(app: App, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    """Several transactions of which two took turns and one was rolled back, page by page."""
    monkeypatch.setattr(events, "FEW", few)
    subscribe(app, "one")
    numbers = iter(range(1000))
    with db.connect(app.dsn) as own, psycopg.connect(app.dsn) as first, psycopg.connect(app.dsn) as second:
        (place,) = db.run(own, app.queries.places(subscription="one", reader="01a208e7-51ed-7198-a687-0270704ff6cf"))
        begin = scroll.Scroll(place)
        app.publish("t", -1, conn=first)  # under way in the first snapshot
        db.run(own, scroll.make_tick(app.queries, after=begin.tick))
        db.run(own, begin.fetch(app.queries, 10))
        assert not begin.has_some
        with psycopg.connect(app.dsn) as lost:
            for _ in range(20):
                for conn in (first, second, lost):
                    app.publish("t", next(numbers), conn=conn)
                app.publish("other", 0)
            lost.rollback()
        first.commit()
        second.commit()
        db.run(own, scroll.make_tick(app.queries, after=begin.tick))
        found: list[int] = []
        while db.run(own, begin.fetch(app.queries, 7)) is not None and begin.has_some:
            found += [int(each.row.payload) for each in begin.give(7)]
    assert found == [-1, *(number for number in range(60) if number % 3 != 2)]
