"""Lists of jobs at a bounded cost, whatever the tables hold: a list reads a window of jobs, and says how far it came.

Ids have an index and follow time, as they begin with the milliseconds of the client's clock: so the window moves along
them, newest first. What a person asks for, a task or a state, has no index in most cases. Only each live state has one, in
an order of its own; it finds a few jobs among many others, such as running ones, which are the oldest of a backlog.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pgqueue.client.options import check_aware, check_integer, check_name, seconds
from pgqueue.errors import InvalidOption, JobNotFound
from pgqueue.job import ID, Snapshot, State, first_id
from pgqueue.queries import Queries, Steps, ask

# Jobs read by id. Each may lie in a block of its own: 10,000 of 25,000, which are 20 to 40 ms from the cache.
WINDOW = 10_000
# Jobs read by the index of their state, before that; a state that has fewer is listed completely.
STATE_WINDOW = 5_000
# If a client's clock is slow by less than this, `since` still finds its live jobs, by the time in their ids.
SKEW = timedelta(hours=1)

NEWER_THAN_ALL = "ffffffff-ffff-ffff-ffff-ffffffffffff"
EVER = "-infinity"
INDEXES = {State.QUEUED: "by_claim", State.SCHEDULED: "by_due", State.RUNNING: "by_worker"}


class Page(list[Snapshot]):
    """Jobs, newest first by id, and how far the list has looked for them."""

    def __init__(
        self, jobs: Sequence[Snapshot] = (), *, looked_at: int = 0, looked_back_to: datetime | None = None,
        next: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(jobs)
        self.looked_at = looked_at
        """How many jobs were looked at, wanted or not."""
        self.looked_back_to = looked_back_to
        """When the oldest of them was created; all newer ones that fit are in the list. None: the list has looked at all jobs.

        If you asked for a live state, the list may hold older ones too: some of those that the index of the state has.
        """
        self.next = next
        """The id to continue with, as `after`; None: there is nothing older."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a caller asks of a list; raises InvalidOption."""

    state: str | None = None
    queue: str | None = None
    task: str | None = None
    since: float | timedelta | datetime | None = None
    after: str | None = None

    def __post_init__(self) -> None:
        check_filters(self.queue, self.task)
        if self.state is not None:
            check_state(self.state)
        if isinstance(self.since, datetime):
            check_aware("since", self.since)
        elif self.since is not None:
            seconds("since", self.since)
        if self.after is not None and not ID.fullmatch(str(self.after)):
            raise InvalidOption(
                f"after={str(self.after)[:60]!r} is not a valid job id; give a whole one, such as the `next` of a page"
            )

    def columns(self) -> dict[str, Any]:
        """The parameters of the statements, once `since` is a moment."""
        return {
            "queue": self.queue, "task": self.task, "after": (self.after or NEWER_THAN_ALL).lower(),
            "since": self.since.astimezone(UTC) if isinstance(self.since, datetime) else EVER,
        }  # fmt: skip

    def window(self) -> dict[str, Any]:
        """As `columns`, and over which jobs a window moves."""
        state = None if self.state is None else State(self.state)
        since = self.since.astimezone(UTC) if isinstance(self.since, datetime) else None
        return {
            **self.columns(),
            "state": state,
            "states": beside(state),
            "first": first_id(since - SKEW if since else datetime.fromtimestamp(0, UTC)),
            # It leaves out whole partitions. A closer time would only skip jobs without counting them.
            "day": since.replace(hour=0, minute=0, second=0, microsecond=0) if since else EVER,
        }


def listing(queries: Queries, wanted: Wanted, *, limit: int) -> Steps[Page]:
    """At most `limit` of the jobs that are wanted. Takes two statements, and one more for each further 10,000 of `limit`."""
    check_integer("limit", limit, low=0, high=1_000_000)
    if limit == 0:
        return Page(next=wanted.after)
    if wanted.since is not None and not isinstance(wanted.since, datetime):
        (since,) = yield from ask(queries.ago(seconds("since", wanted.since)))
        wanted = replace(wanted, since=since)
    some, seen = yield from _of_state(queries, wanted, limit=limit)
    if 0 <= seen < STATE_WINDOW:
        return _cut(some, limit=limit, looked_at=seen) if len(some) > limit else Page(some, looked_at=seen)
    page = yield from _walk(queries, wanted, limit=limit)
    if page.next is not None and len(page) < limit:
        page += [job for job in some if job.id < page.next][: limit - len(page)]
    return page


def beside(state: State | None) -> Sequence[State]:
    """The states of the jobs that lie in the same tables as those of this one."""
    if state is None or state is State.SUCCEEDED:
        return tuple(State) if state is None else (state,)
    return [other for other in State if other.ended == state.ended and other is not State.SUCCEEDED]


def _of_state(queries: Queries, wanted: Wanted, *, limit: int) -> Steps[tuple[list[Snapshot], int]]:
    """Jobs of a live state by its index, one more than wanted, and how many jobs were read; -1: the state has no index."""
    index = INDEXES.get(State(wanted.state)) if wanted.state is not None else None
    if index is None:
        return [], -1
    if index == "by_claim" and wanted.queue is not None:
        index = "by_claim_of_queue"
    rows = yield from ask(queries.jobs_of_state(index, **wanted.columns(), window=STATE_WINDOW, limit=limit + 1))
    jobs = [row.job for row in rows if row.job is not None]
    return sorted(jobs, key=lambda job: job.id, reverse=True), rows[0].seen


def _walk(queries: Queries, wanted: Wanted, *, limit: int) -> Steps[Page]:
    """Read along the ids, window after window, until there is one more than wanted: no statement reads a million jobs."""
    jobs: list[Snapshot] = []
    looked_at, most = 0, max(WINDOW, limit + 1)
    while True:
        asked = min(WINDOW, most - looked_at)
        rows = yield from ask(queries.jobs_window(**wanted.window(), window=asked, limit=limit + 1 - len(jobs)))
        jobs += [row.job for row in rows if row.wanted]
        seen = rows[-1].place if rows else 0
        looked_at += seen
        if len(jobs) > limit:
            return _cut(jobs, limit=limit, looked_at=looked_at)
        if seen < asked:
            return Page(jobs, looked_at=looked_at)
        last = rows[-1].job
        if looked_at == most:
            return Page(jobs, looked_at=looked_at, looked_back_to=last.created_at, next=last.id)
        wanted = replace(wanted, after=last.id)


def _cut(jobs: Sequence[Snapshot], *, limit: int, looked_at: int) -> Page:
    """The first `limit` of more jobs than that."""
    last = jobs[limit - 1]
    return Page(jobs[:limit], looked_at=looked_at, looked_back_to=last.created_at, next=last.id)


def check_filters(queue: str | None, task: str | None) -> None:
    """Check the names of a queue and a task; raises InvalidOption."""
    for option, name in (("queue", queue), ("task", task)):
        if name is not None:
            check_name(option, name)


def check_state(state: str) -> State:
    """The state of that name; raises InvalidOption."""
    if state not in list(State):
        raise InvalidOption(f"state must be one of {', '.join(State)}, not {state!r}")
    return State(state)


def check_id(job_id: str) -> str:
    """An id as the database writes it; raises JobNotFound."""
    if not ID.fullmatch(str(job_id)):
        raise JobNotFound(
            f"{str(job_id)[:60]!r} is not a valid job id: ids look like 01a208e7-51ed-7198-a687-0270704ff6cf",
            str(job_id),
        )
    return str(job_id).lower()
