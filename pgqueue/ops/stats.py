"""The state of a queue as one frozen value, gathered by a few statements that cost the same however large the tables are.

To count ten million rows takes seconds, so nothing here does. Up to COUNT_LIMIT rows are counted one by one in an
index; beyond that an estimate comes from the same thousand pages of the table each time, and says that it is not exact.
The planner's statistics are of no use: a fresh table has none, and they treat state and queue as independent.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pgqueue.queries import Queries, Steps, ask
from pgqueue.queries.events import SubscriptionState
from pgqueue.queries.ops import Failure, QueueRow, RunningJob, Throughput, UpcomingJob, Whole, WorkerRow

# Rows counted one by one per queue or state. Where vacuum is behind, each row costs a block, and a statement counts five times
# as many rows at most: 20,000 blocks, which are some 20 ms from the cache.
COUNT_LIMIT = 4_000
SAMPLE_PAGES = 1_000  # some 25,000 jobs for 10 ms; the number of pages drawn varies by 3 %, and so does the estimate
QUEUE_LIMIT = 1_000  # queues read, at some 20 us each
QUEUES_SHOWN = 50
WORKERS_SHOWN = 50
JOBS_PER_WORKER = 5
SUBSCRIPTIONS_SHOWN = 50
UPCOMING_SHOWN = 10
FAILURES_SHOWN = 10
BUCKET_S = 10  # as the heartbeat writes table throughput
BUCKETS = 60  # ten minutes
RATE_BUCKETS = 6  # one minute


@dataclass(frozen=True, slots=True)
class Count:
    """A number of rows, and whether it was counted or estimated."""

    value: int
    exact: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What the workers counted in a span of time. `failed` are attempts, the others are jobs."""

    succeeded: int = 0
    failed: int = 0
    dead: int = 0
    cancelled: int = 0


@dataclass(frozen=True, slots=True)
class Bucket:
    """Ten seconds of work, beginning `at`."""

    at: datetime
    succeeded_per_s: float
    failed_per_s: float


@dataclass(frozen=True, slots=True)
class QueueStats:
    """One queue. `served`: a worker with a valid lease claims from it. `resume_s`: until a pause ends by itself."""

    name: str
    depth: Count
    oldest_age_s: float | None
    running: int
    paused: bool
    served: bool
    resume_s: float | None = None


