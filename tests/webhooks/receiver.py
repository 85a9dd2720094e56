"""An endpoint of webhooks: http.server in a thread, which answers as a test tells it to."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Delivered(NamedTuple):
    """A request that came."""

    path: str
    headers: Message
    body: bytes


Reply = Callable[["Request"], None]


class Request(BaseHTTPRequestHandler):
    """One, answered by the receiver's next reply."""

    protocol_version = "HTTP/1.1"
    server: "Receiver"

    def do_POST(self) -> None:
        """Note it and answer."""
        body = self.rfile.read(int(self.headers["content-length"]))
        reply = self.server.replies.pop(0) if self.server.replies else self.server.usual
        self.server.delivered.append(Delivered(self.path, self.headers, body))
        with contextlib.suppress(OSError):  # who has asked does not wait any longer
            reply(self)

    def do_GET(self) -> None:
        """Nobody may follow a redirect."""
        self.server.delivered.append(Delivered(f"GET {self.path}", self.headers, b""))
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def status(code: int, body: bytes = b"", **headers: str) -> Reply:
    """An answer; `retry_after` is the header Retry-After."""

    def reply(request: Request) -> None:
        request.send_response_only(code)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("content-length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    return reply


def raw(text: bytes) -> Reply:
    """Whatever it is."""
    return lambda request: (request.wfile.write(text), None)[1]


def hang(request: Request) -> None:
    """No answer, until the one who asks has gone."""
    request.connection.recv(1)


def drip(request: Request) -> None:
    """A byte at a time, for a minute."""
    for byte in b"HTTP/1.1 200 OK\r\nx-" + b"a" * 600:
        request.wfile.write(bytes([byte]))
        time.sleep(0.1)


def huge(request: Request) -> None:
    """A body without an end."""
    request.send_response_only(500)
    request.end_headers()
    while True:
        request.wfile.write(b"x" * 65_536)


class Receiver(ThreadingHTTPServer):
    """Listens on a port of its own."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.replies: list[Reply] = []
        self.usual = status(204)
        self.delivered: list[Delivered] = []

    @property
    def url(self) -> str:
        """Of an endpoint there."""
        return f"http://127.0.0.1:{self.server_port}/hook?source=shop"

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: the one who asks may vanish."""


@contextlib.contextmanager
def receiver() -> Iterator[Receiver]:
    """One, for a block."""
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
