"""Ends streams when their web server is told to end: a server waits for open answers, and these would never be over.

Nobody tells an application that its server ends: ASGI's lifespan comes after the last answer, WSGI has nothing. But servers
for Python take SIGTERM by a method of an object that knows it, which anybody may look at: uvicorn's `should_exit`, gunicorn's
`alive`. Looking changes nothing; a handler of ours would be in the way of theirs.
"""

import signal
import threading
from typing import Protocol
from weakref import WeakSet

SERVER_LOOK_S = 0.2


class Closable(Protocol):
    """What a stream reads from."""

    def close(self) -> None: ...


def server_ends() -> bool:
    """Whether the server of this process was told to end."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return bool(getattr(server, "should_exit", False)) or not getattr(server, "alive", True)


class ServerWatch:
    """Closes what it watches once the server ends; its thread is there for as long as something is watched."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: WeakSet[Closable] = WeakSet()
        self._thread: threading.Thread | None = None
        self._let_go = threading.Event()

    def watch(self, stream: Closable) -> None:
        """Close it then."""
        with self._lock:
            self._watched.add(stream)
            if self._thread is None or not self._thread.is_alive():  # after a fork there is only the caller's thread
                self._thread = threading.Thread(target=self._look, name="pgqueue live", daemon=True)
                self._thread.start()

    def _look(self) -> None:
        while not server_ends():
            with self._lock:
                if not self._watched:
                    self._thread = None
                    return
            self._let_go.wait(SERVER_LOOK_S)
        with self._lock:
            self._thread = None
            ending = list(self._watched)
        for stream in ending:
            stream.close()


SERVER_WATCH = ServerWatch()
