"""The sections: queues, workers, subscriptions, what is due next, what failed last."""

from collections.abc import Iterator

from rich.text import Text

from pgqueue.dashboard.section import Column, Row, Section, figure
from pgqueue.dashboard.words import ago, clock, count, data, quiet_zero, short, span, whole
from pgqueue.ops.stats import QueueStats, Stats, SubscriptionStats, WorkerStats
from pgqueue.queries.ops import Failure, RunningJob, UpcomingJob

ROOMY = 70  # cells; a narrower section leaves out what is less important
STATE_STYLES = {"alive": "green", "draining": "yellow", "suspect": "bold yellow", "lost": "bold red"}
START_ONE = "pgqueue worker -A yourapp"


def queues_section(stats: Stats) -> Section:
    nothing = "nothing is waiting or running" if stats.ever_used else "no jobs yet: yourtask.defer(...) creates one"
    return Section(
        columns=[
            Column("queues", ratio=1),
            figure("depth", 6),
            figure("oldest", 7),
            figure("run", 4),
            Column(),
        ],
        rows=[Row(_queue(queue)) for queue in stats.queues],
        empty=Text(nothing, style="dim"),
        not_shown=stats.queues_not_shown,
        by_name=True,
    )


def _queue(queue: QueueStats) -> tuple[Text, ...]:
    return (
        data(queue.name),
        quiet_zero(queue.depth.value, count(queue.depth)),
        Text(span(queue.oldest_age_s)),
        quiet_zero(queue.running),
        _remark(queue),
    )


def _remark(queue: QueueStats) -> Text:
    ends = "" if queue.resume_s is None else f" for {span(queue.resume_s)}"
    paused = Text(f"paused{ends}", style="yellow") if queue.paused else Text()
    unserved = Text() if queue.served else Text("⚠ no worker", style="bold red" if queue.depth.value else "yellow")
    return Text("  ").join(text for text in (unserved, paused) if text)


def workers_section(stats: Stats, *, width: int) -> Section:
    return Section(
        columns=[
            Column("workers", ratio=1),
            figure("busy", 5),
            figure("for", 7),
            Column("state, beat", min_width=14, max_width=30 if width >= ROOMY else 15),
        ],
        rows=[row for worker in stats.workers for row in _worker(worker)],
        empty=Text.assemble(("no workers", "yellow"), "   start one: ", (START_ONE, "bold")),
        not_shown=stats.workers_not_shown,
    )


def _worker(worker: WorkerStats) -> Iterator[Row]:
    state = (worker.state, STATE_STYLES.get(worker.state, ""))
    cells = (
        data(worker.name),
        Text(f"{whole(worker.busy)}/{whole(worker.concurrency)}"),
        Text(span(worker.uptime_s)),
        Text.assemble(state, " ", (span(worker.heartbeat_age_s), "dim")),
    )
    yield Row(cells)
    yield from (Row(_running(job), level=place) for place, job in enumerate(worker.jobs, start=1))


def _running(job: RunningJob) -> tuple[Text, ...]:
    name = Text.assemble("  ", (short(job.id), "dim"), "  ", data(job.task))
    done = Text("" if job.progress is None else f"{job.progress:.0%}", style="cyan")
    return name, done, Text(span(job.running_s)), data(job.note or "", style="dim")


def subscriptions_section(stats: Stats) -> list[Section]:
    """None where there are no subscriptions."""
    section = Section(
        columns=[
            Column("subscriptions", ratio=2),
            Column("mode"),
            figure("behind", 6),
            figure("for", 7),
            Column(ratio=3),
        ],
        rows=[Row(_subscription(each)) for each in stats.subscriptions],
        empty=Text(),
        not_shown=stats.subscriptions_not_shown,
        by_name=True,
    )
    return [section] if stats.subscriptions else []


def _subscription(each: SubscriptionStats) -> tuple[Text, ...]:
    return (
        data(each.name),
        Text(each.mode, style="dim"),
        quiet_zero(each.behind.value, count(each.behind)),
        Text(span(each.behind_s)),
        Text("  ").join(_state_of(each)),
    )


def _state_of(each: SubscriptionStats) -> Iterator[Text]:
    """What keeps it from its events, and else who reads them."""
    if each.lost:
        yield Text(f"⚠ {whole(each.lost)} lost", style="bold red")
    if each.stopped:
        yield Text("⚠ stopped", style="bold red")
    if each.paused:
        yield Text("paused", style="yellow")
    if not each.served:
        yield Text("⚠ no worker", style="bold red" if each.behind.value else "yellow")
    if each.error:
        yield data(each.error, style="red")
    if each.readers:
        yield Text(f"read by {', '.join(map(short, each.readers))}", style="dim")


def upcoming_section(stats: Stats, *, width: int) -> Section:
    at = [Column("at, UTC")] if width >= ROOMY else []
    return Section(
        columns=[Column("upcoming"), *at, Column("task", ratio=3), Column("queue", ratio=2), Column(min_width=9)],
        rows=[Row(_due(job, with_time=bool(at))) for job in stats.upcoming],
        empty=Text("nothing is scheduled", style="dim"),
    )


def _due(job: UpcomingJob, *, with_time: bool) -> tuple[Text, ...]:
    due = Text(f"in {span(job.due_in_s)}") if job.due_in_s > 0 else Text("due now", style="yellow")
    at = [Text(clock(job.run_at), style="dim")] if with_time else []
    if job.schedule is not None:
        return due, *at, data(job.task), data(job.schedule, style="dim"), Text("schedule", style="dim")
    most = "" if job.max_attempts is None else f"/{job.max_attempts}"
    why = Text(f"retry {job.attempt + 1}{most}", style="yellow") if job.attempt else Text("delayed", style="dim")
    return due, *at, data(job.task), data(job.queue or "", style="dim"), why


def failures_section(stats: Stats) -> Section:
    return Section(
        columns=[
            Column("failures", min_width=8),
            Column("id"),
            Column("task", ratio=3),
            figure("try", 3),
            Column("cause and error", ratio=5),
        ],
        rows=[Row(_failure(failure)) for failure in stats.failures],
        empty=Text("no failed attempts", style="dim"),
    )


def _failure(failure: Failure) -> tuple[Text, ...]:
    return (
        Text(f"{ago(failure.age_s)} ago"),
        Text(short(failure.job_id), style="dim"),
        data(failure.task),
        Text(str(failure.attempt)),
        Text.assemble(data(failure.cause, style="red"), "  ", data(failure.error)),
    )
