"""Kafka: a message for each event, with the event's key, so that all of a key are in one partition and in order there.

The producer is idempotent, waits for all replicas and leaves no gap: what fails takes all that is behind it along. After a
failure a new producer sends all of them again; a repeat is a message more, with the same header `id`: to drop it is the duty of
who takes it.
"""

import logging
import re
import time
from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from pgqueue.buses.bus import RelayedEvent
from pgqueue.buses.destination import Destination
from pgqueue.errors import BusRefused, BusUnavailable, ConfigError

logger = logging.getLogger("pgqueue.buses")

TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")
# What makes the promise; a URL cannot change it.
PROMISED = {"enable.idempotence": True, "enable.gapless.guarantee": True, "acks": "all"}
# An event can never go there. Of a set of messages, as they travel, one is enough for all to get this answer.
NEVER = {
    KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE, KafkaError.INVALID_MSG, KafkaError.INVALID_RECORD,
    KafkaError.TOPIC_EXCEPTION, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError.POLICY_VIOLATION,
}  # fmt: skip

# Of an event that was not handed to the client, or of which it said nothing.
UNTOLD = KafkaError(KafkaError._PURGE_INFLIGHT)


class Quiet:
    """What the client logs is told by our errors; it would write it to standard error."""

    def log(self, level: int, text: str, *values: object) -> None:
        """As a logger's."""
        logger.debug(text, *values)


QUIET = Quiet()


class Kafka:
    """A Bus; see there."""

    def __init__(self, destination: Destination, *, relay: str, answer_s: float) -> None:
        self._destination = destination
        self._answer_s = answer_s
        self._producer: Any = None
        self._complaint = ""
        """What the client last said of the brokers: a message that is late does not say why."""
        self._config: dict[str, Any] = {
            "bootstrap.servers": ",".join(
                f"{f'[{host}]' if ':' in host else host}:{port}" for host, port in destination.hosts
            ),
            "client.id": f"pgqueue-relay-{relay}",
            "linger.ms": 5,
            "partitioner": "murmur2_random",  # as Java's producers
            "message.max.bytes": 1_048_588,  # what a broker takes unless it is told otherwise
            "message.timeout.ms": int(answer_s * 1000),
            "topic.metadata.propagation.max.ms": int(answer_s * 500),
            "reconnect.backoff.max.ms": 1_000,
            "error_cb": self._complained,
            **self._sasl(),
            **destination.options,
            **PROMISED,
        }
        if changed := PROMISED.keys() & destination.options.keys():
            raise ConfigError(
                f"{destination.shown} sets {', '.join(sorted(changed))}, which a relay sets itself: leave it out"
            )

    def _sasl(self) -> dict[str, str]:
        if self._destination.user is None:
            return {}
        return {
            "security.protocol": "SASL_SSL",
            "sasl.mechanisms": "PLAIN",
            "sasl.username": self._destination.user,
            "sasl.password": self._destination.password or "",
        }

    def send(self, events: Sequence[RelayedEvent]) -> None:
        """As Bus.send."""
        for event in events:
            if not TOPIC.fullmatch(topic := self._topic(event)):
                raise BusRefused(f"{self._destination.shown}: {topic[:300]!r} is not a valid topic", event)
        try:
            self._send(events)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """As Bus.close."""
        producer, self._producer = self._producer, None
        if producer is not None:  # its threads end with it, and do not wait for what is purged
            producer.purge()
            producer.flush(0)

    def _topic(self, event: RelayedEvent) -> str:
        return self._destination.name_for(event.type, event.lane)

    def _send(self, events: Sequence[RelayedEvent]) -> None:
        errors = self._delivered(events)
        if not any(errors.values()):
            return
        if len(events) == 1 or not any(error and error.code() in NEVER for error in errors.values()):
            index, error = next((index, error) for index, error in errors.items() if error)
            raise self._meaning(events[index], error)
        # Messages travel in sets; which of a set it was, the broker does not say.
        self.close()
        for index in [index for index, error in errors.items() if error]:
            alone = self._delivered([events[index]])[0]
            if alone is not None:
                raise self._meaning(events[index], alone)

    def _delivered(self, events: Sequence[RelayedEvent]) -> dict[int, KafkaError | None]:
        """Hand them to the client and wait until each is delivered or has failed: by index, in order."""
        if self._producer is None:
            self._complaint, self._producer = "", self._open()
        told: dict[int, KafkaError | None] = {}
        ends = time.monotonic() + self._answer_s + 1  # each has a timeout of its own
        for index, event in enumerate(events):
            try:
                self._produce(event, lambda error, _, index=index: told.__setitem__(index, error), ends)
            except KafkaException as error:
                told[index] = error.args[0]
                break  # not those behind it: what is in order stays so
        self._flush(ends)
        # An error that the client raised may have taken the place of what it was about to tell.
        return {index: told.get(index, UNTOLD) for index in range(len(events))}

    def _flush(self, ends: float) -> None:
        """Until all were told. Of a fatal error the client raises too, and where it was about to tell: it continues when asked."""
        while True:
            try:
                left = self._producer.flush(max(ends - time.monotonic(), 0))
            except (KafkaException, SystemError):
                if time.monotonic() < ends:
                    continue
                left = 1
            if left:
                raise self._unavailable(None)
            return

    def _open(self) -> Any:
        try:
            return Producer(self._config, logger=QUIET)
        except KafkaException as error:
            raise ConfigError(f"{self._destination.shown}: {error.args[0].str()}") from None

    def _produce(self, event: RelayedEvent, told: Any, ends: float) -> None:
        headers = {"id": event.id, "type": event.type, "at": event.at.isoformat(), "headers": event.headers}
        while True:
            try:
                self._producer.produce(
                    self._topic(event),
                    event.payload.encode(),
                    key=event.key,
                    headers=[(name, value.encode()) for name, value in headers.items() if value is not None],
                    timestamp=int(event.at.timestamp() * 1000),
                    on_delivery=told,
                )
            except BufferError:  # the client's queue is full
                if time.monotonic() > ends:
                    raise self._unavailable(None) from None
                self._producer.poll(0.05)
            else:
                return

    def _complained(self, error: KafkaError) -> None:
        self._complaint = error.str()

    def _meaning(self, event: RelayedEvent, error: KafkaError) -> BusRefused | BusUnavailable:
        if error.code() in NEVER:
            return BusRefused(f"{self._destination.shown}: topic {self._topic(event)} refuses it: {error.str()}", event)
        return self._unavailable(error)

    def _unavailable(self, error: KafkaError | None) -> BusUnavailable:
        shown, more = self._destination.shown, f" ({self._complaint})" if self._complaint else ""
        if error is None or error.code() in (KafkaError._MSG_TIMED_OUT, KafkaError._TIMED_OUT):
            return BusUnavailable(f"{shown} does not answer: nothing came in {self._answer_s:g} s{more}")
        return BusUnavailable(f"{shown} refuses for now: {error.str()}{more}")


def open_bus(destination: Destination, *, relay: str, answer_s: float) -> Kafka:
    """For `connect`."""
    return Kafka(destination, relay=relay, answer_s=answer_s)
