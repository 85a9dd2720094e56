"""Loops over events in a program: the place moves when the loop asks for more, and stays at whatever else happens."""

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from pgqueue import App, ConfigError, InvalidOption
from pgqueue.events.loop import Events
from tests.answers import one_row
from tests.conftest import Worker, eventually


def publish(app: App, *numbers: int, type: str = "order.paid", **more: Any) -> list[str]:
    return app.publish_many([{"type": type, "payload": number, **more} for number in numbers])


def numbers(events: Events) -> list[Any]:
    return [event.payload for event in events]


def loop(app: App, *types: str, **options: Any) -> "contextlib.closing[Generator[Events, None, None]]":
    """A loop by hand: the next page acknowledges the one before."""
    made: Any = iter(app.subscribe(*(types or ("order.*",)), **{"name": "search", "start": "begin", **options}))
    return contextlib.closing(made)


class Beside:
    """A loop in a thread, for as long as the app is open."""

    def __init__(self, app: App, **options: Any) -> None:
        self.got: list[Any] = []
        self.keys: list[Any] = []
        self._subscription = app.subscribe("order.*", **{"name": "search", "batch": 1, **options})
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        for events in self._subscription:
            self.got += numbers(events)
            self.keys += [event.key for event in events]


COUNTED = "number - (extract(epoch from created_at) * 1000000)::bigint"  # events that the place has passed
PLACES = "pgqueue.place join pgqueue.subscription on name = subscription"


def place(conn: psycopg.Connection, lane: int = 0) -> Any:
    return one_row(conn, f"select tick, seq, {COUNTED}, held_by is not null from {PLACES} where lane = %s", [lane])


def test_a_page_comes_again_unless_the_loop_asked_for_more(app: App) -> None:
    publish(app, 1, 2, 3, key="a", headers={"trace": "x"})
    publish(app, 9, type="user.new")
    with loop(app, batch=2) as events:
        (first, second) = next(events)
        assert (first.payload, first.key, first.headers, first.type) == (1, "a", {"trace": "x"}, "order.paid")
        assert isinstance(first.at, datetime) and second.payload == 2
    with loop(app, batch=2) as events:
        assert numbers(next(events)) == [1, 2] and numbers(next(events)) == [3]
        publish(app, 4, 5)
        assert numbers(next(events)) == [4, 5]
    with pytest.raises(ZeroDivisionError):
        for page in app.subscribe("order.*", name="search"):
            assert numbers(page) == [4, 5]
            raise ZeroDivisionError
    with loop(app) as events:
        assert numbers(next(events)) == [4, 5]


def test_async_loops(app: App, conn: psycopg.Connection) -> None:
    async def main() -> list[Any]:
        got: list[Any] = []
        async for page in app.subscribe("order.*", name="search", batch=2, start="begin"):
            got += numbers(page)
            if got == [1, 2, 3]:
                await app.publish_async("order.paid", 4)
            if got[-1] == 4:
                break
        return got

    publish(app, 1, 2, 3)
    assert asyncio.run(main()) == [1, 2, 3, 4]
    eventually(lambda: place(conn)[3] is False, what="the loop leaves its lane")
    with loop(app) as events:
        assert numbers(next(events)) == [4]


def test_where_a_new_one_begins(app: App, conn: psycopg.Connection) -> None:
    with loop(app, name="tick") as events:  # a tick in their midst
        publish(app, 1)
        assert numbers(next(events)) == [1]
        ids = publish(app, 2, 3)
        assert numbers(next(events)) == [2, 3]
    conn.execute("update pgqueue.event set at = at - interval '1 hour' where payload = '1'")
    publish(app, 4)
    at = one_row(conn, "select at from pgqueue.event where payload = '3'")[0]
    for start, wanted in (("begin", [1, 2, 3, 4]), (ids[0], [2, 3, 4]), (ids[1], [3, 4]), (at, [3, 4])):
        with loop(app, name=f"from {start}", start=start) as events:
            assert numbers(next(events)) == wanted
    with loop(app, name="tick", start="begin") as events:  # it is not new
        assert numbers(next(events)) == [2, 3, 4]
    late = Beside(app, name="late", start="now"), Beside(app, name="later", start=datetime.now(UTC))
    eventually(lambda: conn.execute("select from pgqueue.place").rowcount == 7, what="both subscribed")
    publish(app, 5)
    eventually(lambda: [each.got for each in late] == [[5], [5]], what="the new event and no other")
    app.close()


