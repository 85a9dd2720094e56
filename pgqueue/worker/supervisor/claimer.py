"""Take jobs from the queue, as many as can start soon, and hand them to the children.

Claims read each (queue, priority) on from a cursor, a little below the last seq taken; dead index entries, which someone's old
snapshot keeps alive, are then read once and not at every claim. What no cursor leads to the full scan looks for: when a claim
finds nothing, and otherwise as often as that costs little.

How many jobs are wanted is said in demand.py, how the claimer sleeps in idle.py, which tasks it leaves alone in avoided.py, and
what becomes of a job that cannot be claimed in claim_statement.py.
"""

import logging
import math
import time
from collections.abc import Callable

from pgqueue.db.spurious import SpuriousWakeups
from pgqueue.job import Claimed, Outcome, Verdict
from pgqueue.queries import Queries
from pgqueue.terminal import one_line
from pgqueue.worker.settings import Settings
from pgqueue.worker.supervisor.avoided import AvoidedTasks
from pgqueue.worker.supervisor.children import Children
from pgqueue.worker.supervisor.claim_statement import ClaimStatement
from pgqueue.worker.supervisor.connection import Patience, Trouble, WorkConnection
from pgqueue.worker.supervisor.cursors import Cursors
from pgqueue.worker.supervisor.demand import Demand, Supply
from pgqueue.worker.supervisor.full_scan import FullScan
from pgqueue.worker.supervisor.idle import Idle, Step
from pgqueue.worker.supervisor.sieve import Refused
from pgqueue.worker.supervisor.wakeups import Wakeups

logger = logging.getLogger("pgqueue.worker")


