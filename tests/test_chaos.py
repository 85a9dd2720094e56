"""The checker of the chaos run sees every kind of violation, and a plan follows from its seed."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.chaos.checker import WORKER_LOST, Failure, History, Row, check
from benchmarks.chaos.groups import PACKAGE
from benchmarks.chaos.mutants import MUTANTS, SHORT_LEASE, Mutant
from benchmarks.chaos.plan import MOST_AT_ONCE, draw

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
