"""Reads the lanes of one subscription, on a connection of its own: pages of events, each given out under a lease.

A lane is taken when events wait, held while they are worked on, and moved on when they are done with; fenced, so that one whose
lease ran out moves nothing. Of several readers of one subscription each takes what another does not hold. A reader for which
nothing waits takes nothing, and writes nothing but its mark, once a minute, that a publish is to ring for it; see
event_dispatcher.py for the order: mark, then look.
"""

import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pgqueue import db
from pgqueue.errors import ConfigError, PgQueueError
from pgqueue.events.line import ReaderLine, Stopped
from pgqueue.events.scroll import Fetched, Halt, LogPosition, Scroll, make_tick
from pgqueue.events.start import StartAt
from pgqueue.events.subscription import Subscription, declare
from pgqueue.queries import Queries, Steps, ask
from pgqueue.queries.events import LanePlace

logger = logging.getLogger("pgqueue.events")

LANE_LEASE_S = 15.0  # as workers have
RENEW_LANE_S = 4.0  # a renewal may fail twice
READER_POLL_S = 15.0  # the floor under LISTEN
READER_POLL_ALONE_S = 1.0  # behind a pooler, where nothing can be heard
READER_SECOND_LOOK_S = 0.05  # after the mark: a publish that saw it unmarked may commit a moment later
READER_LATER_LOOK = 4  # times as long until the next look, up to a poll
BARRED_LOOK_S = 1.0  # until the next look while a lane is another's, or has to wait: nobody rings when that ends
MARK_AGAIN_S = 60.0  # a mark holds two minutes
UNMARK_S = 0.5  # busy for this long without a pause: the mark comes off
GATHER_PAGE_S = 0.05  # then a lane that keeps up moves some twenty times a second at most
SAVE_S = 5.0  # so old the place in the table may be of a lane that passed events which it does not want


class EventPage(NamedTuple):
    """Events of one lane, in order, under a lease. number: of the first, the others' grow by one. failures: how often they, or
    others before them, were tried in vain from here on."""

    lane: int
    number: int
    events: Sequence[Fetched]
    end: LogPosition
    failures: int
    whole: bool = True
    """Else only the first ones of what was read."""

    def first(self, count: int) -> "EventPage":
        """A page of the first ones alone, one at least; the others are read again."""
        last = self.events[count - 1]
        return self._replace(events=self.events[:count], end=(last.tick, last.row.seq), whole=False)


@dataclass(slots=True)
class _Held:
    """The lane that a reader holds now."""

    scroll: Scroll
    renewed_at: float


