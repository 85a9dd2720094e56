"""Web servers as processes of their own."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from fastapi import FastAPI
from uvicorn import Config, Server

from tests.conftest import eventually
from tests.live.browser import free_port
from tests.shell import ROOT


class WebServer:
    """One that answers on `port`; its log is a file."""

    def __init__(self, words: list[str], folder: Path, *, port: int, env: dict[str, str]) -> None:
        self.port = port
        self._log = folder / f"server{time.monotonic_ns()}.log"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *words], cwd=folder, stdout=log, stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": str(ROOT), **env},
            )  # fmt: skip
        eventually(self._answers, what="the web server is up")

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    @property
    def log(self) -> str:
        return self._log.read_text()

    def stop(self) -> float:
        """SIGTERM; the seconds that it took to end."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        return time.monotonic() - began

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def in_thread(web: FastAPI) -> Iterator[int]:
    """uvicorn in a thread of this process, for what needs no other; its port."""
    server = Server(Config(web, port=(port := free_port()), log_level="warning", ws="websockets-sansio"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually(lambda: server.started, what="the web server is up")
        yield port
    finally:
        server.should_exit = True
        thread.join(60)


@contextlib.contextmanager
def uvicorn(site: str, folder: Path, dsn: str, *, port: int | None = None, **env: str) -> Iterator[WebServer]:
    port = port or free_port()
    words = ["uvicorn", site, "--port", str(port), "--log-level", "warning"]
    server = WebServer(words, folder, port=port, env={"PGQUEUE_DSN": dsn, **env})
    try:
        yield server
    finally:
        server.kill()
