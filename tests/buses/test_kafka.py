"""Kafka's protocol, over TCP, to librdkafka's own mock brokers: no server can be installed from a package index."""

import time
import uuid
from collections.abc import Iterator, Sequence
from typing import cast

import pytest
from confluent_kafka import KafkaError, Message

from pgqueue import ConfigError
from pgqueue.buses.bus import Bus
from pgqueue.errors import BusRefused, BusUnavailable
from tests.buses.conftest import OpenURL
from tests.buses.events import PATIENT_S, batches, event, events, ids, killed_in_mid_stream, relay, threads_and_sockets
from tests.buses.kafka_brokers import Brokers
from tests.conftest import eventually

pytestmark = pytest.mark.xdist_group("kafka")


@pytest.fixture(scope="module")
def shared() -> Iterator[Brokers]:
    """For all tests: each leaves them as they were."""
    started = Brokers()
    yield started
    started.stop()


@pytest.fixture
def topic() -> str:
    """One of the test's own."""
    return f"{uuid.uuid4()}.user.created"


@pytest.fixture
def brokers(shared: Brokers, topic: str) -> Iterator[Brokers]:
    """With this topic."""
    shared.make(topic)
    yield shared
    shared.answer_after(0)
    shared.start()


def url(brokers: Brokers, topic: str) -> str:
    """Of a topic for each type."""
    return f"kafka://{brokers.hosts}/{topic.removesuffix('user.created')}{{type}}"


@pytest.fixture
def bus(brokers: Brokers, topic: str, open_url: OpenURL) -> Bus:
    """One that sends there, what is given to it at once in one set: flushing does not linger. Where one set of several is
    refused these brokers would take those behind it, and real ones would not, as their numbers do not follow on."""
    return open_url(url(brokers, topic) + "?linger.ms=1000")


def headers_of(message: Message) -> dict[str, bytes]:
    return dict(cast("list[tuple[str, bytes]]", message.headers() or []))


def there(messages: Sequence[Message]) -> list[str]:
    return [headers_of(message)["id"].decode() for message in messages]


def test_ten_thousand_events_are_there_in_order(bus: Bus, brokers: Brokers, topic: str) -> None:
    sent = events(10_000)
    for batch in batches(sent):
        bus.send(batch)
    assert there(brokers.messages(topic, 10_000)) == ids(sent)


def test_a_repeat_has_the_same_id(bus: Bus, brokers: Brokers, topic: str) -> None:
    for _ in range(2):
        bus.send(events(3))
    assert there(brokers.messages(topic, 6)) == ids(events(3)) * 2


def test_a_message_says_all_of_the_event(bus: Bus, brokers: Brokers, topic: str) -> None:
    sent = event(7, key="é")._replace(headers='{"trace": "1"}')
    bus.send([sent, event(8)._replace(key=None)])
    first, second = brokers.messages(topic, 2)
    assert (first.key(), first.value(), first.timestamp()[1]) == (
        "é".encode(),
        sent.payload.encode(),
        int(sent.at.timestamp() * 1000),
    )
    assert headers_of(first) == {
        "id": sent.id.encode(), "type": b"user.created", "at": b"2026-11-28T12:00:00+00:00", "headers": b'{"trace": "1"}',
    }  # fmt: skip
    assert second.key() is None and "headers" not in headers_of(second)


def test_all_of_a_key_are_in_order_in_one_partition(shared: Brokers, open_url: OpenURL) -> None:
    shared.make("spread", 4)
    bus, sent = open_url(f"kafka://{shared.hosts}/spread"), events(1_000)
    for batch in batches(sent, of=100):
        bus.send(batch)
    messages = shared.messages("spread", 1_000, 4)
    assert len({message.partition() for message in messages}) > 1
    for key in {each.key for each in sent}:
        found = [message for message in messages if (message.key() or b"").decode() == key]
        assert len({message.partition() for message in found}) == 1
        assert there(found) == [each.id for each in sent if each.key == key]


def test_what_is_too_large_for_the_client_is_refused(bus: Bus, brokers: Brokers, topic: str) -> None:
    poison = event(2, size=1_050_000)
    with pytest.raises(BusRefused, match="too large") as refused:
        bus.send([event(1), poison, event(3)])
    assert refused.value.event == poison
    bus.send([event(3)])
    assert there(brokers.messages(topic, 2)) == ids([event(1), event(3)])


