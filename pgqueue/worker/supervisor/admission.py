"""Lets jobs through gates: with each finish of one that held places, and whenever else somebody is to look. See `pgqueue/gates`.

What it still owes is kept in memory: gates to look at, those whose locks another session holds, and those at which only time is
missing. Should this worker die, the sweep of the one that rescues its jobs finds them. Where no job has gates nothing is sent.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable
from typing import Any

from pgqueue.gates.admit import Admitted, admit, recall
from pgqueue.gates.limit import FAIR, MOST_GATES, in_order, is_bare
from pgqueue.job import EXPIRED, Claimed, Outcome
from pgqueue.queries import Queries, Statement
from pgqueue.worker.link.greeting import AppFacts
from pgqueue.worker.supervisor.breakers import Breakers
from pgqueue.worker.supervisor.connection import TRANSIENT, RetryPacing, WorkConnection
from pgqueue.worker.supervisor.idle import wait
from pgqueue.worker.supervisor.sieve import refusing
from pgqueue.worker.supervisor.wakeups import Wakeups

logger = logging.getLogger("pgqueue.worker")

TAKEN_S = 0.01  # until another look at a gate whose lock another session holds; each time twice as long, up to
TAKEN_MOST_S = 0.1
SWEEP_S = 15.0  # one worker of all sweeps as often, see sweep.sql
SWEEP_WITH_OLD_S = 1.0  # the same while a worker lives that lets nobody through

WINDOW_S = 0.1  # of jobs with a fair share: at least so long the half of what is in the queue lasts
FLOW_S = 0.05  # how long the jobs are counted that make one measurement of that
FLOW_AGED_S = 1.0  # what is older says nothing

SWEEP_BEGINS = (1, "")
EXPIRY_BEGINS = (-1, "", 0, 0)


class Flow:
    """How many jobs with gates this worker ends in WINDOW_S: what is let through for a key lasts that long. Else a claim of
    short jobs would find a few and wait for the next round."""

    def __init__(self) -> None:
        self._jobs = 0.0
        self._ended = 0
        self._since = 0.0

    def ended(self, count: int, *, now_s: float) -> None:
        """This many more have ended."""
        took_s = now_s - self._since
        if took_s > FLOW_AGED_S:
            self._jobs, self._ended, self._since = 0.0, 0, now_s
            return
        self._ended += count
        if took_s >= FLOW_S:
            latest = self._ended * WINDOW_S / took_s
            self._jobs = latest if not self._jobs else (self._jobs + latest) / 2
            self._ended, self._since = 0, now_s

    def of_each(self, keys: int) -> float:
        """Of each of this many keys that take turns."""
        return self._jobs / max(1, keys)


class Admission:
    """Knows the gates of the jobs in this worker's hands, and which gates are to be looked at."""

    def __init__(self, connection: WorkConnection, queries: Queries, wakeups: Wakeups, breakers: Breakers) -> None:
        self._connection = connection
        self._queries = queries
        self._wakeups = wakeups
        self.breakers = breakers
        self._gates: dict[str, tuple[int, list[str]]] = {}  # by job, with the token of the claim
        self._keyed: set[str] = set()  # tasks of whose jobs only the code can tell the gates
        self._due: dict[str, float] = {}  # gates, and when to look at them again (monotonic)
        self._to_recall: set[str] = set()  # gates that a breaker has closed, while jobs past them wait for a worker
        self._taken: dict[str, float] = {}  # how long the last wait for another session was
        self._sweep_at = math.inf  # no job is known to have gates
        self._sweep_from = SWEEP_BEGINS
        self._sweep_pause_s = SWEEP_S
        self._expired_to = EXPIRY_BEGINS  # of those that wait: one sweep looks at the next ones
        self._urgent = False  # the sweep is to be made, though another worker may have made one just now
        self._flow = Flow()
        wakeups.sweep_soon()  # somebody may have died owing a look

    async def declare(self, facts: AppFacts) -> None:
        """Write down the rules that the app's code declares."""
        self.breakers.declare(facts)
        self._keyed = {name for name, task in facts.tasks.items() if task.keyed}
        if facts.gates:
            await self._connection.run(self._queries.declare_gates(facts.gates))

    # -- the jobs in this worker's hands --

    def claimed(self, jobs: Iterable[Claimed]) -> None:
        """These came; note the gates of those that have some."""
        for job in jobs:
            if job.gates:
                self._gates[job.id] = job.token, job.gates

    def to_park(self, job: Claimed) -> list[str] | None:
        """The gates at which a job has to wait that was claimed without having passed them."""
        if job.astray or (self._wakeups.shut and job.gates and self._wakeups.shut.intersection(job.gates)):
            return job.gates
        if job.task in self._keyed and is_bare(job.gates):  # the child knows all of its gates
            return None
        gates = job.gates or []
        missing = self._wakeups.rules.intersection((f"task:{job.task}", f"queue:{job.queue}")).difference(gates)
        if not missing or len(gates) >= MOST_GATES:
            return None
        return in_order([*gates, *sorted(missing)])[:MOST_GATES]

    def apart(self, outcomes: list[Outcome]) -> list[list[Outcome]]:
        """Those of jobs without gates, and the others: the first are written alone, as if there were no gates."""
        if not self._gates:
            return [outcomes] if outcomes else []
        parts: tuple[list[Outcome], list[Outcome]] = ([], [])
        for outcome in outcomes:
            parts[outcome.job_id in self._gates or outcome.gates is not None].append(outcome)
        return [part for part in parts if part]

    def gates_of(self, outcomes: Iterable[Outcome]) -> set[str]:
        """The gates that have room once these are written, or at which they then wait."""
        if not self._gates:
            parked = [outcome.gates for outcome in outcomes if outcome.gates]
            return {gate for gates in parked for gate in gates} if parked else set()
        nothing = (0, list[str]())
        return {
            gate
            for outcome in outcomes
            for gate in (*self._gates.get(outcome.job_id, nothing)[1], *(outcome.gates or ()))
        }

    def written(self, outcomes: Iterable[Outcome]) -> None:
        """Of these nothing is left to be written."""
        if self._gates:
            for outcome in outcomes:
                token, gates = self._gates.get(outcome.job_id, (math.inf, ()))
                if token <= outcome.token:  # else it was released, and claimed again meanwhile
                    del self._gates[outcome.job_id]
                    if self.breakers.gates:
                        self.breakers.count(gates, outcome)

    def forget(self) -> None:
        """The worker was declared dead: its jobs are others'."""
        self._gates.clear()

    # -- what is sent --

    async def write(self, statement: Callable[[], Statement[Any]], gates: set[str], *, ended: int) -> list[Any]:
        """Run a statement that makes room at these gates, and let the next ones through with its commit. ended: jobs it is about.

        Raises Refused, or one of TRANSIENT where it may pass if it is said again.
        """
        return await refusing(self._write(statement, gates, 0 if self._wakeups.draining else ended))

    async def _write(self, statement: Callable[[], Statement[Any]], gates: set[str], spare: int) -> list[Any]:
        worker = self._wakeups.identity.worker
        self._flow.ended(spare, now_s=time.monotonic())
        (rows,), admitted = await self._connection.run_together(
            admit(self._queries, gates, worker=worker, after=[statement()], spare=spare, flow=self._share(gates))
        )
        self._note(admitted, gates)
        return rows

    def _share(self, gates: Iterable[str]) -> float:
        """What one key gets of the flow, where some take turns; those in this worker's hands are about all that do."""
        if not any(gate.startswith(FAIR) for gate in gates):
            return 0.0
        held = (gate for _, gates in self._gates.values() for gate in gates)
        return self._flow.of_each(len({gate for gate in held if gate.startswith(FAIR)}))

    async def run(self) -> None:
        """Look at gates when somebody is to, again and again."""
        pacing, wakeups = RetryPacing(self._connection.troubles), self._wakeups
        while True:
            await wait(wakeups.gates_wait, self._pause_s())
            wakeups.gates_wait.clear()
            try:
                await self._step()
                pacing.passed()
            except TRANSIENT as error:
                await pacing.wait("letting jobs through gates", error)

    async def _step(self) -> None:
        now = time.monotonic()
        if self._wakeups.sweep:
            self._wakeups.sweep = False
            self._sweep_at, self._sweep_from, self._urgent = now, SWEEP_BEGINS, True
        gates = self._wakeups.gates | {gate for gate, at in self._due.items() if at <= now}
        if gates:
            _, admitted = await self._connection.run_together(
                admit(self._queries, gates, worker=self._wakeups.identity.worker, flow=self._share(gates))
            )
            self._wakeups.gates -= gates
            self._forget_due(gates, admitted)
            self._note(admitted, gates)
        if self._to_recall:
            closed, self._to_recall = self._to_recall, set()
            self._note(await self._connection.run_together(recall(self._queries, closed)), ())
        if self._sweep_at <= now:
            await self._sweep()

    def _forget_due(self, gates: set[str], admitted: Admitted) -> None:
        for gate in gates:
            self._due.pop(gate, None)
            if gate not in admitted.taken:
                self._taken.pop(gate, None)

    def _note(self, admitted: Admitted, gates: Iterable[str]) -> None:
        """What came of a look at these gates, and what is left to do."""
        now = time.monotonic()
        self._sweep_at = min(self._sweep_at, now + self._sweep_pause_s)
        for gate in admitted.taken:
            pause_s = self._taken[gate] = min(self._taken.get(gate, TAKEN_S / 2) * 2, TAKEN_MOST_S)
            self._due[gate] = now + pause_s
        for gate, due_s in admitted.due_s.items():
            self._due[gate] = now + due_s
        self._note_breakers(admitted, gates)
        if admitted.again or admitted.recall:
            self._wakeups.look_at(admitted.again)
            self._wakeups.gates_wait.set()
        elif self._due:
            self._wakeups.gates_wait.set()  # to wait for less long
        if admitted.queued:
            self._wakeups.doorbell.set()

    def _note_breakers(self, admitted: Admitted, gates: Iterable[str]) -> None:
        for gate in admitted.reopened:
            logger.info("%s: the breaker opens the gate: its trial succeeded", gate)
        for gate in admitted.reclosed:
            logger.warning("%s: the breaker closes the gate again: its trial failed", gate)
        if admitted.tripped or self._wakeups.shut:
            # Each job that is parked for it has the gate looked at: so nobody parks at one that is open again, nor the next trial.
            self._wakeups.shut = self._wakeups.shut.difference(set(gates) - admitted.taken).union(admitted.tripped)
            self._to_recall.update(admitted.recall)

    async def _sweep(self) -> None:
        """Look for gates at which jobs wait though there is room, unless another worker has done so just now."""
        begins, (place, after) = self._sweep_from == SWEEP_BEGINS, self._sweep_from
        swept = await self._connection.run(self._queries.sweep(place=place, after=after, urgent=self._urgent))
        self._sweep_at = time.monotonic() + SWEEP_S
        for found in swept:
            ends = found.after is None
            self._sweep_from = (found.place or 1, found.after or "")
            if found.gates:
                self._wakeups.look_at(found.gates)
            if begins:
                self._sweep_pause_s = SWEEP_WITH_OLD_S if found.old else SWEEP_S
                self._sweep_at = time.monotonic() + self._sweep_pause_s
            if begins and not found.waiting and not self._gates:
                self._sweep_at = math.inf
            if self._urgent and not ends:
                self._sweep_at = 0.0
            self._urgent = self._urgent and not ends
            if begins and found.waiting:
                await self._expire()

    async def _expire(self) -> None:
        """End jobs that have expired while they wait: their gate may never open, and no claim would see them."""
        place, after, priority, seq = self._expired_to
        (expired,) = await self._connection.run(
            self._queries.expire(place=place, after=after, priority=priority, seq=seq, error=EXPIRED)
        )
        self._expired_to = expired.place, expired.after, expired.priority, expired.seq
        if expired.ended:
            logger.info("cancelled, as they expired while they waited at a gate: %d", expired.ended)
            self._wakeups.look_at(expired.gates)

    def _pause_s(self) -> float:
        at = min(self._sweep_at, min(self._due.values(), default=math.inf))
        return min(max(0.0, at - time.monotonic()), SWEEP_S)
