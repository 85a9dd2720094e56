"""Relays to a real bus: each event at least once, in order, whatever is killed in whichever step; with ids of ours exactly once."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from pgqueue import App, ConfigError, InvalidOption
from tests.answers import one_row, one_value
from tests.buses.servers import Server, valkey
from tests.conftest import Worker, alive, eventually

StartRelay = Callable[[], Worker]


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Server]:
    server = valkey(tmp_path).start()
    yield server
    server.stop()


def client(bus: Server) -> redis.Redis:
    return redis.Redis(port=bus.port, decode_responses=True)


def url(bus: Server) -> str:
    return f"redis://127.0.0.1:{bus.port}/0/orders"


def relayed(bus: Server) -> list[Any]:
    with client(bus) as conn:
        return [json.loads(entry["payload"]) for _, entry in conn.xrange("orders")]


@pytest.fixture
def start_relay(start_worker: Callable[..., Worker], bus: Server) -> StartRelay:
    """`pgqueue relay`, with short leases' worth of patience: a killed one's lease is cut by the tests."""

    def start() -> Worker:
        words = [sys.executable, "-m", "pgqueue", "relay", "--to", url(bus), "--types", "order.*", "--name", "mirror"]
        return start_worker(command=[*words, "--batch", "20", "--max-attempts", "2"])

    return start


def publish(app: App, first: int, last: int) -> None:
    app.publish_many(
        [{"type": "order.paid", "payload": number, "key": f"k{number % 5}"} for number in range(first, last)]
    )


def place(conn: psycopg.Connection) -> Any:
    """How many events it has passed, its failures, its error, whether it is held."""
    return one_row(
        conn,
        "select number - (extract(epoch from created_at) * 1000000)::bigint, attempt, error, held_by is not null "
        "from pgqueue.place join pgqueue.subscription on name = subscription",
    )


def forget_lease(conn: psycopg.Connection) -> None:
    conn.execute("update pgqueue.place set held_until = now() - interval '1 ms' where held_by is not null")


def relay_of(worker: Worker) -> int:
    """The process of the worker's relay."""

    def found() -> int | None:
        for pid in worker.children():
            if b"pgqueue.worker.relay.main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        return None

    pid: int = eventually(found, what="a relay process")
    return pid


@pytest.mark.long
def test_a_worker_relays_and_replaces_a_relay_that_dies(
    start_worker: Callable[..., Worker], bus: Server, app: App, conn: psycopg.Connection
) -> None:
    worker = start_worker("-c", "1", app="tests.relay_app", env={"TEST_BUS": url(bus)}).ready()
    publish(app, 0, 50)
    app.publish("user.new", 99)
    eventually(lambda: relayed(bus) == list(range(50)), what="all relayed")
    eventually(lambda: place(conn)[0] == 50, what="the place moved")
    row = one_row(conn, "select mode, target, task from pgqueue.subscription")
    assert row == ("relay", "env:TEST_BUS", None)
    first = relay_of(worker)
    os.kill(first, signal.SIGKILL)
    forget_lease(conn)
    worker.said("its process was killed by SIGKILL")
    publish(app, 50, 60)
    forget_lease(conn)
    eventually(lambda: relayed(bus) == list(range(60)), what="the next process continues")
    second = relay_of(worker)
    assert second != first
    assert worker.stop() == 0 and not alive(second)
    eventually(lambda: place(conn)[3] is False, what="it has left its lane")


@pytest.mark.long
def test_a_worker_that_is_killed_takes_its_relay_along(
    start_worker: Callable[..., Worker], bus: Server, app: App
) -> None:
    worker = start_worker("-c", "1", app="tests.relay_app", env={"TEST_BUS": url(bus)}).ready()
    pid = relay_of(worker)
    worker.process.kill()
    eventually(lambda: not alive(pid), what="the relay ends")


WAITS = (
    "select pid from pg_stat_activity where application_name = 'pgqueue relay mirror' and wait_event_type = 'Lock'"
    " and datname = current_database()"
)


