"""NATS JetStream, on a real server."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, StreamConfig

from pgqueue.buses.bus import Bus
from pgqueue.errors import BusRefused, BusUnavailable
from tests.buses.conftest import OpenURL, StartServer
from tests.buses.events import PATIENT_S, batches, event, events, ids, killed_in_mid_stream, relay, threads_and_sockets
from tests.buses.servers import Server
from tests.buses.servers import nats as nats_server
from tests.conftest import eventually


class Look:
    """What a test does with the server itself, in a connection for each call."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def _run(self, work: Callable[[JetStreamContext], Coroutine[Any, Any, Any]]) -> Any:
        async def inside() -> Any:
            client: Client = await nats.connect(f"nats://127.0.0.1:{self._server.port}")
            try:
                return await work(client.jetstream(timeout=30))
            finally:
                await client.close()

        return asyncio.run(inside())

    def make(self, **config: Any) -> None:
        """The stream EV, new."""

        async def work(stream: JetStreamContext) -> None:
            for name in [info.config.name for info in await stream.streams_info()]:
                await stream.delete_stream(name or "")
            await stream.add_stream(StreamConfig(**{"name": "EV", "subjects": ["ev.>"], **config}))

        self._run(work)

    def drop(self) -> None:
        """No stream at all."""
        self._run(lambda stream: stream.delete_stream("EV"))

    def messages(self) -> list[Msg]:
        """All that the stream holds, in its order."""

        async def work(stream: JetStreamContext) -> list[Msg]:
            count = (await stream.stream_info("EV")).state.messages
            taken = await stream.subscribe("ev.>", ordered_consumer=True, pending_msgs_limit=-1, pending_bytes_limit=-1)
            return [await taken.next_msg(timeout=30) for _ in range(count)]

        found: list[Msg] = self._run(work)
        return found

    def there(self) -> list[str]:
        """The ids of the events in the stream."""
        return [(message.headers or {})["Nats-Msg-Id"] for message in self.messages()]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for all tests that do not harm it."""
    server = nats_server(tmp_path_factory.mktemp("nats")).start()
    yield server
    server.stop()


@pytest.fixture
def look(shared: Server) -> Look:
    """With the stream EV, empty."""
    found = Look(shared)
    found.make()
    return found


def url(server: Server) -> str:
    """Of a stream for each type."""
    return f"nats://127.0.0.1:{server.port}/ev.{{type}}"


@pytest.fixture
def bus(shared: Server, open_url: OpenURL) -> Bus:
    """One that sends there."""
    return open_url(url(shared))


def test_ten_thousand_events_are_there_in_order_once(bus: Bus, look: Look) -> None:
    sent = events(10_000)
    for _ in range(2):  # the second time all are repeats
        for batch in batches(sent):
            bus.send(batch)
    assert look.there() == ids(sent)


def test_a_message_says_all_of_the_event(bus: Bus, look: Look) -> None:
    sent = event(7, key="ключ é")._replace(headers='{\n"trace": "é"}')
    bus.send([sent, event(8, type="order.paid")._replace(key=None)])
    first, second = look.messages()
    assert first.subject == "ev.user.created" and first.data.decode() == sent.payload
    assert first.headers == {
        "Nats-Msg-Id": sent.id, "type": "user.created", "at": "2026-11-28T12:00:00+00:00", "key": "ключ é",
        "headers": '{"trace": "\\u00e9"}',
    }  # fmt: skip
    assert second.subject == "ev.order.paid" and not {"key", "headers"} & set(second.headers or {})


@pytest.mark.parametrize("type", ["two words", "all.*", "rest.>", "a..b", "a\nb"])
def test_a_type_that_is_no_subject_is_refused(bus: Bus, look: Look, type: str) -> None:
    poison = event(2, type=type)
    with pytest.raises(BusRefused, match="is not a valid subject") as refused:
        bus.send([event(1), poison])
    assert refused.value.event == poison and look.there() == []


@pytest.mark.parametrize("key", ["a\nb", " a"])
def test_a_key_that_is_no_header_is_refused(bus: Bus, look: Look, key: str) -> None:
    with pytest.raises(BusRefused, match="cannot be a header"):
        bus.send([event(1, key=key)])


def test_what_is_too_large_for_the_server_is_refused(bus: Bus, look: Look) -> None:
    poison = event(2, size=1_048_576 - 100)  # its headers make it too large
    with pytest.raises(BusRefused, match="takes messages of 1048576 bytes at most") as refused:
        bus.send([event(1), poison, event(3)])
    assert refused.value.event == poison
    bus.send([event(1), event(3)])
    bus.send([event(4, size=1_048_576 - 300)])
    assert look.there() == ids([event(1), event(3), event(4)])


def test_what_is_too_large_for_the_stream_is_refused(bus: Bus, look: Look) -> None:
    look.make(max_msg_size=5_000)
    poison = event(2, size=6_000)
    with pytest.raises(BusRefused, match="message size exceeds maximum allowed") as refused:
        bus.send([event(1), poison, event(3)])
    assert refused.value.event == poison
    bus.send([event(1), event(3)])
    assert look.there() == ids([event(1), event(3)])


def test_without_a_stream_it_is_refused(bus: Bus, look: Look) -> None:
    look.drop()
    with pytest.raises(BusRefused, match=r"no stream takes the subject ev.user.created: create one that does"):
        bus.send(events(3))
    look.make()
    bus.send(events(3))
    assert look.there() == ids(events(3))


def test_a_full_stream_is_no_refusal(bus: Bus, look: Look) -> None:
    look.make(max_msgs=2, discard=DiscardPolicy.NEW)
    with pytest.raises(BusUnavailable, match="refuses for now: maximum messages exceeded"):
        bus.send(events(3))


@pytest.mark.long
def test_a_killed_server_loses_and_doubles_nothing(
    tmp_path: Path, start_server: StartServer, open_url: OpenURL
) -> None:
    server = start_server(nats_server(tmp_path))
    look = Look(server)
    look.make()
    bus, sent = open_url(url(server)), events(10_000)
    assert killed_in_mid_stream(server, bus, batches(sent, of=250)) >= 2
    assert look.there() == ids(sent)


@pytest.mark.long
def test_a_frozen_server_ends_in_time(tmp_path: Path, start_server: StartServer, open_url: OpenURL) -> None:
    server = start_server(nats_server(tmp_path))
    Look(server).make()
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
    assert Look(server).there() == ids(events(2))


def test_close_leaves_nothing_open(shared: Server, look: Look, open_url: OpenURL) -> None:
    before = threads_and_sockets()
    bus = open_url(url(shared))
    bus.send(events(1))
    assert threads_and_sockets() != before
    bus.close()
    bus.close()
    eventually(lambda: threads_and_sockets() == before, what="its threads and sockets are gone")


def test_a_server_that_is_not_there_is_named(tmp_path: Path, open_url: OpenURL) -> None:
    bus = open_url(url(nats_server(tmp_path)))
    with pytest.raises(
        BusUnavailable, match=r"nats://127.0.0.1:\d+/ev.{type} cannot be reached: .*Connect call failed"
    ):
        bus.send(events(1))


@pytest.mark.parametrize(("options", "user"), [("--user me --pass geheim", "me:geheim"), ("--auth geheim", "geheim")])
def test_who_it_is(tmp_path: Path, options: str, user: str, start_server: StartServer, open_url: OpenURL) -> None:
    server = start_server(nats_server(tmp_path, *options.split()))
    there = f"127.0.0.1:{server.port}/ev.{{type}}"
    bus = open_url(f"nats://{user}@{there}")
    with pytest.raises(BusRefused, match="no stream takes the subject"):
        bus.send(events(1))
    wrong = open_url(f"nats://{user}x@{there}")
    with pytest.raises(BusUnavailable, match="refuses the user, the password or the token") as refused:
        wrong.send(events(1))
    assert "geheim" not in str(refused.value)


def test_a_right_that_is_missing_is_told_at_once(tmp_path: Path, start_server: StartServer, open_url: OpenURL) -> None:
    config = tmp_path / "rights.conf"
    config.write_text('authorization { users: [{ user: me, password: x, permissions: { publish: "other" } }] }')
    server = start_server(nats_server(tmp_path, "-c", str(config)))
    bus = open_url(f"nats://me:x@127.0.0.1:{server.port}/ev.{{type}}", answer_s=30)
    with pytest.raises(BusUnavailable, match=r"(?i)permissions violation for publish"):
        bus.send(events(1))
