"""What supervisor and children say to each other: JSON lists, each behind four bytes of length, over a socket pair.

Supervisor to child:

["setup", {...}]                                    first: the app, the number of threads, the worker's name
["run", [job, ...]]                                 jobs, of which the sync ones start in this order
["return_unstarted"]                                return what has not started
["soft_limit", id]                                  its time limit is over: interrupt it where that is safe
["cancel", id]                                      somebody asked to cancel it
["ask_policy", job, cause, error]                   its child was killed over its time limit: what does its policy say?
["stop"]                                            finish what you have, and end

Child to supervisor:

["hello", {...}] or ["failed", reason, trace]       first: the app's settings and tasks, or why it could not be imported
["done", [[outcome, microseconds], ...], rss_mb]    jobs that have ended, and those whose policy was asked
["returned", [id, ...]]                             these have not started and will not start here
["replace_me", why, any job succeeded]              this process is of no more use
["progress", id, token, fraction, note]             how far a job has come
["waits", task, awaited id]                         a job waits in result() for another one

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
