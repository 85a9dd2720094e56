"""Reading the log's end: one thread and one connection of a process serve all who follow it, thousands of them.

It keeps no place in the database and writes nothing but its mark that a publish is to ring, as a reader does. It reads window after
window, each between two snapshots, and puts the events into the inboxes of those who are up to date. Who comes with a position, or
was too slow, reads on from there on the same connection, page after page in turn with the others, until it has caught up.
"""

import logging
import random
import threading
import time
from collections.abc import Sequence

from pgqueue import db
from pgqueue.channels.items import Gap, Listening
from pgqueue.errors import DatabaseUnavailable, PgQueueError
from pgqueue.events.crowd import Crowd
from pgqueue.events.inbox import FollowItem, Inbox
from pgqueue.events.line import ReaderLine, Stopped
from pgqueue.events.loop import as_event
from pgqueue.events.position import Position, read_position
from pgqueue.events.reader import (
    MARK_AGAIN_S,
    READER_LATER_LOOK,
    READER_POLL_ALONE_S,
    READER_POLL_S,
    READER_SECOND_LOOK_S,
    UNMARK_S,
)
from pgqueue.job import new_id
from pgqueue.queries import Queries
from pgqueue.queries.events import Logged, Window

logger = logging.getLogger("pgqueue.events")

PAGE_EVENTS = 500
PAGE_BYTES = 4_000_000
MOST_MISSED = (
    10_000  # events that are read again for one who comes back; a page with more does better to load its state
)
LATE_S = 3600  # a transaction may have been open for so long
GATHER_TAIL_S = 0.02
UNFOLLOWED_S = 30.0  # the connection is kept this long after the last follower
RECONNECT_TAIL_S = 0.05, 5.0  # between two tries to connect


