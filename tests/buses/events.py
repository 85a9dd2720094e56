"""Events for the tests of buses, and what each bus must survive."""

import contextlib
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from pgqueue.buses.bus import Bus, RelayedEvent
from pgqueue.errors import BusUnavailable
from tests.conftest import PATIENCE_S


class Mortal(Protocol):
    """A server that a test may kill."""

    def kill(self) -> None: ...
    def start(self) -> object: ...
    def is_dead(self) -> bool: ...


AT = datetime(2026, 11, 28, 12, tzinfo=UTC)
PATIENT_S = 2.0
"""How long a bus of a test may be silent: long for a server that lives, short for a test of one that does not."""


def event(
    number: int, *, type: str = "user.created", lane: int = 0, era: int = 1, size: int = 0, **others: str
) -> RelayedEvent:
    """One event; the same number gives the same one."""
    made = uuid.uuid5(uuid.NAMESPACE_OID, f"{era} {lane} {number}")
    payload = json.dumps({"n": number, "fill": "x" * size})
    return RelayedEvent(number, lane, era, str(made), type, others.get("key", f"user:{number % 7}"), payload, None, AT)


def events(count: int, *, first: int = 1, type: str = "user.created") -> list[RelayedEvent]:
    """Numbered ones."""
    return [event(number, type=type) for number in range(first, first + count)]


def batches(all_of_them: Sequence[RelayedEvent], *, of: int = 500) -> Iterator[Sequence[RelayedEvent]]:
    """As a relay sends them."""
    for start in range(0, len(all_of_them), of):
        yield all_of_them[start : start + of]


def relay(
    bus: Bus, batch: Sequence[RelayedEvent], *, failed: Callable[[BusUnavailable], object] = lambda error: None
) -> None:
    """Send a batch until it is acknowledged, as a relay does; `failed` is told of each failure."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return bus.send(batch)
        except BusUnavailable as error:
            assert time.monotonic() < deadline, f"never acknowledged: {error}"
            failed(error)
            time.sleep(0.01)


def killed_in_mid_stream(server: Mortal, bus: Bus, sent: Iterable[Sequence[RelayedEvent]]) -> int:
    """Send all batches while the server is killed twice, whatever is on its way then; how many calls failed."""
    failures: list[BusUnavailable] = []
    killer = threading.Thread(target=server.kill)

    def revive(error: BusUnavailable) -> None:
        failures.append(error)
        killer.join()
        if server.is_dead():
            server.start()

    for number, batch in enumerate(sent):
        if number in (10, 25):
            killer = threading.Thread(target=server.kill)
            killer.start()
        relay(bus, batch, failed=revive)
    killer.join()
    return len(failures)


def ids(sent: Sequence[RelayedEvent]) -> list[str]:
    """Of these events."""
    return [each.id for each in sent]


def threads_and_sockets() -> tuple[set[str], set[str]]:
    """What this process has open; threads of C libraries too."""
    sockets = set()
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            sockets.add(str(link.readlink()))
    return {task.name for task in Path("/proc/self/task").iterdir()}, {name for name in sockets if "socket:" in name}
