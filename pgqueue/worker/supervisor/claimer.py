"""Take jobs from the queue, as many as can start soon, and sleep when there are none.

Claims read each (queue, priority) on from a cursor, a little below the last seq taken; dead index entries, which someone's old
snapshot keeps alive, are then read once and not at every claim. What no cursor leads to the full scan looks for: when a claim
finds nothing, and otherwise as often as that costs little.

Sleep. Before blocking, the worker's row says so, and the queue is looked at once more: a defer either sees the mark and
rings, or was committed in time for that look. A defer that looked before the mark and commits after our look is caught
by a second look a moment later, or by those that follow in longer and longer distances, up to that of the polls. After each
bell that brought nothing they begin anew: the job it was for may have been locked for the moment. The mark stays on while
jobs come in only now and then.

A job that cannot be claimed, as its text is none in our encoding or a number in it is at its end, would stop all that come
after it. So a claim that is refused for values is made smaller until it brings something, or is for a single job: that one is
set aside, dead with the reason. Where one after the other is refused it is not their fault, and the claimer waits.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial

from pgqueue.db.spurious import SpuriousWakeups
from pgqueue.job import Claimed, Outcome, Verdict
from pgqueue.queries import Queries, Rows
from pgqueue.terminal import one_line
from pgqueue.worker.settings import POLL_ALONE_S, POLL_S, Settings
from pgqueue.worker.supervisor.children import Children
from pgqueue.worker.supervisor.connection import Patience, Trouble, WorkConnection
from pgqueue.worker.supervisor.cursors import Cursors, Pair, Place
from pgqueue.worker.supervisor.demand import Demand, Supply
from pgqueue.worker.supervisor.full_scan import FullScan
from pgqueue.worker.supervisor.sieve import REFUSED, Refused, say

logger = logging.getLogger("pgqueue.worker")

SECOND_LOOK_S = 0.05  # longer than an autocommit INSERT takes from its snapshot to its commit, on a good disk
LATER_LOOK = 4  # times as long until the next look, up to a poll: on a slow disk that commit takes a while
BELL_AHEAD_S = 10.0  # insert.sql rings for jobs that are due within this time
LOCKED_LOOK_S = 0.05  # until the next look for a due job that somebody else has locked
DUE_NOISE_S = 0.01  # two looks at one due time differ by a round trip
GIVE_WAY_S = 2.0  # for others to take a job that falls due; who is busy for longer gets it when it falls due again
AWAKE_S = 0.5  # busy for this long without a pause: the mark comes off
MOST_SET_ASIDE = 10  # jobs that cannot be claimed, one after the other; more of them, and it is not their fault
BURST_POLL_S = 0.2  # a burst ends soon after the last job, which may be another worker's


class Claimer:
    """Keeps the children supplied. `bell` is set by the doorbell, `stirred` by the children."""

    def __init__(
        self, line: WorkConnection, aside: WorkConnection, queries: Queries, children: Children, settings: Settings,
        *, worker: Callable[[], str], may_claim: Callable[[], bool], listens: Callable[[], bool],
        deliver: Callable[[list[Outcome]], None],
        name: str, alarms: SpuriousWakeups,
    ) -> None:  # fmt: skip
        self._line = line
        self._queries = queries
        self._children = children
        self._queues = list(settings.queues) if settings.queues else None
        self._listens = listens
        self._burst = settings.burst
        self._worker = worker
        self._may_claim = may_claim
        self._deliver = deliver
        self._name = name
        self._unknown: set[str] = set()
        self._full: frozenset[str] = frozenset()
        self._before: dict[Pair, int] = {}  # the cursors when these became full
        self._left_until: dict[str, float] = {}  # monotonic, by task
        self._cursors = Cursors()
        self.full_scan = FullScan(
            line, aside, queries, self._cursors,
            queues=self._queues, without=self._without, on_back=lambda: self.bell.set(),
        )  # fmt: skip
        self._demand = Demand()
        self._set_aside = 0  # since a claim was last taken
        self._busy_since: float | None = None
        self._look_in_s = SECOND_LOOK_S
        self._rung = False
        self._answering = False
        self._alarms = alarms
        self.sleeping = False
        self.stopping = False
        self.bell = asyncio.Event()
        self.stirred = asyncio.Event()
        self.next_due_at: float | None = None  # monotonic

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

    def ring(self) -> None:
        """Somebody rang, or may have."""
        self._answering = True
        self.bell.set()
        self.stirred.set()

    def stir(self) -> None:
        """There may be room."""
        self.stirred.set()
        if self._full and self._children.full() != self._full:
            self.bell.set()  # what was left alone may start: sleep no longer

    def stop(self) -> None:
        """Claim no more."""
        self.stopping = True
        self.bell.set()
        self.stirred.set()

    async def _step(self) -> bool:
        """One claim, or one sleep. True: a burst is over."""
        self.stirred.clear()
        wanted = self._wanted()
        if wanted <= 0 or not self._may_claim():
            await self._wait(self.stirred, self._poll_s)
            return False
        if self.next_due_at is not None and time.monotonic() >= self.next_due_at:
            await self.promote()
        if await self._claim(wanted):
            await self._stay_awake()
            return False
        return await self._sleep()

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

    @property
    def _poll_s(self) -> float:
        return POLL_S if self._listens() else POLL_ALONE_S

    # -- claiming --

    async def _claim(self, limit: int) -> int:
        """How many jobs came."""
        # Heard, and if this finds nothing it was for a job that falls due in a moment.
        rung = self.bell.is_set()
        self._rung = self._rung or rung
        self.bell.clear()
        taken = 0
        self._heed_full()
        # Where nobody rang and nothing was found before a look is enough, or an idle worker would say two statements at a time.
        if self._cursors and (rung or self._busy_since or self.full_scan.slow):
            taken = await self._take(limit)
        if not self.full_scan.due_in_s or not taken:
            found = await self.full_scan.look()
            if found and not taken:
                taken = await self._take(limit)
        if taken:
            # Heard or not yet: under a steady load a claim is often there before the bell that comes after it for nothing.
            self._answering = False
            self._alarms.answered(for_nothing=False)
        return taken

    async def _take(self, limit: int) -> int:
        worker, places, began = self._worker(), self._cursors.places(), time.monotonic()
        rows = await self._rows(worker, places, limit)
        self._demand.measure_trip(time.monotonic() - began)
        if worker != self._worker():
            return 0  # we were declared dead while the answer travelled: these jobs are being rescued
        jobs = sorted(map(Claimed._make, rows), key=lambda job: (-job.priority, job.seq))
        self._cursors.take(jobs, sent=places, now_s=time.monotonic())
        self._demand.measure_sizes([len(job.args) + len(job.kwargs) for job in jobs])
        # A standby that lagged when it took over hands out again what it had not heard of: one run of a job is enough here.
        held = self._children.holds() if self._line.lost else ()
        self._children.take(job for job in jobs if job.id not in held and self._startable(job))
        return len(jobs)

    async def _rows(self, worker: str, places: list[Place], limit: int) -> Rows:
        """What a claim brings, of fewer jobs if there is one among them that cannot be claimed."""
        try:
            claim = partial(self._queries.claim, worker=worker, cursors=places, unknown=self._without(), limit=limit)
            rows = await say(self._line, claim)
        except Refused as refused:
            if not refused.of_values or self._set_aside >= MOST_SET_ASIDE:
                raise
            if limit > 1:
                return await self._rows(worker, places, limit // 2)
            return await self._set_one_aside(worker, places, refused)
        self._set_aside = 0
        return rows

    async def _set_one_aside(self, worker: str, places: list[Place], refused: Refused) -> Rows:
        rows = await say(
            self._line,
            lambda: self._queries.set_aside(
                worker=worker, worker_name=self._name, cursors=places, unknown=self._without(), cause=REFUSED,
                error=f"this job cannot be claimed: the database refused to hand it out ({refused.line})",
            ),
        )  # fmt: skip
        for (job_id,) in rows:
            self._set_aside += 1
            logger.error("job %s is dead: it cannot be claimed: %s", job_id, refused.line)
        return await self._rows(worker, places, 1)

    def _heed_full(self) -> None:
        """Leave tasks alone that have no place, as long as others have some; then go back to those that were passed by."""
        full = self._children.full()
        if full != self._full:
            self._cursors.go_back(self._before)
            self._full, self._before = full, self._cursors.seqs() if full else {}

    def _without(self) -> list[str]:
        """The tasks that are not to be claimed."""
        return sorted(self._unknown | self._full)

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
        if job.task not in self._unknown:
            logger.error(
                "job %s: this app has no task named %r; such jobs stay queued for a worker that knows it. "
                "Deploy the code, or check the name in `pgqueue tasks`.", job.id, one_line(job.task, at_most=200),
            )  # fmt: skip
            self._unknown.add(job.task)
        self._deliver([Outcome(job.id, job.token, Verdict.RELEASE)])

    def give_way(self, task: str, due_s: float) -> None:
        """A job went back because our code does not take its arguments: others go first when it falls due.

        Who gave it back is the first to know of that, and would take it again before anybody else hears the bell.
        """
        asyncio.get_running_loop().call_later(max(0.0, due_s - DUE_NOISE_S), self._leave_alone, task)
        self.due_in(due_s)

    def _leave_alone(self, task: str) -> None:
        self._unknown.add(task)
        self._left_until[task] = time.monotonic() + GIVE_WAY_S
        asyncio.get_running_loop().call_later(GIVE_WAY_S, self._take_again, task)

    def _take_again(self, task: str) -> None:
        if time.monotonic() >= self._left_until[task] - DUE_NOISE_S:  # it was not left alone once more in the meantime
            self._unknown.discard(task)
            self.bell.set()

    async def promote(self) -> None:
        """Make due jobs runnable and learn when the next ones fall due."""
        ((promoted, next_due_s, _),) = await self._line.run(self._queries.promote(worker=self._worker()))
        if next_due_s is not None and next_due_s <= 0 and not promoted:
            next_due_s = LOCKED_LOOK_S  # somebody has locked its row, as who cancels it in a long transaction
        self.next_due_at = None if next_due_s is None else time.monotonic() + max(0.0, next_due_s)
        if promoted:
            self.bell.set()
        if self._answering:
            self._answering = False
            soon = next_due_s is not None and next_due_s <= BELL_AHEAD_S
            self._alarms.answered(for_nothing=not promoted and not soon)

    def due_in(self, seconds: float | None) -> None:
        """A job falls due after so many seconds: one just put back, or the next one as the heartbeat saw it."""
        if seconds is None:
            return
        at = time.monotonic() + max(0.0, seconds)
        if self.next_due_at is None or at < self.next_due_at - DUE_NOISE_S:
            self.next_due_at = at
            self.bell.set()  # whoever sleeps must sleep shorter

    # -- sleeping --

    async def _sleep(self) -> bool:
        """Nothing was found. True: the burst is over. Each return but that leads to another look at the queue."""
        self._busy_since = None
        if self._children.idle:
            self._demand.forget_rate()
        if self._burst and self._children.idle and await self._drained():
            return True
        if not self.sleeping:
            await self._mark(True)
            self._look_in_s = SECOND_LOOK_S
        elif self._rung:
            self._rung = False
            await self.promote()  # the bell may have been for a job that falls due in a moment: learn when
            # Or for one that we skipped: who came too late to promote it holds its row until the end of his statement.
            self._look_in_s = SECOND_LOOK_S
        else:
            timeout_s = min(self._look_in_s, BURST_POLL_S if self._burst else self._poll_s)
            self._look_in_s = min(self._look_in_s * LATER_LOOK, self._poll_s)
            if self.full_scan.pending:
                timeout_s = min(timeout_s, self.full_scan.due_in_s)
            await self._wait(self.bell, self._until_due(timeout_s))
        return False

    async def _mark(self, sleeping: bool) -> None:
        await self._line.run(self._queries.sleep(worker=self._worker(), sleeping=sleeping))
        self.sleeping = sleeping

    async def _drained(self) -> bool:
        ((drained,),) = await self._line.run(self._queries.drained(queues=self._queues, unknown=sorted(self._unknown)))
        return bool(drained)

    async def _stay_awake(self) -> None:
        """Take the mark off only when there has been work without a pause."""
        now = time.monotonic()
        self._busy_since = self._busy_since or now
        if self.sleeping and now - self._busy_since > AWAKE_S:
            await self._mark(False)

    def _until_due(self, timeout_s: float) -> float:
        if self.next_due_at is None:
            return timeout_s
        return min(timeout_s, max(0.0, self.next_due_at - time.monotonic()))

    async def _wait(self, event: asyncio.Event, timeout_s: float) -> bool:
        """Wait for an event or the time; True: the event."""
        try:
            async with asyncio.timeout(timeout_s):  # wait_for() of Python 3.11 makes a task of it
                await event.wait()
        except TimeoutError:
            return False
        return True
