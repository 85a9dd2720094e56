"""Take jobs from the queue, as many as can start soon, and hand them to the children.

Claims read each (queue, priority) on from a cursor, a little below the last seq taken; dead index entries, which someone's old
snapshot keeps alive, are then read once and not at every claim. What no cursor leads to the full scan looks for: when a claim
finds nothing, and otherwise as often as that costs little.

In which order they are read is said in queue_order.py, how many jobs are wanted in demand.py, how the claimer sleeps in idle.py,
which tasks it leaves alone in avoided.py, and what becomes of a job that cannot be claimed in claim_statement.py.
"""

import logging
import math
import time
from collections.abc import Collection

from pgqueue.db.spurious import SpuriousWakeups
from pgqueue.job import EXPIRED, Claimed, Outcome, Verdict
from pgqueue.queries import Queries
from pgqueue.terminal import one_line
from pgqueue.worker.settings import Settings
from pgqueue.worker.supervisor.admission import Admission
from pgqueue.worker.supervisor.avoided import AvoidedTasks
from pgqueue.worker.supervisor.children import Children
from pgqueue.worker.supervisor.claim_statement import ClaimStatement
from pgqueue.worker.supervisor.connection import TRANSIENT, RetryPacing, WorkConnection
from pgqueue.worker.supervisor.cursors import Cursors
from pgqueue.worker.supervisor.demand import Demand, Supply
from pgqueue.worker.supervisor.full_scan import FullScan
from pgqueue.worker.supervisor.idle import Idle, Step
from pgqueue.worker.supervisor.outcome_queue import OutcomeQueue
from pgqueue.worker.supervisor.queue_order import QueueOrder
from pgqueue.worker.supervisor.sieve import Refused
from pgqueue.worker.supervisor.wakeups import Wakeups

logger = logging.getLogger("pgqueue.worker")


class Claimer:
    """Keeps the children supplied, until it is told to drain. The doorbell wakes it, and capacity when there may be room."""

    def __init__(
        self, connection: WorkConnection, scan_connection: WorkConnection, queries: Queries, children: Children,
        settings: Settings, outcome_queue: OutcomeQueue, wakeups: Wakeups, cursors: Cursors, order: QueueOrder,
        avoided: AvoidedTasks, admission: Admission, *, name: str, alarms: SpuriousWakeups,
    ) -> None:  # fmt: skip
        self._connection = connection
        self._queries = queries
        self._children = children
        self._queues = list(settings.queues) if settings.queues else None
        self._burst = settings.burst
        self._wakeups = wakeups
        self._outcome_queue = outcome_queue
        self._demand = Demand()
        self._idle = Idle(wakeups, burst=settings.burst, alarms=alarms)
        self._cursors = cursors
        self._order = order
        self._admission = admission
        self._avoided = avoided
        self._statement = ClaimStatement(connection, queries, avoided, name=name)
        self.full_scan = FullScan(
            connection, scan_connection, queries, cursors, order, avoided, wakeups, queues=self._queues
        )

    async def run(self) -> None:
        """Claim until told to stop; with --burst also until nothing is left."""
        pacing = RetryPacing(self._connection.troubles)
        while not self._wakeups.draining:
            try:
                if await self._step():
                    return
                pacing.passed()
            except (*TRANSIENT, Refused) as error:
                await pacing.wait("claim", error)

    async def _step(self) -> bool:
        """One look at the queue, and what follows from it. True: a burst is over."""
        self._wakeups.capacity.clear()  # before slots are counted: one that becomes free meanwhile must end the wait
        wanted = self._wanted()
        if wanted <= 0 or self._outcome_queue.full or not self._wakeups.identity.confirmed:
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
        (due,) = await self._connection.run(self._queries.promote(worker=self._wakeups.identity.worker))
        self._wakeups.look_at(due.gates)
        self._idle.promoted(due.promoted, due.next_due_s)

    async def _mark(self, sleeping: bool) -> None:
        await self._connection.run(self._queries.sleep(worker=self._wakeups.identity.worker, sleeping=sleeping))
        self._idle.mark(sleeping)

    async def _drained(self) -> bool:
        if self._wakeups.subscribed.is_set():  # asked first: an event that is a job by then is found as one
            reader = self._wakeups.identity.worker
            (waiting,) = await self._connection.run(self._queries.waiting(reader=reader))
            if waiting:
                return False
        (drained,) = await self._connection.run(
            self._queries.drained(queues=self._queues, unknown=self._avoided.unknown())
        )
        return drained

    # -- claiming --

    def _wanted(self) -> int:
        """How many jobs to claim. What is buffered far beyond that is given back first."""
        children, demand = self._children, self._demand
        demand.measure_rate(children.work_done)
        supply = Supply(
            flowing=children.flowing(),
            room=children.room(),
            children=len(children.children),
            buffered=len(children.buffer),
            most=children.most(),
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
        # Without a bell, after a claim that found nothing, a scan is enough: an idle worker would otherwise send two statements.
        if self._cursors and (rang or self._idle.busy or self.full_scan.slow):
            taken = await self._take(limit)
        if not self.full_scan.due_in_s or not taken:
            found = await self.full_scan.scan()
            if found and not taken:
                taken = await self._take(limit)
        return taken

    async def _take(self, limit: int) -> int:
        worker, turn, began = (
            self._wakeups.identity.worker,
            self._order.turn(self._cursors.snapshot()),
            time.monotonic(),
        )
        rows = await self._statement.rows(worker, turn.positions, limit)
        self._demand.measure_trip(time.monotonic() - began)
        if worker != self._wakeups.identity.worker:
            return 0  # we were declared dead while the answer travelled: these jobs are being rescued
        jobs = turn.sorted(rows)
        self._cursors.advance(jobs, sent=turn.positions, now_s=time.monotonic())
        self._demand.measure_sizes([len(job.args) + len(job.kwargs) for job in jobs])
        # A standby that lagged when it took over hands out again what it had not heard of: one run of a job is enough here.
        held = self._children.holds() if self._connection.lost else ()
        self._children.take(self._startable(jobs, held))
        return len(jobs)

    # -- handing over --

    def _startable(self, jobs: list[Claimed], held: Collection[str]) -> list[Claimed]:
        """Those that may start here; of the others something else is said at once."""
        special = held or self._wakeups.rules or any(job.expired or job.gates for job in jobs)
        if not special and self._children.tasks.keys() >= {job.task for job in jobs}:
            return jobs  # mostly: to ask each of them would take 2 % of what a job that does nothing costs
        self._admission.claimed(jobs)
        return [job for job in jobs if job.id not in held and self._may_start(job)]

    def _may_start(self, job: Claimed) -> bool:
        if job.expired:
            self._outcome_queue.deliver([Outcome(job.id, job.token, Verdict.CANCELLED, error=EXPIRED)])
            return False
        if job.task not in self._children.tasks:
            self._refuse(job)
            return False
        if gates := self._admission.to_park(job):
            self._outcome_queue.deliver([Outcome(job.id, job.token, Verdict.PARK, gates=gates)])
            return False
        return True

    def _refuse(self, job: Claimed) -> None:
        """Leave the job for a worker that knows its task, and from now on leave such jobs alone."""
        if self._avoided.add_unknown(job.task):
            logger.error(
                "job %s: this app has no task named %r; such jobs stay queued for a worker that knows it. "
                "Deploy the code, or check the name in `pgqueue tasks`.", job.id, one_line(job.task, at_most=200),
            )  # fmt: skip
        self._outcome_queue.deliver([Outcome(job.id, job.token, Verdict.RELEASE)])
