"""Redis Streams, on a real Valkey."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import redis

from pgqueue import ConfigError
from pgqueue.buses.bus import Bus
from pgqueue.errors import BusRefused, BusUnavailable
from tests.buses.conftest import OpenURL, StartServer
from tests.buses.events import PATIENT_S, batches, event, events, ids, killed_in_mid_stream, relay, threads_and_sockets
from tests.buses.servers import Server, valkey
from tests.conftest import eventually

STREAM = "ev:user.created"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for all tests that do not harm it."""
    server = valkey(tmp_path_factory.mktemp("valkey")).start()
    yield server
    server.stop()


@pytest.fixture
def server(shared: Server) -> Iterator[Server]:
    """It, empty."""
    with client_of(shared) as client:
        client.flushall()
        client.config_set("maxmemory", "0")
    yield shared


def client_of(server: Server) -> redis.Redis:
    return redis.Redis(port=server.port, decode_responses=True)


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    """To look with."""
    with client_of(server) as opened:
        yield opened


def url(server: Server, rest: str = "/0/ev:{type}") -> str:
    """Of a stream for each type."""
    return f"redis://127.0.0.1:{server.port}{rest}"


@pytest.fixture
def bus(server: Server, open_url: OpenURL) -> Bus:
    """One that sends there."""
    return open_url(url(server))


def entries(client: redis.Redis, stream: str = STREAM) -> list[tuple[str, dict[str, str]]]:
    """All of them, in the stream's order."""
    return cast("list[tuple[str, dict[str, str]]]", client.xrange(stream))


def there(client: redis.Redis, stream: str = STREAM) -> list[str]:
    """The ids of the events in the stream, in its order."""
    return [entry["id"] for _, entry in entries(client, stream)]


def test_ten_thousand_events_are_there_in_order_once(bus: Bus, client: redis.Redis) -> None:
    sent = events(10_000)
    for _ in range(2):  # the second time all are repeats
        for batch in batches(sent):
            bus.send(batch)
    assert there(client) == ids(sent)


def test_an_entry_says_all_of_the_event(bus: Bus, client: redis.Redis) -> None:
    sent = event(7, era=2)._replace(headers='{"trace": "1"}')
    bus.send([sent, event(8, type="order.paid")._replace(key=None)])
    ((entry_id, entry),) = entries(client)
    assert entry_id == "2-7"
    assert entry == {
        "id": sent.id, "type": "user.created", "key": "user:0", "payload": sent.payload, "headers": '{"trace": "1"}',
        "at": "2026-11-28T12:00:00+00:00", "relay": "mirror",
    }  # fmt: skip
    ((_, other),) = entries(client, "ev:order.paid")
    assert not {"key", "headers"} & set(other)


def test_a_batch_that_begins_before_the_end_adds_the_rest(bus: Bus, client: redis.Redis) -> None:
    sent = events(900)
    bus.send(sent[:600])
    bus.send(sent[300:])
    assert there(client) == ids(sent)


def test_a_repeat_of_what_was_deleted_is_a_repeat(bus: Bus, client: redis.Redis) -> None:
    sent = events(300)
    bus.send(sent)
    client.xtrim(STREAM, maxlen=0, approximate=False)
    bus.send(sent)
    bus.send(events(1, first=301))
    assert there(client) == ids(events(1, first=301))


def test_the_stream_is_trimmed(server: Server, client: redis.Redis, open_url: OpenURL) -> None:
    bus = open_url(url(server, "/0/short?maxlen=100"))
    for batch in batches(events(2_000)):
        bus.send(batch)
    assert 100 <= client.xlen("short") < 300
    assert there(client, "short")[-1] == event(2_000).id


def test_each_lane_has_a_stream_of_its_own(server: Server, client: redis.Redis, open_url: OpenURL) -> None:
    bus = open_url(url(server, "/0/ev:{lane}"), lanes=2)
    bus.send([event(1, lane=0), event(1, lane=1), event(2, lane=1)])
    assert (there(client, "ev:0"), there(client, "ev:1")) == ([event(1).id], [event(1, lane=1).id, event(2, lane=1).id])


def test_lanes_that_share_a_stream_are_refused(bus: Bus, client: redis.Redis) -> None:
    with pytest.raises(ConfigError, match=r"write \{lane\} into its name"):
        bus.send([event(1), event(1, lane=1)])
    assert not client.exists(STREAM)


