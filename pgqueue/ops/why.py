"""Why a job has not run, or how it ended: one statement reads all that decides it, and sentences explain it."""

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from pgqueue.job import Snapshot, State
from pgqueue.queries import Queries, Steps, ask
from pgqueue.queries.ops import AtGate, Facts, FullWorker

COUNTED_AHEAD = 10_000  # jobs before this one are counted up to here; a larger number is "more than"


class Why(NamedTuple):
    """state, and the reasons; the first one decides."""

    state: str
    reasons: list[str]


def why(queries: Queries, job: Snapshot) -> Steps[Why]:
    """What keeps a live job from running, or how it ended. If it has ended since `job` was read, nothing else is known yet."""
    rows = yield from ask(queries.why(job.id, count_limit=COUNTED_AHEAD))
    if not rows:
        return Why(job.state, list(_ended(job)))
    facts = rows[0]
    return Why(facts.state, [*_live(facts), *_besides(facts)])


def _ended(job: Snapshot) -> Iterator[str]:
    when = f" at {_clock(job.finished_at)}" if job.finished_at else ""
    match job.state:
        case State.SUCCEEDED:
            yield f"it succeeded{when} with attempt {job.attempt}"
        case State.CANCELLED:
            yield f"it was cancelled{when}: {job.error or 'without a reason'}"
        case State.DEAD if job.error and job.error.startswith("quarantined"):
            yield f"it is {job.error}{when}; fix the task, then run `pgqueue retry {job.id}`"
        case State.DEAD:
            yield f"it was given up{when} after {_many(job.attempt, 'attempt')}: {job.error}; rerun: `pgqueue retry {job.id}`"
        case _:
            yield "it ended just now: ask again"


def _live(facts: Facts) -> Iterator[str]:
    """The reasons, in the order in which somebody has to remove them."""
    if facts.state == State.RUNNING:
        yield from _held(facts)
        return
    if facts.state == State.SCHEDULED and facts.due_s > 0:
        yield f"it is not due before {span(facts.due_s)} from now{_because(facts)}"
    if facts.state == State.SCHEDULED and facts.handed_back_s is not None:
        yield (
            f"it was first released {span(facts.handed_back_s)} ago by a worker whose code does not take its arguments: "
            "it waits for a worker with other code"
        )
    if facts.paused_s is not None:
        by = f" by {facts.paused_by}" if facts.paused_by else ""
        ends = "" if facts.resume_s is None else f", and resumes in {span(facts.resume_s)}"
        yield f"queue {facts.queue} is paused, since {span(facts.paused_s)}{by}{ends}: `pgqueue resume {facts.queue}`"
    if facts.at_gate is not None:
        yield _at_gate(facts.at_gate)
    yield from _no_worker(facts)
    if facts.claiming and facts.state == State.QUEUED and facts.paused_s is None:
        yield from _waits(facts)


def _at_gate(at: AtGate) -> str:
    if not at.known:
        return f"it waits at the gate {at.gate}, whose limit no worker has declared yet: start one with the code that has it"
    if at.closed_s is not None:
        by = f" by {at.closed_by}" if at.closed_by else ""
        why = f" ({at.closed_why})" if at.closed_why else ""
        until = f", for {span(at.closed_for_s)} more" if at.closed_for_s is not None else ""
        return f"the gate {at.gate} is closed{by}{why}, since {span(at.closed_s)}{until}: `pgqueue resume {at.gate}`"
    if at.half_open:
        tries = f"job {at.trial} is tried" if at.trial else "one job is to be tried"
        return f"the gate {at.gate} is half-open after {at.closed_why}: {tries}; to open it: `pgqueue resume {at.gate}`"
    holders = f" ({', '.join(at.holders)}{', ...' if at.past > len(at.holders) else ''})" if at.holders else ""
    before = f", {_many(at.earlier, 'job', limit=COUNTED_AHEAD)} before it" if at.earlier else ""
    if at.fair and at.slots is None:
        are = "is" if at.past == 1 else "are"
        return f"it waits for its turn at {at.gate}: {_many(at.past, 'job')} of that key {are} before others'{holders}{before}"
    if at.slots is not None:
        are = "is" if at.past == 1 else "are"
        return f"it waits at the gate {at.gate}: {at.past} of {at.slots} {are} past it{holders}{before}"
    if at.every_s is None:
        return f"it waits at the gate {at.gate}, which is open{before}: the next look of a worker lets it through"
    return f"it waits at the gate {at.gate}, which lets one through every {at.every_s:.3g} s{before}"