class Tail:
    """Puts what is published into the inboxes of those who follow; see Listener.

    A follower that has not begun yet is told after `patience_s` that the database is away; the others wait for it.
    """

    def __init__(self, line: ReaderLine, queries: Queries, *, patience_s: float) -> None:
        self._line = line
        self._queries = queries
        self._patience_s = patience_s
        self._id = new_id()
        self._lock = threading.Lock()
        self._crowd = Crowd()
        self._thread: threading.Thread | None = None
        self._closing = False
        self.head: Position | None = None
        """Up to where it has read for those who are up to date."""
        self._marked_at: float | None = None
        self._busy_since: float | None = None
        self._pause_s = READER_SECOND_LOOK_S
        self._failures = 0

    # -- called by followers --

    def add(self, inbox: Inbox) -> None:
        """Have it get events; its first item is a Listening."""
        inbox.waits_since = time.monotonic()
        inbox.head, inbox.has_room_again = (lambda: self.head), self._line.wake
        with self._lock:
            if self._closing:  # another thread closed the app between our caller's look at it and now
                inbox.end(None)
                return
            self._crowd.add(inbox)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="pgqueue follow", daemon=True)
                self._thread.start()
        self._line.wake()

    def remove(self, inbox: Inbox) -> None:
        """Its follower reads no more."""
        self._crowd.remove(inbox)
        self._line.wake()

    def close(self) -> None:
        """End every follower, the thread and its connection."""
        with self._lock:
            self._closing = True
        for inbox in self._crowd.everybody():
            inbox.end(None)
        self._line.stop()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    # -- the thread --

    def _serve(self) -> None:
        try:
            while self._has_more():
                self._turn()
        except Stopped:
            self._leave()
        except BaseException as error:  # a mistake of ours must not leave followers that wait for nothing
            logger.exception("following the log failed")
            self._leave()
            self._end_all(PgQueueError(f"following the log failed: {error!r}"))

    def _end_all(self, error: PgQueueError) -> None:
        with self._lock:
            self._thread = None
        for inbox in self._crowd.everybody():
            inbox.end(error)
            self._crowd.remove(inbox)

    def _has_more(self) -> bool:
        """Whether there is anybody to read for, if need be after a while; else the thread is over."""
        until = time.monotonic() + UNFOLLOWED_S
        while not self._crowd and (left_s := until - time.monotonic()) > 0:
            self.head = None  # nobody is to be told what comes meanwhile
            self._line.pause(left_s)
        if not self._crowd:
            self._leave()  # before the lock: another thread on this line may begin right after it
        with self._lock:
            if self._crowd and not self._closing:
                return True
            if not self._closing:
                self._thread = None
                return False
        # Told to end between two turns, with followers that are still there: no other thread begins on this line any more.
        self._leave()
        return False

    def _leave(self) -> None:
        try:
            if self._marked_at is not None:
                self._mark(False)
        except (db.DatabaseError, PgQueueError, OSError) as error:
            logger.debug("leaving the log: %s", error)
        self._marked_at = None
        self._line.drop()

    def _turn(self) -> None:
        try:
            found = self._look()
            if self._failures:
                logger.info("following the log again")
                self._failures = 0
            if not found:
                self._rest()
        except Stopped:
            raise
        except (db.DatabaseError, PgQueueError, OSError) as error:
            self._failed(error)

    def _look(self) -> bool:
        """Read up to here and now, and on for one who is behind. False: there was nothing."""
        coming = self._crowd.coming()  # first: what was committed before they came is behind them
        try:
            (here,) = self._line.run(self._queries.here())
            found = self._read_to(Position(here.era, here.at, here.snap, here.snap))
            while coming:
                self._welcome(coming[-1])
                coming.pop()
        finally:
            for inbox in coming:  # on the next connection
                self._crowd.add(inbox)
        behind = self._crowd.next_behind()
        if behind is not None:
            self._catch_up(behind)
        elif found:
            self._gather()
        return found or behind is not None

    def _read_to(self, end: Position) -> bool:
        """Move the head; whether there were events."""
        if self.head is None or not self._crowd.is_any_current:
            self.head = end
            return False
        if self._failures and (why := self._lost(self.head)):
            self._skip(end, why)
        found = False
        while self.head != end:
            rows, after = self._page(self.head, end, self._crowd.patterns(), most=PAGE_EVENTS)
            for row, position in rows:
                found = True
                self._deliver(row, position)
            self.head = after  # at once: they are never put twice
        return found

    def _page(
        self, at: Position, end: Position, types: Sequence[str], *, most: int
    ) -> tuple[list[tuple[Logged, Position]], Position]:
        """The next events, each with the position after it; and the position after all that was read, at last `end`."""
        if at.since == end.upto:
            return [], end
        if at.since == at.upto:
            at = at._replace(upto=end.upto)
        window = Window(at.era, at.since, None, at.upto)
        rows = self._line.run(self._queries.follow(window, seq=at.seq, types=types, most=most, size=PAGE_BYTES))
        placed = [(row, at._replace(seq=row.seq)) for row in rows]
        if rows and (len(rows) < rows[0].found or rows[0].found == most):
            return placed, placed[-1][1]
        return placed, end if at.upto == end.upto else Position(at.era, at.at, at.upto, at.upto)

    def _deliver(self, row: Logged, position: Position) -> None:
        inboxes = self._crowd.of(row.type)
        if not inboxes:
            return
        item = _item(row)
        for inbox in inboxes:
            if inbox.has_room:
                inbox.put(item, position, len(row.payload))
            else:
                inbox.at, inbox.is_checked = position._replace(seq=row.seq - 1), False
                self._crowd.behind(inbox)

    # -- those who are not up to date --

    def _welcome(self, inbox: Inbox) -> None:
        assert self.head is not None
        at, why = self.head, None
        if inbox.after is not None:
            try:
                at = read_position(inbox.after)
            except ValueError:
                why = "the position is none of this log"
        if at != self.head:
            inbox.at = at  # before it is told: see Inbox.take
            self._crowd.behind(inbox)
        else:
            self._crowd.current(inbox)
        inbox.told = True
        inbox.put(Listening(), at)
        if why is not None:
            inbox.put(Gap(None, why), self.head)

    def _catch_up(self, inbox: Inbox) -> None:
        """Read on for one, who stays behind unless nothing is left."""
        try:
            self._read_on(inbox)
        finally:
            if inbox.at is not None:
                self._crowd.behind(inbox)

    def _read_on(self, inbox: Inbox) -> None:
        assert self.head is not None and inbox.at is not None
        if not inbox.is_checked and (why := self._lost(inbox.at)):
            self._skip_for(inbox, why)
            return
        rows, after = self._page(inbox.at, self.head, inbox.types, most=MOST_MISSED + 1)
        if not inbox.is_checked and rows and rows[0][0].found > MOST_MISSED:
            self._skip_for(inbox, f"more than {MOST_MISSED} events were missed")
            return
        inbox.is_checked = True
        for row, position in rows:
            inbox.put(_item(row), position, len(row.payload))
        inbox.at = after
        if after == self.head:
            self._crowd.current(inbox)

    def _lost(self, at: Position) -> str | None:
        (why,) = self._line.run(self._queries.lost(era=at.era, at=at.at, upto=at.upto, late_s=LATE_S))
        return why

    def _skip_for(self, inbox: Inbox, why: str) -> None:
        assert self.head is not None
        inbox.put(Gap(None, why), self.head)
        self._crowd.current(inbox)

    def _skip(self, end: Position, why: str) -> None:
        self.head = end
        for inbox in self._crowd.all_current():
            self._skip_for(inbox, why)

    # -- sleep, and trouble --

    def _mark(self, asleep: bool) -> None:
        self._line.run(self._queries.mark_reader(reader=self._id, asleep=asleep))
        self._marked_at = time.monotonic() if asleep else None

    def _gather(self) -> None:
        """While many are published, have them not ring each time, and read several at once."""
        now = time.monotonic()
        self._busy_since = self._busy_since or now
        if self._marked_at is not None and now - self._busy_since > UNMARK_S:
            self._mark(False)
        self._line.pause(GATHER_TAIL_S)

    def _rest(self) -> None:
        """Until something is published, or may be. The first time it only says that somebody sleeps, for another look."""
        self._busy_since = None
        first = self._marked_at is None
        if self._marked_at is None or time.monotonic() - self._marked_at > MARK_AGAIN_S:
            self._mark(True)
        if first:
            self._pause_s = READER_SECOND_LOOK_S
            return
        poll_s = READER_POLL_S if self._line.listens else READER_POLL_ALONE_S
        if self._line.hear(min(self._pause_s, poll_s)):
            self._pause_s = READER_SECOND_LOOK_S
        else:
            self._pause_s = min(self._pause_s * READER_LATER_LOOK, poll_s)

    def _failed(self, error: Exception) -> None:
        """Tell those whom waiting does not help, and wait."""
        passes = db.is_of_the_moment(error)
        told = error if isinstance(error, PgQueueError) else DatabaseUnavailable(str(error))
        impatient = time.monotonic() - self._patience_s
        self._line.drop()
        self._marked_at = None
        self._crowd.doubt()
        for inbox in self._crowd.everybody():
            if not passes or (not inbox.told and inbox.waits_since < impatient):
                inbox.end(type(told)(str(told)))
                self._crowd.remove(inbox)
        if passes:
            if not self._failures:
                logger.warning("following the log: %s; trying again", str(told).partition("\n")[0])
            self._failures += 1
            shortest, longest = RECONNECT_TAIL_S
            self._line.pause(random.uniform(shortest, min(longest, shortest * 2.0**self._failures)))


def _item(row: Logged) -> FollowItem:
    try:
        return as_event(row)
    except ValueError as error:  # only another program's INSERT can leave it
        return Gap(None, f"the payload of event {row.id} is not JSON ({error})")