def test_bad_input_is_refused_before_anything_is_written(app: App, conn: psycopg.Connection) -> None:
    wrong: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
        ((), {}, "at least one type"),
        (("a.*b",), {}, "none can be"),
        (("a",), {"name": ""}, "must not be empty"),
        (("a",), {"batch": 0}, "batch=0 is out of range"),
        (("a",), {"lanes": 257}, "lanes=257 is out of range"),
        (("a",), {"start": "yesterday"}, "start='yesterday' is not understood"),
        (("a",), {"start": datetime(2026, 1, 1)}, "no time zone"),
    ]
    for types, options, told in wrong:
        with pytest.raises(InvalidOption, match=told):
            app.subscribe(*types, **{"name": "n", **options})
    with pytest.raises(InvalidOption, match="the id of no event"), loop(app, start="0" * 32) as events:
        next(events)
    assert conn.execute("select from pgqueue.subscription").rowcount == 0
    conn.execute("insert into pgqueue.subscription (name, mode, types) values ('search', 'job', '{a}')")
    conn.execute("insert into pgqueue.place (subscription, lane, tick) values ('search', 0, 1)")
    with pytest.raises(ConfigError, match="of the kind 'job', not 'pull'"), loop(app) as events:
        next(events)


def test_one_waits_for_the_lease_of_the_other(app: App, conn: psycopg.Connection) -> None:
    publish(app, 1, 2)
    with loop(app, batch=1) as first:
        assert numbers(next(first)) == [1]
        second = Beside(app)
        eventually(
            lambda: conn.execute("select from pgqueue.event_reader where asleep").rowcount == 1, what="it sleeps"
        )
        assert second.got == [] and numbers(next(first)) == [2]
    eventually(lambda: second.got == [2], what="the second one goes on where the first one left")
    app.close()
    second.thread.join()


def test_a_lease_that_ran_out_is_taken_over_and_its_reader_fenced(app: App, conn: psycopg.Connection) -> None:
    publish(app, 1, 2)
    with loop(app, batch=1) as first:
        assert numbers(next(first)) == [1]
        conn.execute("update pgqueue.place set held_until = now() - interval '1 ms'")
        with loop(app, batch=1) as second:
            assert numbers(next(second)) == [1] and numbers(next(second)) == [2]
            before = place(conn)
            conn.execute("update pgqueue.place set held_until = now() - interval '1 ms'")
            assert numbers(next(first)) == [
                2
            ]  # its own page of 1 moved nothing: it takes the lane where the other one stands
            assert place(conn) == before


@pytest.mark.parametrize("lanes", [1, 4])
def test_each_key_stays_in_order_in_several_loops(app: App, conn: psycopg.Connection, lanes: int) -> None:
    loops = [Beside(app, lanes=lanes, batch=3, start="begin") for _ in range(3)]
    for number in range(60):
        app.publish("order.paid", number, key=f"k{number % 7}")
    eventually(lambda: sum(len(each.got) for each in loops) >= 60, what="all events")
    eventually(lambda: one_row(conn, f"select sum({COUNTED}) from {PLACES}") == (60,), what="all moved")
    app.close()
    assert sorted(number for each in loops for number in each.got) == list(range(60))
    for each in loops:
        for key in set(each.keys):
            own = [number for number, its in zip(each.got, each.keys, strict=True) if its == key]
            assert own == sorted(own)


def test_other_lanes_lose_nothing(app: App, conn: psycopg.Connection) -> None:
    for number in range(20):
        app.publish("order.paid", number, key=str(number))
    with loop(app, lanes=4, batch=3) as events:
        got = numbers(next(events)) + numbers(next(events))
    for lanes in (2, 3):
        with loop(app, lanes=lanes) as events:
            got += numbers(next(events))
    (taken,) = one_row(conn, f"select array_agg({COUNTED} order by lane) from {PLACES}")
    assert len(taken) == 3 and min(taken) > 0
    with loop(app) as events:
        got += numbers(next(events))
    assert set(got) == set(range(20))