def test_what_is_too_large_for_the_broker_is_found_among_the_others(bus: Bus, brokers: Brokers, topic: str) -> None:
    """It refuses the whole set in which they travel; then the second that travels alone."""
    bus.send([event(0)])
    brokers.refuse_next(KafkaError.MSG_SIZE_TOO_LARGE, 0, KafkaError.MSG_SIZE_TOO_LARGE)
    with pytest.raises(BusRefused, match=r"refuses it: .*size") as refused:
        bus.send(events(3))
    assert refused.value.event == event(2)
    bus.send([event(3)])
    assert there(brokers.messages(topic, 3)) == ids([event(0), event(1), event(3)])


def test_what_the_client_does_not_tell_of_is_sent_again(bus: Bus, brokers: Brokers, topic: str) -> None:
    """Each small, all together too large: the set is refused, with a fatal error that the client raises while it tells."""
    bus.send([event(0)])
    brokers.refuse_next(KafkaError.MSG_SIZE_TOO_LARGE)
    bus.send(events(300))
    assert there(brokers.messages(topic, 301)) == ids([event(0), *events(300)])


def test_without_the_topic_it_is_refused(bus: Bus, brokers: Brokers, topic: str) -> None:
    brokers.refuse_topic(topic, KafkaError.UNKNOWN_TOPIC_OR_PART)
    with pytest.raises(BusRefused, match=r"user.created refuses it: .*[Uu]nknown topic"):
        bus.send(events(3))
    brokers.refuse_topic(topic, 0)
    bus.send(events(3))
    assert there(brokers.messages(topic, 3)) == ids(events(3))


@pytest.mark.parametrize("type", ["two words", "é", "x" * 250])
def test_a_type_that_is_no_topic_is_refused(bus: Bus, type: str) -> None:
    with pytest.raises(BusRefused, match="is not a valid topic"):
        bus.send([event(1), event(2, type=type)])


def test_too_few_replicas_are_no_refusal(shared: Brokers, open_url: OpenURL) -> None:
    """The client tries again by itself, until its time is over."""
    shared.make("replicas")
    bus = open_url(f"kafka://{shared.hosts}/replicas")
    shared.refuse_next(*[KafkaError.NOT_ENOUGH_REPLICAS] * 3)
    bus.send(events(3))
    assert there(shared.messages("replicas", 3)) == ids(events(3))


@pytest.mark.long
def test_brokers_that_vanish_lose_nothing(bus: Bus, brokers: Brokers, topic: str) -> None:
    sent = events(10_000)
    assert killed_in_mid_stream(brokers, bus, batches(sent, of=250)) >= 2
    found = there(brokers.messages(topic, 10_000))
    assert list(dict.fromkeys(found)) == ids(sent)


@pytest.mark.long
def test_frozen_brokers_end_in_time(bus: Bus, brokers: Brokers, topic: str, open_url: OpenURL) -> None:
    bus.send(events(1))
    brokers.answer_after(60_000)
    for each in (bus, open_url(url(brokers, topic))):  # on the open connection, and on a new one
        began = time.monotonic()
        with pytest.raises(BusUnavailable, match="does not answer"):
            each.send(events(2))
        assert time.monotonic() - began < PATIENT_S + 3
    brokers.answer_after(0)
    brokers.kill()  # what they were about to answer would wait for its minute
    brokers.start()
    relay(bus, events(2))
    assert set(there(brokers.messages(topic, 2))) == set(ids(events(2)))


def test_close_leaves_nothing_open(brokers: Brokers, topic: str, open_url: OpenURL) -> None:
    open_url(url(brokers, topic)).send(events(1))  # the first connection costs the brokers something too
    before = threads_and_sockets()
    bus = open_url(url(brokers, topic))
    bus.send(events(1))
    assert threads_and_sockets() != before
    bus.close()
    bus.close()
    eventually(lambda: threads_and_sockets()[0] == before[0], what="its threads are gone")


def test_an_option_of_the_client_is_taken_and_ours_are_not(brokers: Brokers, topic: str, open_url: OpenURL) -> None:
    open_url(url(brokers, topic) + "?compression.type=gzip&linger.ms=1").send(events(1))
    with pytest.raises(ConfigError, match="sets acks, which a relay sets itself"):
        open_url(url(brokers, topic) + "?acks=1")
    with pytest.raises(ConfigError, match=r'No such configuration property: "no.such"'):
        open_url(url(brokers, topic) + "?no.such=1").send(events(1))
