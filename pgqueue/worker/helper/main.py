"""The helper of one worker: calls its on_worker_start functions, waits, calls its on_worker_stop functions, and ends.

It has no connection to the queue and gets no job. Like a child it ends at once when the supervisor vanishes.
"""

import asyncio
import importlib
import inspect
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from pgqueue.errors import ConfigError
from pgqueue.loader import make_importable
from pgqueue.terminal import app_may_set_up_logging
from pgqueue.worker.child.executor import describe, format_trace
from pgqueue.worker.child.exits import die_with_parent, leave
from pgqueue.worker.child.signals import ignore_signals
from pgqueue.worker.link.frames import Unpacker, pack
from pgqueue.worker.link.greeting import HelperSetup

logger = logging.getLogger("pgqueue.worker")

Function = tuple[str, Callable[[], Any]]  # with the name by which it was found


def find(specs: Iterable[str]) -> list[Function]:
    """The functions that `module:function` names; raises ConfigError where there is none."""
    make_importable()
    found = []
    for spec in specs:
        module, _, attribute = spec.partition(":")
        function = getattr(importlib.import_module(module), attribute, None)
        if not callable(function):
            raise ConfigError(f"{spec} is not a function")
        found.append((spec, function))
    return found


def start(setup: HelperSetup, runner: asyncio.Runner) -> list[Function]:
    """Call what is to be called at the start, in order; returns what is for the stop, so that a wrong name shows at once."""
    with app_may_set_up_logging(level=setup.log_level, form=setup.log_format):
        first, last = find(setup.on_worker_start), find(setup.on_worker_stop)
    for _, function in first:
        _call(function, runner)
    return last


def stop(functions: Iterable[Function], runner: asyncio.Runner) -> None:
    """Call the others, the last one first; one that fails keeps no other from its turn."""
    for name, function in reversed(list(functions)):
        try:
            _call(function, runner)
        except BaseException:
            logger.exception("on_worker_stop %s failed", name)


def _call(function: Callable[[], Any], runner: asyncio.Runner) -> None:
    returned = function()
    if inspect.iscoroutine(returned):
        runner.run(returned)


def _messages(sock: socket.socket) -> Iterator[list[Any]]:
    unpacker = Unpacker()
    while data := sock.recv(1 << 16):
        yield from unpacker.feed(data)


def main() -> None:
    """`python -m pgqueue.worker.helper.main SOCKET_FD SLOTS_FD PARENT_PID`, started by the supervisor only."""
    ignore_signals()
    die_with_parent(int(sys.argv[3]))
    os.close(int(sys.argv[2]))  # running slots are for children, which have jobs
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)
    messages = _messages(sock)
    _, told = next(messages)
    runner = asyncio.Runner()
    try:
        last = start(HelperSetup(**told), runner)
    except BaseException as error:
        own = isinstance(error, ConfigError)
        sock.sendall(pack(["failed", str(error) if own else describe(error), None if own else format_trace(error)]))
        sys.exit(1)
    sock.sendall(pack(["hello", {}]))
    if next(messages, None) is None:  # the supervisor is gone
        os._exit(1)
    leave(partial(stop, last, runner))


if __name__ == "__main__":
    main()
