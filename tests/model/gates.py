"""Limits, keys, an order, pauses and changes of limits in any order, against a model of the rows.

A machine of its own, as it has a world of its own: no leases and no clock. What is scheduled falls due when it is promoted. Two
workers look at gates, at times one in the midst of the other's transaction.
"""

import inspect
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

import psycopg
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pgqueue import App, Limit, Task, db
from pgqueue.gates.admit import admit
from pgqueue.job import Claimed
from pgqueue.queries import Queries
from pgqueue.worker.settings import CRASH_CAP
from tests.conftest import TABLES
from tests.gates.doorkeeper import Doorkeeper
from tests.hands import Hands

FAR = datetime(2100, 1, 1, tzinfo=UTC)
KEYS = ("a", "b")
GATES = ("tenant", "tenant=a", "task:both", "task:line")
ENDS = ("finish", "finish", "scheduled", "queued", "waiting", "dead")
ROUNDS = 200
LOOK = "select id::text, state::text, gates, gate, seq, priority from pgqueue.job order by id"

SEEDS = st.integers(0, 2**32 - 1)  # of what is random in a step
STEPS = {
    "defer": 4, "work": 8, "look": 2, "sweep": 1, "look_in_the_midst": 2, "claim": 1, "end": 2, "promote": 2, "die": 1, "meddle": 2,
    "limit": 2, "pause_or_resume": 2,
}  # fmt: skip
DRAWN: dict[str, Sequence[Any]] = {
    "pick": range(8), "kind": ("free", "keyed", "both", "line", "line"), "key": ("a", "a", "b"), "count": (1, 1, 2, 4),
    "priority": (0, 0, 5),
    "later": (False, False, True), "limit": range(1, 6), "verdict": ENDS, "how": ("cancel", "delete", "run now"),
    "gate": (*GATES, "tenant=a"), "shut": (*GATES, "order:line=b"), "slots": (0, 1, 1, 2, 5, None), "resumes": (True, True, False),
}  # fmt: skip


@dataclass
class Job:
    """A row. A seq of None was drawn by the step under way."""

    id: str
    gates: tuple[str, ...]
    priority: int
    state: str = "waiting"
    gate: int | None = 0
    seq: int | None = None

    @property
    def waits_at(self) -> str | None:
        return self.gates[max(self.gate or 0, 1) - 1] if self.state == "waiting" else None

    def is_past(self, gate: str) -> bool:
        return any(name == gate and (self.gate or 0) > place for place, name in enumerate(self.gates, 1))


UNKNOWN = Job("", (), 0)


