"""app.listen: who hears what, when, and how a loop ends."""

import asyncio
import gc
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from pgqueue import App, DatabaseUnavailable, Gap, InvalidOption, Listening, Notification, db
from pgqueue.channels import audience, receiver
from pgqueue.channels.listener import Listener
from pgqueue.channels.mailbox import MAILBOX_ITEMS
from tests.answers import one_value
from tests.channels.ways import Loop
from tests.conftest import eventually
from tests.shell import ROOT

SESSIONS = (
    "select count(*) from pg_stat_activity where application_name = 'pgqueue channels' and datname = current_database()"
)


def listened(app: App) -> frozenset[str]:
    """The channels that the session of this process listens to, as the thread believes."""
    return app._database.receiver._audience.heard


# -- what is heard --


def test_a_loop_hears_what_is_sent_from_its_first_item_on(app: App) -> None:
    app.notify("orders", "before")
    items = []
    for item in app.listen("orders", timeout=0.5):
        items.append(item)
        if item == Listening():
            app.notify("orders", {"id": 7})
            app.notify("others", 1)
    assert items == [Listening(), Notification("orders", '{"id":7}')]
    assert isinstance(items[1], Notification) and items[1].json == {"id": 7}


def test_an_async_loop_too(app: App) -> None:
    async def scenario() -> list[Any]:
        items = []
        async for item in app.listen("orders", "tenant:42", timeout=0.5):
            items.append(item)
            if item == Listening():
                await app.notify_async("tenant:42", "refresh")
                await app.notify_async("orders", None)
        return items

    assert asyncio.run(scenario()) == [
        Listening(), Notification("tenant:42", '"refresh"'), Notification("orders", "null"),
    ]  # fmt: skip


def test_what_other_programs_send_passes_as_it_is(app: App, conn: psycopg.Connection) -> None:
    texts = ["", "no json", '{"$pgqueue":"7"}', '{"$pgqueue":[]}', " 1"]
    with Loop(app, "orders") as loop:
        for text in texts:
            conn.execute("select pg_notify('orders', %s)", [text])
        eventually(lambda: len(loop.items) > len(texts), what="all came")
    assert [item.payload for item in loop.items[1:]] == texts
    with pytest.raises(ValueError, match=r"the payload of channel 'orders' is not JSON .*: read \.payload"):
        _ = loop.items[2].json


# -- 1: one connection for thousands --


def test_c1_two_thousand_channels_on_one_connection(app: App, conn: psycopg.Connection) -> None:
    count = 2_000
    heard: list[Any] = []
    listening: list[Any] = []

    async def tenant(number: int, ready: asyncio.Event, done: asyncio.Event) -> None:
        async for item in app.listen(f"tenant:{number}"):
            (listening if item == Listening() else heard).append((number, item))
            if len(listening) == count:
                ready.set()
            if len(heard) == count:
                done.set()

    async def scenario() -> float:
        ready, done = asyncio.Event(), asyncio.Event()
        tasks = [asyncio.create_task(tenant(number, ready, done)) for number in range(count)]
        await asyncio.wait_for(ready.wait(), 60)
        assert one_value(conn, SESSIONS) == 1
        with conn.transaction():
            for number in range(count):
                conn.execute("select pg_notify(%s, %s)", [f"tenant:{number}", str(number)])
        began = time.perf_counter()
        await asyncio.wait_for(done.wait(), 60)
        took_s = time.perf_counter() - began
        for task in tasks:
            task.cancel()
        return took_s

    assert asyncio.run(scenario()) < 2
    assert sorted(heard, key=lambda each: each[0]) == [
        (number, Notification(f"tenant:{number}", str(number))) for number in range(count)
    ]
    assert sum(thread.name == "pgqueue channels" for thread in threading.enumerate()) == 1


# -- 3: who is slow --


def bare(dsn: str, started: threading.Event, delays_ms: list[float], total: int) -> None:
    """Listen to the channel on a connection that shares nothing with the library but the machine."""
    with psycopg.connect(dsn, autocommit=True) as own:
        own.execute("listen busy")
        started.set()
        for heard in own.notifies(timeout=30, stop_after=total):
            delays_ms.append((time.perf_counter() - json.loads(heard.payload)[1]) * 1e3)


