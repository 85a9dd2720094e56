"""Counts how the runs of tasks with a breaker end, and closes their gates; `pgqueue/gates` says how one opens again.

What has ended is summed here and told twice a second, on the side connection: no statement is said for a job, and no finish
waits. What a worker that dies has not told is lost. The sums are told first, then judged by a second statement, whose snapshot has
the sums of all who told theirs before: of two workers that tell the last runs at once, the later sees both. Where no task has a
breaker nothing is sent.
"""

import asyncio
import logging
from collections.abc import Iterable

from pgqueue.job import Outcome, Verdict
from pgqueue.queries import Queries, Steps, ask
from pgqueue.queries.worker import Tripped
from pgqueue.worker.link.greeting import AppFacts
from pgqueue.worker.supervisor.connection import TRANSIENT, RetryPacing, WorkConnection
from pgqueue.worker.supervisor.wakeups import Wakeups

logger = logging.getLogger("pgqueue.worker")

TELL_RUNS_S = 0.5

_SUCCEEDED = (Verdict.SUCCEEDED, Verdict.COMMITTED)

Sums = dict[str, tuple[int, int]]  # by gate: how many runs have ended, and failed


class Breakers:
    """Of the tasks whose breaker this worker's code declares."""

    def __init__(self, connection: WorkConnection, queries: Queries, wakeups: Wakeups) -> None:
        self._connection = connection
        self._queries = queries
        self._wakeups = wakeups
        self._sums: Sums = {}
        self._came = asyncio.Event()
        self.gates: frozenset[str] = frozenset()

    def declare(self, facts: AppFacts) -> None:
        """Learn which gates have one."""
        self.gates = frozenset(rule["name"] for rule in facts.gates if rule["break_share"] is not None)

    def count(self, gates: Iterable[str], outcome: Outcome) -> None:
        """A run has ended of a job with these gates. One that was put off, given back or cancelled in plain words says nothing."""
        failed = outcome.cause is not None
        if failed or outcome.verdict in _SUCCEEDED:
            for gate in self.gates.intersection(gates):
                self._add(gate, 1, int(failed))
                self._came.set()

    def _add(self, gate: str, ended: int, failed: int) -> None:
        before, failed_before = self._sums.get(gate, (0, 0))
        self._sums[gate] = before + ended, failed_before + failed

    async def run(self) -> None:
        """Tell the sums, again and again."""
        pacing = RetryPacing(self._connection.troubles)
        while True:
            await self._came.wait()
            await asyncio.sleep(TELL_RUNS_S)
            self._came.clear()
            try:
                await self._tell()
                pacing.passed()
            except TRANSIENT as error:
                self._came.set()
                await pacing.wait("counting runs for a breaker", error)

    async def close(self) -> None:
        """Tell the last ones: a worker that runs until nothing is left may live for less than a second."""
        if self._sums:
            try:
                await self._tell()
            except TRANSIENT as error:
                self._connection.troubles.log("counting runs for a breaker", error, then="these are left out")

    async def _tell(self) -> None:
        sums, self._sums = self._sums, {}
        try:
            tripped = await self._connection.run(self._told(sums))
        except TRANSIENT:
            # If only the answer was lost they count twice: rather that than a breaker that hears nothing while all fails.
            for gate, (ended, failed) in sums.items():
                self._add(gate, ended, failed)
            raise
        for gate, rest_s, why in tripped:
            logger.warning("%s: the breaker closes the gate for %g s: %s", gate, rest_s, why)
            self._wakeups.look_at([gate])

    def _told(self, sums: Sums) -> Steps[list[Tripped]]:
        gates = sorted(sums)
        yield self._queries.count_runs(
            worker=self._wakeups.identity.worker,
            gates=gates,
            runs=[sums[gate][0] for gate in gates],
            failures=[sums[gate][1] for gate in gates],
        )
        return (yield from ask(self._queries.trip(gates)))