class GatesWorld:
    """The database, and the tasks."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.app = App(dsn)
        self.app.migrate()
        self.queries: Queries = self.app.queries

        def work(key: str) -> None: ...

        tenant = Limit(2, key="key", name="tenant")
        self.tasks: dict[str, Task[Any, Any, Any]] = {
            "free": self.app.task(name="free")(work),
            "keyed": self.app.task(name="keyed", limit=tenant)(work),
            "both": self.app.task(name="both", limit=[tenant, 3])(work),
            "line": self.app.task(name="line", ordered="key", limit=2)(work),
        }
        self.eye = psycopg.connect(dsn, autocommit=True)
        self.lines = [db.connect(dsn) for _ in range(2)]

    def empty(self) -> None:
        """Nothing but the rules of the code."""
        for line in self.lines:
            line.rollback()
        self.eye.execute(f"truncate {', '.join(f'pgqueue.{table}' for table in TABLES.split(', '))}")
        db.run(self.eye, self.queries.declare_gates([rule.as_json() for rule in self.app.rules()]))

    def close(self) -> None:
        for conn in (self.eye, *self.lines):
            conn.close()
        self.app.close()


class Gates(RuleBasedStateMachine):
    """Callers, two workers, people."""

    def __init__(self, world: GatesWorld) -> None:
        super().__init__()
        self.world = world
        self.steps = STEPS
        world.empty()
        self.jobs: dict[str, Job] = {}
        self.slots: dict[str, int | None] = {"tenant": 2, "task:both": 3, "order:line": 1, "task:line": 2}
        self.closed: set[str] = set()
        self.hands = [Hands(line, world.queries) for line in world.lines]
        self.held: list[list[Claimed]] = [[], []]
        self.begun: dict[str, str] = {}  # of each line, the job that has begun and not ended
        self.top = 0

    @initialize(seed=SEEDS)
    def begin(self, seed: int) -> None:
        random = Random(seed)
        left_out = random.uniform(0, 0.5)
        self.steps = {name: weight for name, weight in STEPS.items() if random.random() >= left_out or name == "work"}
        for kind in self.world.tasks:
            self.defer(kind, random.choice(KEYS), 2, 0, later=False)
        self.look(0)

    @rule(seed=SEEDS)
    def happen(self, seed: int) -> None:
        """One of the steps of this example, with what is drawn for it."""
        random = Random(seed)
        (name,) = random.choices(list(self.steps), list(self.steps.values()))
        step = getattr(self, name)
        arguments = {each: random.choice(DRAWN[each]) for each in inspect.signature(step).parameters}
        note(f"    # {name}(**{arguments})")
        step(**arguments)

    # -- the model --

    def room(self, gate: str) -> float:
        """How many more may pass."""
        rule = gate.partition("=")[0]
        if {gate, rule} & self.closed:
            return 0
        slots = self.slots.get(gate, self.slots.get(rule))
        if slots is None:
            return 1000
        return max(0, slots - sum(job.is_past(gate) for job in self.jobs.values()))

    def let_through(self, gates: Collection[str]) -> int:
        """What one statement does at these gates; how many may be claimed then."""
        chosen = []
        for gate in sorted(gates):
            waiting = sorted(
                (job for job in self.jobs.values() if job.waits_at == gate),
                key=lambda job: (-job.priority, job.seq or 0),
            )
            chosen += waiting[: int(self.room(gate))]
            for job in waiting:
                if job.gate == 0 and job not in chosen:
                    job.gate = 1
        for job in chosen:
            job.gate = max(job.gate or 0, 1) + 1
            if job.gate > len(job.gates):
                job.state, job.seq = "queued", None
        return sum(job.state == "queued" for job in chosen)

    def back(self, job: Job, state: str) -> None:
        """An attempt did not succeed."""
        keeps = bool(job.gates) and job.gates[0].startswith("order:")
        if state == "waiting":
            job.gate = 0
        elif state == "scheduled" and job.gates:
            job.gate = 0 if not keeps else job.gate if len(job.gates) == 1 else 2
        job.state = state

    def adopt_pokes(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Of each gate the first one that waits may have been marked as not looked at, unless that costs it its turn."""
        firsts: dict[tuple[str, int | None], Job] = {}
        for job in sorted(self.jobs.values(), key=lambda job: (-job.priority, job.seq or 0)):
            if job.waits_at is not None:
                firsts.setdefault((job.waits_at, job.gate), job)
        for id_, _, gates, gate, *_ in rows:
            job = self.jobs.get(id_, UNKNOWN)
            if job in firsts.values() and (job.gate or 0) > 0 and gate == 0:
                assert not (job.gate == 2 and gates[0].startswith("order:")), "it has lost its turn"
                job.gate = 0

    # -- callers --

    def defer(self, kind: str, key: str, count: int, priority: int, later: bool) -> None:
        task = self.world.tasks[kind]
        priority = 0 if kind == "line" else priority
        options = task.options(conn=self.world.eye, priority=priority, delay=9 if later else None)
        gates = tuple(task.limits.of_call((key,), {}))
        ids = [options.defer(key).id] if count == 1 else [job.id for job in options.defer_many([(key,)] * count)]
        rows = {row[0]: row for row in self.world.eye.execute(LOOK).fetchall()}
        for place, id_ in enumerate(ids):
            fresh = place == 0 or later
            state = "scheduled" if later else "waiting" if gates else "queued"
            self.jobs[id_] = Job(id_, gates, rows[id_][5], state, (0 if fresh else 1) if gates else None, rows[id_][4])

    # -- workers --

    def gates_of(self, jobs: Collection[Claimed]) -> set[str]:
        return {gate for job in jobs for gate in job.gates or ()}

    def keeper(self, pick: int) -> tuple[Doorkeeper, Hands, psycopg.Connection]:
        place = pick % 2
        hands, line = self.hands[place], self.world.lines[place]
        return Doorkeeper(line, self.world.queries, worker=hands.id), hands, line

    def look(self, pick: int) -> None:
        keeper, _, _ = self.keeper(pick)
        fresh = set(keeper.fresh())
        expected = {job.gates[0] for job in self.jobs.values() if job.state == "waiting" and job.gate == 0}
        assert fresh == expected, (fresh, expected)
        self.looks_at(keeper, fresh)

    def looks_at(self, keeper: Doorkeeper, gates: set[str]) -> None:
        while gates:
            onward = {job.id: job.gate for job in self.jobs.values()}
            queued = self.let_through(gates)
            admitted = keeper.admit(gates)
            assert admitted.queued == queued and not admitted.taken
            gates = {
                job.waits_at
                for job in self.jobs.values()
                if job.waits_at and (job.gate or 0) > max(onward[job.id] or 0, 1)
            }
            assert gates == admitted.again
            self.adopt()

    def sweep(self, pick: int) -> None:
        """Every gate at which somebody waits who has been looked at, though there is room."""
        keeper, _, _ = self.keeper(pick)
        found = keeper.sweep()
        waited = {job.waits_at for job in self.jobs.values() if job.waits_at and (job.gate or 0) > 0}
        assert found == {gate for gate in waited if self.room(gate) > 0}, (found, waited)
        self.looks_at(keeper, found)

    def look_in_the_midst(self, pick: int) -> None:
        """One lets jobs through and has not committed; the other finds the same gates taken, and lets nobody through."""
        _, _, line = self.keeper(pick)
        other, _, _ = self.keeper(pick + 1)
        gates = {job.waits_at for job in self.jobs.values() if job.waits_at}
        if not gates:
            return
        steps = admit(self.world.queries, gates, worker=self.hands[pick % 2].id)
        wanted: list[Any] = list(next(steps))
        for statement in wanted[:-1]:
            db.run(line, statement)
        admitted = other.admit(gates)
        assert (admitted.queued, admitted.taken) == (0, gates), admitted
        db.run(line, wanted[-1])
        steps.close()
        self.let_through(gates)
        self.adopt()

    def claim(self, pick: int, limit: int) -> None:
        place = pick % 2
        waiting = sorted(
            (job for job in self.jobs.values() if job.state == "queued"), key=lambda job: (-job.priority, job.seq or 0)
        )[:limit]
        jobs = self.hands[place].claim(limit)
        assert [job.id for job in jobs] == [job.id for job in waiting] and not any(job.astray for job in jobs)
        for job in waiting:
            job.state = "running"
            if job.gates and job.gates[0].startswith("order:"):
                assert self.begun.setdefault(job.gates[0], job.id) == job.id, (
                    "another of its line has begun, and not ended"
                )
        self.held[place] += jobs

    def end(self, pick: int, count: int, verdict: str) -> None:
        """Attempts end, and with the same commit the next ones are let through."""
        if not any(self.held):
            return
        place = pick % 2 if self.held[pick % 2] else 1 - pick % 2
        keeper, hands, _ = self.keeper(place)
        jobs, self.held[place] = self.held[place][:count], self.held[place][count:]
        jobs.sort(key=lambda job: job.id)
        if verdict == "waiting":
            self.held[place] += [job for job in jobs if not job.gates]
            jobs = [job for job in jobs if job.gates]
        if not jobs:
            return
        queries, ids, tokens = self.world.queries, [job.id for job in jobs], [job.token for job in jobs]
        for id_ in ids:
            job = self.jobs[id_]
            if verdict in ("finish", "dead"):
                del self.jobs[id_]
                self.leave_line(id_)
            else:
                self.back(job, verdict)
                if verdict == "waiting":
                    self.leave_line(id_)  # it has not begun
        if verdict == "finish":
            statement: Any = queries.finish(worker=hands.id, ids=ids, tokens=tokens, results=["1"] * len(ids))
        else:
            refund = int(verdict in ("queued", "waiting"))
            if not refund:
                for id_ in ids:
                    if id_ in self.jobs:
                        self.jobs[id_].seq = None
            nothing = [None] * len(ids)
            columns: dict[str, list[Any]] = {
                "ids": ids, "tokens": tokens, "states": [verdict] * len(ids), "delays": [0.0] * len(ids),
                "refunds": [refund] * len(ids), "crashes": [0] * len(ids), "causes": nothing, "errors": nothing,
                "tracebacks": nothing, "gates": nothing,
            }  # fmt: skip
            statement = queries.settle(worker=hands.id, worker_name="by hand", columns=columns)
        gates = self.gates_of(jobs)
        queued = self.let_through_after(gates, statement, keeper)
        assert queued is None or queued >= 0

    def let_through_after(self, gates: set[str], statement: Any, keeper: Doorkeeper) -> int | None:
        if not gates:
            db.run(self.world.eye, statement)
            self.adopt()
            return None
        # Those whose place was drawn anew by the statement come last.
        for job in self.jobs.values():
            if job.seq is None and job.state == "waiting":
                job.seq = self.top + 1
        expected = self.let_through(gates)
        admitted = keeper.admit(gates, statement)
        assert admitted.queued == expected, (admitted, expected)
        self.adopt()
        return expected

    def leave_line(self, id_: str) -> None:
        for line in [line for line, job in self.begun.items() if job == id_]:
            del self.begun[line]

    def promote(self, pick: int) -> None:
        _, hands, line = self.keeper(pick)
        db.run(line, self.world.queries.promote(worker=hands.id, now=FAR))
        for job in self.jobs.values():
            if job.state == "scheduled":
                job.state = "queued" if not job.gates or (job.gate or 0) > len(job.gates) else "waiting"
                job.seq = None
        self.adopt()

    def die(self, pick: int) -> None:
        """A worker dies; its jobs come back with their places, and another one starts."""
        place = pick % 2
        self.world.eye.execute("update pgqueue.worker set state = 'dead' where id = %s", [self.hands[place].id])
        db.run(self.world.eye, self.world.queries.rescue([self.hands[place].id], crash_cap=CRASH_CAP * 1000))
        for claimed in self.held[place]:
            if claimed.id in self.jobs:
                self.jobs[claimed.id].state = "queued"
        self.held[place] = []
        self.hands[place] = Hands(self.world.lines[place], self.world.queries)

    # -- people --

    def meddle(self, pick: int, how: str) -> None:
        jobs = [job for job in self.jobs.values() if job.state != "running"]
        if not jobs:
            return
        job = jobs[pick % len(jobs)]
        if how == "run now":
            with self.world.app.using(self.world.eye):
                assert self.world.app.retry(job.id) == (job.state == "scheduled")
            if job.state == "scheduled":
                past = not job.gates or (job.gate or 0) > len(job.gates)
                job.state, job.seq = "queued" if past else "waiting", None
                job.gate = job.gate if not job.gates or (job.gate or 0) > 1 else 0
        else:
            del self.jobs[job.id]
            self.leave_line(job.id)
            if how == "delete":
                self.world.eye.execute("delete from pgqueue.job where id = %s", [job.id])
            else:
                with self.world.app.using(self.world.eye):
                    assert self.world.app.cancel(job.id)
        self.adopt()

    def limit(self, gate: str, slots: int | None) -> None:
        with self.world.app.using(self.world.eye):
            self.world.app.limit(gate, slots)
        if slots is None and "=" in gate:
            self.slots.pop(gate, None)
        else:
            self.slots[gate] = slots
        self.adopt()

    def work(self, pick: int, limit: int, count: int, verdict: str) -> None:
        """What a worker does in its turn; else few jobs would come far."""
        self.look(pick)
        self.claim(pick, limit)
        self.end(pick, count, verdict)

    def pause_or_resume(self, shut: str, resumes: bool) -> None:
        if resumes != (shut in self.closed):
            return
        with self.world.app.using(self.world.eye):
            if shut in self.closed:
                assert self.world.app.resume(shut)
                self.closed.remove(shut)
            elif "=" in shut or ":" in shut:
                self.world.app.pause(shut)
                self.closed.add(shut)
        self.adopt()

    # -- what always holds --

    def adopt(self) -> None:
        """Take over the places that the database drew, which lie behind all others, and what a person had looked at."""
        rows = self.world.eye.execute(LOOK).fetchall()
        self.adopt_pokes(rows)
        for id_, _, _, _, seq, _ in rows:
            job = self.jobs.get(id_)
            if job is not None and (job.seq is None or job.seq == self.top + 1):
                assert seq > self.top, "not at the end"
                job.seq = seq
        self.top = max([self.top, *(row[4] for row in rows)])

    @invariant()
    def rows_equal_the_model(self) -> None:
        rows = {row[0]: (row[1], tuple(row[2] or ()), row[3], row[4]) for row in self.world.eye.execute(LOOK)}
        wanted = {job.id: (job.state, job.gates, job.gate, job.seq) for job in self.jobs.values()}
        differ = {
            id_: (rows.get(id_), wanted.get(id_))
            for id_ in rows.keys() | wanted.keys()
            if rows.get(id_) != wanted.get(id_)
        }
        assert not differ, f"in the database, by the model: {differ}"
        self.top = max([self.top, *(row[3] for row in rows.values())])

    def teardown(self) -> None:
        """Every gate open with a place at least: all jobs end, found by looks and the sweep alone."""
        if sys.exc_info()[0] is not None:
            return
        for gate in list(self.closed):
            self.pause_or_resume(gate, resumes=True)
        for gate in GATES:
            self.limit(gate, 1)
        for _ in range(ROUNDS):
            if not self.jobs:
                break
            self.promote(0)
            self.look(0)
            self.sweep(1)
            for pick in range(2):
                self.claim(pick, 1000)
                if self.held[pick]:
                    self.end(pick, 1000, "finish")
        assert not self.jobs, f"after {ROUNDS} rounds there are still {self.jobs}"