class Claimer:
    """Keeps the children supplied. The doorbell wakes it, and capacity that the children and the finisher tell of."""

    def __init__(
        self, line: WorkConnection, aside: WorkConnection, queries: Queries, children: Children, settings: Settings,
        wakeups: Wakeups, *, may_claim: Callable[[], bool], listens: Callable[[], bool],
        deliver: Callable[[list[Outcome]], None],
        name: str, alarms: SpuriousWakeups,
    ) -> None:  # fmt: skip
        self._line = line
        self._queries = queries
        self._children = children
        self._queues = list(settings.queues) if settings.queues else None
        self._burst = settings.burst
        self._wakeups = wakeups
        self._identity = wakeups.identity
        self._may_claim = may_claim
        self._deliver = deliver
        self._demand = Demand()
        self._idle = Idle(wakeups, listens=listens, burst=settings.burst, alarms=alarms)
        self._cursors = Cursors()
        self._avoided = AvoidedTasks(self._cursors, on_back=wakeups.doorbell.set)
        self._statement = ClaimStatement(line, queries, self._avoided, name=name)
        self.full_scan = FullScan(
            line, aside, queries, self._cursors,
            queues=self._queues, without=self._avoided.names, on_back=wakeups.doorbell.set,
        )  # fmt: skip
        self.stopping = False

    async def run(self) -> None:
        """Claim until told to stop; with --burst also until nothing is left."""
        patience = Patience(self._line.troubles)
        while not self.stopping:
            try:
                if await self._step():
                    return
                patience.passed()
            except (*Trouble, Refused) as error:
                await patience.wait("claim", error)

    def stir(self) -> None:
        """There may be room."""
        self._wakeups.capacity.set()
        if self._avoided.full and self._children.full() != self._avoided.full:
            self._wakeups.doorbell.set()  # what was left alone may start: sleep no longer

    def give_way(self, task: str, due_s: float) -> None:
        """A job went back because our code does not take its arguments: others go first when it falls due.

        Who gave it back is the first to know of that, and would take it again before anybody else hears the bell.
        """
        self._avoided.give_way(task, due_s)
        self._wakeups.due_in(due_s)

    def stop(self) -> None:
        """Claim no more."""
        self.stopping = True
        self._wakeups.doorbell.set()
        self._wakeups.capacity.set()

    async def _step(self) -> bool:
        """One look at the queue, and what follows from it. True: a burst is over."""
        self._wakeups.capacity.clear()  # before places are counted: one that becomes free meanwhile must end the wait
        wanted = self._wanted()
        if wanted <= 0 or not self._may_claim():
            await self._idle.wait_for_room()
            return False
        if self._idle.due:
            await self.promote()
        if await self._claim(wanted):
            await self._follow(self._idle.found_jobs())
            return False
        step = self._idle.found_nothing()
        if self._children.idle:
            self._demand.forget_rate()
            if self._burst and await self._drained():
                return True
        await self._follow(step)
        return False

    async def _follow(self, step: Step) -> None:
        match step:
            case Step.MARK | Step.UNMARK:
                await self._mark(step is Step.MARK)
            case Step.PROMOTE:
                self._idle.heed()
                await self.promote()
                self._idle.answered()
            case Step.WAIT:
                await self._idle.wait(at_most_s=self.full_scan.due_in_s if self.full_scan.pending else math.inf)

    # -- what it asks the database --

    async def promote(self) -> None:
        """Make due jobs runnable and learn when the next ones fall due."""
        ((promoted, next_due_s, _),) = await self._line.run(self._queries.promote(worker=self._identity.worker))
        self._idle.promoted(promoted, next_due_s)

    async def _mark(self, sleeping: bool) -> None:
        await self._line.run(self._queries.sleep(worker=self._identity.worker, sleeping=sleeping))
        self._idle.mark(sleeping)

    async def _drained(self) -> bool:
        ((drained,),) = await self._line.run(
            self._queries.drained(queues=self._queues, unknown=self._avoided.unknown())
        )
        return bool(drained)

    # -- claiming --

    def _wanted(self) -> int:
        """How many jobs to claim. What is buffered far beyond that is given back first."""
        children, demand = self._children, self._demand
        demand.measure_rate(busy_s=children.busy_s, finished=children.finished)
        supply = Supply(
            flowing=children.flowing(),
            room=children.room(),
            children=len(children.children),
            buffered=len(children.buffer),
        )
        if demand.has_surplus(supply):
            children.release_buffer()
            supply = supply._replace(buffered=0)
        return demand.wanted(supply)

    async def _claim(self, limit: int) -> int:
        """How many jobs came."""
        rang = self._idle.hear()
        self._avoided.set_full(self._children.full())
        taken = 0
        # Where nobody rang and nothing was found before a look is enough, or an idle worker would say two statements at a time.
        if self._cursors and (rang or self._idle.busy or self.full_scan.slow):
            taken = await self._take(limit)
        if not self.full_scan.due_in_s or not taken:
            found = await self.full_scan.look()
            if found and not taken:
                taken = await self._take(limit)
        return taken

    async def _take(self, limit: int) -> int:
        worker, positions, began = self._identity.worker, self._cursors.positions(), time.monotonic()
        rows = await self._statement.rows(worker, positions, limit)
        self._demand.measure_trip(time.monotonic() - began)
        if worker != self._identity.worker:
            return 0  # we were declared dead while the answer travelled: these jobs are being rescued
        jobs = sorted(rows, key=lambda job: (-job.priority, job.seq))
        self._cursors.advance(jobs, sent=positions, now_s=time.monotonic())
        self._demand.measure_sizes([len(job.args) + len(job.kwargs) for job in jobs])
        # A standby that lagged when it took over hands out again what it had not heard of: one run of a job is enough here.
        held = self._children.holds() if self._line.lost else ()
        self._children.take(job for job in jobs if job.id not in held and self._startable(job))
        return len(jobs)

    # -- handing over --

    def _startable(self, job: Claimed) -> bool:
        if job.expired:
            self._deliver([Outcome(job.id, job.token, Verdict.CANCELLED, error="expired before it could start")])
            return False
        if job.task not in self._children.tasks:
            self._refuse(job)
            return False
        return True

    def _refuse(self, job: Claimed) -> None:
        """Leave the job for a worker that knows its task, and from now on leave such jobs alone."""
        if self._avoided.add_unknown(job.task):
            logger.error(
                "job %s: this app has no task named %r; such jobs stay queued for a worker that knows it. "
                "Deploy the code, or check the name in `pgqueue tasks`.", job.id, one_line(job.task, at_most=200),
            )  # fmt: skip
        self._deliver([Outcome(job.id, job.token, Verdict.RELEASE)])
