"""Statements of the log of events: what is published, who reads it, and how far each has come."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from pgqueue.config import Notify
from pgqueue.queries.statement import LOCK_CLASS, Row, Statement, Texts, sql_file, texts

STILL_S = 15  # as a lease: so long a program may stand still in a transaction that others wait for
FEW = 64  # transactions: to ask each for its first events takes some microseconds where it has none
_LITERAL = str.maketrans({char: rf"\{char}" for char in r"\%_"})


class Dispatched(NamedTuple):
    """What one place in the log came to: the subscriptions there that get a job for each event, events that were read, jobs.

    busy: another dispatcher was at it, and there is nothing else in the row. is_full: there were as many events as were asked for;
    more: there is more than that; due_s: seconds until the next batch need not wait any longer.
    """

    busy: bool
    names: list[str]
    events: int
    jobs: int
    is_full: bool
    more: bool
    due_s: float | None


class SubscriptionState(NamedTuple):
    """A subscription and how far it has come.

    behind: events that wait, counted to 10,000; behind_s: for how long the first has; lost: events that were dropped unread;
    stopped: lanes that wait until somebody says so, for the error (on_poison="stop"); known: whether a live worker has its task;
    declared_ago_s: since a worker last knew it from code, None for one made by a command; readers: the ids of those who hold a lane
    now.
    """

    name: str
    mode: str
    types: list[str]
    task: str | None
    target: str | None
    lanes: int
    paused: bool
    lost: int
    known: bool
    declared_ago_s: float | None
    behind: int
    behind_s: float | None
    attempt: int | None
    error: str | None
    stopped: int
    readers: list[str]

    @property
    def why(self) -> str:
        """What keeps events from it, or went wrong; empty for nothing."""
        error = (self.error or "").removeprefix("stopped: ")
        if self.paused:
            return "paused"
        return f"{self.stopped} of {self.lanes} lanes stopped: {error}" if self.stopped else error


class AsideJob(NamedTuple):
    """A job that keeps an event which was put aside."""

    job: str
    state: str
    at: datetime
    attempt: int
    args: str
    error: str | None


class ListedEvent(NamedTuple):
    """An event as it is listed; payload and headers are JSON text."""

    id: str
    at: datetime
    type: str
    key: str | None
    payload: str
    headers: str | None


class Begin(NamedTuple):
    """Where a new subscription begins: no tick is here and now."""

    tick: int | None = None
    seq: int = 0
    from_at: datetime | None = None


class LanePlace(NamedTuple):
    """A lane of a subscription: where it is, and whether the reader that asks may take it."""

    lane: int
    tick: int
    seq: int
    number: int
    attempt: int
    mine: bool | None
    free: bool
    due: bool
    from_at: datetime | None
    types: list[str]
    lanes: int
    mode: str

    @property
    def likes(self) -> list[str]:
        """Its types as LIKE reads them."""
        return [pattern.translate(_LITERAL).removesuffix("*") + "%" * pattern.endswith("*") for pattern in self.types]


class BatchPlace(NamedTuple):
    """A lane as its job reads it: LanePlace, and then what is of batches. due: it is one, and not paused; suspects: this many
    events from here on were in a batch that failed; skipped: the seq of those that are put aside already."""

    lane: int
    tick: int
    seq: int
    number: int
    attempt: int
    mine: bool | None
    free: bool
    due: bool
    from_at: datetime | None
    types: list[str]
    lanes: int
    mode: str
    batch: int | None
    suspects: int | None
    skipped: list[int]

    @property
    def place(self) -> LanePlace:
        """Where the lane is."""
        return LanePlace(*self[:12])


class Fence(NamedTuple):
    """What a write of a lane's job holds only for: this attempt, and the place where it read the lane."""

    subscription: str
    lane: int
    tick: int
    seq: int
    id: str
    token: int
    worker: str


