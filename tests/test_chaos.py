"""The checker of the chaos run sees every kind of violation, and a plan follows from its seed."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.chaos.checker import WORKER_LOST, Failure, History, Row, check
from benchmarks.chaos.gate_promises import Gates, Place, Rule, Seen, check_gates
from benchmarks.chaos.groups import PACKAGE
from benchmarks.chaos.mutants import MUTANTS, SHORT_LEASE, Mutant
from benchmarks.chaos.plan import EVENTS, MOST_AT_ONCE, draw, draw_events
from benchmarks.chaos.promises import Events, Logged, Told

GROUPS = ("w1", "w2")


def row(task: str, **changes: Any) -> Row:
    fields: dict[str, Any] = {
        "id": task, "state": "succeeded", "task": f"tasks.{task}", "key": task, "token": 2, "result": 2, "attempt": 1,
        "crashes": 1, "unique_key": None, "created_at": 0.0, "finished_at": 9.0, "error": None,
    }  # fmt: skip
    return Row(**fields | changes)


def record(kind: str, **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "t": 5.0, **fields}


@pytest.fixture
def fine() -> History:
    """Two jobs, each of which lost its first attempt with its worker and succeeded with the second."""
    records = []
    for job in ("tx", "ext"):
        records += [record("intent", key=job, family=job), record("ack", key=job)]
        records += [record("start", job=job, token=token, pid=1) for token in (1, 2)]
        records += [record("done", job=job, token=2)]
    records += [record("effect", job="ext", token=2)]
    records += [record("intent", key="never", family="tx"), record("rolled_back", key="never")]
    records += [
        {"kind": "fault", "t": t, "begins": begins, "fault": "kill_worker", "target": "w1"}
        for t, begins in ((1.0, True), (2.0, False))
    ]
    return History(
        records=records, rows=[row("tx"), row("ext")], effects=[("tx", 2)], placed=frozenset({"tx", "ext"}),
        failures=[Failure(job, 1, WORKER_LOST, 4.5) for job in ("tx", "ext")], leaks={"sessions": 0},
    )  # fmt: skip


def test_a_valid_history_has_no_violation_and_its_figures(fine: History) -> None:
    verdict = check(fine)
    assert verdict.valid, verdict.violations
    assert verdict.figures["acknowledged"] == 2 and verdict.figures["jobs started again"] == 2
    assert verdict.figures["recovery_s"]["kill_worker"] == {"count": 2, "p50": 3.5, "p95": 3.5, "max": 3.5}


def rows(*changed: Row) -> Callable[[History], History]:
    return lambda history: replace(
        history, rows=[*changed, *(row for row in history.rows if row.id not in {other.id for other in changed})]
    )


def more(*records: dict[str, Any]) -> Callable[[History], History]:
    return lambda history: replace(history, records=[*history.records, *records])


def without(kind: str) -> Callable[[History], History]:
    return lambda history: replace(history, records=[each for each in history.records if each["kind"] != kind])


@pytest.mark.parametrize(
    ("kind", "spoil"),
    [
        ("lost", lambda history: replace(history, rows=history.rows[1:])),
        ("lost", lambda history: replace(history, placed=frozenset({"ext"}))),
        ("torn", lambda history: replace(history, placed=frozenset({"ext"}))),
        ("unexpected", rows(row("tx", id="late", key="never"))),
        ("unexpected", more(record("start", job="ghost", token=1, pid=1))),
        ("deadlock", more(record("deadlock", key="never"))),
        ("stuck", rows(row("tx", state="running"))),
        ("outcome", rows(row("tx", state="dead", error="gave up"))),
        ("outcome", rows(row("tx", state="dead", error="quarantined: its worker died"))),
        ("outcome", rows(row("poison", state="succeeded"))),
        ("doubled", lambda history: replace(history, rows=[*history.rows, history.rows[0]])),
        ("token", more(record("start", job="tx", token=2, pid=2))),
        ("token", more(record("start", job="tx", token=3, pid=2))),
        ("stale", rows(row("tx", result=1))),
        ("stale", without("done")),
        ("effects", lambda history: replace(history, effects=[])),
        ("effects", lambda history: replace(history, effects=[("tx", 1), ("tx", 2)])),
        ("effects", lambda history: replace(history, effects=[("tx", 1)])),
        ("effects", without("effect")),
        ("effects", more(*[record("effect", job="ext", token=1)] * 2)),
        ("unique", rows(row("tx", unique_key="k"), row("ext", unique_key="k", created_at=-100.0, finished_at=90.0))),
        ("accounting", rows(row("tx", crashes=2))),
        ("accounting", lambda history: replace(history, failures=[*history.failures, history.failures[0]])),
        ("theft", without("fault")),
        ("theft", lambda history: replace(history, failures=[each._replace(failed_at=60.0) for each in history.failures])),
        ("blame", lambda history: replace(history, failures=[each._replace(cause="crash") for each in history.failures])),
        ("stranger", lambda history: replace(history, failures=[Failure("ext", 1, "exception", 4.5)])),
        ("leak", lambda history: replace(history, leaks={"sessions": 1})),
    ],
)  # fmt: skip
def test_every_violation_is_seen(fine: History, kind: str, spoil: Callable[[History], History]) -> None:
    assert kind in check(spoil(fine)).violations


@pytest.fixture
def published() -> Events:
    """Two events of one key and one of none; a listener that heard the first turn and missed the second in a gap."""
    times = {"1": (1.0, 2.0), "2": (3.0, 4.0), "alone": (5.0, 6.0)}
    records: list[dict[str, Any]] = []
    for turn, (begin, end) in times.items():
        records += [{"kind": "publish", "turn": turn, "outcome": "begins", "t": begin}]
        records += [{"kind": "publish", "turn": turn, "outcome": "ack", "t": end}]
    records += [record("publish", turn="back", outcome="begins"), record("publish", turn="back", outcome="rolled_back")]
    records += [{"kind": "listening", "t": 0.0}, {"kind": "heard", "turn": "1", "t": 2.5}, {"kind": "gap", "t": 4.5}]
    # The loop got its first page twice.
    records += [{"kind": "pulled", "event": event, "t": 7.0 + n} for n, event in enumerate(["a", "b", "a", "b", "c"])]
    return Events(
        told=[Told("a", "1", "k", 1), Told("b", "2", "k", 2)],
        log=[Logged("a", "chaos.a", "1"), Logged("b", "chaos.b", "2"), Logged("c", "chaos.alone", "alone")],
        subscriptions={"first": ["chaos.a"], "second": ["chaos.*"]},
        jobs=[("first", "a"), ("second", "a"), ("second", "b"), ("second", "c")], stream=["a", "b", "c"], records=records,
    )  # fmt: skip


def test_events_that_went_well_have_no_violation(fine: History, published: Events) -> None:
    verdict = check(replace(fine, events=published))
    assert verdict.valid, verdict.violations
    assert (verdict.figures["events"], verdict.figures["notifications"]) == (3, "1 heard, 1 gaps")


def told(**changes: Any) -> Callable[[Events], Events]:
    """More records, of these fields."""
    return lambda events: replace(events, records=[*events.records, record(**changes)])


def but(kind: str, **fields: Any) -> Callable[[Events], Events]:
    """Without the records that have these fields."""
    fields["kind"] = kind
    return lambda events: replace(
        events, records=[each for each in events.records if not fields.items() <= each.items()]
    )


@pytest.mark.parametrize(
    ("kind", "spoil"),
    [
        ("event torn", lambda events: replace(events, told=events.told[1:])),
        ("event torn", lambda events: replace(events, log=events.log[1:])),
        ("event lost", lambda events: replace(events, log=events.log[:2], stream=events.stream[:2], jobs=events.jobs[:3])),
        ("event lost", lambda events: replace(events, jobs=events.jobs[1:])),
        ("event lost", but("pulled", event="c")),
        ("event doubled", lambda events: replace(events, log=[*events.log, Logged("d", "chaos.alone", "alone")])),
        ("event doubled", lambda events: replace(events, jobs=[*events.jobs, events.jobs[0]])),
        ("event unexpected", told(kind="publish", turn="1", outcome="rolled_back", t=9.0)),
        ("event unexpected", lambda events: replace(events, jobs=[*events.jobs, ("second", "never")])),
        ("event unexpected", lambda events: replace(events, jobs=[*events.jobs, ("first", "b")])),
        ("event unexpected", told(kind="pulled", event="never")),
        ("event order", lambda events: replace(events, stream=["b", "a", "c"])),
        ("event order", but("pulled", event="a", t=7.0)),
        ("relay lost", lambda events: replace(events, stream=events.stream[1:])),
        ("relay doubled", lambda events: replace(events, stream=[*events.stream, "a"])),
        ("relay unexpected", lambda events: replace(events, stream=[*events.stream, "never"])),
        ("notification lost", but("gap")),
        ("notification lost", lambda events: told(kind="gap", t=2.9)(but("gap")(events))),
        ("notification doubled", told(kind="heard", turn="1")),
        ("notification unexpected", told(kind="heard", turn="back")),
    ],
)  # fmt: skip
def test_every_violation_of_events_is_seen(
    fine: History, published: Events, kind: str, spoil: Callable[[Events], Events]
) -> None:
    assert kind in check(replace(fine, events=spoil(published))).violations


LINE, TENANT = "order:line", "tenant=t"


def ran(job: str, token: int, begin: float, end: float | None, how: str = "done") -> list[dict[str, Any]]:
    """The records of an attempt; without an end its process was killed."""
    records = [{"kind": "start", "job": job, "token": token, "pid": 1, "t": begin}]
    return records if end is None else [*records, {"kind": how, "job": job, "token": token, "t": end}]


def gated(*records: list[dict[str, Any]], unknown: bool = False) -> Gates:
    """Jobs at a key of two, of which one is run again after its worker was lost; two of a line; one rate."""
    runs = [
        *ran("a", 1, 1.0, None), *ran("b", 1, 1.5, 4.0), *ran("a", 2, 6.0, 8.0), *ran("c", 1, 4.5, 7.0),
        # The first one's worker was frozen: it wakes, ends what was taken from it, and begins what others have ended long ago.
        *ran("b", 0, 0.5, 9.0), *ran("d", 1, 9.5, 9.6),
        *ran("first", 1, 1.0, 2.0, "failed"), *ran("first", 2, 3.0, 4.0), *ran("second", 1, 4.5, 5.0),
    ]  # fmt: skip
    words = [record("unknown", key="second")] if unknown else []
    return Gates(
        rules={"tenant": Rule(2, None, 1), "order:line": Rule(1, None, 1), "rate": Rule(None, 1.0, 2)},
        of_jobs={**{job: [TENANT] for job in "abcde"}, "first": [LINE], "second": [LINE], "r": ["rate"]},
        lines=[Place("first", "first", "l", 1), Place("second", "second", "l", 2)],
        seen=[Seen("passed", "r", "rate", at) for at in (1.0, 1.0, 2.0, 10.0, 10.0)],
        losses={("a", 1): 3.9, ("b", 0): 1.4, ("d", 1): 5.0},
        ends={"a": 8.0, "b": 4.1, "c": 7.1, "d": 5.5},
        records=[*runs, *(each for group in records for each in group), *words],
    )  # fmt: skip


def test_gates_that_held_have_no_violation(fine: History) -> None:
    verdict = check(replace(fine, gates=gated()))
    assert verdict.valid, verdict.violations
    assert verdict.figures["most at once"] == {"order:line": "1 of 1", "tenant": "2 of 2"}
    assert verdict.figures["passes of gates"] == 5


@pytest.mark.parametrize(
    ("kind", "gates"),
    [
        ("limit", gated(ran("e", 1, 6.5, 6.6))),
        ("limit", gated(ran("e", 1, 3.0, 3.5))),
        ("limit", gated(ran("first", 3, 4.6, 4.7))),
        ("order", gated(ran("first", 3, 5.5, 5.6))),
        ("order", gated(ran("second", 0, 0.5, 0.6))),
        ("rate", replace(gated(), seen=[Seen("passed", "r", "rate", at) for at in (1.0, 1.0, 1.9)])),
        ("rate", replace(gated(), seen=[Seen("passed", "r", "rate", 1.0 + n * 0.97) for n in range(40)])),
        ("astray", replace(gated(), seen=[Seen("astray", "a", TENANT, 1.0)])),
        ("idle place", replace(gated(), seen=[Seen("idle", "a", TENANT, 1.0)])),
    ],
)
def test_every_violation_of_gates_is_seen(fine: History, kind: str, gates: Gates) -> None:
    assert kind in check(replace(fine, gates=gates)).violations


def test_a_lost_attempt_counts_until_it_is_written_down() -> None:
    gates = gated(ran("e", 1, 3.0, 3.5))
    assert {kind for kind, _ in check_gates(replace(gates, losses={**gates.losses, ("a", 1): 2.9}))} == set()


def test_one_whose_commit_was_not_answered_has_no_place_in_its_line() -> None:
    assert [kind for kind, _ in check_gates(gated(ran("second", 0, 0.5, 0.6), unknown=True))] == []


def test_each_fault_of_events_strikes_in_every_run() -> None:
    for seed in range(20):
        for seconds in (20, 60, 600):
            plan = draw_events(seed, seconds=seconds)
            assert {(fault.target, fault.kind) for fault in plan} == EVENTS.keys()
            assert all(fault.at_s >= 0 and fault.at_s + fault.length_s <= seconds + 0.02 for fault in plan)
        assert draw_events(seed, seconds=60) == draw_events(seed, seconds=60) != draw_events(seed + 1, seconds=60)


def test_a_plan_follows_from_its_seed() -> None:
    plans = [draw(seed, seconds=600, groups=GROUPS, gap_s=3) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]
    assert {fault.kind for fault in plans[0]} > {"kill_child", "kill_worker", "cut", "restart_fast", "lose_commits"}


def test_faults_of_a_plan_do_not_meet_at_one_target_and_are_few_at_once() -> None:
    for seed in range(20):
        plan = draw(seed, seconds=300, groups=GROUPS, gap_s=1)
        for fault in plan:
            end = fault.at_s + fault.length_s
            together = [other for other in plan if other.at_s < end and other.at_s + other.length_s > fault.at_s]
            assert sum(other.target == fault.target for other in together) <= 1
            others = [other for other in plan if other.at_s < fault.at_s < other.at_s + other.length_s]
            assert len(others) < MOST_AT_ONCE


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_still_changes_the_package(mutant: Mutant) -> None:
    for file, old, new in (*SHORT_LEASE, *mutant.changes):
        assert (PACKAGE / "pgqueue" / file).read_text().count(old) == 1 and old != new, (file, old)
