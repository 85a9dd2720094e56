"""NATS JetStream: a message for each event, on a subject that a stream of the user's takes in.

`Nats-Msg-Id` is the event's id, by which the stream drops a repeat within its duplicate window (two minutes unless it says
otherwise). The first message of a connection goes alone: a server that has just started answers "no responders" until it has
found its streams, and of many at once the later ones would be taken and the earlier ones not. For the same reason nothing is
kept for a reconnect.
"""

import asyncio
import json
import ssl
from collections.abc import Sequence
from typing import Any

import nats.errors
import nats.js.errors
from nats.aio.client import Client

from pgqueue.buses.bus import RelayedEvent
from pgqueue.buses.destination import Destination
from pgqueue.buses.loop import FAREWELL_S, LoopThread
from pgqueue.errors import BusRefused, BusUnavailable

TOO_LARGE = 10054  # err_code of JetStream: the message exceeds what this stream takes
FORBIDDEN = " \t\r\n*>"  # in a subject

NO_RESPONDERS = "503"

Message = tuple[str, bytes, dict[str, str]]  # subject, payload, headers


class Answers:
    """What has come for the messages from `first` on: an object of JSON each, or None where nothing takes the subject."""

    def __init__(self, *, first: int, count: int) -> None:
        self.whole: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._awaited = range(first, first + count)
        self._come: dict[int, dict[str, Any] | None] = {}

    def add(self, serial: int, answer: dict[str, Any] | None) -> None:
        """One more; late ones of an earlier call are dropped."""
        if serial in self._awaited:
            self._come[serial] = answer
        if len(self._come) == len(self._awaited) and not self.whole.done():
            self.whole.set_result(None)

    def in_order(self) -> list[dict[str, Any] | None]:
        """Once it is whole."""
        return [self._come[serial] for serial in self._awaited]


