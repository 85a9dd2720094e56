"""The process of one lane of a relay: it is told where to send, and ends at once when the supervisor vanishes.

It imports no user code, and the client of one bus.
"""

import contextlib
import logging
import os
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

from pgqueue.app import App
from pgqueue.errors import PgQueueError
from pgqueue.events.subscription import Subscription
from pgqueue.terminal import log_to_stderr
from pgqueue.worker.child.exits import die_with_parent
from pgqueue.worker.child.signals import ignore_signals
from pgqueue.worker.link.frames import Unpacker, pack
from pgqueue.worker.link.greeting import RelaySetup
from pgqueue.worker.relay.relaying import Relaying

logger = logging.getLogger("pgqueue.relay")


def main() -> None:
    """`python -m pgqueue.worker.relay.main SOCKET_FD SLOTS_FD PARENT_PID`, started by the supervisor only."""
    ignore_signals()
    die_with_parent(int(sys.argv[3]))
    os.close(int(sys.argv[2]))  # running slots are for children, which have jobs
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)
    messages = _messages(sock)
    _, told = next(messages)
    setup = RelaySetup(**told)
    log_to_stderr(level=setup.log_level or "info", form=setup.log_format)
    try:
        relaying = Relaying(App(setup.dsn, **setup.config), Subscription(**setup.relay), lane=setup.lane)
        threading.Thread(target=_heed, args=[messages, relaying], name="pgqueue orders", daemon=True).start()
        relaying.run()
    except Exception as error:
        told_error = str(error) if isinstance(error, PgQueueError) else repr(error)
        with contextlib.suppress(OSError):
            sock.sendall(pack(["failed", told_error]))
        sys.exit(1)


def _heed(messages: Iterator[list[Any]], relaying: Relaying) -> None:
    """The only order is to stop; no more orders mean that the supervisor is gone."""
    if next(messages, None) is None:
        os._exit(1)
    relaying.stop()


def _messages(sock: socket.socket) -> Iterator[list[Any]]:
    unpacker = Unpacker()
    while data := sock.recv(1 << 16):
        yield from unpacker.feed(data)


if __name__ == "__main__":
    main()
