"""The dispatcher: makes jobs of events, on the side connection, so that no claim and no finish waits for it.

It sleeps as the claimer does (see idle.py): its row says so, a publish rings only then, and after the mark it looks again, at
longer and longer intervals up to the poll: a publish that read the row before it was marked may commit a moment later. Of several
workers one makes the jobs; another that finds it at work looks again soon, as its own bell may be for what that one has not
seen. Where nothing is subscribed to there is no connection, and no statement.
"""

import asyncio
import math
import time

from pgqueue.events.dispatch import Round, dispatch_round
from pgqueue.events.subscription import Subscription, declare
from pgqueue.events.throttle import HELD, MOST_UNFINISHED, Throttle
from pgqueue.queries import Queries
from pgqueue.webhooks.endpoint import Endpoint
from pgqueue.webhooks.endpoint import declare as declare_endpoints
from pgqueue.worker.settings import EVENTS_POLL_ALONE_S, EVENTS_POLL_S
from pgqueue.worker.supervisor.connection import TRANSIENT, RetryPacing
from pgqueue.worker.supervisor.idle import AWAKE_S, LATER_LOOK, SECOND_LOOK_S
from pgqueue.worker.supervisor.side_connection import SideConnection
from pgqueue.worker.supervisor.wakeups import Wakeups

BUSY_LOOK_S = 0.05  # until the next look while another dispatcher is at work
GATHER_EVENTS_S = 0.05  # then events are gathered for so long: a place is moved twenty times a second


class EventDispatcher:
    """Makes the jobs of one schema's events, unless another worker does."""

    def __init__(self, connection: SideConnection, queries: Queries, wakeups: Wakeups) -> None:
        self._connection = connection
        self._queries = queries
        self._wakeups = wakeups
        self._marked = False
        self._busy_since: float | None = None
        self._wait_s = SECOND_LOOK_S
        self._due_at = math.inf  # then a batch need not wait any longer, or jobs are counted again
        self._throttle = Throttle()

    async def run(self) -> None:
        """Make jobs, again and again."""
        pacing = RetryPacing(self._connection.troubles)
        while True:
            await self._wakeups.subscribed.wait()
            try:
                await self._step()
                pacing.passed()
            except TRANSIENT as error:
                self._marked = False
                await pacing.wait("making jobs of events", error)

    async def declare(self, subscriptions: list[Subscription]) -> None:
        """Make the subscriptions that the app's code declares, and find whether there are others."""
        if subscriptions:
            await self._connection.run(declare(self._queries, *subscriptions), transaction=True)
            if any(subscription.mode in ("job", "batch") for subscription in subscriptions):
                self._wakeups.subscribed.set()

    async def declare_webhooks(self, endpoints: list[Endpoint]) -> None:
        """Make the endpoints that the app's code declares."""
        if endpoints:
            await self._connection.run(declare_endpoints(self._queries, *endpoints), transaction=True)

    async def _step(self) -> None:
        await self._count()
        done = await self._connection.run(dispatch_round(self._queries, self._throttle))
        now = time.monotonic()
        due = [due_s for due_s in (done.due_s, self._throttle.look_in_s(now)) if due_s is not None]
        self._due_at = now + min(due, default=math.inf)
        if done.events or done.more:
            await self._go_on(done)
        elif done.busy:
            self._busy_since = None
            await asyncio.sleep(BUSY_LOOK_S)
        else:
            self._busy_since = None
            await self._sleep()

    async def _count(self) -> None:
        """Where many jobs were made, look whether there are too many by now."""
        if not (names := self._throttle.to_count(time.monotonic())):
            return
        jobs = dict(await self._connection.run(self._queries.unfinished(names, most=MOST_UNFINISHED)))
        if held := self._throttle.counted(jobs, asked=names, now=time.monotonic()):
            await self._connection.run(self._queries.hold(held, why=HELD))

    async def _go_on(self, done: Round) -> None:
        self._wait_s = SECOND_LOOK_S
        now = time.monotonic()
        self._busy_since = self._busy_since or now
        if now - self._busy_since > AWAKE_S:
            if self._marked:
                await self._mark(False)
            if not done.more:
                await asyncio.sleep(GATHER_EVENTS_S)
        elif self._marked and not done.more:
            await self._sleep()  # a bell rings for what came meanwhile, and the claimer has this loop to itself

    async def _mark(self, asleep: bool) -> None:
        reader = self._wakeups.identity.worker
        await self._connection.run(self._queries.mark_reader(reader=reader, asleep=asleep))
        self._marked = asleep

    async def _sleep(self) -> None:
        """Until an event waits, or may."""
        if not self._marked:
            await self._mark(True)
            self._wait_s = SECOND_LOOK_S
            return  # to look once more
        while True:
            wait_s = min(self._wait_s, max(0.0, self._due_at - time.monotonic()))
            if await self._heard(wait_s) or wait_s < self._wait_s:
                return
            self._busy_since = None
            self._wait_s = min(self._wait_s * LATER_LOOK, self._poll_s)
            reader = self._wakeups.identity.worker
            (waiting,) = await self._connection.run(self._queries.waiting(reader=reader, held=self._throttle.held))
            if waiting:
                return

    async def _heard(self, pause_s: float) -> bool:
        if self._connection.listens:
            return await self._connection.hear(pause_s)
        await asyncio.sleep(pause_s)
        return False

    @property
    def _poll_s(self) -> float:
        return EVENTS_POLL_S if self._connection.listens else EVENTS_POLL_ALONE_S
