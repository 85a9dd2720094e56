"""Statements of the log of events: what is published, who reads it, and how far each has come."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from pgqueue.config import Notify
from pgqueue.queries.statement import LOCK_CLASS, Row, Statement, Texts, sql_file


class Front(NamedTuple):
    """A place in the log and the subscriptions that stand there. next: the id of the tick at the end of its window, if there
    is one; since and upto: the snapshots between which the window lies; from_at: what is older is left out."""

    tick: int
    seq: int
    era: int
    since: str
    next: int | None
    upto: str
    from_at: datetime | None
    names: list[str]


class Dispatched(NamedTuple):
    """What one page came to: events read, jobs made, bells rung."""

    events: int
    jobs: int
    bells: int


class Start(NamedTuple):
    """A place in the log where reading may begin."""

    tick: int | None
    seq: int


class SubscriptionState(NamedTuple):
    """A subscription and how far it has come.

    behind: events that wait, counted to 10,000; behind_s: for how long the first has; lost: events that were dropped unread;
    known: whether a live worker has its task; declared_ago_s: since a worker last
    knew it from code, None for one made by a command.
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


class ListedEvent(NamedTuple):
    """An event as it is listed; payload and headers are JSON text."""

    id: str
    at: datetime
    type: str
    key: str | None
    payload: str
    headers: str | None


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

    def lock_ticks(self) -> Statement[Row]:
        return self._say("events/lock_ticks", lock_class=LOCK_CLASS)

    def lock_dispatch(self) -> Statement[bool]:
        return self._values("events/lock_dispatch", lock_class=LOCK_CLASS)

    def declare(self, row: Mapping[str, Any]) -> Statement[int]:
        """How many lanes are new."""
        return self._values("events/declare", **row)

    def tidy_events(self, *, keep_days: int, keep_days_at_most: int) -> Statement[Row]:
        return self._say("events/tidy", lock_class=LOCK_CLASS, keep_days=keep_days, keep_days_at_most=keep_days_at_most)

    def transaction_begin(self) -> Statement[Row]:
        return self._say("events/transaction_begin")

    def transaction_commit(self) -> Statement[Row]:
        return self._say("events/transaction_commit")

    def lock_places(self) -> Statement[Row]:
        return self._say("events/lock_places", lock_class=LOCK_CLASS)

    def start_time(self, from_at: datetime) -> Statement[Start]:
        return self._say("events/start_time", Start, from_at=from_at)

    def start_event(self, event: str) -> Statement[Start]:
        return self._say("events/start_event", Start, event=event)

    def start_begin(self) -> Statement[Start]:
        return self._say("events/start_begin", Start)

    def replay(self, name: str, start: Start, *, from_at: datetime | None) -> Statement[int]:
        """Its lanes."""
        return self._values("events/replay", name=name, from_at=from_at, **start._asdict())

    def copy_subscription(self, name: str, *, to: str) -> Statement[int]:
        """Its lanes."""
        return self._values("events/copy_subscription", name=name, to=to)

    def pause_subscription(self, name: str, *, paused: bool) -> Statement[str]:
        return self._values("events/pause_subscription", name=name, paused=paused)

    def drop_subscription(self, name: str) -> Statement[str]:
        return self._values("events/drop_subscription", name=name)

    def ago(self, seconds: float) -> Statement[datetime]:
        return self._values("events/ago", seconds=seconds)

    def list_events(self, types: Sequence[str], *, since: datetime | None, limit: int) -> Statement[ListedEvent]:
        return self._say("events/list", ListedEvent, types=types, since=since, limit=limit)

    def subscription_states(self) -> Statement[SubscriptionState]:
        return self._say("events/subscriptions", SubscriptionState)

    def fronts(self) -> Statement[Front]:
        return self._say("events/fronts", Front)

    def waiting(self, *, reader: str) -> Statement[bool]:
        return self._values("events/waiting", reader=reader)

    def mark_reader(self, *, reader: str, asleep: bool) -> Statement[Row]:
        return self._say("events/mark", reader=reader, asleep=asleep)

    def dispatch(self, front: Front, *, most: int) -> Statement[Dispatched]:
        text = self.text("events/dispatch", window=sql_file("events/window.sql"))
        return Statement(text, {**front._asdict(), "most": most}, row=Dispatched._make)
