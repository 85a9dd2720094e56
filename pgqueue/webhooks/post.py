"""One POST over asyncio's own streams: to an address that was checked, without redirects, all of it within a deadline.

An HTTP client would look the host up again when it connects, and a name server may answer something else then.
"""

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import NamedTuple

from pgqueue.errors import WebhookFailed, WebhookRefused
from pgqueue.terminal import one_line
from pgqueue.webhooks.website import Website, is_public

HEAD = 64 * 1024  # bytes of an answer's head
EXCERPT = 300  # bytes of its body, for the error; the rest is not read
BODY_S = 1.0  # for those; what matters has been said
ADDRESSES = 3  # of a host, that are tried
STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})(?: |$)")


class Answer(NamedTuple):
    """What the endpoint said."""

    status: int
    retry_after_s: float | None
    text: str
    """The beginning of its body, unless that is one of success."""


async def post(
    website: Website, body: bytes, headers: Mapping[str, str], *, allow_private: bool, within_s: float
) -> Answer:
    """Raises WebhookFailed for what may pass, and WebhookRefused for an address that is not allowed."""
    try:
        async with asyncio.timeout(within_s):
            reader, writer = await _connect(website, await _addresses(website, allow_private=allow_private))
            try:
                writer.write(_request(website, body, headers))
                await writer.drain()
                return await _answer(reader)
            finally:
                writer.transport.abort()  # to wait for a farewell would be one more thing that it can delay
    except TimeoutError:
        raise WebhookFailed(f"{website.site} gave no answer in {within_s:g} s") from None
    except (OSError, asyncio.IncompleteReadError) as error:
        raise WebhookFailed(f"{website.site}: {_said(error)}") from None
    except (asyncio.LimitOverrunError, ValueError):
        raise WebhookFailed(f"{website.site} gave an answer that is not valid HTTP/1.1") from None


async def _addresses(website: Website, *, allow_private: bool) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(website.host, website.port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    allowed = [address for address in addresses if allow_private or is_public(address)]
    if not allowed:
        raise WebhookRefused(
            f"{website.site} is at {addresses[0]}, a private address: if that is meant, allow private addresses for this webhook"
        )
    return allowed[:ADDRESSES]


async def _connect(website: Website, addresses: list[str]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    *others, last = addresses
    for address in others:
        with contextlib.suppress(OSError):
            return await _open(website, address)
    return await _open(website, last)


async def _open(website: Website, address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if not website.tls:
        return await asyncio.open_connection(address, website.port, limit=HEAD)
    return await asyncio.open_connection(address, website.port, limit=HEAD, ssl=_trust(), server_hostname=website.host)


@cache
def _trust() -> ssl.SSLContext:
    """The system's certificates; read once, which takes 20 ms."""
    return ssl.create_default_context()


def _request(website: Website, body: bytes, headers: Mapping[str, str]) -> bytes:
    lines = {
        "host": website.site.partition("://")[2],
        "user-agent": "pgqueue",
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
        **headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {website.path} HTTP/1.1\r\n{head}\r\n".encode("ascii") + body


async def _answer(reader: asyncio.StreamReader) -> Answer:
    status = 100
    while 100 <= status < 200:  # what is said before the answer
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        found = STATUS_LINE.match(first)
        if found is None:
            raise ValueError
        status = int(found[1])
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    text = b""
    if not 200 <= status < 300:
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(BODY_S):
                text = await reader.read(EXCERPT)
    waits_s = _retry_after_s(
        headers.get(b"retry-after", b"").decode("latin-1"), headers.get(b"date", b"").decode("latin-1")
    )
    return Answer(status, waits_s, one_line(text.decode("utf-8", "replace"), at_most=EXCERPT))


def _retry_after_s(value: str, date: str) -> float | None:
    """In seconds; of a date what it is after the server's own, as our clock may differ from that."""
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        until = _utc(parsedate_to_datetime(value))
    except ValueError:
        return None
    try:
        now = _utc(parsedate_to_datetime(date))
    except ValueError:
        now = datetime.now(UTC)
    return max((until - now).total_seconds(), 0.0)


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _said(error: OSError | asyncio.IncompleteReadError) -> str:
    match error:
        case asyncio.IncompleteReadError():
            return "the connection was closed before it gave an answer"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not valid: {error.verify_message}"
        case OSError():
            return error.strerror or str(error) or type(error).__name__
