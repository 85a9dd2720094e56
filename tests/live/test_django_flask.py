"""Live streams of Django, under ASGI and WSGI, and of Flask with threads, under real servers."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from pgqueue import App
from pgqueue.live import ending
from tests.conftest import eventually
from tests.django.projects import environment
from tests.live.browser import EventSource, Told, free_port
from tests.live.servers import WebServer

Start = Callable[[int], WebServer]
SERVERS: dict[str, Callable[[int], list[str]]] = {
    "django-asgi": lambda port: [
        "uvicorn",
        "tests.live.django_site:asgi",
        "--port",
        str(port),
        "--log-level",
        "warning",
    ],
    "django-wsgi": lambda port: ["tests.live.threaded", "tests.live.django_site:wsgi", str(port)],
    "flask": lambda port: ["flask", "--app", "tests.live.flask_site", "run", "--port", str(port)],
}


@pytest.fixture(params=SERVERS)
def start(request: pytest.FixtureRequest, dsn: str, tmp_path: Path) -> Any:
    begun: list[WebServer] = []

    def start(port: int) -> WebServer:
        env = {name: value for name, value in environment(dsn).items() if name != "DJANGO_SETTINGS_MODULE"}
        begun.append(WebServer(SERVERS[request.param](port), tmp_path, port=port, env=env))
        return begun[-1]

    yield start
    for server in begun:
        server.kill()


async def ready(source: EventSource) -> AsyncIterator[Told]:
    events = source.events()
    assert (await asyncio.wait_for(anext(events), 60)).name == "listening"
    return events


async def take(events: AsyncIterator[Told], count: int) -> list[Any]:
    return [(await asyncio.wait_for(anext(events), 60)).data["payload"] for _ in range(count)]


@pytest.mark.long
def test_clients_follow_across_a_restart(app: App, conn: psycopg.Connection, start: Start) -> None:
    port = free_port()
    sources = [EventSource(port, "/orders") for _ in range(3)]

    async def first(server: WebServer) -> None:
        channel = EventSource(port, "/tenants/1")
        heard = await ready(channel)
        streams = [await ready(source) for source in sources]
        assert "content-type: text/event-stream" in sources[0].head
        app.publish_many([{"type": "order.paid", "payload": number} for number in range(10)])
        app.notify("tenant:1", {"id": 1})
        assert await take(heard, 1) == [{"id": 1}]
        assert [await take(stream, 4) for stream in streams] == [[0, 1, 2, 3]] * 3
        server.kill()
        for source in (*sources, channel):
            source.close()

    async def second() -> None:
        streams = [await ready(source) for source in sources]
        assert [await take(stream, 6) for stream in streams] == [[4, 5, 6, 7, 8, 9]] * 3
        count = "select count(*) from pg_stat_activity where application_name = 'pgqueue follow' and datname = current_database()"
        assert conn.execute(count).fetchone() == (1,)
        for source in sources:
            source.close()
        asleep = "select count(*) from pgqueue.event_reader where asleep"
        assert conn.execute(asleep).fetchone() != (0,)

    asyncio.run(first(start(port)))
    start(port)
    asyncio.run(second())


@pytest.mark.long
def test_a_client_that_went_is_forgotten(app: App, conn: psycopg.Connection, start: Start) -> None:
    """At once or at the next sign of life: then nobody listens to its channel any longer."""
    port = free_port()
    start(port)

    async def main() -> None:
        gone, stays = EventSource(port, "/tenants/1"), EventSource(port, "/tenants/2")
        await ready(gone)
        events = await ready(stays)
        gone.close()
        app.notify("tenant:2", 1)
        assert await take(events, 1) == [1]
        await asyncio.to_thread(eventually, lambda: unlistened(conn), what="the channel is left")
        stays.close()

    asyncio.run(main())


def unlistened(conn: psycopg.Connection) -> bool:
    query = "select query from pg_stat_activity where application_name = 'pgqueue channels' and datname = current_database()"
    return any("UNLISTEN" in (row[0] or "").upper() for row in conn.execute(query))


@pytest.mark.parametrize(
    ("server", "ends"),
    [
        (SimpleNamespace(should_exit=False), False), (SimpleNamespace(should_exit=True), True),
        (SimpleNamespace(alive=True), False), (SimpleNamespace(alive=False), True), (SimpleNamespace(), False),
    ],
)  # fmt: skip
def test_a_server_that_ends_is_known_by_its_handler(monkeypatch: pytest.MonkeyPatch, server: Any, ends: bool) -> None:
    """uvicorn's servers and gunicorn's workers, as their handlers of SIGTERM show them."""
    monkeypatch.setattr(signal, "getsignal", lambda _: SimpleNamespace(__self__=server))
    assert ending.server_ends() == ends
    closed: list[bool] = []

    class Open:
        def close(self) -> None:
            closed.append(True)

    watched = Open()
    ending.ServerWatch().watch(watched)
    if ends:
        eventually(lambda: closed, what="it is closed")
    server.should_exit = True
    eventually(lambda: closed, what="it is closed")
