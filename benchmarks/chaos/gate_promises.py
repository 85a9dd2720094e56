"""What is promised of gates, held against a run; a part of the checker.

How many jobs run at once is told by what ran, and not by what the rows say: from the moment at which an attempt begins to the one
at which it ends. One that was struck dead ends for the others when somebody writes down that it is lost, which is before its place
is free; so does one of a worker that lives on and does not know that its lease has run out. The same job may then begin again in
the same place. What a rate lets through, and what stands where it must not, is told by a witness in the database (see WITNESS).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, NamedTuple

Found = Iterable[tuple[str, str]]
ROUNDED = 1e-3  # of a token: the times of passes are whole microseconds

# Writes down each pass of a gate at the moment by which admit.sql reckons, a job that may be claimed though it has not passed all
# gates, and one that holds places while it waits for its time.
WITNESS = """
create schema witness;
create table witness.seen (what text not null, job uuid not null, gate text not null, at float8 not null);
create function witness.look() returns trigger language plpgsql set search_path = pg_catalog as $$
begin
  insert into witness.seen
  select what, new.id, gate, extract(epoch from statement_timestamp())
  from (
    select 'passed' as what, new.gates[place] as gate
    from generate_series(greatest(old.gate, 1), new.gate - 1) as place
    where new.state in ('waiting', 'queued')
    union all
    select 'astray', new.gates[greatest(new.gate, 1)]
    where new.state in ('queued', 'running') and new.gate <= cardinality(new.gates)
    union all
    select 'idle', new.gates[1]
    where
      new.state = 'scheduled' and new.gate > 0
      and not exists (select from pgqueue.gate where name = split_part(new.gates[1], '=', 1) and keeps)
  ) as seen;
  return null;
end $$;
create trigger witness after update on pgqueue.job
for each row when (new.gates is not null) execute function witness.look();
"""


class Rule(NamedTuple):
    """What stands in the table `gate`."""

    slots: int | None
    every_s: float | None
    burst: int


class Place(NamedTuple):
    """The job with this key is the how manyth of its line."""

    job: str
    key: str
    line: str
    nth: int


class Seen(NamedTuple):
    """What the witness wrote down."""

    what: str
    job: str
    gate: str
    at: float


class Run(NamedTuple):
    """Somebody ran the job, and had the right to, from begin to end."""

    job: str
    begin: float
    end: float


@dataclass(frozen=True, kw_only=True)
class Gates:
    """What a run left behind of its gates."""

    rules: Mapping[str, Rule]
    of_jobs: Mapping[str, Sequence[str]]
    """The gates of each job that has some, live or ended."""
    lines: Sequence[Place]
    seen: Sequence[Seen]
    losses: Mapping[tuple[str, int], float]
    """When an attempt was written down as failed or lost, by job and token."""
    ends: Mapping[str, float]
    """When each job had ended."""
    records: Sequence[Mapping[str, Any]]
    runs: list[Run] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "runs", list(_runs(self)))


def check_gates(gates: Gates) -> Found:
    """All rules."""
    yield from _limits(gates)
    yield from _lines(gates)
    yield from _rates(gates)
    yield from _witnessed(gates)


def _runs(gates: Gates) -> Iterable[Run]:
    """Those that anybody had the right to. A worker that wakes may begin what has long been taken from it."""
    over = {
        (record["job"], record["token"]): record["t"]
        for record in gates.records
        if record["kind"] in ("done", "failed")
    }
    begun: dict[str, dict[int, float]] = defaultdict(dict)
    for record in gates.records:
        if record["kind"] == "start" and record["job"] in gates.of_jobs:
            begun[record["job"]][record["token"]] = record["t"]
    for job, starts in begun.items():
        following = gates.ends.get(job, inf)
        for token, begin in sorted(starts.items(), reverse=True):
            end = min(over.get((job, token), inf), gates.losses.get((job, token), inf), following)
            if begin <= end:
                yield Run(job, begin, end)
            following = min(following, begin)


def _rule(gates: Gates, gate: str) -> Rule:
    return gates.rules.get(gate) or gates.rules[gate.partition("=")[0]]


def _at_gates(gates: Gates) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = defaultdict(list)
    for run in gates.runs:
        for gate in gates.of_jobs[run.job]:
            found[gate].append(run)
    return found


def _limits(gates: Gates) -> Found:
    for gate, runs in _at_gates(gates).items():
        slots = _rule(gates, gate).slots
        for count, at in _crowds(runs):
            if slots is not None and count > slots:
                yield "limit", f"{count} jobs ran at once at {gate}, which lets {slots} through, at {at:.3f}"


def _crowds(runs: Sequence[Run]) -> Iterable[tuple[int, float]]:
    """How many ran, each time that one began."""
    count = 0
    for at, step in sorted([*((run.begin, 1) for run in runs), *((run.end, -1) for run in runs)]):
        count += step
        if step > 0:
            yield count, at


def _lines(gates: Gates) -> Found:
    """Each whose commit was answered came before the next one was begun. One whose answer was lost may have come later."""
    unknown = {record["key"] for record in gates.records if record["kind"] == "unknown"}
    begun: dict[str, list[float]] = defaultdict(list)
    for run in gates.runs:
        begun[run.job].append(run.begin)
    last: dict[str, tuple[float, int]] = {}
    for place in sorted(gates.lines, key=lambda place: place.nth):
        if place.key in unknown or place.job not in begun:
            continue
        before, nth = last.get(place.line, (0.0, 0))
        if min(begun[place.job]) < before:
            yield "order", f"number {place.nth} of line {place.line} began before the last attempt of number {nth}"
        last[place.line] = max((max(begun[place.job]), place.nth), (before, nth))


def _rates(gates: Gates) -> Found:
    """In no window more than a burst and what its length allows: the same as a bucket that never runs over."""
    passed: dict[str, list[float]] = defaultdict(list)
    for seen in gates.seen:
        if seen.what == "passed":
            passed[seen.gate].append(seen.at)
    for gate, times in passed.items():
        rule = _rule(gates, gate)
        if rule.every_s is None:
            continue
        level, before = 0.0, 0.0
        for at in sorted(times):
            level, before = max(0.0, level - (at - before) / rule.every_s) + 1, at
            if level > rule.burst + ROUNDED:
                yield "rate", f"{gate} let {level - rule.burst:.2f} jobs more through than it may, at {at:.3f}"


def _witnessed(gates: Gates) -> Found:
    for seen in gates.seen:
        if seen.what == "astray":
            yield "astray", f"{seen.job} could be claimed and had not passed {seen.gate}, at {seen.at:.3f}"
        if seen.what == "idle":
            yield (
                "idle place",
                f"{seen.job} kept its place at {seen.gate} while it waited for its time, at {seen.at:.3f}",
            )


def gate_figures(gates: Gates) -> dict[str, Any]:
    """For the page."""
    most: dict[str, int] = defaultdict(int)
    for gate, runs in _at_gates(gates).items():
        rule = gate.partition("=")[0]
        most[rule] = max(most[rule], *(count for count, _ in _crowds(runs)))
    return {
        "jobs with gates": len(gates.of_jobs),
        "most at once": {
            rule: f"{count} of {gates.rules[rule].slots or 'any'}" for rule, count in sorted(most.items())
        },
        "passes of gates": sum(seen.what == "passed" for seen in gates.seen),
    }
