"""Following the log: every follower gets all that is published from its place on, once and in order, whatever happens meanwhile."""

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pgqueue import App, DatabaseUnavailable, Gap, Listening
from pgqueue.events import crowd, inbox, tail
from pgqueue.events.event import Event
from pgqueue.events.follow import Follower
from pgqueue.events.position import Position, read_position
from tests.answers import one_row
from tests.conftest import eventually

CONNECTIONS = """select count(*) from pg_stat_activity
where application_name = 'pgqueue follow' and datname = current_database()"""


def publish(app: App, *numbers: int, type: str = "order.paid") -> None:
    app.publish_many([{"type": type, "payload": number} for number in numbers])


def take(follower: Follower, count: int) -> list[Any]:
    """The payloads of the next events, and the reasons of gaps."""
    return [item.payload if isinstance(item, Event) else item for item in itertools.islice(follower, count)]


def began(app: App, *types: str, **more: Any) -> Follower:
    follower = app.follow(*(types or ("order.*",)), timeout=60, **more)
    assert next(follower) == Listening()
    return follower


def test_it_gets_what_is_published_from_now_on(app: App) -> None:
    publish(app, 1)
    with began(app) as follower, began(app, "user.new", "order.paid") as other:
        publish(app, 2, 3)
        publish(app, 4, type="user.new")
        publish(app, 5, type="order")
        publish(app, 6)
        assert take(follower, 3) == [2, 3, 6]
        assert take(other, 4) == [2, 3, 4, 6]


def test_it_reads_on_from_any_position(app: App, conn: psycopg.Connection) -> None:
    publish(app, 0)
    with began(app) as follower:
        positions = [follower.position]
        publish(app, 1, 2)
        publish(app, 3)
        for number in (1, 2, 3):
            assert take(follower, 1) == [number]
            positions.append(follower.position)
    publish(app, 4)
    for done, position in enumerate(positions):
        assert position is not None
        with began(app, after=position) as follower:
            assert take(follower, 4 - done) == list(range(done + 1, 5))


def test_what_commits_late_comes_to_both_who_stayed_and_who_comes_back(
    app: App, conn: psycopg.Connection, dsn: str
) -> None:
    with psycopg.connect(dsn) as late, began(app) as stayed:
        late.execute("select pgqueue.publish('order.paid', '1')")
        publish(app, 2)
        assert take(stayed, 1) == [2]
        position = stayed.position
        assert position is not None
        late.commit()
        publish(app, 3)
        assert take(stayed, 2) == [1, 3]
        with began(app, after=position) as back:
            assert take(back, 2) == [1, 3]


def test_a_quiet_follower_moves_on(app: App) -> None:
    with began(app, "order.*") as follower, began(app, "*") as other:
        before = follower.position
        publish(app, 1, type="user.new")
        assert take(other, 1) == [1]
        eventually(lambda: follower.wait(0) or follower.position != before, what="the position passes others' events")
        position = follower.position
    publish(app, 2)
    with began(app, after=position) as follower:
        assert take(follower, 1) == [2]


def test_one_connection_for_all(app: App, conn: psycopg.Connection) -> None:
    followers = [began(app) for _ in range(50)]
    publish(app, 1)
    assert [take(follower, 1) for follower in followers] == [[1]] * 50
    eventually(lambda: one_row(conn, CONNECTIONS) == (1,), what="it is the only one")
    for follower in followers:
        follower.close()


async def all_of(app: App, count: int) -> list[Any]:
    got: list[Any] = []
    async with app.follow("order.*", timeout=60) as follower:
        async for item in follower:
            if isinstance(item, Listening):
                await app.publish_async("order.paid", 1)
                await app.publish_async("order.paid", 2)
            else:
                got.append(item.payload if isinstance(item, Event) else item)
            if len(got) == count:
                return got
    return got


def test_async_as_well(app: App) -> None:
    assert asyncio.run(all_of(app, 2)) == [1, 2]


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "INBOX_EVENTS", 10)
    monkeypatch.setattr(tail, "PAGE_EVENTS", 7)