def test_the_server_may_number_the_entries(server: Server, client: redis.Redis, open_url: OpenURL) -> None:
    client.xadd("shared", {"by": "another"})
    bus = open_url(url(server, "/0/shared?ids=auto"), lanes=2)
    bus.send([event(1), event(1, lane=1)])
    bus.send([event(1)])
    assert client.xlen("shared") == 4


@pytest.mark.parametrize("before", ["*", "1-5"], ids=["numbered-by-the-server", "numbered-alike"])
def test_a_stream_of_another_writer_is_left_alone(bus: Bus, client: redis.Redis, before: str) -> None:
    """Its ids are ahead of ours: the server would say of each of our events that it has it."""
    client.xadd(STREAM, {"by": "another", "relay": "other"}, id=before)
    with pytest.raises(BusUnavailable, match="entries that relay mirror did not write"):
        bus.send(events(3))
    client.delete(STREAM)
    bus.send(events(3))
    assert there(client) == ids(events(3))


def test_a_stream_into_which_another_writes_later_is_noticed(bus: Bus, client: redis.Redis) -> None:
    bus.send(events(3))
    client.xadd(STREAM, {"by": "another"})
    with pytest.raises(BusUnavailable, match="did not write"):
        bus.send(events(3, first=4))
    client.xtrim(STREAM, maxlen=0, approximate=False)  # its ids remain ahead
    with pytest.raises(BusUnavailable, match="did not write"):
        bus.send(events(3, first=4))


def test_another_event_with_this_number_is_noticed(bus: Bus, client: redis.Redis) -> None:
    """As of a relay that was dropped and made again, whose numbers begin again."""
    bus.send(events(3))
    with pytest.raises(BusUnavailable, match="not with these ids"):
        bus.send([event(2)._replace(id="another")])


def test_a_key_of_another_type_refuses_the_event(bus: Bus, client: redis.Redis) -> None:
    client.set("ev:order.paid", "text")
    poison = event(2, type="order.paid")
    with pytest.raises(BusRefused, match="WRONGTYPE") as refused:
        bus.send([event(1), poison, event(3)])
    assert refused.value.event == poison and "payload" not in str(refused.value)
    bus.send([event(1), event(3)])
    assert there(client) == ids([event(1), event(3)])


def test_a_full_server_leaves_no_hole(bus: Bus, client: redis.Redis) -> None:
    """Were one entry refused and a later one taken, the id of the first would be behind for good."""
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", str(client.info("memory")["used_memory"] + 400_000))
    sent = [event(number, size=10_000) for number in range(1, 201)]
    with pytest.raises(BusUnavailable, match="memory"):
        for batch in batches(sent, of=10):
            bus.send(batch)
    client.config_set("maxmemory", "0")
    for batch in batches(sent, of=10):
        bus.send(batch)
    assert there(client) == ids(sent)


@pytest.mark.long
def test_a_killed_server_loses_and_doubles_nothing(
    tmp_path: Path, start_server: StartServer, open_url: OpenURL
) -> None:
    server = start_server(valkey(tmp_path))
    bus, sent = open_url(url(server)), events(10_000)
    assert killed_in_mid_stream(server, bus, batches(sent, of=250)) >= 2
    with client_of(server) as client:
        assert there(client) == ids(sent)


@pytest.mark.long
def test_a_frozen_server_ends_in_time(tmp_path: Path, start_server: StartServer, open_url: OpenURL) -> None:
    server = start_server(valkey(tmp_path))
    bus = open_url(url(server))
    bus.send(events(1))
    server.freeze()
    for _ in range(2):  # on the open connection, and on a new one
        began = time.monotonic()
        with pytest.raises(BusUnavailable, match="does not answer"):
            bus.send(events(2))
        assert time.monotonic() - began < PATIENT_S + 2
    server.thaw()
    relay(bus, events(2))
    with client_of(server) as client:
        assert there(client) == ids(events(2))


def test_close_leaves_nothing_open(server: Server, open_url: OpenURL) -> None:
    before = threads_and_sockets()
    bus = open_url(url(server))
    bus.send(events(1))
    assert threads_and_sockets() != before
    bus.close()
    bus.close()
    eventually(lambda: threads_and_sockets() == before, what="its threads and sockets are gone")


def test_a_wrong_password_is_said_without_it(server: Server, open_url: OpenURL) -> None:
    bus = open_url(f"redis://somebody:geheim@127.0.0.1:{server.port}/0/ev")
    with pytest.raises(BusUnavailable, match="refuses the user or the password") as refused:
        bus.send(events(1))
    assert "geheim" not in str(refused.value) and "somebody" not in str(refused.value)
