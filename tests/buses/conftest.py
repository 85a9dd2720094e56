"""Servers of a test's own, which end with it however it ends; and buses."""

from collections.abc import Callable, Iterator

import pytest

from pgqueue.buses.bus import Bus, connect
from tests.buses.events import PATIENT_S
from tests.buses.servers import Server

StartServer = Callable[[Server], Server]
OpenURL = Callable[..., Bus]


@pytest.fixture
def start_server() -> Iterator[StartServer]:
    """Start one that this test may harm."""
    started: list[Server] = []

    def start(server: Server) -> Server:
        started.append(server)
        return server.start()

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def open_url() -> Iterator[OpenURL]:
    """A relay's bus at a URL, closed when the test ends."""
    opened: list[Bus] = []

    def at(url: str, *, name: str = "mirror", lanes: int = 1, answer_s: float = PATIENT_S) -> Bus:
        opened.append(connect(url, relay=name, lanes=lanes, answer_s=answer_s))
        return opened[-1]

    yield at
    for bus in opened:
        bus.close()
