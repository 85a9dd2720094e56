"""A TCP proxy before a PostgreSQL server that can lose what it carries: one way or both, late, message by message.

It stands in for a network where namespaces and packet filters are not allowed. One difference: the kernel goes on
acknowledging packets, as a frozen host behind a living router does, so TCP's own timeouts never fire. That is the harder
case. Bytes that were swallowed are gone for good: a connection that lost some is reset when the network heals.
"""

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

# What a server's message is (type, body), and whether it may pass. Called in the proxy's thread.
Reply = Callable[[bytes, bytes], bool]
NOTIFICATION = b"A"
COMMAND_COMPLETE = b"C"


class Proxy:
    """Listens on 127.0.0.1:`port` and passes everything on to 127.0.0.1:`target` until told otherwise. A context manager."""

    def __init__(self, target: int) -> None:
        self._target, self._host = target, "127.0.0.1"
        self.port = 0
        self.delay_s = 0.0  # one way; with as much again of jitter
        self.accepted = 0  # connections, ever
        self.commits_lost = 0  # since lose_commits()
        self.reply: Reply | None = None
        # Sees what clients send, before the server does; what it returns False for is swallowed.
        self.request: Callable[[bytes], object] | None = None
        self._swallow: frozenset[str] = frozenset()
        self._pairs: set[_Pair] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._server: asyncio.Server | None = None

    def __enter__(self) -> "Proxy":
        self._thread.start()
        self._call(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # -- harm: each may be called from any thread --

    def cut(self) -> None:
        """Swallow everything in both directions; connections, new ones too, stay open and hear nothing."""
        self._swallow = frozenset({"requests", "replies"})

    def lose(self, direction: str) -> None:
        """Swallow one direction: requests (to the server) or replies."""
        self._swallow = frozenset({direction})

    @property
    def torn(self) -> int:
        """How many of the open connections have lost bytes."""
        return sum(pair.torn for pair in list(self._pairs))

    def lose_commits(self, direction: str = "replies") -> None:
        """Swallow every COMMIT (requests), or the answer to it: the server did it, and its client will never know."""
        self.commits_lost = 0
        answering = False

        def sent(data: bytes) -> bool:
            lost = b"COMMIT\0" in data
            self.commits_lost += lost
            return not lost

        def answered(kind: bytes, body: bytes) -> bool:
            nonlocal answering
            # The COMMIT's word, and the "ready" that comes behind it in one piece.
            is_word = kind == COMMAND_COMPLETE and body.startswith(b"COMMIT")
            self.commits_lost += is_word
            answering = is_word or (answering and kind == b"Z")
            return not answering

        if direction == "requests":
            self.request = sent
        else:
            self.reply = answered

    def forget(self) -> None:
        """Swallow what the connections of now still send, as a router does that forgot them; new ones are carried."""
        for pair in list(self._pairs):
            pair.forgotten = pair.torn = True

    def heal(self) -> None:
        """Carry everything again. Connections that lost bytes are reset."""
        self._swallow, self.delay_s, self.reply, self.request = frozenset(), 0.0, None, None
        self._call(self._reset(only_torn=True))

    def reset(self) -> None:
        """RST to both ends of every connection."""
        self._call(self._reset(only_torn=False))

    def refuse(self) -> None:
        """Refuse new connections from now on; accept() takes them again."""
        self._call(self._stop_listening())

    def accept(self) -> None:
        """Listen again, on the same port."""
        self._call(self._open())

    def retarget(self, port: int, *, host: str = "127.0.0.1") -> None:
        """Lead new connections elsewhere, as an address does that moves in a fail-over."""
        self._target, self._host = port, host

    # -- the loop's side --

    def _call(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop_listening(self) -> None:
        if self._server is None:
            return
        server, self._server = self._server, None
        # Who was accepted in this very turn of the loop still needs the server; without it his socket would be left open.
        for listening in server.sockets:
            self._loop.remove_reader(listening.fileno())
        await asyncio.sleep(0)
        server.close()

    async def _close(self) -> None:
        await self._stop_listening()
        # All end by themselves then; streams would complain of tasks that were cancelled. Again and again: a client whose
        # connection was just accepted becomes a task only now, and one of a pair only once the server has answered it.
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await self._reset(only_torn=False)
            await asyncio.wait(others, timeout=0.01)

    async def _reset(self, *, only_torn: bool) -> None:
        for pair in list(self._pairs):
            if pair.torn or not only_torn:
                pair.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            onward = await asyncio.open_connection(self._host, self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = _Pair(writer, onward[1])
        self._pairs.add(pair)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._carry("requests", reader, onward[1], pair, None))
                both.create_task(self._carry("replies", onward[0], writer, pair, _Messages()))
        except* (
            OSError,
            asyncio.CancelledError,
        ):  # an end is gone; or the proxy closes, which streams would complain of
            pair.abort()
        finally:
            self._pairs.discard(pair)
            pair.abort()

    async def _carry(
        self, direction: str, source: asyncio.StreamReader, sink: asyncio.StreamWriter, pair: "_Pair",
        messages: "_Messages | None",
    ) -> None:  # fmt: skip
        while data := await source.read(1 << 16):
            if self.delay_s:
                await asyncio.sleep(self.delay_s + random.uniform(0, self.delay_s))
            if messages is not None:
                data = messages.passed(data, self.reply)
                pair.torn = pair.torn or messages.dropped
            elif self.request is not None and self.request(data) is False:
                pair.torn = True
                continue
            if direction in self._swallow or pair.forgotten:
                pair.torn = True
                continue
            sink.write(data)
            await sink.drain()
        if direction in self._swallow or pair.forgotten:  # the end of the stream does not get through either
            pair.torn = True
            await pair.over.wait()
        raise ConnectionResetError  # one end is gone: so is the other


class _Pair:
    """The two connections that the proxy joins."""

    def __init__(self, *writers: asyncio.StreamWriter) -> None:
        self._writers = writers
        self.torn = False
        self.forgotten = False
        self.over = asyncio.Event()

    def abort(self) -> None:
        self.over.set()
        for writer in self._writers:
            sock = writer.get_extra_info("socket")
            if sock is not None and not writer.transport.is_closing():
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


class _Messages:
    """Cuts the server's stream into messages, so that some of them can be held back."""

    def __init__(self) -> None:
        self._rest = b""
        self.dropped = False  # an answer that its client still waits for

    def passed(self, data: bytes, reply: Reply | None) -> bytes:
        """What may pass now; the beginning of a message waits for its end."""
        data = self._rest + data
        out, at = [], 0
        while len(data) - at >= 5:
            end = at + 1 + int.from_bytes(data[at + 1 : at + 5])
            if end > len(data):
                break
            if reply is None or reply(data[at : at + 1], data[at + 5 : end]):
                out.append(data[at:end])
            elif data[at : at + 1] != NOTIFICATION:
                self.dropped = True
            at = end
        self._rest = data[at:]
        return b"".join(out)
