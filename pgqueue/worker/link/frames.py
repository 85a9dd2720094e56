"""What supervisor and children say to each other: JSON lists, each behind four bytes of length, over a socket pair.

Supervisor to child: ["setup", {...}] first, then ["run", [job, ...]], ["nudge"], ["soft", id], ["cancel", id],
["judge", job, cause, error], ["stop"]. Child to supervisor: ["hello", {...}] or ["failed", reason] first, then
["done", [[outcome, microseconds], ...], rss_mb], ["spent", why, whether any job succeeded], ["given", [id, ...]],
["progress", id, token, fraction, note], ["waits", task, awaited id].
Nothing is pickled: a child that runs hostile data can at worst say wrong things about its own jobs.
"""

import json
from collections.abc import Iterator
from typing import Any

MAX_FRAME_BYTES = 1 << 30  # more is not a frame but a broken stream
_LENGTH = 4
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def pack(message: list[Any]) -> bytes:
    """One message as bytes."""
    body = _encode(message).encode("utf-8", "surrogatepass")
    return len(body).to_bytes(_LENGTH, "big") + body


class Unpacker:
    """Bytes in, in pieces of any size; messages out."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[list[Any]]:
        """Take what the socket gave and yield every message that is now whole; raises ValueError on a broken stream."""
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= _LENGTH:
            size = int.from_bytes(buffer[start : start + _LENGTH], "big")
            if size > MAX_FRAME_BYTES:
                raise ValueError(f"a frame of {size} bytes")
            if len(buffer) - start - _LENGTH < size:
                break
            body = bytes(buffer[start + _LENGTH : start + _LENGTH + size])
            start += _LENGTH + size
            yield json.loads(body.decode("utf-8", "surrogatepass"))
        del buffer[:start]
