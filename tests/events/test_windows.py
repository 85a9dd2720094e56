"""Nothing is lost, doubled or out of order in its key, whatever publishers do: windows between two snapshots."""

import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from pgqueue import App, db
from pgqueue.events import dispatch
from pgqueue.events.dispatch import Moved, dispatch_round
from pgqueue.events.subscription import Subscription, declare
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
                    with conn.transaction():
                        done = db.run(conn, dispatch_round(app.queries))
                        if done.events and chance.random() < fails:
                            raise psycopg.Rollback
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


def drain(app: App) -> int:
    """Dispatch until nothing is left; how many events."""
    events = 0
    with db.connect(app.dsn) as conn:
        while True:
            with conn.transaction():
                done = db.run(conn, dispatch_round(app.queries))
            events += done.events
            if not (done.events or done.more or done.busy):
                return events


@pytest.mark.parametrize("page", [3, 20, 500])
def test_nothing_is_lost_or_doubled_and_each_key_has_its_order(
    app: App, conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
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
    for events in made.values():
        assert sorted(id_ for id_, *_ in events) == sorted(
            hostile.sent
        )  # none lost, none doubled, none that was rolled back
        last: dict[str | None, int] = {}
        for id_, number, _ in events:
            key, _ = hostile.sent[id_]
            assert key is None or number == last.get(key, 0) + 1
            last[key] = number
    assert len(hostile.sent.keys() - naive.seen) > 10, "the test has no teeth"


def test_a_place_that_somebody_moved_meanwhile_undoes_the_round(app: App, conn: psycopg.Connection) -> None:
    subscribe(app, "one")
    app.publish("t", 1)
    with db.connect(app.dsn) as own, pytest.raises(Moved), own.transaction():
        steps = dispatch_round(app.queries)
        answer = None
        while True:
            statement = steps.send(answer)  # type: ignore[arg-type]
            if "insert into" in statement.sql:
                conn.execute("update pgqueue.place set seq = (select max(seq) from pgqueue.event)")
            answer = db.run(own, statement)
    assert conn.execute("select count(*) from pgqueue.job").fetchone() == (0,)
    assert drain(app) == 0  # as it was told that the place is behind this event


def test_an_idle_look_writes_nothing(app: App, conn: psycopg.Connection) -> None:
    subscribe(app, "one", "two")
    app.publish("t", 1)
    assert drain(app) == 1
    ((before,),) = conn.execute("select pg_current_snapshot()::text")
    assert drain(app) == 0
    ((after,),) = conn.execute("select pg_current_snapshot()::text")
    assert before == after, "a transaction id was drawn"