class Reader:
    """Reads a subscription; lane: only that one. For one thread at a time, except for `line.stop()`."""

    def __init__(
        self,
        line: ReaderLine,
        queries: Queries,
        subscription: Subscription,
        *,
        start: StartAt = "now",
        lane: int | None = None,
    ) -> None:
        self.line = line
        self.id = str(uuid.uuid4())
        self._queries = queries
        self._subscription = subscription
        self._start: StartAt = start
        self._lane = lane
        self._scrolls: dict[int, Scroll] = {}
        self._held: _Held | None = None
        self._took = False
        self._barred = False  # some lane is another's, or has to wait
        self._marked_at: float | None = None
        self._busy_since: float | None = None
        self._pause_s = READER_SECOND_LOOK_S
        self._gathered_at = self._saved_at = 0.0

    def declare(self) -> None:
        """Make the subscription, or bring it up to date. Raises ConfigError where one of its name is of another kind."""
        self.line.run(self._declared(), transaction=True)

    def _declared(self) -> Steps[None]:
        wanted = self._subscription
        there = yield from ask(self._queries.places(subscription=wanted.name, reader=self.id))
        if there and there[0].mode != wanted.mode:
            raise ConfigError(
                f"the subscription {wanted.name} is one of the kind '{there[0].mode}', not '{wanted.mode}': take another name"
            )
        yield from declare(self._queries, wanted, start="now" if there else self._start)

    def _places(self) -> list[LanePlace]:
        name = self._subscription.name
        places = self.line.run(self._queries.places(subscription=name, reader=self.id))
        if not places:
            raise PgQueueError(f"the subscription {name} was dropped")
        return [place for place in places if place.lane < place.lanes and self._lane in (None, place.lane)]

    # -- pages --

    def next(self, most: int) -> EventPage:
        """Wait for events; raises Stopped, PgQueueError where the subscription was dropped, and what no waiting cures."""
        self.line.pause(self._gathered_at - time.monotonic())
        while (page := self.line.patiently(lambda: self._look(most))) is None:
            self.line.patiently(self._wait)
        return page

    def _look(self, most: int) -> EventPage | None:
        held = self._held
        if held is not None and time.monotonic() - held.renewed_at < RENEW_LANE_S and self._fetch(held.scroll, most):
            return self._given(held.scroll, most)
        self._held, self._barred = None, False
        for place in self._places():
            if not (place.free and place.due):
                self._barred = True
                continue
            scroll = self._scroll(place)
            if self._fetch(scroll, most):
                if self._take(place):
                    return self._given(scroll, most)
                self._barred = True
            else:
                self._save(scroll)
        return None

    def _scroll(self, place: LanePlace) -> Scroll:
        known = self._scrolls.get(place.lane)
        if known is None or not known.fits(place):
            known = self._scrolls[place.lane] = Scroll(place)
        known.place = place
        return known

    def _fetch(self, scroll: Scroll, most: int) -> bool:
        """Whether there are events for the lane, in memory now."""
        while self.line.run(scroll.fetch(self._queries, most)) is Halt.UNTICKED:
            self.line.run(make_tick(self._queries, after=scroll.tick), transaction=True)
        return scroll.has_some

    def _take(self, place: LanePlace) -> bool:
        now = time.monotonic()
        taken = self.line.run(
            self._queries.take(place, subscription=self._subscription.name, reader=self.id, lease_s=LANE_LEASE_S)
        )
        if taken:
            self._took = True
            self._held = _Held(self._scrolls[place.lane], now)
        return bool(taken)

    def _given(self, scroll: Scroll, most: int) -> EventPage:
        now = time.monotonic()
        self._busy_since = self._busy_since or now
        self._pause_s = READER_SECOND_LOOK_S
        if self._marked_at is not None and now - self._busy_since > UNMARK_S:
            self._mark(False)
        events = scroll.give(most)
        self._gathered_at = now + GATHER_PAGE_S if len(events) < most else 0.0
        place = scroll.place
        return EventPage(place.lane, place.number + 1, events, scroll.position, place.attempt)

    def _save(self, scroll: Scroll) -> None:
        """Move a place past events that the lane does not want, now and then: they need not be kept for its sake."""
        place, now = scroll.place, time.monotonic()
        if scroll.position != (place.tick, place.seq) and now - self._saved_at > SAVE_S:
            self._saved_at = now
            if self._take(place):
                self._move(scroll, EventPage(place.lane, place.number, (), scroll.position, 0), keep=False)
                self._held = None

    # -- what became of a page --

    def done(self, page: EventPage) -> bool:
        """Move the lane past these events. False: another reader has taken it meanwhile, and gets some of them once more."""
        held = self._held
        if held is None or held.scroll.place.lane != page.lane:
            return False
        moved = self.line.patiently(lambda: self._move(held.scroll, page, keep=held.scroll.place.lanes == 1))
        if not (moved and page.whole) or held.scroll.place.lanes > 1:
            self._held = None  # with other lanes its turn is over
        if not (moved and page.whole):
            self._scrolls.pop(page.lane, None)
        return moved

    def _move(self, scroll: Scroll, page: EventPage, *, keep: bool) -> bool:
        now, place, count = time.monotonic(), scroll.place, len(page.events)
        moved = self.line.run(
            self._queries.move(
                place,
                page.end,
                events=count,
                keep=keep,
                subscription=self._subscription.name,
                reader=self.id,
                lease_s=LANE_LEASE_S,
            )
        )
        number = place.number + count
        if not moved and not self._stands(page, number):
            return False
        scroll.place = place._replace(tick=page.end[0], seq=page.end[1], number=number, attempt=0)
        if self._held is not None:
            self._held.renewed_at = now
        return True

    def _stands(self, page: EventPage, number: int) -> bool:
        """Whether it has been moved there: the answer to an earlier try may have been lost."""
        return any(
            (place.lane, (place.tick, place.seq), place.number) == (page.lane, page.end, number)
            for place in self._places()
        )

    def put_aside(self, page: EventPage, job: Mapping[str, Any]) -> str | None:
        """Move the lane past the first event, which becomes a dead job; its id, unless another reader has taken the lane."""
        held, self._held = self._held, None
        self._scrolls.pop(page.lane, None)
        if held is None:
            return None
        place, to, name = held.scroll.place, page.first(1).end, self._subscription.name
        return self.line.patiently(
            lambda: next(
                (
                    job_id
                    for (job_id,) in self.line.run(
                        self._queries.put_aside(place, to, job=job, subscription=name, reader=self.id)
                    )
                ),
                None,
            )
        )

    def failed(self, page: EventPage, error: str, *, retry_s: float | None) -> None:
        """Leave the lane where it is, to be read again after so long; None: not before somebody says so."""
        held, self._held = self._held, None
        self._scrolls.pop(page.lane, None)
        if held is not None:
            place = held.scroll.place
            self.line.patiently(
                lambda: self.line.run(
                    self._queries.fail_lane(
                        place, error=error, retry_s=retry_s, subscription=self._subscription.name, reader=self.id
                    )
                )
            )

    def read_ahead(self, most: int) -> None:
        """While a page is worked on: have the next one in memory. What fails is tried again by `next`, which waits for it."""
        if self._held is not None:
            try:
                self._fetch(self._held.scroll, most)
            except (db.DatabaseError, PgQueueError, OSError):
                self.line.drop()

    def renew(self) -> None:
        """While a page is worked on: hold its lane on, if that is due. What fails is tried again the next time."""
        held, now = self._held, time.monotonic()
        if held is None or now - held.renewed_at < RENEW_LANE_S:
            return
        try:
            renewed = self.line.run(
                self._queries.renew_lane(
                    subscription=self._subscription.name,
                    lane=held.scroll.place.lane,
                    reader=self.id,
                    lease_s=LANE_LEASE_S,
                )
            )
        except (db.DatabaseError, PgQueueError, OSError):
            self.line.drop()
            return
        held.renewed_at = now
        if not renewed:
            self._held = None

    # -- sleep --

    def _mark(self, asleep: bool) -> None:
        self.line.run(self._queries.mark_reader(reader=self.id, asleep=asleep))
        self._marked_at = time.monotonic() if asleep else None

    def _wait(self) -> None:
        """Until an event waits, or may. The first time it only says that somebody sleeps, for another look."""
        self._busy_since = None
        first = self._marked_at is None
        if self._marked_at is None or time.monotonic() - self._marked_at > MARK_AGAIN_S:
            self._mark(True)
        if first:
            self._pause_s = READER_SECOND_LOOK_S
            return
        poll_s = READER_POLL_S if self.line.listens else READER_POLL_ALONE_S
        if self.line.hear(min(self._pause_s, BARRED_LOOK_S if self._barred else poll_s)):
            self._pause_s = READER_SECOND_LOOK_S
        else:
            self._pause_s = min(self._pause_s * READER_LATER_LOOK, poll_s)

    def close(self) -> None:
        """Leave its lanes to others, at once if the database answers."""
        try:
            if self._took:  # the lease of one that it does not look after any more may still hold
                self.line.run(self._queries.release(subscription=self._subscription.name, reader=self.id))
            if self._marked_at is not None:
                self._mark(False)
        except (db.DatabaseError, PgQueueError, OSError) as error:
            logger.debug("leaving %s: %s", self._subscription.name, error)
        finally:
            self.line.close()


__all__ = ["EventPage", "Reader", "Stopped"]