@pytest.mark.long
@pytest.mark.parametrize("step", ["look", "take", "send", "move"])
def test_f62_a_relay_that_is_killed_in_a_step_leaves_no_gap_and_no_double(
    step: str, start_relay: StartRelay, bus: Server, app: App, conn: psycopg.Connection
) -> None:
    first = start_relay()
    first.said("is ready")
    publish(app, 0, 5)
    eventually(lambda: place(conn)[0] == 5, what="it works")
    assert first.stop() == 0 and place(conn)[3] is False
    publish(app, 5, 45)
    with psycopg.connect(app.dsn) as other:
        if step == "look":
            other.execute("lock table pgqueue.event in access exclusive mode")
        elif step == "take":
            other.execute("select from pgqueue.place for update")
        else:
            bus.freeze()
        second = start_relay()
        if step in ("send", "move"):
            eventually(lambda: place(conn)[3], what="it has taken the lane")
        if step == "move":
            other.execute("select from pgqueue.place for update")
            bus.thaw()
            eventually(lambda: len(relayed(bus)) == 25, what="the bus has a page that is not recorded")
        if step != "send":
            eventually(lambda: conn.execute(WAITS).rowcount, what="it waits for the lock")
        second.process.kill()
        second.wait()
        conn.execute(f"select pg_terminate_backend(pid) from ({WAITS}) as waiting")
    if step == "send":
        bus.thaw()
    assert place(conn)[0] == 5
    forget_lease(conn)
    start_relay()
    eventually(lambda: place(conn)[0] == 45, what="all moved")
    assert relayed(bus) == list(range(45))


SESSIONS = (
    "select pid, query_start from pg_stat_activity where application_name = 'pgqueue relay mirror'"
    " and datname = current_database()"
)


@pytest.mark.long
def test_f63_a_relay_that_oversleeps_its_lease_moves_nothing(
    start_relay: StartRelay, bus: Server, app: App, conn: psycopg.Connection
) -> None:
    """It stands still between sending and moving; another takes its lane over, and is far ahead when it wakes."""
    first = start_relay()
    first.said("is ready")
    assert first.stop() == 0
    publish(app, 0, 20)
    bus.freeze()
    first = start_relay()
    eventually(lambda: place(conn)[3], what="it has taken the lane, and sends")
    first.process.send_signal(signal.SIGSTOP)
    bus.thaw()
    ((pid, asked_at),) = conn.execute(SESSIONS).fetchall()
    forget_lease(conn)
    start_relay()
    publish(app, 20, 60)
    eventually(lambda: place(conn)[0] == 60, what="the other one is ahead")
    first.process.send_signal(signal.SIGCONT)

    def has_spoken() -> bool:
        """More than once: to move, and to see why it could not."""
        nonlocal asked_at
        before, asked_at = asked_at, dict(conn.execute(SESSIONS).fetchall()).get(pid, asked_at)
        return bool(asked_at > before)

    for _ in range(2):
        eventually(has_spoken, what="it wakes, and tries to move")
    publish(app, 60, 80)
    eventually(lambda: place(conn)[0] == 80, what="all moved")
    assert relayed(bus) == list(range(80))


def test_f64_a_bus_that_dies_in_mid_send_is_waited_for_without_a_transaction(
    start_relay: StartRelay, bus: Server, app: App, conn: psycopg.Connection
) -> None:
    relay = start_relay()
    relay.said("is ready")
    publish(app, 0, 1)
    eventually(lambda: place(conn)[0] == 1, what="it works")
    bus.freeze()
    publish(app, 1, 30)
    eventually(lambda: place(conn)[3], what="it has taken the lane")
    open_ones = (
        "select from pg_stat_activity where application_name = 'pgqueue relay mirror' and xact_start is not null"
        " and datname = current_database() and state <> 'active'"
    )
    # It may have been about to make a tick; while it waits for the bus, for eight seconds, there is none.
    eventually(lambda: conn.execute(open_ones).rowcount == 0, what="no transaction is open", within_s=5)
    bus.kill()
    eventually(lambda: place(conn)[1] > 1, what="it failed, and again")
    number, _, error, held = place(conn)
    assert (number, held) == (1, False) and "cannot be reached" in error
    relay.said("trying again in")
    bus.start()
    eventually(lambda: place(conn) == (30, 0, None, True), what="all moved")
    assert relayed(bus) == list(range(30))


