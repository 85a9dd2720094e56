"""Hearing channels: one thread and one connection per process serve every listener, sync and async, on thousands of channels.

Listeners change who wants to hear what, under a lock, and wake the thread; it says all new LISTENs in one message. The order
closes the race with a reader of state: LISTEN is committed, then the listener gets its Listening, then it reads its state.
What was committed before is in the state, what is committed later is heard.

The thread never waits for a listener: a session that listens and does not read fills the server's queue of notifications, and
then every NOTIFY in that server fails. Nor is its session ever in a transaction, which would hold that queue's end.

A lost connection is made again, with pauses from 50 ms to 5 s, and each listener gets a Gap: nobody can know what was missed. A
frozen server keeps its connections open and acknowledges each packet, so the thread has it answer a statement now and then.
"""

import logging
import random
import threading
import time
from collections.abc import Iterable, Iterator, Sequence

from pgqueue import db, schema
from pgqueue.channels.audience import Audience
from pgqueue.channels.items import Gap, Item, Listening, Notification
from pgqueue.channels.mailbox import Mailbox
from pgqueue.channels.payloads import notice_id, unpack
from pgqueue.db.listening import Ears, Heard, Nudge
from pgqueue.errors import ConfigError, DatabaseUnavailable, InvalidOption, NotSupported, PgQueueError
from pgqueue.queries import Queries

logger = logging.getLogger("pgqueue.channels")

KEEPALIVE_S = 15.0  # without a word of the server; its answer may take db.SILENCE_S
PAUSES_S = 0.05, 5.0  # the shortest and the longest
PAUSE_SHARE = 0.25  # of the time that the server has been away: a short outage is not made twice as long
UNHEARD_S = 30.0  # the connection is kept this long after the last listener
TOGETHER = 1_000  # LISTENs in one message
FETCHED = 100  # large payloads in one answer


