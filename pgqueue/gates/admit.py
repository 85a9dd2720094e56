"""Let jobs through their gates, in one transaction with what made the room."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from pgqueue.queries import Queries, Statement, Steps, TogetherSteps, ask
from pgqueue.queries.worker import LockedGates, PassedGates

LOCKS = 100  # in one transaction: locks of all sessions share a table, and each gate takes 0.1 ms
MOST_JOBS = 1000  # through one gate at once


@dataclass(slots=True)
class Admitted:
    """What came of a look at some gates."""

    queued: int = 0
    """How many jobs may be claimed now."""
    again: set[str] = field(default_factory=set)
    """Gates to look at next: where those went that were let through, and where there may be room for more."""
    taken: set[str] = field(default_factory=set)
    """Gates that another session looks at just now."""
    due_s: dict[str, float] = field(default_factory=dict)
    """In how many seconds the next one may pass, where that is a matter of time."""
    reopened: list[str] = field(default_factory=list)
    """Gates that their breaker has opened, as its trial succeeded."""
    reclosed: list[str] = field(default_factory=list)
    """Those that it has closed again, as the trial failed."""
    tripped: list[str] = field(default_factory=list)
    """Those that it had closed before, and that are closed now."""
    recall: list[str] = field(default_factory=list)
    """Those of them which had let jobs through that wait for a worker: see `recall`."""


def admit(
    queries: Queries,
    gates: Collection[str],
    *,
    worker: str,
    after: Sequence[Statement[Any]] = (),
    spare: int = 0,
    flow: float = 0.0,
) -> TogetherSteps[tuple[list[list[Any]], Admitted]]:
    """Let jobs through these gates, once what comes `after` has been done; returns the rows of that, and what came of it.

    spare: jobs that this worker can start at once, for which no other needs to be woken. flow: see admission.py.
    """
    wanted = sorted(gates)
    now, later = wanted[:LOCKS], wanted[LOCKS:]
    _, *answers, (locked,), (passed,), _ = yield (
        queries.begin_gates(), *after, queries.lock_gates(now),
        queries.admit(worker=worker, most=MOST_JOBS, spare=spare, flow=flow),
        queries.transaction_commit(),
    )  # fmt: skip
    return answers, _admitted(now, later, locked, passed)


def admit_by_steps(queries: Queries, gates: Collection[str], *, worker: str, own: bool) -> Steps[Admitted]:
    """As `admit`, statement by statement. own: in a transaction of its own, else in the one that is open."""
    wanted = sorted(gates)
    now, later = wanted[:LOCKS], wanted[LOCKS:]
    if own:
        yield queries.begin_gates()
    (locked,) = yield from ask(queries.lock_gates(now))
    (passed,) = yield from ask(queries.admit(worker=worker, most=MOST_JOBS))
    if own:
        yield queries.transaction_commit()
    return _admitted(now, later, locked, passed)


def recall(queries: Queries, gates: Collection[str]) -> TogetherSteps[Admitted]:
    """Have jobs that are past these closed gates, and that no worker has claimed, wait there again; a thousand at a time."""
    wanted = sorted(gates)[:LOCKS]
    _, (locked,), (recalled,), _ = yield (
        queries.begin_gates(), queries.lock_gates(wanted), queries.recall(), queries.transaction_commit(),
    )  # fmt: skip
    # A look finds out whether any are left.
    return Admitted(
        again={*recalled.gates, *(locked.gates if recalled.jobs else ())}, taken=set(wanted) - set(locked.gates)
    )


def _admitted(now: list[str], later: list[str], locked: LockedGates, passed: PassedGates) -> Admitted:
    return Admitted(
        passed.queued,
        {*passed.onward, *passed.again, *later},
        set(now) - set(locked.gates),
        {gate: due_ms / 1000 for gate, due_ms in zip(passed.paced, passed.due_ms, strict=True)},
        passed.reopened,
        passed.reclosed,
        passed.tripped,
        passed.recall,
    )
