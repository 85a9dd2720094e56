"""RabbitMQ, on the system's own. It takes ten seconds and more to start, so these are slow tests."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from pgqueue.buses.bus import Bus
from pgqueue.errors import BusRefused, BusUnavailable
from tests.buses.conftest import OpenURL
from tests.buses.events import batches, event, events, ids, killed_in_mid_stream, relay, threads_and_sockets
from tests.buses.servers import RABBITMQ, Server
from tests.buses.servers import rabbitmq as rabbitmq_server
from tests.conftest import eventually

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (RABBITMQ / "rabbitmq-server").exists(), reason="needs the package rabbitmq-server"),
]
SLOW_S = 8.0  # it commits to the disk for each


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all tests: each leaves it running."""
    started = rabbitmq_server(tmp_path_factory.mktemp("rabbitmq")).start()
    yield started
    started.stop()


class Look:
    """What a test does with the server itself, in a connection for each call."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def _run(self, work: Callable[[AbstractChannel], Coroutine[Any, Any, Any]]) -> Any:
        async def inside() -> Any:
            async with await aio_pika.connect(port=self._server.port, host="127.0.0.1") as connection:
                return await work(await connection.channel())

        return asyncio.run(inside())

    def make(self, **arguments: Any) -> None:
        """The queue EV, new, bound to the exchange EX for all types."""

        async def work(channel: AbstractChannel) -> None:
            await channel.queue_delete("EV")
            await channel.exchange_delete("EX")
            queue = await channel.declare_queue("EV", durable=True, arguments={"x-queue-type": "quorum", **arguments})
            exchange = await channel.declare_exchange("EX", aio_pika.ExchangeType.TOPIC, durable=True)
            await queue.bind(exchange, "user.#")

        self._run(work)

    def drop_exchange(self) -> None:
        """As somebody who cleans up."""
        self._run(lambda channel: channel.exchange_delete("EX"))

    def messages(self, count: int) -> list[AbstractIncomingMessage]:
        """This many of the queue, in its order, and no more are there."""

        async def work(channel: AbstractChannel) -> list[AbstractIncomingMessage]:
            await channel.set_qos(prefetch_count=count + 1)
            queue = await channel.get_queue("EV")
            assert queue.declaration_result.message_count in (count, 0), queue.declaration_result
            found: list[AbstractIncomingMessage] = []
            async with queue.iterator(timeout=60) as taken:
                async for message in taken:
                    await message.ack()
                    found.append(message)
                    if len(found) == count:
                        break
            return found

        found: list[AbstractIncomingMessage] = self._run(work)
        return found

    def count(self) -> int:
        """How many messages the queue holds."""

        async def work(channel: AbstractChannel) -> int | None:
            return (await channel.declare_queue("EV", passive=True)).declaration_result.message_count

        count: int = self._run(work)
        return count

    def there(self, count: int) -> list[str | None]:
        """Their ids."""
        return [message.message_id for message in self.messages(count)]


@pytest.fixture
def look(server: Server) -> Look:
    """With the queue EV, empty."""
    found = Look(server)
    found.make()
    return found


def url(server: Server, rest: str = "%2F/EX/{type}") -> str:
    """Of the exchange EX."""
    return f"amqp://127.0.0.1:{server.port}/{rest}"


@pytest.fixture
def bus(server: Server, open_url: OpenURL) -> Bus:
    """One that sends there."""
    return open_url(url(server), answer_s=SLOW_S)


def test_ten_thousand_events_are_there_in_order(bus: Bus, look: Look) -> None:
    sent = events(10_000)
    for batch in batches(sent):
        bus.send(batch)
    assert look.there(10_000) == ids(sent)


def test_a_repeat_has_the_same_id(bus: Bus, look: Look) -> None:
    for _ in range(2):
        bus.send(events(3))
    assert look.there(6) == ids(events(3)) * 2


def test_a_message_says_all_of_the_event(bus: Bus, look: Look) -> None:
    sent = event(7, key="é")._replace(headers='{"trace": "1"}')
    bus.send([sent, event(8)._replace(key=None)])
    first, second = look.messages(2)
    assert (first.routing_key, first.type, first.body.decode()) == ("user.created", "user.created", sent.payload)
    assert (first.timestamp, first.content_type, first.delivery_mode) == (sent.at, "application/json", 2)
    assert first.headers == {"key": "é", "headers": '{"trace": "1"}'} and second.headers == {}


def test_straight_to_a_queue(server: Server, look: Look, open_url: OpenURL) -> None:
    open_url(url(server, "%2F/EV"), answer_s=SLOW_S).send(events(2))
    assert look.there(2) == ids(events(2))


def test_without_a_binding_it_is_refused(bus: Bus, look: Look) -> None:
    poison = event(2, type="order.paid")
    with pytest.raises(BusRefused, match=r"no queue takes the routing key order.paid: bind one") as refused:
        bus.send([event(1), poison, event(3)])
    assert refused.value.event == poison
    bus.send([event(4)])
    assert look.there(3) == ids([event(1), event(3), event(4)])


def test_without_the_exchange_it_is_refused(bus: Bus, look: Look) -> None:
    look.drop_exchange()
    with pytest.raises(BusRefused, match="no exchange 'EX'"):
        bus.send(events(3))
    look.make()
    bus.send(events(3))
    assert look.there(3) == ids(events(3))


def test_what_is_too_large_is_refused_and_nothing_else(bus: Bus, look: Look) -> None:
    """The server closes the channel and does not say which one it was."""
    poison = event(3, size=100_000)
    with pytest.raises(BusRefused, match="larger than configured max size") as refused:
        bus.send([*events(2), poison, *events(2, first=4)])
    assert refused.value.event == poison
    bus.send(events(2, first=4))
    found = look.there(look.count())
    assert set(found) == {*ids(events(2)), *ids(events(2, first=4))}


def test_what_comes_back_is_not_forgotten_for_one_that_is_too_large(bus: Bus, look: Look) -> None:
    poison, homeless = event(2, size=100_000), event(1, type="order.paid")
    refused = set()
    for _ in range(2):
        with pytest.raises(BusRefused) as told:
            bus.send([each for each in (homeless, poison) if each not in refused])
        refused.add(told.value.event)
    assert refused == {poison, homeless}


def test_a_long_type_is_refused(bus: Bus, look: Look) -> None:
    with pytest.raises(BusRefused, match="a routing key has 255 bytes at most"):
        bus.send([event(1, type="user." + "x" * 255)])


def test_a_full_queue_is_no_refusal(bus: Bus, look: Look) -> None:
    look.make(**{"x-max-length": 2, "x-overflow": "reject-publish"})
    with pytest.raises(BusUnavailable, match="took the message back"):
        for number in range(1, 100):
            bus.send([event(number)])


def test_a_wrong_password_is_said_without_it(server: Server, open_url: OpenURL) -> None:
    bus = open_url(f"amqp://somebody:geheim@127.0.0.1:{server.port}/%2F/EV", answer_s=SLOW_S)
    with pytest.raises(BusUnavailable, match="refuses the user, the password or the vhost") as refused:
        bus.send(events(1))
    assert "geheim" not in str(refused.value)


def test_close_leaves_nothing_open(server: Server, look: Look, open_url: OpenURL) -> None:
    before = threads_and_sockets()
    bus = open_url(url(server), answer_s=SLOW_S)
    bus.send(events(1))
    assert threads_and_sockets() != before
    bus.close()
    bus.close()
    eventually(lambda: threads_and_sockets() == before, what="its threads and sockets are gone")


def test_a_frozen_server_ends_in_time(server: Server, look: Look, open_url: OpenURL) -> None:
    bus = open_url(url(server))
    bus.send(events(1))
    server.freeze()
    try:
        for _ in range(2):  # on the open connection, and on a new one
            began = time.monotonic()
            with pytest.raises(BusUnavailable, match="does not answer"):
                bus.send(events(2))
            assert time.monotonic() - began < 5
    finally:
        server.thaw()
    relay(bus, events(2, first=10))
    found = look.there(look.count())
    assert set(ids(events(2, first=10))) <= set(found)


def test_a_killed_server_loses_nothing(server: Server, look: Look, open_url: OpenURL) -> None:
    bus, sent = open_url(url(server), answer_s=SLOW_S), events(10_000)
    assert killed_in_mid_stream(server, bus, batches(sent, of=250)) >= 2
    found = look.there(look.count())
    first_seen = list(dict.fromkeys(found))
    assert first_seen == ids(sent) and len(found) < 12_000


def test_a_server_that_is_not_there_is_named(tmp_path: Path, open_url: OpenURL) -> None:
    bus = open_url(url(rabbitmq_server(tmp_path)))
    with pytest.raises(BusUnavailable, match=r"amqp://127.0.0.1:\d+/%2F/EX/{type} cannot be reached"):
        bus.send(events(1))