def test_c3_a_listener_that_stands_still_gets_one_gap_and_holds_up_nobody(app: App, dsn: str) -> None:
    """Whatever also holds up the bare connection, notification by notification, is the machine's, and not counted."""
    still = app.listen("busy")
    assert next(still) == Listening()
    delays_ms: list[float] = []
    bare_ms: list[float] = []

    async def other() -> None:
        async for item in app.listen("busy"):
            if isinstance(item, Notification):
                told: Any = item.json
                delays_ms.append((time.perf_counter() - told[1]) * 1e3)
                if told[0] == total - 1:
                    return
            else:
                started.set()

    total = MAILBOX_ITEMS + 500
    started, bare_started = threading.Event(), threading.Event()
    threads = [
        threading.Thread(target=lambda: asyncio.run(other())),
        threading.Thread(target=bare, args=(dsn, bare_started, bare_ms, total)),
    ]
    for thread in threads:
        thread.start()
    assert started.wait(30) and bare_started.wait(30)
    for number in range(total):
        app.notify("busy", [number, time.perf_counter()])
    for thread in threads:
        thread.join(30)
    assert len(delays_ms) == len(bare_ms) == total
    more_ms = sorted(heard - control for heard, control in zip(delays_ms, bare_ms, strict=True))
    assert more_ms[int(total * 0.99)] < 50, (more_ms[int(total * 0.99)], sorted(bare_ms)[int(total * 0.99)])
    taken = [next(still) for _ in range(MAILBOX_ITEMS + 1)]
    assert taken[-1] == Gap("busy", "too slow")
    assert [item.json[0] for item in taken[:-1]] == list(range(MAILBOX_ITEMS))  # type: ignore[union-attr, index]
    app.notify("busy", "again")
    assert next(still) == Notification("busy", '"again"')
    still.close()


# -- 6 and folding --


def test_c6_what_is_rolled_back_is_not_heard(app: App, dsn: str) -> None:
    with Loop(app, "orders") as loop, psycopg.connect(dsn) as own:
        app.notify("orders", "lost", conn=own)
        own.rollback()
        for value in (1, 2, 1):
            app.notify("orders", value, conn=own)
        with own.transaction(force_rollback=True):
            app.notify("orders", "inner", conn=own)
        app.notify("orders", 2, conn=own)
        assert loop.payloads == []
        own.commit()
        app.notify("orders", "end")
        assert loop.heard(3) == [1, 2, "end"]


def test_equal_ones_are_folded_unless_they_are_distinct(app: App, dsn: str) -> None:
    with Loop(app, "orders") as loop, psycopg.connect(dsn) as own:
        for _ in range(3):
            app.notify("orders", {"n": 1}, conn=own)
        for _ in range(3):
            app.notify("orders", {"n": 2}, conn=own, distinct=True)
        own.commit()
        assert loop.heard(4) == [{"n": 1}] + 3 * [{"n": 2}]


# -- 7: state and events --