class Window(NamedTuple):
    """What lies between two snapshots; next: the tick of the later one, if there is one."""

    era: int
    since: str
    next: int | None
    upto: str

    @property
    def is_of_few(self) -> bool:
        """Whether it has few transactions, however many events they published; all of the cluster count, published or not."""
        _, begin, under_way = self.since.split(":")
        _, end, _ = self.upto.split(":")
        return int(end) - int(begin) + len(under_way.split(",")) <= FEW


class Logged(NamedTuple):
    """An event as it lies in the log. found: how many there were before the memory granted was full."""

    seq: int
    id: str
    type: str
    key: str | None
    payload: str
    headers: str | None
    at: datetime
    era: int
    found: int


def _between(window: Window) -> dict[str, str]:
    """How the events of the window are found."""
    return {"window": sql_file(f"events/{'window_of_few' if window.is_of_few else 'window'}.sql")}


class Here(NamedTuple):
    """Here and now in the log. at: in seconds since 1970."""

    era: int
    at: int
    snap: str


class EventsQueries(Texts):
    """The statements of the files of sql/events."""

    def publish(self, row: Mapping[str, Any], *, ring: Notify) -> Statement[Row]:
        return Statement(self.text("events/publish"), {**row, "ring": ring}, lasting=True)

    def publish_again(self, row: Mapping[str, Any]) -> Statement[Row]:
        return self._say("events/publish_again", **row)

    def copy_events(self, rows: Iterable[Sequence[Any]]) -> Statement[Row]:
        return Statement(self.text("events/copy"), copy_rows=rows)

    def ring_readers(self, *, ring: Notify) -> Statement[Row]:
        return self._say("events/ring", ring=ring)

    def lock_ticks(self, *, lent: bool = False) -> Statement[Row]:
        """lent: the transaction is a caller's."""
        return self._say("events/lock_ticks", lock_class=LOCK_CLASS, still_ms=str(STILL_S * 1000), lent=lent)

    def begin_era(self) -> Statement[bool]:
        """Whether one was due."""
        return self._values("events/begin_era", lock_class=LOCK_CLASS)

    def declare(self, row: Mapping[str, Any]) -> Statement[int]:
        """How many lanes are new."""
        return self._values("events/declare", **row)

    def tidy_events(self, *, keep_days: int, keep_days_at_most: int) -> Statement[Row]:
        return self._say("events/tidy", lock_class=LOCK_CLASS, keep_days=keep_days, keep_days_at_most=keep_days_at_most)

    def transaction_begin(self) -> Statement[Row]:
        return self._say("events/transaction_begin")

    def transaction_commit(self) -> Statement[Row]:
        return self._say("events/transaction_commit")

    def first_tick(self) -> Statement[Row]:
        return self._say("events/first_tick")

    def tick_before(self, at: datetime) -> Statement[tuple[int | None]]:
        return self._say("events/tick_before", at=at)

    def tick_of_event(self, event: str, *, low: datetime, high: datetime) -> Statement[tuple[int | None, int]]:
        return self._say("events/tick_of_event", id=event, low=low, high=high)

    def lock_places(self) -> Statement[Row]:
        return self._say("events/lock_places", lock_class=LOCK_CLASS)

    def replay(self, name: str, begin: Begin) -> Statement[int]:
        """Its lanes."""
        return self._values("events/replay", name=name, **begin._asdict())

    def copy_subscription(self, name: str, *, to: str) -> Statement[int]:
        """Its lanes."""
        return self._values("events/copy_subscription", name=name, to=to)

    def pause_subscription(self, name: str, *, paused: bool) -> Statement[str]:
        return self._values("events/pause_subscription", name=name, paused=paused)

    def drop_subscription(self, name: str) -> Statement[str]:
        return self._values("events/drop_subscription", name=name)

    def subscription_mode(self, name: str) -> Statement[str]:
        return self._values("events/mode", name=name)

    def aside(self, name: str, *, window: int, limit: int, jobs: Sequence[str] | None) -> Statement[AsideJob]:
        """jobs: only those; None: all."""
        return self._say("events/aside", AsideJob, name=name, window=window, limit=limit, jobs=jobs and list(jobs))

    def start_lanes(self, name: str, *, lane: int | None) -> Statement[int]:
        return self._values("events/start", name=name, lane=lane)

    def ago(self, seconds: float) -> Statement[datetime]:
        return self._values("events/ago", seconds=seconds)

    def list_events(self, types: Sequence[str], *, since: datetime | None, limit: int) -> Statement[ListedEvent]:
        return self._say("events/list", ListedEvent, types=types, since=since, limit=limit)

    def subscription_states(self, *, count_limit: int = 10_000) -> Statement[SubscriptionState]:
        return self._say("events/subscriptions", SubscriptionState, count_limit=count_limit)

    def waiting(self, *, reader: str, held: Sequence[str] = ()) -> Statement[bool]:
        return self._values("events/waiting", reader=reader, held=texts(held))

    def unfinished(self, names: Sequence[str], *, most: int) -> Statement[tuple[str, int]]:
        return self._say("events/unfinished", names=texts(names), most=most)

    def hold(self, names: Sequence[str], *, why: str) -> Statement[Row]:
        return self._say("events/hold", names=texts(names), why=why)

    def mark_reader(self, *, reader: str, asleep: bool) -> Statement[Row]:
        return self._say("events/mark", reader=reader, asleep=asleep)

    def dispatch(self, held: Sequence[str], *, size: int, fewest: int, here: bool = False) -> Statement[Dispatched]:
        """held: subscriptions that have jobs enough; size: jobs for one place, about; fewest: events that are read at least."""
        return self._say(
            "events/dispatch", Dispatched, lock_class=LOCK_CLASS, held=texts(held), size=size, fewest=fewest, few=FEW, here=here
        )  # fmt: skip

    def batch_place(self, subscription: str, lane: int) -> Statement[BatchPlace]:
        return self._say("events/batch_place", BatchPlace, subscription=subscription, lane=lane)

    def batch_done(
        self, fence: Fence, to: tuple[int, int], *, events: int, suspects: int | None, skipped: Sequence[int]
    ) -> Statement[Row]:
        """A row if the lane was there."""
        to_tick, to_seq = to
        return self._say(
            "events/batch_done", subscription=fence.subscription, lane=fence.lane, tick=fence.tick, seq=fence.seq,
            to_tick=to_tick, to_seq=to_seq, events=events, suspects=suspects, skipped=list(skipped) or None,
        )  # fmt: skip

    def batch_failed(self, fence: Fence, *, suspects: int, error: str | None) -> Statement[Row]:
        """A row if the lane was there, and the job still this attempt's."""
        return self._say("events/batch_failed", **fence._asdict(), suspects=suspects, error=error)

    def batch_alone(
        self, fence: Fence, to: tuple[int, int], *, events: int, args: str, ended: bool, error: str | None, suspects: int | None,
        skipped: Sequence[int],
    ) -> Statement[Row]:  # fmt: skip
        """A row as of batch_failed."""
        to_tick, to_seq = to
        return self._say(
            "events/batch_alone", **fence._asdict(), to_tick=to_tick, to_seq=to_seq, events=events, args=args, ended=ended,
            error=error, suspects=suspects, skipped=list(skipped) or None,
        )  # fmt: skip

    def batch_skip(
        self, fence: Fence, *, seqs: Sequence[int], args: Sequence[str], error: str
    ) -> Statement[tuple[str]]:
        """The ids of the dead jobs."""
        return self._say("events/batch_skip", **fence._asdict(), seqs=list(seqs), args=list(args), error=error)

    def batch_freed(self, *, subscription: str, lane: int, job: str, given_up: bool) -> Statement[Row]:
        return self._say("events/batch_freed", subscription=subscription, lane=lane, id=job, given_up=given_up)

    def places(self, *, subscription: str, reader: str) -> Statement[LanePlace]:
        return self._say("events/places", LanePlace, subscription=subscription, reader=reader)

    def next_tick(self, tick: int) -> Statement[Window]:
        return self._say("events/next_tick", Window, tick=tick)

    def any_in_window(self, window: Window) -> Statement[tuple[bool]]:
        text = self.text("events/any_in_window", window=sql_file("events/window.sql"))
        return Statement(text, {**window._asdict(), "seq": 0})

    def make_tick(self, *, after: int) -> Statement[tuple[int]]:
        return self._say("events/make_tick", tick=after)

    def page(
        self, window: Window, *, seq: int, until: int | None, most: int, size: int, place: LanePlace
    ) -> Statement[Logged]:
        """The next events for a lane, `most` at most and `size` bytes about, after seq and up to `until`."""
        text = self.text("events/page", **_between(window), wanted=sql_file("events/wanted_by_lane.sql"))
        params = {
            "seq": seq, "until": until, "most": most, "bytes": size, "likes": place.likes, "lanes": place.lanes,
            "lane": place.lane, "from_at": place.from_at,
        }  # fmt: skip
        return Statement(text, {**window._asdict(), **params}, row=Logged._make)

    def cuts(self, window: Window, *, seq: int, piece: int) -> Statement[tuple[int]]:
        text = self.text("events/cuts", window=sql_file("events/window.sql"))
        return Statement(text, {**window._asdict(), "seq": seq, "piece": piece})

    def here(self) -> Statement[Here]:
        return self._say("events/here", Here)

    def lost(self, *, era: int, at: int, upto: str, late_s: int) -> Statement[str | None]:
        """Why the log cannot be read on from there; None: it can. late_s: for so long a transaction may have been under way."""
        return self._values("events/lost", era=era, at=at, upto=upto, late_s=late_s)

    def follow(self, window: Window, *, seq: int, types: Sequence[str], most: int, size: int) -> Statement[Logged]:
        """The next events of these types after seq, `most` at most and `size` bytes about."""
        place = LanePlace(0, 0, 0, 0, 0, None, True, True, None, list(types), 1, "pull")
        return self.page(window, seq=seq, until=None, most=most, size=size, place=place)

    def take(self, place: LanePlace, *, subscription: str, reader: str, lease_s: float) -> Statement[Row]:
        return self._say(
            "events/take", subscription=subscription, lane=place.lane, tick=place.tick, seq=place.seq, reader=reader,
            lease_s=lease_s,
        )  # fmt: skip

    def move(
        self,
        place: LanePlace,
        to: tuple[int, int],
        *,
        events: int,
        keep: bool,
        subscription: str,
        reader: str,
        lease_s: float,
    ) -> Statement[tuple[int]]:
        """Its new number, if it was this reader's and stood there."""
        to_tick, to_seq = to
        return self._say(
            "events/move", subscription=subscription, lane=place.lane, tick=place.tick, seq=place.seq, reader=reader,
            to_tick=to_tick, to_seq=to_seq, events=events, keep=keep, lease_s=lease_s,
        )  # fmt: skip

    def fail_lane(
        self, place: LanePlace, *, error: str, retry_s: float | None, subscription: str, reader: str
    ) -> Statement[tuple[int]]:
        """How often it has failed there. retry_s None: nobody tries again until it is told to."""
        return self._say(
            "events/fail", subscription=subscription, lane=place.lane, tick=place.tick, seq=place.seq, reader=reader,
            error=error, retry_s=retry_s,
        )  # fmt: skip

    def put_aside(
        self, place: LanePlace, to: tuple[int, int], *, job: Mapping[str, Any], subscription: str, reader: str
    ) -> Statement[tuple[str]]:
        """Move past one event, which becomes a dead job; the job's id, if the place was this reader's and was there."""
        to_tick, to_seq = to
        return self._say(
            "events/put_aside", subscription=subscription, lane=place.lane, tick=place.tick, seq=place.seq, reader=reader,
            to_tick=to_tick, to_seq=to_seq, **job,
        )  # fmt: skip

    def renew_lane(self, *, subscription: str, lane: int, reader: str, lease_s: float) -> Statement[Row]:
        return self._say("events/renew", subscription=subscription, lane=lane, reader=reader, lease_s=lease_s)

    def release(self, *, subscription: str, reader: str) -> Statement[Row]:
        return self._say("events/release", subscription=subscription, reader=reader)
