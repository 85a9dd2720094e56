"""The interface of a bus, and how one is found by its URL. Its client is imported here and nowhere before."""

import importlib
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Protocol, cast

from pgqueue.buses.destination import Destination
from pgqueue.errors import ConfigError

BUS_ANSWER_S = 8.0
"""How long a bus may be silent before a call ends with BusUnavailable; with its connect it stays below ten seconds."""


class RelayedEvent(NamedTuple):
    """An event on its way to a bus. payload and headers are JSON text.

    number: grows by one in the order of delivery of its lane, and is the same when the event is sent again.
    """

    number: int
    lane: int
    era: int
    id: str
    type: str
    key: str | None
    payload: str
    headers: str | None
    at: datetime

    def __repr__(self) -> str:
        """Without the payload: what is logged must not hold somebody's secrets."""
        return f"<RelayedEvent {self.id} {self.type}>"


class Bus(Protocol):
    """A connection to one bus, opened by the first `send` and again by the next one after an error. For one thread."""

    def send(self, events: Sequence[RelayedEvent]) -> None:
        """Return once the bus has acknowledged all of them, each lane in its order.

        Raises BusUnavailable: the bus is down, silent, or refuses for now. Some of them may be there: send all of them again.
        Raises BusRefused, with the event: this one can never go. Some of the others may be there: send all others again.
        """
        ...

    def close(self) -> None:
        """End its threads and sockets; never raises, and may be called twice."""
        ...


def check(url: str, *, lanes: int = 1) -> None:
    """Whether a relay of this many lanes can send to the URL, as far as that is known without connecting or its client.

    Raises ConfigError, which names the part that is wrong or missing.
    """
    Destination.read(url, lanes=lanes)


def connect(url: str, *, relay: str, lanes: int = 1, answer_s: float = BUS_ANSWER_S) -> Bus:
    """The bus that the URL names. Raises ConfigError for a wrong URL, and for a missing client, naming the extra to install.

    relay: its name, which the bus's own tools show. Nothing is connected yet.
    """
    destination = Destination.read(url, lanes=lanes)
    kind = destination.kind
    try:
        module = importlib.import_module(f"pgqueue.buses.{kind.module}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != kind.client:
            raise
        raise ConfigError(
            f"a relay to {destination.shown} needs the package {kind.client}: pip install 'pgqueue-jobs[{kind.extra}]'"
        ) from None
    return cast("Bus", module.open_bus(destination, relay=relay, answer_s=answer_s))