class Receiver:
    """Puts what comes in on channels into the mailboxes of those who listen to them.

    main_dsn: where notifications come from, if that is not `dsn` itself: both must lead to one database.
    A listener that has not begun yet is told after `patience_s` that the database is away; the others wait for it.
    """

    def __init__(self, dsn: str, queries: Queries, *, main_dsn: str | None, schema: str, patience_s: float) -> None:
        self._dsn = dsn
        self._main_dsn = main_dsn
        self._queries = queries
        self._schema = schema
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._audience = Audience()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._nudge = Nudge()
        self._lost_at: float | None = None
        self._server: str | None = None

    # -- called by listeners --

    def add(self, mailbox: Mailbox) -> None:
        """Have it hear its channels; its first item is a Listening."""
        mailbox.waits_since = time.monotonic()  # a loop may begin long after it was made
        with self._lock:
            if self._closing:  # another thread closed the app between our caller's look at it and now
                mailbox.end(None)
                return
            self._audience.add(mailbox)
            if self._thread is None:
                thread = threading.Thread(target=self._serve, name="pgqueue channels", daemon=True)
                thread.start()
                self._thread = thread
        self._nudge.give()

    def remove(self, mailbox: Mailbox) -> None:
        """Its listener reads no more."""
        self._audience.remove(mailbox)
        self._nudge.give()

    def close(self) -> None:
        """End every listener, the thread and its connection."""
        with self._lock:
            self._closing = True
            everybody = self._audience.clear()
        for mailbox in everybody:
            mailbox.end(None)
        self._nudge.give()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    # -- the thread --

    def _serve(self) -> None:
        try:
            while self._has_more():
                try:
                    with db.connect(self._dsn, name="pgqueue channels", silence_s=db.SILENCE_S) as conn:
                        self._check(conn)
                        self._hear(conn)
                except db.DatabaseError as error:
                    self._failed(db.explain(error, schema=self._schema) or DatabaseUnavailable(str(error)), error)
                except PgQueueError as error:
                    self._failed(error, error)
        except BaseException as error:  # a mistake of ours must not leave listeners that wait for nothing
            logger.exception("listening to channels failed")
            with self._lock:
                self._thread = None
                everybody = self._audience.clear()
            for mailbox in everybody:
                mailbox.end(PgQueueError(f"listening failed: {error!r}"))

    def _has_more(self) -> bool:
        """Whether there is anybody to hear for; else the thread is over."""
        with self._lock:
            if self._audience and not self._closing:
                return True
            self._thread = None
            self._lost_at = None
            return False

    def _check(self, conn: db.Connection) -> None:
        if not db.prepares(conn):
            raise NotSupported(
                "a connection pooler sits in front of the database, and LISTEN needs a session of its own: set direct_dsn "
                "(PGQUEUE_DIRECT_DSN) to an address of the same database that leads past the pooler"
            )
        db.run(conn, schema.check(self._queries, schema=self._schema))
        if self._main_dsn is not None:
            with db.connect(self._main_dsn, name="pgqueue channels", silence_s=db.SILENCE_S) as main:
                if db.run(main, self._queries.database()) != db.run(conn, self._queries.database()):
                    raise ConfigError(
                        f"direct_dsn leads to another database than dsn ({db.describe(self._dsn)} and "
                        f"{db.describe(self._main_dsn)}): no notification would ever arrive"
                    )
            self._main_dsn = None

    def _hear(self, conn: db.Connection) -> None:
        """Serve until nobody has listened for a while."""
        ears = Ears(conn)
        self._begin(conn, ears)
        answered_at = idle_since = time.monotonic()
        while not self._closing:
            if ears.wait(self._pause_s(answered_at), nudge=self._nudge):
                answered_at = time.monotonic()
            elif time.monotonic() - answered_at >= KEEPALIVE_S:
                db.run(conn, self._queries.keepalive())
                answered_at = time.monotonic()
            # In this order: what is here now was committed before those who come now are told that they listen.
            self._deliver(conn, ears.take())
            self._follow(ears)
            if self._audience:
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since >= UNHEARD_S:
                return

    def _pause_s(self, answered_at: float) -> float:
        due_at = min([answered_at + KEEPALIVE_S, *self._audience.due_at()])
        return max(0.0, due_at - time.monotonic())

    def _begin(self, conn: db.Connection, ears: Ears) -> None:
        """Listen to all channels on a new connection, and tell who has listened before that something may be missing."""
        everything = self._audience.begin()
        self._listen(ears, everything.more)
        why = self._what_happened(conn)
        self._found()
        for mailbox in everything.coming:
            if mailbox.told:
                mailbox.miss(why)
            else:
                self._welcome(mailbox)

    def _what_happened(self, conn: db.Connection) -> str:
        before, self._server = self._server, self._ask_server(conn)
        return "reconnected" if None in (before, self._server) or before == self._server else "fail-over"

    def _ask_server(self, conn: db.Connection) -> str | None:
        try:
            (server,) = db.run(conn, self._queries.server())
        except db.DatabaseError as error:
            if not db.is_refusal(error):
                raise
            return None  # some hosts keep it to themselves
        return server

    def _follow(self, ears: Ears) -> None:
        """Listen to what is wanted now, and no more to what nobody has wanted for a while."""
        changes = self._audience.changes()
        for names in _some(changes.less, TOGETHER):
            ears.say(self._queries.unlisten_from(names))
        self._listen(ears, changes.more)
        for mailbox in changes.coming:
            self._welcome(mailbox)

    def _listen(self, ears: Ears, names: Iterable[str]) -> None:
        """Listen to all, but to those whose name the server does not take, such as Greek in a database of Latin letters."""
        for some in _some(names, TOGETHER):
            try:
                ears.say(self._queries.listen_to(some))
            except db.DatabaseError as error:
                if not db.is_of_values(error):
                    raise
                if len(some) == 1:
                    self._refuse(some[0], error)
                else:
                    for name in some:
                        self._listen(ears, [name])

    def _refuse(self, name: str, error: db.DatabaseError) -> None:
        told = db.explain(error, schema=self._schema) or InvalidOption(str(error).partition("\n")[0])
        for mailbox in self._audience.of(name, told=False):
            mailbox.end(type(told)(str(told)))
            self.remove(mailbox)

    def _welcome(self, mailbox: Mailbox) -> None:
        mailbox.told = True
        mailbox.put(Listening())

    def _deliver(self, conn: db.Connection, heard: Sequence[Heard]) -> None:
        texts = self._fetch(conn, [found for each in heard if (found := notice_id(each.payload))])
        for each in heard:
            for mailbox in self._audience.of(each.channel, told=True):
                mailbox.put(_item(mailbox.names[each.channel], each.payload, texts))

    def _fetch(self, conn: db.Connection, ids: Iterable[str]) -> dict[str, str]:
        """The large payloads, by their ids."""
        texts: dict[str, str] = {}
        try:
            for some in _some(dict.fromkeys(ids), FETCHED):
                texts |= {notice.id: notice.payload for notice in db.run(conn, self._queries.notices(some))}
        except db.DatabaseError as error:
            if not db.is_refusal(error):
                raise
            logger.warning("large payloads cannot be read: %s", str(error).partition("\n")[0])
        return texts

    # -- when it fails --

    def _failed(self, error: PgQueueError, cause: BaseException) -> None:
        """Tell those whom waiting does not help, and wait."""
        passes = db.is_of_the_moment(cause) if isinstance(cause, db.DatabaseError) else db.may_pass(cause)
        impatient = time.monotonic() - self._patience_s
        for mailbox in self._audience.everybody():
            if not passes or (not mailbox.told and mailbox.waits_since < impatient):
                mailbox.end(type(error)(str(error)))
                self.remove(mailbox)
        if passes:
            if self._lost_at is None:
                self._lost_at = time.monotonic()
                logger.warning("listening to channels: %s; trying again", error)
            self._pause(time.monotonic() - self._lost_at)

    def _found(self) -> None:
        if self._lost_at is not None:
            logger.info("listening to channels again after %.1f s", time.monotonic() - self._lost_at)
        self._lost_at = None

    def _pause(self, lost_s: float) -> None:
        """Longer the longer it takes, up to a limit, and never at the same moment as other processes."""
        shortest, longest = PAUSES_S
        until = time.monotonic() + min(longest, max(shortest, PAUSE_SHARE * lost_s)) * random.uniform(0.5, 1.0)
        while not self._closing and (left_s := until - time.monotonic()) > 0:
            self._nudge.wait(left_s)


def _some(names: Iterable[str], count: int) -> Iterator[list[str]]:
    """A list of them after the other, each no longer than `count`."""
    rest = list(names)
    for start in range(0, len(rest), count):
        yield rest[start : start + count]


def _item(channel: str, payload: str, texts: dict[str, str]) -> Item:
    found = notice_id(payload)
    if found is None:
        return Notification(channel, unpack(payload))
    if found in texts:
        return Notification(channel, texts[found])
    return Gap(channel, "a large payload cannot be read or is not kept any longer")
