"""RabbitMQ: a persistent message for each event, to an exchange with a routing key, or straight to a queue.

All of a call are in flight at once, each with a confirm, and mandatory: a message that no queue takes comes back. A repeat is a
message more, with the same `message_id`: to drop it is the duty of who takes it.
"""

import asyncio
import ssl
from collections.abc import Sequence
from typing import Any

import aio_pika
from aio_pika.exceptions import (
    AMQPConnectionError,
    AMQPError,
    ChannelClosed,
    ChannelInvalidStateError,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    DeliveryError,
    PublishError,
)
from aiormq.exceptions import ConnectionChannelError

from pgqueue.buses.bus import RelayedEvent
from pgqueue.buses.destination import Destination
from pgqueue.buses.loop import FAREWELL_S, LoopThread
from pgqueue.errors import BusRefused, BusUnavailable

AMQP_HEARTBEAT_S = 30
SHORT = 255  # bytes of a routing key or of a type


class RabbitMQ:
    """A Bus; see there."""

    def __init__(self, destination: Destination, *, relay: str, answer_s: float) -> None:
        self._destination = destination
        self._relay = relay
        self._answer_s = answer_s
        self._loop = LoopThread("rabbitmq")
        self._connection: Any = None
        self._exchange: Any = None

    def send(self, events: Sequence[RelayedEvent]) -> None:
        """As Bus.send."""
        for event in events:
            self._check(event)
        try:
            self._loop.run(self._send(events), within_s=self._answer_s)
        except BusRefused:
            raise
        except (BusUnavailable, asyncio.CancelledError):
            self._disconnect()
            raise
        except (AMQPError, ChannelInvalidStateError, TimeoutError, OSError) as error:
            self._disconnect()
            raise self._unavailable(error) from None
        except BaseException:
            self._disconnect()
            raise

    def close(self) -> None:
        """As Bus.close."""
        self._disconnect()
        self._loop.close()

    def _key(self, event: RelayedEvent) -> str:
        return self._destination.name_for(event.type, event.lane)

    def _check(self, event: RelayedEvent) -> None:
        for what, text in (("routing key", self._key(event)), ("type", event.type)):
            if len(text.encode()) > SHORT:
                raise BusRefused(
                    f"{self._destination.shown}: a {what} has {SHORT} bytes at most: {text[:40]}...", event
                )

    # -- in the loop's thread --

    async def _send(self, events: Sequence[RelayedEvent]) -> None:
        if self._connection is None or self._connection.is_closed:
            await self._connect()
        answers = await self._publish(events)
        pairs = list(zip(events, answers, strict=True))
        if len(events) > 1 and any(isinstance(answer, LASTING) for answer in answers):
            await self._one_by_one([event for event, answer in pairs if _is_open(answer)])
            pairs = [(event, answer) for event, answer in pairs if not _is_open(answer)]
        for event, answer in pairs:
            if isinstance(answer, BaseException):
                raise self._meaning(event, answer)

    async def _one_by_one(self, events: Sequence[RelayedEvent]) -> None:
        """The server closes the channel for one message that it can never take, and does not say for which.

        The connection too, if it gets another message on that channel meanwhile; so on a new one.
        """
        await self._connection.close()
        await self._connect()
        for event in events:
            (answer,) = await self._publish([event])
            if isinstance(answer, BaseException):
                raise self._meaning(event, answer)

    async def _publish(self, events: Sequence[RelayedEvent]) -> list[Any]:
        """An answer for each, or what was raised for it. They are written in this order."""
        if self._exchange is None or self._exchange.channel.is_closed:
            await self._open_channel()
        sent = [self._exchange.publish(self._message(event), self._key(event), mandatory=True) for event in events]
        return await asyncio.gather(*sent, return_exceptions=True)

    def _message(self, event: RelayedEvent) -> aio_pika.Message:
        headers: dict[str, Any] = {"key": event.key, "headers": event.headers}
        return aio_pika.Message(
            event.payload.encode(),
            message_id=event.id,
            type=event.type,
            timestamp=event.at,
            content_type="application/json",
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            headers={name: value for name, value in headers.items() if value is not None},
        )

    async def _connect(self) -> None:
        destination = self._destination
        (host, port), *_ = destination.hosts
        self._connection = await aio_pika.connect(
            host=host,
            port=port,
            login=destination.user or "guest",
            password=destination.password if destination.password is not None else "guest",
            virtualhost=destination.parts[0],
            ssl=destination.tls,
            ssl_context=ssl.create_default_context() if destination.tls else None,
            timeout=self._answer_s,
            heartbeat=AMQP_HEARTBEAT_S,
            client_properties={"connection_name": f"pgqueue relay {self._relay}"},
        )
        await self._open_channel()

    async def _open_channel(self) -> None:
        if self._exchange is not None and not self._exchange.channel.is_closed:
            return
        channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
        name = self._destination.parts[1]
        self._exchange = await channel.get_exchange(name, ensure=False) if name else channel.default_exchange

    # -- what an error means --

    def _meaning(self, event: RelayedEvent, error: BaseException) -> BusRefused | BusUnavailable:
        shown, said = self._destination.shown, _said(error)
        match error:
            case PublishError():
                return BusRefused(
                    f"{shown}: no queue takes the routing key {self._key(event)}: bind one to the exchange", event
                )
            case DeliveryError():
                return BusUnavailable(
                    f"{shown} refuses for now: it took the message back, as a queue that is full does"
                )
            case ChannelNotFoundEntity() | ChannelPreconditionFailed():
                return BusRefused(f"{shown} refuses it: {said}", event)
        return self._unavailable(error)

    def _unavailable(self, error: BaseException) -> BusUnavailable:
        shown = self._destination.shown
        match error:
            case TimeoutError():
                return BusUnavailable(f"{shown} does not answer: nothing came in {self._answer_s:g} s")
            case AMQPConnectionError() if "ACCESS_REFUSED" in str(error) or "refused" in type(error).__name__.lower():
                return BusUnavailable(f"{shown} refuses the user, the password or the vhost")
            case ChannelClosed():
                return BusUnavailable(f"{shown} refuses for now: {_said(error)}")
        return BusUnavailable(f"{shown} cannot be reached: {_said(error)}")

    def _disconnect(self) -> None:
        connection, self._connection, self._exchange = self._connection, None, None
        if connection is None:
            return
        try:
            self._loop.run(connection.close(), within_s=FAREWELL_S)
        except BaseException:
            self._loop.close()  # whatever it still waits for


# After these the channel or the connection is closed, because of one of the messages.
LASTING = ChannelNotFoundEntity, ChannelPreconditionFailed, ConnectionChannelError


def _is_open(answer: object) -> bool:
    """Whether nothing is known of the message: it was neither confirmed nor returned."""
    return isinstance(answer, BaseException) and not isinstance(answer, DeliveryError)


def _said(error: BaseException) -> str:
    return str(error).strip() or type(error).__name__


def open_bus(destination: Destination, *, relay: str, answer_s: float) -> RabbitMQ:
    """For `connect`."""
    return RabbitMQ(destination, relay=relay, answer_s=answer_s)