@pytest.mark.parametrize("rounds", [50, pytest.param(500, marks=pytest.mark.long)])
def test_c7_state_read_after_listening_and_events_are_the_final_state(app: App, dsn: str, rounds: int) -> None:
    """Writers commit at any moment; each listener reads the table when it is told to, and adds what it hears."""
    writers, current = 3, 0
    chance = random.Random(7)
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute("create schema shop; create table shop.line (round int, number int)")
    steps = [[chance.randrange(4) for _ in range(writers)] for _ in range(rounds)]

    async def write(conn: psycopg.AsyncConnection, number: int, pause: int) -> None:
        for _ in range(pause):
            await asyncio.sleep(0)
        async with conn.transaction():
            await conn.execute("insert into shop.line values (%s, %s)", [current, number])
            await app.notify_async(f"lines:{current}", number, conn=conn)

    async def follow(reader: psycopg.AsyncConnection) -> set[int]:
        seen: set[int] = set()
        async for item in app.listen(f"lines:{current}"):
            if isinstance(item, Notification):
                seen.add(item.json)  # type: ignore[arg-type]
            else:
                rows = await reader.execute("select number from shop.line where round = %s", [current])
                seen |= {number for (number,) in await rows.fetchall()}
            if len(seen) == writers:
                break
        return seen

    async def scenario() -> int:
        nonlocal current
        good = 0
        conns = [await psycopg.AsyncConnection.connect(dsn, autocommit=True) for _ in range(writers + 1)]
        for current in range(rounds):
            works = [write(conns[number], number, steps[current][number]) for number in range(writers)]
            seen, *_ = await asyncio.wait_for(asyncio.gather(follow(conns[-1]), *works), 30)
            good += seen == set(range(writers))
        for conn in conns:
            await conn.close()
        return good

    assert asyncio.run(scenario()) == rounds


# -- 8: the server's queue --


def test_c8_a_listener_that_does_not_read_leaves_the_servers_queue_empty(app: App, conn: psycopg.Connection) -> None:
    still = app.listen("flood")
    assert next(still) == Listening()
    for _ in range(20):
        with conn.transaction():
            conn.execute("select pg_notify('flood', repeat('x', 7000) || n) from generate_series(1, 200) as n")
    eventually(lambda: one_value(conn, "select pg_notification_queue_usage()") == 0, what="all was read")
    still.close()


# -- how a loop ends --


def test_a_loop_ends_when_nothing_comes_for_as_long_as_it_says(app: App) -> None:
    began = time.monotonic()
    assert list(app.listen("orders", timeout=0.3)) == [Listening()]
    assert 0.3 <= time.monotonic() - began < 5
    listener = app.listen("orders", timeout=0)
    assert list(listener) in ([], [Listening()]) and list(listener) == []


def test_close_ends_every_loop(app: App) -> None:
    async def loop(began: asyncio.Event) -> list[Any]:
        items = []
        async for item in app.listen("orders"):
            items.append(item)
            began.set()
        return items

    async def scenario() -> list[Any]:
        began = asyncio.Event()
        task = asyncio.create_task(loop(began))
        await asyncio.wait_for(began.wait(), 30)
        sync = Loop(app, "orders")
        await asyncio.to_thread(sync.__enter__)
        await asyncio.to_thread(app.close)
        await asyncio.to_thread(sync.thread.join)
        assert sync.error is None
        return await task

    assert asyncio.run(scenario()) == [Listening()]
    assert not any(thread.name == "pgqueue channels" for thread in threading.enumerate())
    assert list(app.listen("orders", timeout=0.1)) == [Listening()]  # it may be used again


def test_a_loop_that_is_left_is_forgotten(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audience, "HUSH_S", 0.0)

    async def scenario() -> None:
        async for _ in app.listen("a"):
            break
        async with app.listen("b") as listener:
            assert await anext(listener) == Listening()

    async def cancelled() -> None:
        task = asyncio.create_task(anext(app.listen("c")))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    with Loop(app, "kept"):
        asyncio.run(scenario())
        asyncio.run(cancelled())
        for _ in app.listen("d"):
            break
        gc.collect()
        eventually(lambda: listened(app) == {"kept"}, what="the others are not listened to")


def test_a_channel_is_kept_for_a_moment_after_its_last_listener(app: App) -> None:
    with Loop(app, "kept"):
        next(app.listen("page"))
        assert {"page", "kept"} <= listened(app)
        with Loop(app, "page") as again:
            app.notify("page", 1)
            assert again.heard(1) == [1]


def test_one_that_is_wanted_again_is_not_left(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audience, "HUSH_S", 0.1)
    with Loop(app, "kept"):
        with Loop(app, "page", "other"):
            pass
        with Loop(app, "page") as again:
            eventually(lambda: listened(app) == {"kept", "page"}, what="the other is left")
            app.notify("page", 1)
            assert again.heard(1) == [1]


