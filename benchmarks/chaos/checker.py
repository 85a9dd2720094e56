"""Holds what happened against what was promised. Pure: from the ledger and the final rows to violations and figures.

Multisets as in a total-queue test: what was acknowledged must have ended, what was rolled back must not have run, what is
unknown may be either, but wholly. Of every job: each token starts at most once, the result comes from the token that the
row ended with, a transactional effect is there exactly once if it succeeded and never otherwise, other effects at least
once and at most once per token; nobody lost a job to a rescue that no fault explains, and none failed by what it never raises.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import quantiles
from typing import Any, NamedTuple

from benchmarks.chaos.gate_promises import Gates, check_gates, gate_figures
from benchmarks.chaos.promises import Events, check_events, event_figures
from pgqueue.worker.settings import CRASH_CAP

LOSES_WORKER = frozenset({"kill_worker", "kill_group", "freeze_worker", "cut", "lose_replies", "delay"})
# How long after its end a fault may still cost a worker its lease: the lease, the longest pause between two heartbeats,
# and the second look.
AFTERMATH_S = 25.0
WORKER_LOST = "worker lost"


class Row(NamedTuple):
    """One job at the end, live or ended. result: the token that its task returned."""

    id: str
    state: str
    task: str
    key: str
    token: int
    result: int | None
    attempt: int
    crashes: int
    unique_key: str | None
    created_at: float
    finished_at: float | None
    error: str | None


class Failure(NamedTuple):
    """One row of the table attempt."""

    job: str
    token: int
    cause: str
    failed_at: float


@dataclass(frozen=True, kw_only=True)
class History:
    """Everything a run left behind."""

    records: Sequence[Mapping[str, Any]]
    rows: Sequence[Row]
    failures: Sequence[Failure]
    effects: Sequence[tuple[str, int]]
    """(job, token) of every transactional effect."""
    placed: frozenset[str]
    """Keys whose row beside the job was committed."""
    leaks: Mapping[str, int] = field(default_factory=dict)
    """What should be zero at the end, by name."""
    events: Events | None = None
    """None: the run published none."""
    gates: Gates | None = None
    """None: no job had any."""


@dataclass(frozen=True)
class Verdict:
    """What was found: violations by kind (empty: the run is valid) and the figures."""

    violations: Mapping[str, Sequence[str]]
    figures: Mapping[str, Any]

    @property
    def valid(self) -> bool:
        return not self.violations


def check(history: History) -> Verdict:
    """All rules over one run."""
    found: dict[str, list[str]] = defaultdict(list)
    for rule in (
        _enqueues, _ends, _tokens, _transactional, _outside, _uniqueness, _crashes, _thefts, _blames, _strangers, _leaks,
    ):  # fmt: skip
        for kind, text in rule(history):
            found[kind].append(text)
    for kind, text in check_events(history.events) if history.events else ():
        found[kind].append(text)
    for kind, text in check_gates(history.gates) if history.gates else ():
        found[kind].append(text)
    return Verdict(dict(found), _figures(history))


Found = Iterable[tuple[str, str]]


def _of(history: History, *kinds: str) -> list[Mapping[str, Any]]:
    return [record for record in history.records if record["kind"] in kinds]


def _last_words(history: History) -> dict[str, str]:
    """What each producer knew of each key in the end."""
    return {
        record["key"]: record["kind"] for record in _of(history, "ack", "rolled_back", "error", "deadlock", "unknown")
    }


def _enqueues(history: History) -> Found:
    intents = {record["key"]: record["family"] for record in _of(history, "intent")}
    keys = Counter(row.key for row in history.rows if row.key in intents)
    single = {key for key, family in intents.items() if family != "uniq"}
    for key, outcome in _last_words(history).items():
        if outcome == "deadlock":
            yield "deadlock", f"the producer of {key} met a deadlock"
        if outcome == "ack" and key not in history.placed:
            yield "lost", f"{key} was acknowledged, and the row beside the job is gone"
        if outcome == "ack" and key in single and not keys[key]:
            yield "lost", f"{key} was acknowledged and is nowhere"
        if outcome in ("rolled_back", "error", "deadlock") and (keys[key] or key in history.placed):
            yield "unexpected", f"{key} was {outcome} and exists"
    for key in single:
        if keys[key] != (key in history.placed):
            yield (
                "torn",
                f"{key}: {keys[key]} jobs, but its row beside them is {'there' if key in history.placed else 'not'}",
            )
    started = {record["job"] for record in _of(history, "start")}
    for job in started - {row.id for row in history.rows}:
        yield "unexpected", f"{job} ran and was never committed"


def _ends(history: History) -> Found:
    for row in history.rows:
        if row.state not in ("succeeded", "dead", "cancelled"):
            yield "stuck", f"{row.id} ({row.task}) is still {row.state}"
        elif row.task.endswith(".poison"):
            if row.state != "dead" or "quarantined" not in (row.error or ""):
                yield "outcome", f"{row.id} kills its process and is {row.state}: {row.error}"
        elif row.state != "succeeded" and not _quarantined_by_faults(row):
            yield "outcome", f"{row.id} ({row.task}) is {row.state}: {row.error}"
    for job, count in Counter(row.id for row in history.rows).items():
        if count > 1:
            yield "doubled", f"{job} has {count} rows"


def _quarantined_by_faults(row: Row) -> bool:
    """Three faults may strike one long job. That each was a fault is seen to by _thefts and _blames."""
    return row.state == "dead" and row.crashes >= CRASH_CAP and (row.error or "").startswith("quarantined")


def _tokens(history: History) -> Found:
    last = {row.id: row.token for row in history.rows}
    starts = Counter((record["job"], record["token"]) for record in _of(history, "start"))
    for (job, token), count in starts.items():
        if count > 1:
            yield "token", f"{job} started {count} times with token {token}"
        if token > last.get(job, token):
            yield "token", f"{job} ran with token {token} and ended with {last[job]}"
    done = {(record["job"], record["token"]) for record in _of(history, "done")}
    for row in history.rows:
        if row.state == "succeeded":
            if row.result != row.token:
                yield "stale", f"{row.id} ended with token {row.token}, its result is from {row.result}"
            if (row.id, row.token) not in done:
                yield "stale", f"{row.id} succeeded with token {row.token}, which never came to its end"


def _transactional(history: History) -> Found:
    effects = defaultdict(list)
    for job, token in history.effects:
        effects[job].append(token)
    for row in history.rows:
        if row.task.endswith(".tx"):
            wanted = [row.token] if row.state == "succeeded" else []
            if effects[row.id] != wanted:
                yield "effects", f"{row.id} is {row.state} with token {row.token}; its effects are of {effects[row.id]}"


def _outside(history: History) -> Found:
    effects = Counter(record["job"] for record in _of(history, "effect"))
    for row in history.rows:
        if row.task.endswith(".ext") and row.state == "succeeded" and not 1 <= effects[row.id] <= row.token:
            yield "effects", f"{row.id} succeeded with token {row.token} and has {effects[row.id]} effects"


def _uniqueness(history: History) -> Found:
    lives = defaultdict(list)
    for row in history.rows:
        if row.unique_key is not None and row.finished_at is not None:
            lives[row.unique_key].append((row.created_at, row.finished_at, row.id))
    for key, spans in lives.items():
        # created_at and finished_at are the beginnings of transactions: a committed end may carry a time a little later
        # than the insert that waited for it.
        for (_, end, first), (begin, _, second) in pairwise(sorted(spans)):
            if begin < end - 30:
                yield "unique", f"{first} and {second} were alive together with key {key}"


def _crashes(history: History) -> Found:
    crashes = Counter(failure.job for failure in history.failures if failure.cause in ("crash", WORKER_LOST))
    for row in history.rows:
        if row.crashes != crashes[row.id]:
            yield "accounting", f"{row.id} counts {row.crashes} crashes and has {crashes[row.id]} recorded"
    for (job, token), count in Counter((failure.job, failure.token) for failure in history.failures).items():
        if count > 1:
            yield "accounting", f"{job} failed {count} times with token {token}"


def _spans(history: History, kinds: Iterable[str]) -> list[tuple[str, float, float]]:
    """(kind, begin, end) of each fault of these kinds."""
    open_: dict[tuple[str, str], float] = {}
    spans = []
    for record in sorted(_of(history, "fault"), key=lambda record: record["t"]):
        which = record["fault"], record["target"]
        if record["begins"]:
            open_[which] = record["t"]
        elif which[0] in kinds:
            spans.append((which[0], open_[which], record["t"]))
    return spans


def _thefts(history: History) -> Found:
    spans = _spans(history, LOSES_WORKER)
    for failure in history.failures:
        if failure.cause == WORKER_LOST and not any(
            begin <= failure.failed_at <= end + AFTERMATH_S for _, begin, end in spans
        ):
            yield "theft", f"{failure.job} was taken from its worker without any fault"


def _blames(history: History) -> Found:
    spans = _spans(history, {"kill_child"})
    poison = {row.id for row in history.rows if row.task.endswith(".poison")}
    for failure in history.failures:
        explained = any(begin <= failure.failed_at <= end + AFTERMATH_S for _, begin, end in spans)
        if failure.cause == "crash" and failure.job not in poison and not explained:
            yield "blame", f"{failure.job} is charged with a crash without any fault"


def _strangers(history: History) -> Found:
    """An exception in a task that raises none came from another job, or from a copy of its process."""
    tasks = {row.id: row.task.rpartition(".")[2] for row in history.rows}
    for failure in history.failures:
        if failure.cause == "exception" and tasks.get(failure.job) in (
            "ext",
            "long",
            "snooze",
            "report",
            "fork",
            "context",
            "first",
            "second",
            "paced",
        ):
            yield (
                "stranger",
                f"{failure.job} ({tasks[failure.job]}) failed with token {failure.token}, and raises nothing itself",
            )


def _leaks(history: History) -> Found:
    for what, count in history.leaks.items():
        if count:
            yield "leak", f"{count} {what} left at the end"


# -- figures --


def _figures(history: History) -> dict[str, Any]:
    words = Counter(_last_words(history).values())
    starts = len(_of(history, "start"))
    return {
        "jobs": len(history.rows),
        "acknowledged": words["ack"],
        "unknown": words["unknown"],
        "rolled back": words["rolled_back"],
        "refused": words["error"],
        "attempts started": starts,
        "jobs started again": starts - len({record["job"] for record in _of(history, "start")}),
        "failed attempts": dict(Counter(failure.cause for failure in history.failures)),
        "faults": dict(Counter(record["fault"] for record in _of(history, "fault") if record["begins"])),
        "quarantined by three faults": sum(map(_quarantined_by_faults, history.rows)) - _poison(history),
        "recovery_s": _recoveries(history),
        **(event_figures(history.events) if history.events else {}),
        **(gate_figures(history.gates) if history.gates else {}),
    }


def _poison(history: History) -> int:
    return sum(row.task.endswith(".poison") and _quarantined_by_faults(row) for row in history.rows)


def _recoveries(history: History) -> dict[str, dict[str, float]]:
    """Seconds from a kill or the beginning of a cut to the moment when the job was taken back, by kind of fault."""
    causes = {"kill_child": "crash", "kill_worker": WORKER_LOST, "kill_group": WORKER_LOST, "cut": WORKER_LOST,
              "freeze_worker": WORKER_LOST}  # fmt: skip
    times: dict[str, list[float]] = defaultdict(list)
    spans = sorted(_spans(history, causes), key=lambda span: span[1])
    poison = {row.id for row in history.rows if row.task.endswith(".poison")}
    for failure in history.failures:
        if failure.job in poison:  # it needs no fault
            continue
        before = [span for span in spans if causes[span[0]] == failure.cause and span[1] <= failure.failed_at]
        if before and failure.failed_at <= before[-1][2] + AFTERMATH_S:
            times[before[-1][0]].append(failure.failed_at - before[-1][1])
    return {kind: _percentiles(values) for kind, values in sorted(times.items())}


def _percentiles(values: list[float]) -> dict[str, float]:
    p95 = quantiles(values, n=20)[-1] if len(values) > 1 else values[0]
    return {"count": len(values), "p50": round(sorted(values)[len(values) // 2], 2), "p95": round(min(p95, max(values)), 2),
            "max": round(max(values), 2)}  # fmt: skip
