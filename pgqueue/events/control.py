"""What one may ask and order about a subscription by its name."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from pgqueue.client.connections import AppConnections
from pgqueue.client.options import check_aware, check_integer, check_name, seconds
from pgqueue.errors import InvalidOption
from pgqueue.events.aside import AsideEvent, aside, check_retry, chosen, mode_of, start, unknown
from pgqueue.events.start import check_start, find_start
from pgqueue.events.types import check_patterns
from pgqueue.queries import Queries, Steps, ask
from pgqueue.queries.events import ListedEvent, SubscriptionState


class SubscriptionHandle:
    """One subscription by its name. Each method raises InvalidOption where there is none of that name."""

    def __init__(self, name: str, database: AppConnections) -> None:
        self.name = name
        self._database = database

    def pause(self) -> None:
        """Deliver nothing to it until `resume`: what is published meanwhile waits in the log, for as long as that is kept."""
        self._database.run(pause(self._database.queries, self.name, paused=True))

    def resume(self) -> None:
        """Continue where it was."""
        self._database.run(pause(self._database.queries, self.name, paused=False))

    def drop(self) -> None:
        """Forget it and how far it has come. One that is declared in code comes back with the next start of a worker."""
        self._database.run(drop(self._database.queries, self.name))

    def aside(self, *, limit: int = 100) -> list[AsideEvent]:
        """The events that were put aside, newest first: each is kept by a job that is dead, or was cancelled by its task.

        Looks at the 10,000 jobs that ended so last.
        """
        return self._database.look(aside(self._database.queries, self.name, limit=limit))

    def retry(self, *jobs: str) -> int:
        """Try events again that were put aside: those of these jobs, or all; how many.

        Their jobs run again from the first attempt. Where a lane has stopped at one, its success lets the lane continue. Raises
        InvalidOption for a relay.
        """
        queries = self._database.queries
        check_retry(self._database.run(mode_of(queries, self.name)), self.name)
        found = self._database.look(chosen(queries, self.name, jobs))
        # The oldest first: their order is that of their keys.
        return sum(bool(self._database.run(queries.retry(event.job))) for event in reversed(found))

    def discard(self, *jobs: str) -> int:
        """Forget events that were put aside: those of these jobs, or all; how many. A lane that has stopped stays so: see start."""
        queries = self._database.queries
        found = self._database.look(chosen(queries, self.name, jobs))
        return sum(
            len(
                self._database.run(
                    queries.purge_history([event.job], [event.at], state=event.state, queue=None, task=None)
                )
            )
            for event in found
        )

    def start(self, lane: int | None = None) -> list[int]:
        """Let the lanes continue, or one of them, that have stopped at an event (on_poison="stop"); those that did.

        Of batches they continue after that event, which its job keeps; a relay tries to send it once more.
        """
        return self._database.run(start(self._database.queries, self.name, lane=lane))

    def replay(self, start: float | timedelta | datetime | str, *, to: str | None = None) -> None:
        """Deliver again what was published since a time (an aware datetime, or seconds ago), from an event on (its id), or all
        that is kept ("begin").

        to: the name of a copy that is made for it and continues with what comes; None: this one itself gets them once more.
        """
        self._database.run_in_transaction(replay(self._database.queries, self.name, start=start, to=to))


def newest(
    queries: Queries, types: Iterable[object], *, since: float | timedelta | datetime | None, limit: int
) -> Steps[list[ListedEvent]]:
    """The newest events of these types, newest first. Raises InvalidOption."""
    check_integer("limit", limit, low=1, high=100_000)
    patterns = check_patterns(types)
    moment = None if since is None else (yield from _moment(queries, "since", since))
    return (yield from ask(queries.list_events(patterns, since=moment, limit=limit)))


def _moment(queries: Queries, option: str, given: float | timedelta | datetime) -> Steps[datetime]:
    """An age as a moment, by the database's clock."""
    if isinstance(given, datetime):
        check_aware(option, given)
        return given
    (moment,) = yield from ask(queries.ago(seconds(option, given)))
    return moment


def states(queries: Queries) -> Steps[list[SubscriptionState]]:
    """All subscriptions, by name."""
    return (yield from ask(queries.subscription_states()))


def pause(queries: Queries, name: str, *, paused: bool) -> Steps[None]:
    """Deliver nothing to it, or continue where it was. Raises InvalidOption for one that is not there."""
    if not (yield from ask(queries.pause_subscription(check_name("subscription", name), paused=paused))):
        raise unknown(name)


def drop(queries: Queries, name: str) -> Steps[None]:
    """Forget it and its place. Raises InvalidOption for one that is not there."""
    if not (yield from ask(queries.drop_subscription(check_name("subscription", name)))):
        raise unknown(name)


def replay(queries: Queries, name: str, *, start: float | timedelta | datetime | str, to: str | None) -> Steps[None]:
    """Deliver again what was published since a time, what came from an event on (its id), or all that is kept ("begin").

    to: the name of another subscription that is made for it and continues with what comes; None: this one itself gets them once
    more. In one transaction that the caller sees to. Raises InvalidOption.
    """
    check_name("subscription", name)
    if to is not None and check_name("to", to) == name:
        raise InvalidOption(
            f"to={to!r} is the subscription itself: give another name, or none to have this one get them again"
        )
    yield queries.begin_era()
    yield queries.lock_places()
    target = name
    if to is not None:
        taken = {state.name for state in (yield from states(queries))}
        if name not in taken:
            raise unknown(name)
        if to in taken:
            raise InvalidOption(f"there is a subscription {to!r} already: give another name, or drop it first")
        yield queries.copy_subscription(name, to=to)
        target = to
    if not isinstance(start, str):
        start = yield from _moment(queries, "start", start)
    if start == "now":
        raise InvalidOption(
            "start takes a time, 'begin' or the id of an event: what is published from now on comes anyway"
        )
    where = yield from find_start(queries, check_start(start))
    if not (yield from ask(queries.replay(target, where))):
        raise unknown(name)