@pytest.mark.usefixtures("narrow")
def test_who_does_not_read_loses_nothing_and_holds_up_nobody(app: App) -> None:
    with began(app) as slow, began(app) as quick:
        for start in range(0, 100, 20):
            publish(app, *range(start, start + 20))
            assert take(quick, 20) == list(range(start, start + 20))
        assert take(slow, 100) == list(range(100))
        publish(app, 100)
        assert take(slow, 1) == take(quick, 1) == [100]


@pytest.mark.usefixtures("narrow")
def test_who_missed_too_much_is_told(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "MOST_MISSED", 30)
    with began(app) as follower:
        position = follower.position
        publish(app, *range(30))
    with began(app, after=position) as back:
        assert take(back, 30) == list(range(30))
    publish(app, 30)
    with began(app, after=position) as late:
        assert take(late, 1) == [Gap(None, "more than 30 events were missed")]
        publish(app, 31)
        assert take(late, 1) == [31]


@pytest.mark.parametrize(
    "text",
    ["x", "1", "'; drop", "1.0.5", "9.0.5-0", "1.0.ffffffffff-0", "1.0.5-3-2-1", "1" * 30_000, "1.0.0-0"],
)
def test_a_position_of_another_log_is_told(app: App, text: str) -> None:
    with began(app, after=text) as follower:
        (gap,) = take(follower, 1)
        assert isinstance(gap, Gap)
        publish(app, 1)
        assert take(follower, 1) == [1]


def test_a_position_that_is_not_kept_any_longer_is_told(app: App, conn: psycopg.Connection) -> None:
    with began(app) as follower:
        assert follower.position is not None
        position = read_position(follower.position)
    old = position._replace(at=position.at - 10 * 86_400)
    with began(app, after=str(old)) as follower:  # the log is younger, so nothing was dropped
        publish(app, 1)
        assert take(follower, 1) == [1]
    conn.execute("update pgqueue.event_era set began_at = began_at - interval '20 days'")
    try:
        with began(app, after=str(old)) as follower:
            assert take(follower, 1) == [Gap(None, "some of the events since then are not kept any longer")]
    finally:
        conn.execute("update pgqueue.event_era set began_at = began_at + interval '20 days'")


def test_a_lost_connection_loses_nothing(app: App, conn: psycopg.Connection) -> None:
    with began(app) as follower:
        for number in range(5):
            publish(app, 2 * number)
            conn.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name = 'pgqueue follow' and datname = current_database()"
            )
            publish(app, 2 * number + 1)
        assert take(follower, 10) == list(range(10))


def test_no_server_at_the_beginning_is_said_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgqueue.db.ANSWER_S", 0.0)
    app = App("host=127.0.0.1 port=1 user=nobody dbname=none", pool_timeout_s=0.2)
    with pytest.raises(DatabaseUnavailable, match="cannot connect"):
        next(app.follow("order.*"))
    app.close()


def test_close_ends_every_loop(app: App, conn: psycopg.Connection) -> None:
    follower = began(app)
    thread = threading.Thread(target=lambda: list(follower))
    thread.start()
    app.close()
    thread.join(30)
    assert not thread.is_alive() and follower.closed
    with began(app) as again:  # the app opens new ones when it is used again
        publish(app, 1)
        assert take(again, 1) == [1]


def test_an_idle_follower_writes_only_its_mark(
    app: App, conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "UNFOLLOWED_S", 0.0)
    with began(app):
        eventually(
            lambda: one_row(conn, "select count(*) from pgqueue.event_reader where asleep") == (1,), what="it is marked"
        )
        assert one_row(conn, "select count(*) from pgqueue.tick, pgqueue.place") == (0,)
    eventually(
        lambda: one_row(conn, "select count(*) from pgqueue.event_reader where asleep") == (0,), what="the mark goes"
    )


