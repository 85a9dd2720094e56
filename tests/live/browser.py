"""A client of server-sent events, as a browser is one: it keeps the last id, and comes back with it."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from typing import Any, NamedTuple


class Told(NamedTuple):
    """One event of a stream. name: `message` for those without one."""

    name: str
    data: Any
    id: str | None


class EventSource:
    """Reads one address; `events` ends with the connection, and may be called again."""

    def __init__(self, port: int, path: str) -> None:
        self._port, self._path = port, path
        self.last_id: str | None = None
        self.status = ""
        self.signs_of_life = 0
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        back = f"Last-Event-ID: {self.last_id}\r\n" if self.last_id else ""
        self._writer.write(
            f"GET {self._path} HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\n{back}\r\n".encode()
        )
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        self.status = head.split("\r\n")[0]
        self.head = head.lower()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    async def events(self) -> AsyncIterator[Told]:
        if self._writer is None or self._writer.is_closing():
            await self.open()
        name, data, fresh = "message", list[str](), self.last_id
        try:
            async for line in self._lines():
                field, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if not line:
                    self.last_id = fresh
                    if data:
                        yield Told(name, json.loads("\n".join(data)), fresh)
                    name, data = "message", []
                elif field == "event":
                    name = value
                elif field == "data":
                    data.append(value)
                elif field == "id":
                    fresh = value
                elif not field:
                    self.signs_of_life += 1
        finally:
            self.close()

    async def _lines(self) -> AsyncIterator[str]:
        """Of what may come in chunks; one that is cut off does not count."""
        rest = b""
        chunked = "transfer-encoding: chunked" in self.head
        while True:
            try:
                if chunked:
                    size = int((await self._reader.readuntil(b"\r\n")), 16)
                    part = (await self._reader.readexactly(size + 2))[:-2]
                else:
                    part = await self._reader.read(65_536)
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            if not part:
                return
            *lines, rest = re.split(rb"\r\n|\n", rest + part)
            for line in lines:
                yield line.decode()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
