"""Live streams of FastAPI under a real server: nothing lost or doubled whatever happens to it, and no client harms another."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect

from pgqueue import App, DatabaseUnavailable, InvalidOption
from pgqueue.contrib.fastapi import event_stream, websocket_events
from tests.conftest import eventually
from tests.live.browser import EventSource, Told, free_port
from tests.live.servers import WebServer, in_thread, uvicorn
from tests.live.site import site
from tests.web import TestClient

SITE = "tests.live.site:web"


@pytest.fixture
def port(app: App) -> Iterator[int]:
    with in_thread(site(app)) as port:
        yield port
        app.close()  # ends the streams that a test has left open


@pytest.fixture
def server(tmp_path: Path, dsn: str) -> Iterator[WebServer]:
    with uvicorn(SITE, tmp_path, dsn) as server:
        yield server


async def ready(source: EventSource) -> AsyncIterator[Told]:
    """Its events after the first, which says that it listens."""
    events = source.events()
    assert (await asyncio.wait_for(anext(events), 60)).name == "listening"
    return events


async def take(events: AsyncIterator[Told], count: int) -> list[Any]:
    return [(await asyncio.wait_for(anext(events), 60)).data["payload"] for _ in range(count)]


async def rest(events: AsyncIterator[Told]) -> list[Told]:
    return [told async for told in events]


def publish(app: App, *numbers: int) -> None:
    app.publish_many([{"type": "order.paid", "payload": number, "key": "k"} for number in numbers])


def test_what_is_published_comes_as_an_event(app: App, port: int) -> None:
    async def main() -> None:
        source = EventSource(port, "/orders")
        events = await ready(source)
        assert "200" in source.status and "content-type: text/event-stream" in source.head
        id_ = app.publish("order.paid", {"text": "a\nb", "euro": "€"}, key="order:7")
        told = await asyncio.wait_for(anext(events), 60)
        assert told.name == "message" and told.id
        assert told.data.pop("at").endswith("+00:00")
        assert told.data == {
            "id": id_, "type": "order.paid", "key": "order:7", "payload": {"text": "a\nb", "euro": "€"}
        }  # fmt: skip
        source.close()

    asyncio.run(main())


def test_what_is_sent_to_a_channel_comes_as_it_is(app: App, conn: psycopg.Connection, port: int) -> None:
    async def main() -> None:
        source, other = EventSource(port, "/tenants/1"), EventSource(port, "/tenants/2")
        events, others = await ready(source), await ready(other)
        app.notify("tenant:1", {"id": 1})
        conn.execute("""select pg_notify('tenant:1', 'no "JSON"')""")
        app.notify("tenant:2", 2)
        assert await take(events, 2) == [{"id": 1}, 'no "JSON"']
        assert await take(others, 1) == [2]
        source.close()
        other.close()

    asyncio.run(main())


@pytest.mark.long
def test_a_server_that_is_restarted_loses_and_doubles_nothing(app: App, tmp_path: Path, dsn: str) -> None:
    port = free_port()
    sources = [EventSource(port, "/orders") for _ in range(3)]
    got: list[list[Any]] = [[] for _ in sources]

    async def first() -> None:
        for source in sources:
            await ready(source)
            source.close()

    with uvicorn(SITE, tmp_path, dsn, port=port):
        asyncio.run(first())
    for turn in range(3):
        publish(app, *range(turn * 10, turn * 10 + 10))
        with uvicorn(SITE, tmp_path, dsn, port=port) as server:
            asyncio.run(read_some(sources, got))
            server.kill() if turn else server.stop()
    with uvicorn(SITE, tmp_path, dsn, port=port):
        asyncio.run(read_some(sources, got, until=30))
    assert got == [list(range(30))] * 3


async def read_some(sources: list[EventSource], got: list[list[Any]], *, until: int = 0) -> None:
    for source, into in zip(sources, got, strict=True):
        events = await ready(source)
        into += await take(events, until - len(into) if until else 7)
        source.close()


@pytest.mark.long
def test_two_hundred_clients_share_one_connection(app: App, conn: psycopg.Connection, port: int) -> None:
    async def main() -> None:
        sources = [EventSource(port, "/orders" if number % 2 else f"/tenants/{number}") for number in range(200)]
        streams = await asyncio.gather(*map(ready, sources))
        publish(app, 1, 2, 3)
        with app._database.door(None) as (door, _), door.transaction():
            for number in range(0, 200, 2):
                app.notify(f"tenant:{number}", number, conn=door)
        got = await asyncio.gather(*(take(events, 3 if number % 2 else 1) for number, events in enumerate(streams)))
        assert got == [[1, 2, 3] if number % 2 else [number] for number in range(200)]
        query = (
            "select application_name, count(*) from pg_stat_activity"
            " where application_name in ('pgqueue follow', 'pgqueue channels') and datname = current_database() group by 1"
        )
        wanted = [("pgqueue channels", 1), ("pgqueue follow", 1)]
        await asyncio.to_thread(eventually, lambda: sorted(conn.execute(query)) == wanted, what="there are no others")
        for source in sources:
            source.close()

    asyncio.run(main())


@pytest.mark.long
def test_a_server_that_is_told_to_end_ends_at_once(app: App, server: WebServer) -> None:
    async def main() -> tuple[float, list[list[Told]]]:
        sources = [EventSource(server.port, path) for path in ("/orders", "/tenants/1") for _ in range(5)]
        streams = [await ready(source) for source in sources]
        async with connect(f"ws://127.0.0.1:{server.port}/socket") as socket:
            await socket.recv()
            ended = asyncio.create_task(asyncio.to_thread(server.stop))
            rests = await asyncio.wait_for(asyncio.gather(*map(rest, streams)), 60)
            return await ended, rests

    took_s, rests = asyncio.run(main())
    assert not any(rests)
    assert took_s < 20, f"{took_s:.1f} s: {server.log}"  # 0.2 to 0.3 s on a quiet machine; without our part never
    assert server.log == ""


def test_a_client_that_goes_is_forgotten_at_once(app: App) -> None:
    gone = asyncio.Event()

    async def main() -> None:
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)
            gone.set()

        response: Any = event_stream(app, types=["order.*"])
        scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
        await asyncio.wait_for(response(scope, receive, send), 10)
        assert sent[0]["status"] == 200

    asyncio.run(main())
    eventually(lambda: not app._follows.tail._crowd, what="nobody follows")


@pytest.mark.parametrize("broken", ["listening", "close"])
def test_a_socket_whose_client_went_is_no_error(app: App, broken: str) -> None:
    """uvicorn raises OSError while it sends, and Starlette makes a WebSocketDisconnect of it."""

    async def main() -> None:
        asked: list[dict[str, Any]] = [{"type": "websocket.connect"}]
        tried: list[str] = []
        told = asyncio.Event()

        async def receive() -> dict[str, Any]:
            if asked:
                return asked.pop()
            await told.wait()
            return {"type": "websocket.disconnect", "code": 1006}

        async def send(message: MutableMapping[str, Any]) -> None:
            name = json.loads(message["text"])["event"] if "text" in message else message["type"].rpartition(".")[2]
            tried.append(name)
            if name == "listening":
                told.set()
            if name == broken:
                raise OSError("the client has gone")

        socket = WebSocket({"type": "websocket", "path": "/", "query_string": b"", "headers": []}, receive, send)
        await asyncio.wait_for(websocket_events(socket, app, types=["order.*"]), 10)
        assert tried[:2] == ["accept", "listening"] and broken in tried

    asyncio.run(main())


@pytest.mark.long
def test_a_client_that_does_not_read_holds_up_nobody(app: App, port: int) -> None:
    async def main() -> None:
        lazy, keen = EventSource(port, "/orders"), EventSource(port, "/orders")
        lazily, keenly = await ready(lazy), await ready(keen)
        large = "x" * 20_000
        for turn in range(30):
            app.publish_many([{"type": "order.paid", "payload": [turn * 20 + n, large]} for n in range(20)])
            got = await take(keenly, 20)
            assert [number for number, _ in got] == list(range(turn * 20, turn * 20 + 20))
        # 12 MB lie in front of it: in sockets, in its inbox, and the others in the log alone.
        assert [number for number, _ in await take(lazily, 600)] == list(range(600))
        lazy.close()
        keen.close()

    asyncio.run(main())


def test_a_quiet_stream_gives_signs_of_life_and_keeps_the_place(app: App, port: int) -> None:
    async def main() -> None:
        source = EventSource(port, "/orders")
        reading = asyncio.create_task(rest(await ready(source)))
        before = source.last_id
        app.publish("user.new", 1)
        while source.signs_of_life < 2 or source.last_id == before:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        source.close()
        assert await reading == []
        publish(app, 5)
        assert await take(await ready(source), 1) == [5]
        source.close()

    asyncio.run(main())


def test_an_id_that_is_not_of_this_log_is_told_by_name(app: App, port: int) -> None:
    async def main() -> None:
        source = EventSource(port, "/orders?last_event_id=7")
        events = await ready(source)
        told = await asyncio.wait_for(anext(events), 60)
        assert (told.name, told.data["why"]) == ("gap", "the position is none of this log")
        assert told.id
        publish(app, 1)
        assert await take(events, 1) == [1]
        source.close()

    asyncio.run(main())


def test_a_websocket_gets_the_same(app: App, port: int) -> None:
    async def main() -> None:
        async with connect(f"ws://127.0.0.1:{port}/socket") as socket:
            assert json.loads(await socket.recv())["event"] == "listening"
            publish(app, 1, 2)
            first = await message_of(socket)
            assert first["data"]["payload"] == 1
            await socket.send("heard")
        async with connect(f"ws://127.0.0.1:{port}/socket?last_event_id={first['id']}") as socket:
            assert json.loads(await socket.recv())["event"] == "listening"
            assert (await message_of(socket))["data"]["payload"] == 2

    asyncio.run(main())


async def message_of(socket: Any) -> Any:
    while (told := json.loads(await socket.recv()))["event"] == "alive":
        pass
    assert told["event"] == "message"
    return told


def test_a_database_that_is_away_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastapi import FastAPI
    from fastapi.responses import JSONResponse, Response

    monkeypatch.setattr("pgqueue.db.ANSWER_S", 0.0)
    away = App("host=127.0.0.1 port=1 user=nobody dbname=none", pool_timeout_s=0.1)
    web = FastAPI()

    @web.exception_handler(DatabaseUnavailable)
    async def say(*_: Any) -> JSONResponse:
        return JSONResponse({}, 503)

    @web.get("/", response_class=Response)
    async def stream() -> Any:
        return event_stream(away, types=["order.*"])

    with TestClient(web) as client:
        assert client.get("/").status_code == 503
    away.close()


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({}, "give one of the two"),
        ({"types": ["a"], "channels": ["b"]}, "give one of the two"),
        ({"types": "order.*"}, r"types=\['order.\*'\]"),
        ({"types": ["order*"]}, "only 'user.*'"),
        ({"channels": [""]}, "empty"),
        ({"channels": ["pgqueue_jobs"]}, "pgqueue_jobs"),
        ({"types": ["a"], "beat_s": 0}, "beat_s takes"),
        ({"types": ["a"], "retry_s": "3"}, "retry_s takes"),
    ],
)
def test_what_cannot_be_is_said_at_once(app: App, wanted: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidOption, match=told):
        event_stream(app, **wanted)