def test_patterns_match_as_the_database_says(conn: psycopg.Connection) -> None:
    patterns = ["a", "a.*", "a.b", "a.b.*", "b.*", "*", "aa.*", "_.*"]
    for type_ in ["a", "a.b", "a.b.c", "b", "aa.x", "x.y", "a."]:
        ours = {pattern for pattern in patterns if pattern in set(crowd._patterns_of(type_))}
        theirs = {
            pattern for pattern in patterns
            if one_row(conn, "select pgqueue.event_matches(%s, array[%s])", [type_, pattern]) == (True,)
        }  # fmt: skip
        assert ours == theirs


@pytest.mark.parametrize("snapshot", ["1:1:", "700:712:700,705,711", "1:9223372036854775807:1"])
def test_a_position_travels_as_text(snapshot: str) -> None:
    for position in Position(1, 1_800_000_000, snapshot, snapshot), Position(2, 5, "1:2:1", snapshot, 77):
        assert read_position(str(position)) == position


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("_", range(2))
def test_hostile_publishers_and_followers_that_come_back(app: App, dsn: str, _: int) -> None:
    """Beside writers that hold their transactions for a while and roll some back, each event comes once to each follower, whether
    it stays, is slow, or comes back at every turn with the position that it has."""
    stop, done = threading.Event(), threading.Event()

    def write(seed: int) -> None:
        with psycopg.connect(dsn) as own:
            for number in itertools.count(seed, 4):
                if stop.is_set():
                    return
                own.execute("select pgqueue.publish('order.paid', %s::text::jsonb)", [number])
                time.sleep((number * 7919 % 13) / 1000)
                own.rollback() if number % 10 == 3 else own.commit()

    def comes_back() -> Iterator[Any]:
        position = None
        while True:
            with app.follow("order.*", after=position, timeout=0.5 if done.is_set() else 60) as follower:
                for item in itertools.islice(follower, 4):
                    if isinstance(item, Event):
                        yield item.payload
                    position = follower.position
                if follower.closed:
                    return

    def stays(pause_s: float) -> Iterator[Any]:
        with app.follow("order.*") as follower:
            for item in follower:
                if isinstance(item, Event):
                    yield item.payload
                    time.sleep(pause_s)

    got: list[list[Any]] = [[], [], []]

    def read(into: list[Any], events: Iterator[Any]) -> None:
        into.extend(itertools.takewhile(lambda payload: payload != "end", events))

    ways = [comes_back(), stays(0), stays(0.002)]
    first = began(app)
    readers = [threading.Thread(target=read, args=pair) for pair in zip(got, ways, strict=True)]
    for thread in readers:
        thread.start()
    eventually(lambda: sum(inbox.told for inbox in app._follows.tail._crowd.everybody()) >= 4, what="all follow")
    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    for thread in writers:
        thread.start()
    seen = set(take(first, 200))
    stop.set()
    for thread in writers:
        thread.join()
    app.publish("order.paid", "end")
    for thread in readers:
        thread.join(60)
    first.close()
    with psycopg.connect(dsn) as own:
        rows = own.execute("select payload from pgqueue.event where payload <> '\"end\"'").fetchall()
    wanted = sorted(int(payload) for (payload,) in rows)
    assert len(wanted) >= 200 and seen <= set(wanted)
    for each in got:
        assert sorted(each) == wanted, "lost or doubled"


def test_told_to_end_between_two_turns_it_closes_its_connection(
    app: App, conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that listens and is read by nobody fills up, and then each drop of a database waits for it."""
    follower = began(app)
    tail = app._follows.tail
    thread = tail._thread
    assert thread is not None

    def turn() -> None:
        tail._closing = True  # as close does, right after a turn

    monkeypatch.setattr(tail, "_turn", turn)
    tail._line.wake()
    thread.join(20)
    there = "select from pg_stat_activity where application_name = 'pgqueue follow' and datname = current_database()"
    eventually(lambda: not conn.execute(there).rowcount, what="it is gone")
    follower.close()