def _because(facts: Facts) -> str:
    if facts.handed_back_s is not None:
        return ""  # _live says so in a sentence of its own
    if facts.failed_s is None:
        return ": scheduled, or put off by the task itself (snooze)"
    return f": attempt {facts.attempt} failed {span(facts.failed_s)} ago ({facts.cause}: {facts.error})"


def _no_worker(facts: Facts) -> Iterator[str]:
    if not facts.workers:
        yield "no worker is alive: start one with `pgqueue worker`"
    elif not facts.serving:
        yield f"no live worker serves queue {facts.queue} ({_many(facts.workers, 'worker')} serve others): see -Q"
    elif not facts.knowing:
        workers = _many(facts.serving, "live worker")
        yield f"no worker knows the task {facts.task} ({workers} serve the queue): deploy the code that has it, or check the name"
    elif not facts.claiming:
        yield "every worker that could run it is shutting down"


def _waits(facts: Facts) -> Iterator[str]:
    before = facts.larger + facts.earlier
    if before:
        yield _behind(facts)
    else:
        yield f"it is next in line: {_places(facts)}, all busy, or it starts now"
    yield from map(_full, facts.full or ())


def _full(worker: FullWorker) -> str:
    others = f" and {_many(worker.tasks - 1, 'other task')}" if worker.tasks > 1 else ""
    held = span(worker.held_s)
    if worker.jobs > worker.places:  # some are async, and need no slot of their own
        jobs = _many(worker.jobs, "job")
        return f"worker {worker.name} runs {jobs} of {worker.task}{others}, and has begun no other for {held}"
    slots, are = ("the slot", "is") if worker.places == 1 else (f"all {worker.places} slots", "are")
    return f"{slots} of worker {worker.name} {are} held by {worker.task}{others}, for {held}"


def _behind(facts: Facts) -> str:
    parts = [
        _many(facts.larger, "job", limit=COUNTED_AHEAD) + " of higher priority" if facts.larger else "",
        _many(facts.earlier, "earlier job", limit=COUNTED_AHEAD) + f" of priority {facts.priority}"
        if facts.earlier
        else "",
    ]
    return f"it waits behind {' and '.join(filter(None, parts))}, for {_places(facts)}"


def _places(facts: Facts) -> str:
    return f"{_many(facts.places, 'slot')} at {_many(facts.claiming, 'worker')}"


def _held(facts: Facts) -> Iterator[str]:
    since = f", since {span(facts.running_s)}" if facts.running_s is not None else ""
    note = f": {facts.progress:.0%}" if facts.progress is not None else ""
    note += f" {facts.progress_note}" if facts.progress_note else ""
    if facts.holder is None:
        yield "it counts as running, but its worker is unknown: run `pgqueue doctor --fix` to rescue it"
    elif facts.holder_state == "dead" or (facts.lease_s or 0) < 0:
        yield f"worker {facts.holder}, which had it, is gone: the next heartbeat of any worker rescues it"
    else:
        lease = f"its lease is valid for {span(facts.lease_s or 0)}, and is renewed while it is alive"
        yield f"worker {facts.holder} runs it{since}{note}; {lease}"


def _besides(facts: Facts) -> Iterator[str]:
    if facts.cancel_requested:
        yield "cancellation was requested: it ends at the task's next safe point"
    if facts.crashes:
        yield f"it crashed its process {_many(facts.crashes, 'time')}, so it runs alone"
    if facts.failed_s is not None and facts.state != State.SCHEDULED:
        yield f"its last failure was {span(facts.failed_s)} ago ({facts.cause}: {facts.error})"
    if facts.expires_s is not None:
        yield (
            f"it expires in {span(facts.expires_s)}"
            if facts.expires_s > 0
            else "it has expired: the worker that comes to it cancels it"
        )


def span(seconds: float) -> str:
    """A duration for people."""
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def _clock(at: datetime) -> str:
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _many(count: int, noun: str, *, limit: int | None = None) -> str:
    more = "more than " if limit is not None and count >= limit else ""
    return f"{more}{count} {noun}{'' if count == 1 else 's'}"
