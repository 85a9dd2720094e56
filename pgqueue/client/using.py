"""The connection that `app.using` names, for as long as its block lasts and wherever its context was copied to."""

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from contextvars import Context, ContextVar
from inspect import CO_GENERATOR
from threading import get_ident
from types import FrameType
from typing import Any

from pgqueue import db
from pgqueue.errors import ConfigError

THREAD_POOLS = ("anyio._backends._asyncio", "concurrent.futures.thread")


class _Block:
    """One `with app.using(conn)`. What it was copied to outlives it, as the context of a task that was started inside: so it is
    marked when it is over, and no job gets into a transaction that is no longer its caller's.
    """

    __slots__ = ("conn", "outer", "over", "place", "stands_for")

    def __init__(self, conn: Any, outer: "_Block | None") -> None:
        self.conn = conn
        self.stands_for = db.stands_for(conn)
        self.place = _place()
        self.outer = outer
        self.over = False

    def check(self) -> None:
        """Raises ConfigError for a proxy that is another connection here than where the block began. There it may change, as
        after `scoped_session.remove()`.
        """
        if self.stands_for is self.conn or self.place == _place() or db.stands_for(self.conn) is self.stands_for:
            return
        raise ConfigError(
            f"using() was given a {type(self.conn).__name__}, which is another connection in this thread or asyncio task, so that "
            "the job would not be in the transaction: defer where the block began, or give using() the session itself"
        )


class Using:
    """The innermost block that is not over, of this thread or asyncio task."""

    def __init__(self) -> None:
        self._innermost: ContextVar[_Block | None] = ContextVar("pgqueue_using", default=None)

    def get(self) -> Any:
        """Its connection, None outside of all."""
        block = _still_open(self._innermost.get())
        if block is None:
            return None
        block.check()
        return block.conn

    @contextlib.contextmanager
    def block(self, conn: Any) -> Iterator[None]:
        """Within it, `get` gives this connection."""
        block = _Block(conn, self._innermost.get())
        home = _home(sys._getframe())
        self._innermost.set(block)
        if home is not None:
            home.run(self._innermost.set, block)
        try:
            yield
        finally:
            block.over = True
            self._restore(block)
            if home is not None:
                with contextlib.suppress(RuntimeError):  # the request was cancelled and continues at the same time
                    home.run(self._restore, block)

    def _restore(self, block: _Block) -> None:
        """Not by a token: the block may end in another context than it began in, or before one that was entered inside it."""
        if self._innermost.get() is block:
            self._innermost.set(_still_open(block.outer))


def _place() -> tuple[int, object]:
    """The thread, and the asyncio task if there is one."""
    try:
        return get_ident(), asyncio.current_task()
    except RuntimeError:
        return get_ident(), None


def _still_open(block: _Block | None) -> _Block | None:
    while block is not None and block.over:
        block = block.outer
    return block


def _home(frame: FrameType) -> Context | None:
    """The context of the request that a dependency works for which is entered here in a thread of a pool; None: it is ours.

    FastAPI enters a sync dependency with `yield` in such a thread, in a copy of the request's context that is thrown away before
    the endpoint runs: what is set there is lost. (It leaves it in another thread, so that a reset raises.) The request
    waits for the thread meanwhile, and its future names the context in which it will wake up. No public way leads there.
    Raises ConfigError when there is none: a job outside of the transaction would be worse.
    """
    inner: FrameType = frame
    outer: FrameType | None = frame
    while outer is not None and (outer.f_code.co_flags & CO_GENERATOR or _module(outer) == "contextlib"):
        inner, outer = outer, outer.f_back
    # A generator that the pool's thread runs to its end by itself is not entered: what it does inside, it does here.
    if outer is None or _module(outer) not in THREAD_POOLS or _module(inner) != "contextlib":
        return None
    waiting = getattr(outer.f_locals.get("future"), "_callbacks", None) or ()
    for _, context in waiting:
        if isinstance(context, Context):
            return context
    raise ConfigError(
        "using() in a sync dependency, entered in a thread of its own: the endpoint could not see it, and its jobs would not be "
        "in the transaction; make the dependency `async def`, or defer by task.options(conn=conn).defer(...)"
    )


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))