class JetStream:
    """A Bus; see there."""

    def __init__(self, destination: Destination, *, relay: str, answer_s: float) -> None:
        self._destination = destination
        self._relay = relay
        self._answer_s = answer_s
        self._loop = LoopThread("nats")
        self._client: Any = None
        self._lost: asyncio.Event
        self._inbox: str
        self._serial: int
        self._answers: Answers
        self._complaint: str | None = None
        """What the server last said that was no answer, as that it grants no right."""

    def send(self, events: Sequence[RelayedEvent]) -> None:
        """As Bus.send."""
        messages = [self._message(event) for event in events]
        try:
            self._loop.run(self._send(events, messages), within_s=self._answer_s)
        except BusRefused:
            raise
        except BusUnavailable:
            self._disconnect()
            raise
        except (TimeoutError, OSError, nats.errors.Error, asyncio.CancelledError) as error:
            self._disconnect()
            raise self._unavailable(error) from None
        except BaseException:
            self._disconnect()
            raise

    def close(self) -> None:
        """As Bus.close."""
        self._disconnect()
        self._loop.close()

    # -- one event --

    def _message(self, event: RelayedEvent) -> Message:
        """Subject, payload and headers. Raises BusRefused for what NATS cannot carry."""
        subject = self._destination.name_for(event.type, event.lane)
        if any(each in subject for each in FORBIDDEN) or not all(subject.split(".")):
            raise BusRefused(f"{self._destination.shown}: {subject!r} is not a valid subject", event)
        headers = {"Nats-Msg-Id": event.id, "type": event.type, "at": event.at.isoformat()}
        if event.key is not None:
            headers["key"] = event.key
        if event.headers is not None:
            headers["headers"] = json.dumps(
                json.loads(event.headers)
            )  # in one line, without other characters than ASCII
        if any(value != value.strip() or "\r" in value or "\n" in value for value in headers.values()):
            raise BusRefused(f"{self._destination.shown}: the key {event.key!r} cannot be a header of a message", event)
        return subject, event.payload.encode(), headers

    def _check_size(self, event: RelayedEvent, payload: bytes, headers: dict[str, str]) -> None:
        """Here, because the server closes the connection of a client that sends more."""
        size = len(payload) + sum(len(f"{name}: {value}\r\n".encode()) for name, value in headers.items()) + 12
        if size > self._client.max_payload:
            raise BusRefused(
                f"{self._destination.shown} takes messages of {self._client.max_payload} bytes at most, and this one has {size}",
                event,
            )

    # -- in the loop's thread --

    async def _send(self, events: Sequence[RelayedEvent], messages: Sequence[Message]) -> None:
        first = self._client is None
        if first:
            await self._connect()
        for event, (_, payload, headers) in zip(events, messages, strict=True):
            self._check_size(event, payload, headers)
        alone = 1 if first else 0
        await self._publish(events[:alone], messages[:alone])
        await self._publish(events[alone:], messages[alone:])

    async def _connect(self) -> None:
        self._lost, self._complaint = asyncio.Event(), None
        self._client = client = Client()
        destination, by_password = self._destination, self._destination.password is not None
        await client.connect(
            [f"nats://{f'[{host}]' if ':' in host else host}:{port}" for host, port in destination.hosts],
            name=f"pgqueue relay {self._relay}",
            user=destination.user if by_password else None,
            password=destination.password,
            token=None if by_password else destination.user,
            tls=ssl.create_default_context() if destination.tls else None,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=self._answer_s,  # type: ignore[arg-type]
            error_cb=self._complained,
            disconnected_cb=self._disconnected,
        )
        self._inbox, self._serial = client.new_inbox(), 0
        await client.subscribe(f"{self._inbox}.*", cb=self._answered)

    async def _complained(self, error: Exception) -> None:
        self._complaint = str(error)
        if "permissions violation" in self._complaint.lower():
            self._lost.set()  # no answer will come

    async def _disconnected(self) -> None:
        self._lost.set()

    async def _publish(self, events: Sequence[RelayedEvent], messages: Sequence[Message]) -> None:
        """Send them and wait for the answers; nats-py's own publish_async never ends where the answer is an error (2.16.0)."""
        if not events:
            return
        self._answers = answers = Answers(first=self._serial, count=len(events))
        for serial, (subject, payload, headers) in enumerate(messages, self._serial):
            await self._client.publish(subject, payload, reply=f"{self._inbox}.{serial}", headers=headers)
        self._serial += len(events)
        await self._or_lost(answers.whole)
        for event, (subject, _, _), answer in zip(events, messages, answers.in_order(), strict=True):
            if answer is None:
                raise await self._without_stream(event, subject)
            if error := answer.get("error"):
                raise self._refusal(event, error)

    async def _or_lost(self, answered: "asyncio.Future[None]") -> None:
        """Wait for it; the end of the connection does not end it."""
        lost = asyncio.create_task(self._lost.wait())
        either: set[asyncio.Future[Any]] = {lost, answered}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            lost.cancel()
        if not answered.done():
            raise self._unavailable(ConnectionError(self._complaint or "the connection was lost"))

    async def _answered(self, message: Any) -> None:
        """One answer; of no stream, and no server that has one, the server says so in a header."""
        is_answer = (message.headers or {}).get("Status") != NO_RESPONDERS
        self._answers.add(int(message.subject.rpartition(".")[2]), json.loads(message.data) if is_answer else None)

    async def _without_stream(self, event: RelayedEvent, subject: str) -> BusRefused | BusUnavailable:
        """That no stream takes the subject is sure only of a server that knows its streams."""
        try:
            await self._client.jetstream(timeout=self._answer_s).find_stream_name_by_subject(subject)
        except nats.js.errors.NotFoundError:
            return BusRefused(
                f"{self._destination.shown}: no stream takes the subject {subject}: create one that does", event
            )
        return BusUnavailable(f"{self._destination.shown} refuses for now: the stream of {subject} has no leader yet")

    def _refusal(self, event: RelayedEvent, error: dict[str, Any]) -> BusRefused | BusUnavailable:
        said = error.get("description", "it gives no reason")
        if error.get("err_code") == TOO_LARGE:
            return BusRefused(f"{self._destination.shown} refuses it: {said}", event)
        return BusUnavailable(f"{self._destination.shown} refuses for now: {said}")

    # -- ends --

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        try:
            self._loop.run(client.close(), within_s=FAREWELL_S)
        except BaseException:
            self._loop.close()  # whatever it still waits for

    def _unavailable(self, error: BaseException) -> BusUnavailable:
        shown = self._destination.shown
        if isinstance(error, TimeoutError):
            return BusUnavailable(f"{shown} does not answer: nothing came in {self._answer_s:g} s")
        # "no servers" is said of a single one that refuses, after what it refuses with.
        said = str(error) if not isinstance(error, nats.errors.NoServersError) else str(self._complaint or error)
        if "authorization violation" in said.lower():
            return BusUnavailable(f"{shown} refuses the user, the password or the token")
        return BusUnavailable(f"{shown} cannot be reached: {said.strip() or type(error).__name__}")


def open_bus(destination: Destination, *, relay: str, answer_s: float) -> JetStream:
    """For `connect`."""
    return JetStream(destination, relay=relay, answer_s=answer_s)