def test_the_connection_is_closed_when_nobody_has_listened_for_a_while(
    app: App, conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "UNHEARD_S", 0.0)
    monkeypatch.setattr(audience, "HUSH_S", 0.0)
    next(app.listen("page"))
    eventually(lambda: one_value(conn, SESSIONS) == 0, what="the session ended")
    assert next(app.listen("page")) == Listening()


FORKED = """
import os, sys
from pgqueue import App, Listening, Notification
app = App(sys.argv[1])
parents = app.listen("orders")
assert next(parents) == Listening()
pid = os.fork()
if pid == 0:
    try:
        next(parents)
    except Exception as error:
        print(error, flush=True)
    child = app.listen("orders")
    print(next(child), flush=True)
    app.notify("orders", "from the child")
    print(next(child).json, flush=True)
    del parents, child
    app.close()
    os._exit(0)
os.waitpid(pid, 0)
print("parent:", next(parents).json)
app.notify("orders", "after")
print("parent:", next(parents).json)
app.close()
"""


def test_a_child_of_a_fork_has_its_own(dsn: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKED, dsn], capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        "this listener was made by another process, before a fork: call listen() in this one",
        "Listening()", "from the child", "parent: from the child", "parent: after",
    ], done.stderr  # fmt: skip


# -- what is refused --


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda app: app.listen(), "listen() needs the name of a channel, as in listen('orders')"),
        (lambda app: app.listen("a", ""), "the name of a channel must not be empty"),
        (lambda app: app.listen(7), "the name of a channel must be text, not int"),
        (lambda app: app.listen("a\0"), "the channel 'a\\x00' has a character that PostgreSQL cannot store: leave it out"),
        (lambda app: app.listen("\ud800"), "the channel '\\ud800' has a character that PostgreSQL cannot store"),
        (lambda app: app.listen("pgqueue_jobs"), "the channel 'pgqueue_jobs' is used by pgqueue itself: take another name"),
        (lambda app: app.notify("pgqueue_results", 1), "the channel 'pgqueue_results' is used by pgqueue itself"),
        (lambda app: app.notify("", 1), "the name of a channel must not be empty"),
        (lambda app: app.listen("a", timeout=-1), "timeout takes a number of seconds from 0 to 1,000,000, or None, not -1"),
        (lambda app: app.listen("a", timeout="3"), "timeout takes a number of seconds from 0 to 1,000,000, or None, not '3'"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_channel_is_refused_at_once(app: App, call: Callable[[App], Any], message: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        call(app)
    assert str(caught.value).startswith(message)


def test_the_doorbells_are_those_of_the_schema(dsn: str) -> None:
    app = App(dsn, schema="other")
    with pytest.raises(InvalidOption, match="'other_jobs' is used by pgqueue itself"):
        app.listen("other_jobs")
    assert isinstance(app.listen("pgqueue_jobs"), Listener)


def test_no_server_at_the_beginning_is_said_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "ANSWER_S", 0.0)
    app = App("host=127.0.0.1 port=1 user=nobody dbname=none", pool_timeout_s=0.2)
    listener: Any = app.listen("orders")
    listener._mailbox.waits_since -= 1_000  # it was made long before its loop begins
    began = time.monotonic()
    with pytest.raises(DatabaseUnavailable, match="cannot connect"):
        next(listener)
    assert time.monotonic() - began > 0.2
    app.close()


def test_tables_that_are_missing_are_said(fresh_dsn: str) -> None:
    app = App(fresh_dsn)
    with pytest.raises(Exception, match="has no pgqueue tables: run `pgqueue migrate`"):
        list(app.listen("orders", timeout=10))
    app.close()


def test_a_mistake_of_ours_ends_the_loops(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    with Loop(app, "orders") as loop:
        monkeypatch.setattr(receiver, "unpack", lambda _: 1 / 0)
        app.notify("orders", 1)
        loop.thread.join(30)
    assert "listening failed: ZeroDivisionError" in str(loop.error)
    monkeypatch.undo()
    assert next(app.listen("orders")) == Listening()