def test_an_idle_loop_writes_nothing_and_close_ends_it(app: App, conn: psycopg.Connection) -> None:
    idle = Beside(app, start="begin")
    publish(app, 1)
    eventually(lambda: idle.got == [1], what="the event")
    asleep = "select from pgqueue.event_reader where asleep"
    eventually(lambda: conn.execute(asleep).rowcount == 1, what="it sleeps")
    seen = conn.execute("select xmin, * from pgqueue.place").fetchall()
    before = conn.execute("select count(*) from pgqueue.tick").fetchone()
    conn.execute("select pg_notify('pgqueue_events', '')")
    publish(app, 2)
    eventually(lambda: idle.got == [1, 2], what="it was woken")
    eventually(lambda: conn.execute("select xmin, * from pgqueue.place").fetchall() != seen, what="it moved")
    assert conn.execute("select count(*) from pgqueue.tick").fetchone() != before
    app.close()
    idle.thread.join(5)
    assert not idle.thread.is_alive() and conn.execute(asleep).rowcount == 0


def test_a_lost_connection_is_opened_again(app: App, conn: psycopg.Connection) -> None:
    publish(app, 1, 2, 3)
    cut = (
        "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'pgqueue events search'"
        " and datname = current_database()"
    )
    with loop(app, batch=1) as events:
        assert numbers(next(events)) == [1]
        assert one_row(conn, cut) == (1,)
        assert numbers(next(events)) == [2]
        waiting = threading.Thread(target=lambda: [next(events), next(events)])
        waiting.start()
        eventually(
            lambda: conn.execute("select from pgqueue.event_reader where asleep").rowcount == 1, what="it sleeps"
        )
        assert one_row(conn, cut) == (1,)
        publish(app, 4)
        waiting.join(20)
        assert not waiting.is_alive()
        assert place(conn)[2] == 3


def test_a_loop_that_is_killed_in_the_midst_of_a_page_is_taken_over(
    start_worker: Callable[..., Worker], app: App, conn: psycopg.Connection
) -> None:
    """Nothing is lost, its page comes again and no other, and each key has its order."""
    conn.execute("create schema shop; create table shop.got (nth serial, pid int, number int, key text)")
    for number in range(20):
        app.publish("order.paid", number, key=f"k{number % 3}")

    def loop(stays_at: int) -> Worker:
        program = [sys.executable, "-m", "tests.loop_program"]
        return start_worker(command=program, env={"TEST_STAYS_AT": str(stays_at)})

    got = "select array_agg(number order by nth) from shop.got where pid = %s"
    first = loop(stays_at=6)
    eventually(lambda: one_row(conn, got, [first.process.pid])[0] == [*range(7)], what="it is in the midst of a page")
    first.process.kill()
    first.wait()
    assert place(conn)[2:] == (4, True)  # of the page before
    conn.execute("update pgqueue.place set held_until = now() - interval '1 ms'")
    second = loop(stays_at=-1)
    eventually(lambda: place(conn)[2] == 20, what="the other one is through")
    assert one_row(conn, got, [second.process.pid])[0] == [*range(4, 20)]
    second.process.kill()


def test_types_are_taken_as_they_are_written(app: App) -> None:
    for number, type in enumerate(("a_b.c", "axb.c", "a%", "abc", "user.new", "userx.new", "a\\b", "ab")):
        app.publish(type, number)
    for types, wanted in (("a_b.*", [0]), ("a%", [2]), ("user.*", [4]), ("a\\b", [6]), ("*", list(range(8)))):
        with loop(app, types, name=types) as events:
            assert numbers(next(events)) == wanted


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_large_window_is_read_in_pieces(
    app: App, conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, lanes: int
) -> None:
    monkeypatch.setattr("pgqueue.events.scroll.FIRST_READ", 7)
    monkeypatch.setattr("pgqueue.events.scroll.PIECE_EVENTS", 10)
    monkeypatch.setattr("pgqueue.events.scroll.PIECE_BYTES", 12)  # a few payloads
    reads: list[object] = []
    once = app.queries.page

    def page(*args: Any, **more: Any) -> Any:
        reads.append(more["until"])
        return once(*args, **more)

    monkeypatch.setattr(app.queries, "page", page)
    app.publish_many([{"type": "order.paid" if n % 3 else "x", "payload": n, "key": str(n)} for n in range(90)])
    got: list[Any] = []
    with loop(app, batch=4, lanes=lanes) as events:
        while len(got) < 60:
            given = numbers(next(events))
            assert given == sorted(given)
            got += given
    assert sorted(got) == [n for n in range(90) if n % 3] and (lanes > 1 or got == sorted(got))
    assert len(set(reads)) > 5  # by cuts