@pytest.mark.parametrize("on_poison", ["skip", "stop"])
def test_an_event_that_the_bus_refuses(
    on_poison: str, start_worker: Callable[..., Worker], bus: Server, app: App, conn: psycopg.Connection
) -> None:
    with client(bus) as there:
        there.set("orders:order.bad", "no stream")
    words = [sys.executable, "-m", "pgqueue", "relay", "--to", url(bus) + ":{type}", "--types", "order.*"]
    relay = start_worker(command=[*words, "--max-attempts", "2", "--on-poison", on_poison])
    relay.said("is ready")
    app.publish_many(
        [
            {"type": "order.paid", "payload": 0},
            {"type": "order.bad", "payload": {"n": 1}, "key": "k", "headers": {"a": 1}},
            {"type": "order.paid", "payload": 2},
        ]
    )
    if on_poison == "stop":
        eventually(lambda: "stopped: event" in (place(conn)[2] or ""), what="it stopped")
        assert one_value(conn, "select retry_at = 'infinity' from pgqueue.place")
        assert place(conn)[0] == 1 and not list(app.jobs(state="dead"))
        (state,) = app.subscription_states()
        assert state.why.startswith("1 of 1 lanes stopped: event")
        with client(bus) as there:
            there.delete("orders:order.bad")
        assert app.subscription(state.name).start() == [0]
        eventually(lambda: place(conn)[0] == 3, what="the lane continues with that event")
        return
    eventually(lambda: place(conn)[0] == 3, what="the lane continues")
    (dead,) = app.jobs(state="dead")
    assert (dead.task, dead.state, dead.attempt) == ("pgqueue.relay", "dead", 2)
    (kept,) = json.loads(dead.args)
    assert (kept["type"], kept["payload"], kept["key"], kept["headers"]) == ("order.bad", {"n": 1}, "k", {"a": 1})
    assert dead.error is not None and "WRONGTYPE" in dead.error
    (state,) = app.subscription_states()
    (aside,) = app.subscription(state.name).aside()
    assert (aside.job, aside.type, aside.key, aside.event) == (dead.id, "order.bad", "k", kept["id"])
    with client(bus) as there:
        assert [json.loads(entry["payload"]) for _, entry in there.xrange("orders:order.paid")] == [0, 2]


def test_one_that_is_made_anew_gives_none_of_its_numbers_again(
    start_relay: StartRelay, bus: Server, app: App, conn: psycopg.Connection
) -> None:
    """Else the stream, once its old entries are trimmed, would take new events for repeats: they would be lost."""
    numbers = []
    for first in (0, 3):
        relay = start_relay()
        relay.said("is ready")
        publish(app, first, first + 3)
        eventually(lambda: place(conn)[0] == 3, what="all moved")
        assert relayed(bus) == list(range(first, first + 3))
        numbers += [number for (number,) in conn.execute("select number from pgqueue.place")]
        assert relay.stop() == 0
        app.subscription("mirror").drop()
        with client(bus) as there:
            there.xtrim("orders", maxlen=0)
    assert numbers[1] - 3 > numbers[0]


def test_bad_input_is_refused_where_it_is_written() -> None:
    app = App()
    for options, told in (
        ({"to": "redis://host"}, "does not say where the events go"),
        ({"to": "ftp://host/x"}, "cannot send to ftp"),
        ({"to": "redis://host/0/x", "lanes": 2}, "one stream for 2 lanes"),
        ({"to": "redis://host/0/x", "types": "a*"}, "none can be"),
        ({"to": "redis://host/0/x", "batch": 0}, "batch=0 is out of range"),
        ({"to": "redis://host/0/x", "on_poison": "drop"}, "on_poison='drop'"),
    ):
        with pytest.raises((ConfigError, InvalidOption), match=told):
            app.relay(**options)
    app.relay("redis://me:secret@host/0/x")
    with pytest.raises(ConfigError, match="two subscriptions of the name 'relay to redis://host/0/x'"):
        app.relay("redis://host/0/x")
    (relay,) = app.subscriptions.values()
    assert relay.target == "redis://host/0/x" and "secret" not in repr(relay)
