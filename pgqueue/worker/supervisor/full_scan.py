"""Look for the jobs that no cursor leads to, as often as the cost of that stays a small share of the time.

A look reads all dead index entries before the first live ones. An old snapshot keeps them: after ten minutes of 2,000 jobs/s
there are 1.2 million, 0.1 s of reading, and all finishes and claims of the worker would wait for it on its one connection: p99 from
defer to start 96 ms, and 2.4 without. Thousands of queues take as long. So while looks take long they are made on a
connection of their own, which goes when it is no longer needed. Where the server refuses it, they are made on the working one.
"""

import asyncio
import math
import time
from collections.abc import Sequence

from pgqueue.queries import Queries
from pgqueue.worker.supervisor.avoided import AvoidedTasks
from pgqueue.worker.supervisor.connection import TRANSIENT, WorkConnection
from pgqueue.worker.supervisor.cursors import Cursors
from pgqueue.worker.supervisor.queue_order import QueueOrder
from pgqueue.worker.supervisor.wakeups import Wakeups

# So much of the time may go into looks while cursors would do. When each was a claim as well, at 28,000 jobs/s and with up to
# 1.6 million dead entries between two vacuums, a tenth gave a p99 of 8.5, 8.8 and 9.1 ms from defer to claim, this 7.1 to 7.5.
SHARE = 0.03
LEAST_S = 0.1  # between two, while claims bring jobs
# None is put off for longer than this, as jobs may lie below the cursors, unless that took more than the largest share.
WAIT_S = 1.0
SHARE_MOST = 0.1
SLOW_S = 0.005  # a look that takes longer is made on the scan connection


class FullScan:
    """Moves the cursors to what it finds. The doorbell is rung when a look on the scan connection has ended.

    pending: the latest call of scan() left some jobs unseen; such an end, or the time when the next look is due, makes up for it.
    """

    def __init__(
        self, connection: WorkConnection, scan_connection: WorkConnection, queries: Queries, cursors: Cursors,
        order: QueueOrder, avoided: AvoidedTasks, wakeups: Wakeups, *, queues: Sequence[str] | None,
    ) -> None:  # fmt: skip
        self._connection = connection
        self._scan_connection = scan_connection
        self._queries = queries
        self._cursors = cursors
        self._order = order
        self._queues = queues
        self._avoided = avoided
        self._wakeups = wakeups
        self._cost_s = self._latest_s = 0.0
        self._due_at = 0.0
        self._sent = asyncio.Event()
        self.pending = False

    @property
    def slow(self) -> bool:
        """Looks are made on the scan connection."""
        return self._cost_s > SLOW_S

    @property
    def due_in_s(self) -> float:
        """Until the next look ought to be made; infinite while one is under way on the scan connection."""
        return math.inf if self._sent.is_set() else max(0.0, self._due_at - time.monotonic())

    async def scan(self) -> bool:
        """Look at once, or send for it if that takes long and it is time. True: there is work."""
        self.pending = False
        if not self.slow:
            return await self._scan(self._connection)
        if self.due_in_s:
            self.pending = True
        else:
            self._sent.set()
        return False

    async def run(self) -> None:
        """Make the looks that go to the scan connection, again and again."""
        while True:
            await self._sent.wait()
            try:
                found = await self._scan(self._scan_connection)
            except TRANSIENT as error:
                self._connection.troubles.log("looking for jobs on a third connection", error)
                self._cost_s = self._latest_s = 0.0
                found = True  # perhaps: the claimer, woken by it, looks on the working connection
            if not self.slow:
                await self._scan_connection.close()
            self._sent.clear()
            if found or self.pending:
                self._wakeups.doorbell.set()

    async def _scan(self, connection: WorkConnection) -> bool:
        since = self._cursors.snapshot()
        (heads,) = await connection.run(self._queries.heads(queues=self._queues, unknown=self._avoided.names()))
        # Of the last two the smaller: the machine may have been busy elsewhere.
        self._cost_s, self._latest_s = min(heads.took_s, self._latest_s), heads.took_s
        self._due_at = time.monotonic() + pause_s(self._cost_s)
        self._order.saw(zip(heads.queues, heads.priorities, strict=True), now_s=time.monotonic())
        if heads.fresh:
            self._wakeups.unanswered = False  # the bell that rang may have been for these
            self._wakeups.look_at(heads.fresh)
        self._wakeups.rules = frozenset(heads.rules)
        self._cursors.rewind(zip(heads.queues, heads.priorities, heads.seqs, strict=True), since=since)
        return bool(heads.queues)


def pause_s(cost_s: float) -> float:
    """How long cursors must do, after a look that took so long."""
    return min(max(cost_s / SHARE, LEAST_S), max(WAIT_S, cost_s / SHARE_MOST))
