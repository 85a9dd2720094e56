"""What some worker has to do now and then: partitions of history, old counters, cancels to deliver, jobs that no worker holds.

Each chore's step does one round; only `run` sleeps. Whichever supervisor gets the lock does the day's partitions.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

from pgqueue import db
from pgqueue.config import NOTIFY_SHARE, Config
from pgqueue.job import Outcome, Verdict
from pgqueue.queries import Queries
from pgqueue.schema.retention import forget_notices, forget_periods, tidy_partitions
from pgqueue.worker.settings import CANCELS_S
from pgqueue.worker.supervisor.children import Children
from pgqueue.worker.supervisor.connection import TRANSIENT, WorkConnection
from pgqueue.worker.supervisor.finisher import Finisher
from pgqueue.worker.supervisor.outcome_queue import OutcomeQueue
from pgqueue.worker.supervisor.wakeups import Wakeups

logger = logging.getLogger("pgqueue.worker")

# How often the jobs the database thinks we run are compared with those we do. That reads an index entry of every job of ours that
# ended since the last vacuum, and no claim can pass meanwhile: 100 ms after 450,000 of them, and more with an old snapshot.
HELD_S = 300.0
HELD_ALERT_S = 15.0  # while it is likely that some are missing:
ALERT_S = 60.0  # after a lost connection, the one thing that is known to lose a claim's answer
BELLS_S = 30.0  # how often the queue of notifications is looked at: it takes hours to fill
BELLS_STEP = 0.1  # so much more of it in use is worth another warning
TIDY_S = 3600.0
PUT_OFF_S = 10.0  # after a failure
GIVES_WAY = 6  # times in a row a chore may end for a lock or its time before it is called failing: a minute

Chore = Callable[[], Coroutine[Any, Any, None]]


class Maintenance:
    """Runs every chore of one worker when it is due."""

    def __init__(
        self,
        connection: WorkConnection,
        queries: Queries,
        config: Config,
        *,
        children: Children,
        outcome_queue: OutcomeQueue,
        finisher: Finisher,
        wakeups: Wakeups,
    ) -> None:
        self._connection = connection
        self._queries = queries
        self._config = config
        self._children = children
        self._outcome_queue = outcome_queue
        self._finisher = finisher
        self._wakeups = wakeups
        self._identity = wakeups.identity
        self._due: dict[Chore, float] = {
            self.maintain_partitions: 0.0,
            self.deliver_cancels: 0.0,
            self.reconcile_held_jobs: time.monotonic() + HELD_S,
            self.check_notify_queue: 0.0,
            self.forget_notices: 0.0,
            self.forget_periods: 0.0,
        }
        self._every: dict[Chore, float] = {
            self.maintain_partitions: TIDY_S,
            self.deliver_cancels: CANCELS_S,
            self.reconcile_held_jobs: HELD_S,
            self.check_notify_queue: BELLS_S,
            self.forget_notices: TIDY_S,
            self.forget_periods: TIDY_S,
        }
        self._failing: dict[Chore, tuple[str, int]] = {}
        self._told_share = 0.0
        self._lost_seen = 0
        self._alert_until = 0.0

    async def run(self) -> None:
        """Do what is due, again and again."""
        while True:
            if self._connection.lost != self._lost_seen:  # a claim's answer may have been lost with the connection
                self._lost_seen = self._connection.lost
                self._alert_until = time.monotonic() + ALERT_S
                self._due[self.reconcile_held_jobs] = min(
                    self._due[self.reconcile_held_jobs], time.monotonic() + CANCELS_S
                )
            for chore, due_at in list(self._due.items()):
                if time.monotonic() >= due_at:
                    await self._do(chore)
            await asyncio.sleep(CANCELS_S)

    async def _do(self, chore: Chore) -> None:
        try:
            await chore()
            self._due[chore] = time.monotonic() + self._every[chore]
            self._failing.pop(chore, None)
        except TRANSIENT as error:
            pause_s = min(PUT_OFF_S, self._every[chore])
            self._due[chore] = time.monotonic() + pause_s
            self._tell(chore, error, pause_s=pause_s)

    def _tell(self, chore: Chore, error: BaseException, *, pause_s: float) -> None:
        """Log what the server refuses, and again only when it passed or gives another reason: it may last for days."""
        what = chore.__name__.replace("_", " ")
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if not db.is_refusal(error):  # the claimer and the finisher log that the database is away
            logger.debug("%s: %s; again later", what, reason)
            return
        before, times = self._failing.get(chore, ("", 0))
        times = times + 1 if reason == before else 1
        self._failing[chore] = (reason, times)
        if times == (GIVES_WAY if db.gave_way(error) else 1):
            logger.warning(
                "the chore '%s' fails: %s. It is tried again every %g s and not logged again until it passes; "
                "`pgqueue doctor` shows more", what, reason, pause_s,
            )  # fmt: skip

    async def deliver_cancels(self) -> None:
        """Tell children of running jobs that somebody asked to cancel. Asked of the database, never of a notification alone."""
        if ids := self._children.cancels.open():
            asked = await self._connection.run(self._queries.cancels(ids))
            self._children.cancels.deliver(asked)

    async def reconcile_held_jobs(self) -> None:
        """Release jobs that the database counts as ours and that are not here: the answer to their claim was lost.

        The claim and this question travel on one connection, one after the other; a claim that was still under way when
        its connection broke is found by a later round.
        """
        rows = await self._connection.run(self._queries.held(worker=self._identity.worker))
        self._every[self.reconcile_held_jobs] = HELD_ALERT_S if time.monotonic() < self._alert_until else HELD_S
        ours = self._children.holds() | self._finisher.holds()
        lost = [Outcome(job.id, job.claim_token, Verdict.RELEASE) for job in rows if job.id not in ours]
        if lost:
            logger.warning("%d jobs were claimed but never arrived here; they are released", len(lost))
            self._outcome_queue.deliver(lost)

    async def check_notify_queue(self) -> None:
        """Tell when notifications pile up: above a half pgqueue rings no more, and when all is in use every other NOTIFY fails.

        And wake the dispatcher of events, where others than this worker's app have subscribed.
        """
        (notify,) = await self._connection.run(self._queries.bells(share=NOTIFY_SHARE))
        if notify.subscribed:
            self._wakeups.subscribed.set()
        if notify.share <= NOTIFY_SHARE:
            self._told_share = 0.0
        elif notify.share >= self._told_share + BELLS_STEP:
            self._told_share = notify.share
            logger.warning(
                "the notify queue is %.0f%% full: a session that listens does not read, as it stays in a transaction or is "
                "frozen. From 50%% on workers and callers poll. The oldest transaction: %s", 100 * notify.share,
                notify.who or "none",
            )  # fmt: skip

    async def maintain_partitions(self) -> None:
        """Make the coming partitions, drop those past their retention, forget what only served the moment."""
        await self._connection.run(self._queries.prune())
        await self._connection.run(self._queries.forget_schedules())
        await self._connection.run(tidy_partitions(self._queries, self._config), transaction=True)

    async def forget_notices(self) -> None:
        """Delete the large payloads of live channels that are a day old."""
        await self._connection.run(forget_notices(self._queries))

    async def forget_periods(self) -> None:
        """Delete the periods of calls that are over."""
        await self._connection.run(forget_periods(self._queries))
