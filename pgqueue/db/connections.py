"""Single connections: opened, listened on, looked at, cut."""

import asyncio
import math
import os
import select
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import psycopg

from pgqueue.db.deadlines import UNHURRIED, Punctual, limit
from pgqueue.db.doors import AnyConnection, AsyncConnection, Connection, run, run_async
from pgqueue.db.doors.psycopg import prepare_nothing
from pgqueue.db.dsn import CONNECT_TIMEOUT_S, connection_settings, no_connection
from pgqueue.db.narrow import remember_encoding
from pgqueue.errors import ConfigError
from pgqueue.queries import session, session_of_others
from pgqueue.queries.statement import HarmfulSetting


def connect(
    dsn: str,
    *,
    timeout_s: float = CONNECT_TIMEOUT_S,
    silence_s: float = UNHURRIED,
    name: str = "pgqueue",
    private: bool = True,
) -> Connection:
    """Open one autocommit connection; raises DatabaseUnavailable with one line and without the password.

    silence_s: how long a statement on it waits for a word of the server, see deadlines. private: no user code runs on it, so
    that even its search_path is ours.
    """
    try:
        parameters = connection_settings(dsn, timeout_s=timeout_s, name=name, private=private)
        conn = Punctual.connect(dsn, autocommit=True, **parameters)
        with _closed_unless_ready(conn):
            prepare(conn, private=private)
        limit(conn, silence_s)
    except psycopg.Error as error:
        raise no_connection(dsn, error) from None
    return conn


async def connect_async(
    dsn: str, *, timeout_s: float = CONNECT_TIMEOUT_S, name: str = "pgqueue", private: bool = True
) -> AsyncConnection:
    """As `connect`, for asyncio."""
    try:
        parameters = connection_settings(dsn, timeout_s=timeout_s, name=name, private=private)
        conn = await psycopg.AsyncConnection.connect(dsn, autocommit=True, **parameters)
        alarm = asyncio.get_running_loop().call_later(timeout_s, sever, conn)
        try:
            with _closed_unless_ready(conn):
                await prepare_async(conn, private=private)
        finally:
            alarm.cancel()
    except psycopg.Error as error:
        raise no_connection(dsn, error) from None
    return conn


@contextmanager
def _closed_unless_ready(conn: AnyConnection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        conn.pgconn.finish()
        raise


def prepare(conn: Connection, *, private: bool = True) -> None:
    remember_encoding(conn)
    if not run(conn, session(backend_pid=conn.info.backend_pid, private=private)):
        prepare_nothing(conn)
        _heed(run(conn, session_of_others()))


async def prepare_async(conn: AsyncConnection, *, private: bool = True) -> None:
    remember_encoding(conn)
    if not await run_async(conn, session(backend_pid=conn.info.backend_pid, private=private)):
        prepare_nothing(conn)
        _heed(await run_async(conn, session_of_others()))


def _heed(harmful: Sequence[HarmfulSetting]) -> None:
    """Behind a pooler nothing can be set: refuse what would make us write something else than we were told."""
    for each in harmful:
        raise ConfigError(
            f"{each.name} is {each.setting} behind a pooler, whose sessions are not ours to set: alter the role or the "
            f"database to set {each.name} = {each.wanted}, or connect past the pooler"
        )


def readable(files: Iterable[int], timeout_s: float) -> set[int]:
    """Wait until one of these files has something to read, or has ended; those that have. None: the time is over.

    multiprocessing.connection.wait does the same, and to import it takes a twentieth of the time that all of pgqueue takes.
    """
    poll = select.poll()
    for file in files:
        poll.register(file, select.POLLIN)
    return {file for file, _ in poll.poll(math.ceil(max(0.0, timeout_s) * 1000))}


def wait_for_bell(conn: Connection, timeout_s: float, *, wake_fd: int) -> bool:
    """Block until a notification arrives, wake_fd is readable, or the time is over; takes all notifications that are there.

    True: there were some.
    """
    if list(conn.notifies(timeout=0)):  # some may have come in with the answer to a query
        return True
    readable([conn.fileno(), wake_fd], timeout_s)
    return bool(list(conn.notifies(timeout=0)))


class NotificationListener:
    """Hears the notifications of one async connection, also those that come in with the answer to a statement.

    psycopg's own wait takes several turns of the event loop for one note, and wakes up ten times a second, which an idle worker
    need not.
    """

    def __init__(self, conn: AsyncConnection) -> None:
        self._conn = conn
        self._heard = False
        self._over: asyncio.Future[None] | None = None
        conn.add_notify_handler(self._hear)

    def _hear(self, _: psycopg.Notify) -> None:
        self._heard = True

    async def listen(self, timeout_s: float) -> bool:
        """Wait for a notification or the time; True: there was one, or several, since the last call. Nothing else may use the
        connection meanwhile.
        """
        if not self._take():  # one may have been read together with the last answer
            await self._readable(timeout_s)
            self._conn.pgconn.consume_input()
            self._take()
        heard, self._heard = self._heard, False
        return heard

    def interrupt(self) -> None:
        """End a wait that is under way: the connection is wanted for a statement."""
        if self._over is not None and not self._over.done():
            self._over.set_result(None)

    async def _readable(self, timeout_s: float) -> None:
        loop, fd = asyncio.get_running_loop(), self._conn.fileno()
        self._over = loop.create_future()
        alarm = loop.call_later(timeout_s, self.interrupt)
        loop.add_reader(fd, self.interrupt)
        try:
            await self._over
        finally:
            loop.remove_reader(fd)
            alarm.cancel()

    def _take(self) -> bool:
        """Take what has been read."""
        while self._conn.pgconn.notifies():
            self._heard = True
        return self._heard


def sever(conn: AnyConnection) -> None:
    """Cut the connection's socket, so that the caller waiting on it gets an error now.

    A frozen server still acknowledges packets: neither keepalives nor cancelling the wait would end it.
    """
    if conn.closed:
        return
    with socket.socket(fileno=os.dup(conn.fileno())) as wire:
        try:
            wire.shutdown(socket.SHUT_RDWR)
        except OSError:  # the other side was faster; the wait ends either way
            return


class Wire(NamedTuple):
    """A connection as its client sees it: the server's address or socket folder, and the backend that the handshake named."""

    host: str
    sslmode: str
    encrypted: bool
    backend_pid: int


def wire(conn: AnyConnection) -> Wire:
    """What libpq says of the way to the server."""
    modes = [option.val for option in conn.pgconn.info if option.keyword == b"sslmode"]
    return Wire(
        conn.info.hostaddr or conn.info.host,
        (modes[0] or b"").decode(),
        bool(conn.pgconn.ssl_in_use),
        conn.info.backend_pid,
    )
