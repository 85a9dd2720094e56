"""Brokers that speak Kafka's protocol over TCP: librdkafka's own mock cluster, from the library in confluent-kafka's wheel.

It stores in memory, so brokers that are down and up again still have what they had. What a real cluster does with its disks it
does not show.
"""

import ctypes
import time
from collections.abc import Sequence
from pathlib import Path

import confluent_kafka
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

PRODUCE = 0  # the number of this request in the protocol
BROKERS = 1, 2, 3


def _library() -> ctypes.CDLL:
    beside = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
    library = ctypes.CDLL(str(next(beside.glob("librdkafka-*.so*"))))
    for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_mock_cluster_new"):
        getattr(library, name).restype = ctypes.c_void_p
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    return library


class Brokers:
    """Three of them."""

    def __init__(self) -> None:
        self._library = _library()
        text = ctypes.create_string_buffer(500)
        conf = ctypes.c_void_p(self._library.rd_kafka_conf_new())
        self._owner = ctypes.c_void_p(self._library.rd_kafka_new(0, conf, text, 500))
        self._cluster = ctypes.c_void_p(self._library.rd_kafka_mock_cluster_new(self._owner, len(BROKERS)))
        self.hosts: str = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()

    def stop(self) -> None:
        """The end of them."""
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._owner)

    def make(self, topic: str, partitions: int = 1) -> None:
        """With three replicas."""
        assert not self._library.rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, 3)

    def kill(self) -> None:
        """Connections are closed, and new ones are refused."""
        for broker in BROKERS:
            self._library.rd_kafka_mock_broker_set_down(self._cluster, broker)
        self._down = True

    def start(self) -> None:
        """The end of `kill`."""
        for broker in BROKERS:
            self._library.rd_kafka_mock_broker_set_up(self._cluster, broker)
        self._down = False

    _down = False

    def is_dead(self) -> bool:
        """Whether they are down."""
        return self._down

    def answer_after(self, delay_ms: int) -> None:
        """As brokers that are frozen, where it is long."""
        for broker in BROKERS:
            self._library.rd_kafka_mock_broker_set_rtt(self._cluster, broker, delay_ms)

    def refuse_topic(self, topic: str, code: int) -> None:
        """Whatever is asked about it; 0: no longer."""
        self._library.rd_kafka_mock_topic_set_error(self._cluster, topic.encode(), code)

    def refuse_next(self, *codes: int) -> None:
        """Answer the next requests to take messages with these."""
        array = (ctypes.c_int * len(codes))(*codes)
        self._library.rd_kafka_mock_push_request_errors_array(
            self._cluster, ctypes.c_int16(PRODUCE), ctypes.c_size_t(len(codes)), array
        )

    def messages(self, topic: str, count: int, partitions: int = 1) -> Sequence[Message]:
        """All of the topic, by partition and in its order, once there are this many; no more come."""
        consumer = Consumer({"bootstrap.servers": self.hosts, "group.id": "look", "enable.partition.eof": False})
        try:
            consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(partitions)])
            found: list[Message] = []
            ends = time.monotonic() + 60
            while len(found) < count and time.monotonic() < ends:
                found += consumer.consume(count - len(found), 1)
            found += consumer.consume(1_000, 0.3)
        finally:
            consumer.close()
        assert not [message.error() for message in found if message.error()]
        return sorted(found, key=lambda message: (message.partition() or 0, message.offset() or 0))
