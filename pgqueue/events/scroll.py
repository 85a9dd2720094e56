"""A lane's way through the log in its reader's memory: window after window, and a large window piece by piece.

It is ahead of the place in the table, which moves when the events are done with; so windows without an event that the lane wants
cost no write. The ticks between which the windows lie are committed before they are read: who reads after a crash finds the same
windows, so the same events in the same order, with the same numbers.

A window may have a million events. Those of few transactions are read along the index of each, page by page. Those of many would
be sorted for each page, a second each time; so what is read at once grows up to a piece, and the window's cuts into pieces are
sorted for once.
"""

from collections import deque
from enum import Enum
from itertools import islice
from typing import NamedTuple

from pgqueue.queries import Queries, Steps, ask
from pgqueue.queries.events import LanePlace, Logged, Window

FIRST_READ = 1000  # events, of a window whose size is not known
PIECE_EVENTS = 10_000  # of a window that is larger: 20 pages of 500 share one look at its part of the index
PIECE_BYTES = 16_000_000  # of payloads in memory
LogPosition = tuple[int, int]  # the tick and, of the window after it, the last event


class Halt(Enum):
    """Why there are no more events in memory."""

    ENOUGH = "there are as many as were asked for"
    HEAD = "no event waits"
    UNTICKED = "some wait, and the tick at the end of their window is still to be made"


class Fetched(NamedTuple):
    """An event, and the tick whose window it is of."""

    tick: int
    row: Logged


class Scroll:
    """From a place on. `place` is brought up to date by the reader, which moves it."""

    def __init__(self, place: LanePlace) -> None:
        self.place = place
        self.tick = place.tick
        """What was read so far: everything up to here, and of the window after it up to _seq."""
        self._seq = place.seq
        self._window: Window | None = None
        self._cuts: deque[int] | None = None
        self._fetched: deque[Fetched] = deque()
        self._size = 0  # characters of payload

    @property
    def position(self) -> LogPosition:
        """Where the lane is if all that was given out is done with."""
        return (self.tick, self._seq) if not self._fetched else self._before(self._fetched[0])

    def _before(self, fetched: Fetched) -> LogPosition:
        return fetched.tick, fetched.row.seq - 1

    @property
    def has_some(self) -> bool:
        """Whether events are in memory."""
        return bool(self._fetched)

    def fits(self, place: LanePlace) -> bool:
        """Whether this is the way on from there, and nothing that it depends on has changed."""
        mine = self.place
        return (place.tick, place.seq, place.types, place.lanes, place.from_at) == (
            mine.tick, mine.seq, mine.types, mine.lanes, mine.from_at,
        )  # fmt: skip

    def give(self, most: int) -> list[Fetched]:
        """The next events."""
        given = list(islice(self._fetched, most))
        for fetched in given:
            self._fetched.popleft()
            self._size -= len(fetched.row.payload)
        return given

    def fetch(self, queries: Queries, wanted: int) -> Steps[Halt]:
        """Read until that many events are in memory, or a lot of memory is full, or none waits. make_tick is the caller's."""
        while len(self._fetched) < wanted and self._size < PIECE_BYTES:
            if self._window is None:
                (window,) = yield from ask(queries.next_tick(self.tick))
                if window.next is None:
                    waits = window.since != window.upto and (yield from ask(queries.any_in_window(window)))[0][0]
                    return Halt.UNTICKED if waits else Halt.HEAD
                self._window = window
            yield from self._read(queries, self._window)
        return Halt.ENOUGH

    def _read(self, queries: Queries, window: Window) -> Steps[None]:
        cut = self._cuts[0] if self._cuts else None
        most = FIRST_READ if self._cuts is None else PIECE_EVENTS
        rows = yield from ask(
            queries.page(window, seq=self._seq, until=cut, most=most, size=PIECE_BYTES, place=self.place)
        )
        self._fetched.extend(Fetched(self.tick, row) for row in rows)
        self._size += sum(len(row.payload) for row in rows)
        found = rows[0].found if rows else 0
        if len(rows) < found or (cut is None and found == most):  # the memory granted was full, or there is more
            self._seq = rows[-1].seq
        elif self._cuts:
            self._seq = self._cuts.popleft()
        else:
            assert window.next is not None
            self.tick, self._seq, self._window, self._cuts = window.next, 0, None, None
        if cut is None and found == most and self._cuts is None and not window.is_of_few:
            cuts = yield from ask(queries.cuts(window, seq=self._seq, piece=PIECE_EVENTS))
            self._cuts = deque(seq for (seq,) in cuts)


def make_tick(queries: Queries, *, after: int) -> Steps[None]:
    """Halt the window after a tick here and now, in a transaction that the caller sees to, and that ends before anybody reads."""
    yield queries.lock_ticks()
    yield queries.make_tick(after=after)