@dataclass(frozen=True, slots=True)
class WorkerStats:
    """One worker: alive, draining (asked to stop), suspect (its session or its lease is gone) or lost (declared dead).

    `claimed` counts all jobs that it holds. `busy` is an estimate of those that run: a worker claims some jobs a moment before
    they start, so beyond its slots (as with async jobs) only those count that it has held for a second. `queues` is None for
    a worker that serves all. `jobs` holds the longest running ones.
    """

    id: str
    name: str
    state: str
    uptime_s: float
    heartbeat_age_s: float
    concurrency: int
    busy: int
    claimed: int
    queues: tuple[str, ...] | None
    app: str
    version: str
    jobs: tuple[RunningJob, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionStats:
    """One subscription to events. behind_s: for how long the first event that waits has done so; None: none waits.

    `lost` were dropped unread. `stopped`: a lane waits until somebody says so, for the reason in `error`, which may also be that of
    the last try. `readers`: the ids of the loops and relays that hold a lane now; a dispatcher holds none.
    """

    name: str
    mode: str
    behind: Count
    behind_s: float | None
    lost: int
    paused: bool
    stopped: bool
    served: bool
    error: str | None
    readers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """One look at everything, with all times by the database's clock.

    Rates are those of the last minute; `throughput` holds the last sixty complete buckets of ten seconds, oldest first.
    Queues come with the most remarkable first: work that nobody serves, then the deepest and the oldest.
    """

    at: datetime
    ever_used: bool
    queued: Count
    scheduled: Count
    running: Count
    dead_kept: Count
    succeeded_per_s: float
    failed_per_s: float
    last_hour: Totals
    throughput: tuple[Bucket, ...]
    queues: tuple[QueueStats, ...]
    queues_not_shown: int
    workers: tuple[WorkerStats, ...]
    workers_not_shown: int
    subscriptions: tuple[SubscriptionStats, ...] = ()
    subscriptions_not_shown: int = 0
    upcoming: tuple[UpcomingJob, ...]
    failures: tuple[Failure, ...]

    def to_json(self) -> dict[str, Any]:
        """The same as plain values for json.dumps: names are stable, times ISO 8601 in UTC, absent values null.

        {"at", "ever_used", "queued", "queued_is_exact", "scheduled", "scheduled_is_exact",
         "running", "running_is_exact", "dead_kept", "dead_kept_is_exact", "succeeded_per_s", "failed_per_s",
         "last_hour": {"succeeded", "failed", "dead", "cancelled"},
         "throughput": [{"at", "succeeded_per_s", "failed_per_s"}],
         "queues": [{"name", "depth", "depth_is_exact", "oldest_age_s", "running", "paused", "served", "resume_s"}],
         "queues_not_shown",
         "workers": [{"id", "name", "state", "uptime_s", "heartbeat_age_s", "concurrency", "busy", "claimed",
                      "queues", "app", "version",
                      "jobs": [{"id", "task", "queue", "attempt", "running_s", "progress", "note"}]}],
         "workers_not_shown",
         "subscriptions": [{"name", "mode", "behind", "behind_is_exact", "behind_s", "lost", "paused", "stopped", "served",
                            "error", "readers"}],
         "subscriptions_not_shown",
         "upcoming": [{"id", "task", "queue", "run_at", "due_in_s", "attempt", "max_attempts", "schedule"}],
         "failures": [{"job_id", "task", "queue", "failed_at", "age_s", "attempt", "worker", "cause", "error"}]}
        """
        return _plain_fields(self)


def gather(queries: Queries, *, count_limit: int = COUNT_LIMIT) -> Steps[Stats]:
    """Look at everything once. Takes seven statements, nine when it has to estimate, and one more where there are subscriptions."""
    (whole,) = yield from ask(queries.stats_totals(count_limit=count_limit))
    history = yield from ask(queries.stats_throughput())
    found = yield from ask(queries.stats_queues(queue_limit=QUEUE_LIMIT, count_limit=count_limit))
    workers, workers_in_all = yield from _workers(queries, count_limit=count_limit)
    subscriptions = (yield from _subscriptions(queries, count_limit=count_limit)) if whole.subscribed else []
    upcoming = yield from ask(queries.stats_upcoming(limit=UPCOMING_SHOWN))
    failures = yield from ask(queries.stats_failures(limit=FAILURES_SHOWN))

    sample = _NOTHING
    many = whole.running >= count_limit
    if many or whole.scheduled >= count_limit or len(found) >= QUEUE_LIMIT or any(row.capped for row in found):
        sample = yield from _sample(queries, pages=whole.job_pages)
    queues = _by_interest(_queue(row, many=many, sample=sample) for row in found)
    recent, span_s = _recent(history, now=whole.now)

    return Stats(
        at=whole.now,
        ever_used=whole.ever_used,
        queued=_queued(queues, sample=sample),
        scheduled=sample.count("scheduled", None, counted=whole.scheduled, capped=whole.scheduled >= count_limit),
        running=sample.count("running", None, counted=whole.running, capped=many),
        dead_kept=(yield from _dead(queries, whole, count_limit=count_limit)),
        succeeded_per_s=sum(bucket.succeeded for bucket in recent) / span_s,
        failed_per_s=sum(bucket.failed for bucket in recent) / span_s,
        last_hour=_totals(history),
        throughput=_buckets(history, now=whole.now),
        queues=tuple(queues[:QUEUES_SHOWN]),
        queues_not_shown=max(0, len(queues) - QUEUES_SHOWN),
        workers=workers,
        workers_not_shown=workers_in_all - len(workers),
        subscriptions=tuple(subscriptions[:SUBSCRIPTIONS_SHOWN]),
        subscriptions_not_shown=max(0, len(subscriptions) - SUBSCRIPTIONS_SHOWN),
        upcoming=tuple(upcoming),
        failures=tuple(_in_one_line(failure) for failure in failures),
    )


def workers(queries: Queries) -> Steps[list[dict[str, Any]]]:
    """The workers alone, as in `Stats.to_json`."""
    found, _ = yield from _workers(queries, count_limit=COUNT_LIMIT)
    return [_plain_fields(worker) for worker in found]


# -- counts, and estimates where a count reached its limit --


@dataclass(frozen=True, slots=True)
class _Sample:
    """Live jobs on some of the table's pages, by (state, queue); `scale` is all pages by these."""

    scale: float
    counts: dict[tuple[str, str], int]

    def count(self, state: str, queue: str | None, *, counted: int, capped: bool) -> Count:
        """The count, or the estimate if the count reached its limit; queue None means all queues."""
        if not capped:
            return Count(counted)
        found = self.counts.items()
        hits = sum(count for (state_, queue_), count in found if state_ == state and queue in (None, queue_))
        return Count(max(counted, round(hits * self.scale)), exact=False)


_NOTHING = _Sample(0.0, {})


def _percent(pages: int) -> float:
    return min(100.0, 100.0 * SAMPLE_PAGES / max(1, pages))


def _sample(queries: Queries, *, pages: int) -> Steps[_Sample]:
    percent = _percent(pages)
    rows = yield from ask(queries.stats_sample(percent=percent))
    return _Sample(100 / percent, {(row.state, row.queue): row.jobs for row in rows})


def _dead(queries: Queries, whole: Whole, *, count_limit: int) -> Steps[Count]:
    if whole.ended < count_limit:
        return Count(whole.dead)
    percent = _percent(whole.ended_pages)
    (hits,) = yield from ask(queries.stats_sample_dead(percent=percent))
    return Count(max(whole.dead, round(hits * 100 / percent)), exact=False)


def _queued(queues: Sequence[QueueStats], *, sample: _Sample) -> Count:
    """The sum over the queues; if there were too many queues to read, an estimate, but at least that sum."""
    depth = sum(queue.depth.value for queue in queues)
    if len(queues) >= QUEUE_LIMIT:
        return sample.count("queued", None, counted=depth, capped=True)
    return Count(depth, exact=all(queue.depth.exact for queue in queues))


# -- rows into values --


def _queue(row: QueueRow, *, many: bool, sample: _Sample) -> QueueStats:
    """many: the count of running jobs reached its limit."""
    depth = sample.count("queued", row.queue, counted=row.counted, capped=row.capped)
    running = sample.count("running", row.queue, counted=row.running, capped=many).value
    return QueueStats(row.queue, depth, row.oldest_age_s, running, row.paused, row.served, row.resume_s)


def _by_interest(queues: Iterable[QueueStats]) -> list[QueueStats]:
    """Work that nobody serves first, then by depth or by age, whichever ranks the queue higher."""
    by_depth = sorted(queues, key=lambda queue: (-queue.depth.value, queue.name))
    by_age = sorted(by_depth, key=lambda queue: -(queue.oldest_age_s or 0.0))
    rank = {queue.name: place for place, queue in enumerate(by_age)}
    place = {queue.name: min(depth_place, rank[queue.name]) for depth_place, queue in enumerate(by_depth)}
    return sorted(by_depth, key=lambda queue: (queue.served or not queue.depth.value, place[queue.name]))


def _workers(queries: Queries, *, count_limit: int) -> Steps[tuple[tuple[WorkerStats, ...], int]]:
    rows = yield from ask(queries.stats_workers(limit=WORKERS_SHOWN, count_limit=count_limit))
    jobs: dict[str, list[RunningJob]] = {row.id: [] for row in rows}
    for current in (yield from ask(queries.stats_current(list(jobs), limit=JOBS_PER_WORKER))):
        jobs[current.worker].append(current.job)
    in_all = rows[0].in_all if rows else 0
    return tuple(_worker(row, jobs=jobs[row.id]) for row in rows), in_all


def _worker(row: WorkerRow, *, jobs: Sequence[RunningJob]) -> WorkerStats:
    busy = min(row.claimed, max(row.concurrency, row.lasting))
    queues = None if row.queues is None else tuple(row.queues)
    return WorkerStats(
        row.id, row.name, row.state, row.uptime_s, row.heartbeat_age_s, row.concurrency, busy, row.claimed, queues,
        row.app, row.version, tuple(jobs),
    )  # fmt: skip


def _subscriptions(queries: Queries, *, count_limit: int) -> Steps[list[SubscriptionStats]]:
    """What has stopped or lost something first, then those that are the furthest behind."""
    rows = yield from ask(queries.subscription_states(count_limit=count_limit))
    found = [_subscription(row, count_limit=count_limit) for row in rows]
    return sorted(found, key=lambda each: (not (each.stopped or each.lost), -(each.behind_s or 0.0), each.name))


def _subscription(row: SubscriptionState, *, count_limit: int) -> SubscriptionStats:
    return SubscriptionStats(
        name=row.name, mode=row.mode, behind=Count(row.behind, exact=row.behind < count_limit), behind_s=row.behind_s,
        lost=row.lost, paused=row.paused, stopped=row.stopped > 0, served=row.known, error=_first_line(row.error),
        readers=tuple(row.readers),
    )  # fmt: skip


def _in_one_line(failure: Failure) -> Failure:
    """Its error cut to the first line that is not empty."""
    return failure._replace(error=_first_line(failure.error) or "")


def _first_line(text: str | None) -> str | None:
    """That is not empty."""
    return next(filter(None, (line.strip() for line in (text or "").splitlines())), None)


# -- throughput --


def _current_bucket(now: datetime) -> datetime:
    return datetime.fromtimestamp(now.timestamp() // BUCKET_S * BUCKET_S, UTC)


def _recent(history: Sequence[Throughput], *, now: datetime) -> tuple[list[Throughput], float]:
    """Six complete buckets and the current one, so that no rate drops when a bucket begins; and the seconds that they cover."""
    since = _current_bucket(now) - timedelta(seconds=RATE_BUCKETS * BUCKET_S)
    return [bucket for bucket in history if bucket.at >= since], (now - since).total_seconds()


def _totals(history: Sequence[Throughput]) -> Totals:
    return Totals(
        succeeded=sum(bucket.succeeded for bucket in history),
        failed=sum(bucket.failed for bucket in history),
        dead=sum(bucket.dead for bucket in history),
        cancelled=sum(bucket.cancelled for bucket in history),
    )


def _buckets(history: Sequence[Throughput], *, now: datetime) -> tuple[Bucket, ...]:
    """The complete buckets without a gap; the current one would look like a slump."""
    counted = {bucket.at: bucket for bucket in history}
    end = _current_bucket(now)
    times = (end - timedelta(seconds=BUCKET_S * back) for back in range(BUCKETS, 0, -1))
    return tuple(_bucket(at, counted.get(at)) for at in times)


def _bucket(at: datetime, counted: Throughput | None) -> Bucket:
    if counted is None:
        return Bucket(at, 0.0, 0.0)
    return Bucket(at, counted.succeeded / BUCKET_S, counted.failed / BUCKET_S)


# -- plain values --


def _plain_fields(value: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        if isinstance(item, Count):
            plain |= {field.name: item.value, f"{field.name}_is_exact": item.exact}
        else:
            plain[field.name] = _plain(item)
    return plain


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return _plain_fields(value)
    if hasattr(value, "_asdict"):
        return {name: _plain(item) for name, item in value._asdict().items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return round(value, 3) if isinstance(value, float) else value
