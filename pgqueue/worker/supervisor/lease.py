"""The right to run jobs: this worker's row is its lease, renewed on the control connection.

Correctness never rests on which worker is thought dead: every write is fenced by claim token and worker. The lease only decides how
soon the jobs of a vanished worker run elsewhere. A worker is dead when its lease has run out on the database's clock, or
when its session lock was free for longer than any reconnect takes; and no worker is declared dead by one that was not heard
itself just before, or a pause of the whole server would cost every worker but one its jobs. The same statement that
renews our lease looks at the others, so an idle worker needs no other.

A worker that finds itself declared dead never comes back under its old name: it drops what it has and takes a new id.
"""

import logging
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from pgqueue import db
from pgqueue.queries import Queries
from pgqueue.worker.settings import (
    FRESH_S,
    GRACE_S,
    HEARTBEAT_ASKS_JOBS_S,
    HEARTBEAT_S,
    LEASE_S,
    POOLED_LEASE_S,
    SETTLE_S,
)
from pgqueue.worker.supervisor.connection import TRANSIENT, RetryPacing, TroubleLog, WorkConnection
from pgqueue.worker.supervisor.control_connection import ControlConnection
from pgqueue.worker.supervisor.doorbell import Doorbell
from pgqueue.worker.supervisor.rescue import Rescue
from pgqueue.worker.supervisor.tally import Tally
from pgqueue.worker.supervisor.wakeups import Wakeups

logger = logging.getLogger("pgqueue.worker")


class Lease:
    """Keeps one worker's row alive. `tally` is reported with it; `connections` are the others of this worker, and `on_lost` drops
    what it holds.
    """

    def __init__(
        self,
        control: ControlConnection,
        queries: Queries,
        wakeups: Wakeups,
        *,
        doorbell: Doorbell,
        rescue: Rescue,
        row: dict[str, Any],
        tally: Tally,
        connections: Sequence[WorkConnection],
        on_lost: Callable[[], None],
        troubles: TroubleLog,
    ) -> None:
        self._control = control
        self._queries = queries
        self._doorbell = doorbell
        self._rescue = rescue
        self._row = row
        self._tally = tally
        self._wakeups = wakeups
        self._identity = wakeups.identity
        self._connections = connections
        self._on_lost = on_lost
        self._troubles = troubles
        self._locked = False
        self._beat_at = 0.0
        self._jobs_asked_at = 0.0
        self._settled_at = 0.0

    @property
    def lease_s(self) -> float:
        return POOLED_LEASE_S if self._control.pooled else LEASE_S

    async def start(self) -> None:
        """Connect and sign in; raises what the connection raises."""
        await self._connect()

    async def run(self) -> None:
        """Beat and listen, through every loss of the connection."""
        pacing = RetryPacing(self._troubles)
        while True:
            try:
                if not self._control.usable:
                    await self._connect()
                    self._settled_at = time.monotonic() + SETTLE_S
                    # The server answers: what was asked before the break is not waited for, or it would take half a minute.
                    for connection in self._connections:
                        connection.cut()
                if await self._beat_if_due():
                    await self._doorbell.wait(max(0.0, self._beat_at + HEARTBEAT_S - time.monotonic()))
                pacing.passed()
            except TRANSIENT as error:
                # A router that forgot this connection forgot the others too: the next statement there would wait in vain.
                for connection in self._connections:
                    connection.renew()
                await self._control.close()
                await pacing.wait("heartbeat", error)

    async def stop(self) -> None:
        """Sign out: the row goes if no job is left under it."""
        self._beat_at = 0.0  # the last counts are still to be reported
        for step in self._beat_if_due, self._depart:
            try:
                if self._control.opened:
                    await step()
            except TRANSIENT as error:
                logger.warning("signing out: %s; the lease expires by itself", error)
                if db.is_of_the_moment(error):
                    break
        await self._control.close()

    async def _depart(self) -> None:
        await self._control.run(self._queries.depart(worker=self._identity.worker))

    async def _connect(self) -> None:
        was_pooled = self._control.pooled
        await self._control.open(name=self._identity.session_name)
        if self._control.pooled and not was_pooled:
            logger.warning(
                "a connection pooler sits in front of the database: polling instead of LISTEN, and a lease of %.0f s instead of "
                "a session lock. Give workers a direct connection for faster starts and recovery.", POOLED_LEASE_S,
            )  # fmt: skip
        await self._control.within(self._sign_in())

    async def _sign_in(self) -> None:
        if not self._control.pooled:
            await self._control.run(self._queries.lock_patience())
            self._locked = await self._try_lock()
        await self._doorbell.open()
        if self._identity.confirmed_at is None:
            await self._register()
        self._beat_at = 0.0
        self._wakeups.ring()  # notifications may have been missed: look once

    async def _try_lock(self) -> bool:
        """Never waits: advisory locks have no owner, and a stranger who holds ours must not keep us from the lease.

        It may also be our last session, which the server still takes for alive; so each heartbeat tries again.
        """
        (locked,) = await self._control.run(self._queries.lock(self._identity.lock_key))
        if not locked:
            logger.warning("another session holds this worker's session lock; until it is free the lease alone counts")
        return locked

    async def _register(self) -> None:
        await self._control.run(
            self._queries.register(
                worker=self._identity.worker, lease_s=self.lease_s, lock_key=self._key(), pid=os.getpid(), **self._row
            ),
        )
        self._identity.confirmed_at = time.monotonic()

    def _key(self) -> int | None:
        return None if self._control.pooled else self._identity.lock_key

    async def _beat_if_due(self) -> bool:
        """False: this worker was declared dead and starts over."""
        if time.monotonic() - self._beat_at < HEARTBEAT_S:
            return True
        self._beat_at = time.monotonic()
        if not (self._control.pooled or self._locked):
            self._locked = await self._try_lock()
        return await self._beat()

    async def _beat(self) -> bool:
        news = self._tally.news()
        sent_at = time.monotonic()
        asks, self._jobs_asked_at = self._asks_jobs()
        says: dict[str, Any] = {kind: news[kind] for kind in ("succeeded", "failed", "dead", "cancelled")}
        beat = partial(
            self._queries.beat,
            worker=self._identity.worker, lease_s=self.lease_s, grace_s=GRACE_S, fresh_s=FRESH_S, lock_key=self._key(),
            sleeping=self._wakeups.sleeping, state="draining" if self._wakeups.draining else "alive",
            settled=time.monotonic() >= self._settled_at, **says,
        )  # fmt: skip
        try:
            answer = await self._control.run(beat(look=asks))
        except db.Blocked:
            answer = await self._control.run(beat(look=False))
        except db.DatabaseError as error:
            if not (news and db.is_of_values(error)):
                raise
            # A lease must not hang on figures.
            logger.warning("counting %s: %s; they are left out of the figures", dict(news), error)
            answer = await self._control.run(beat(look=False, **dict.fromkeys(says, 0)))
        (heard,) = answer
        if heard.state is None:
            await self._lost()
            return False
        self._tally.reported(news)
        was_mute, self._identity.confirmed_at = not self._identity.confirmed, sent_at
        if was_mute:
            self._wakeups.ring()  # claims were put off until now
        self._wakeups.due_in(heard.next_due_s)
        self._wakeups.schedule_due_in(heard.schedule_due_s)
        await self._rescue.look_after(heard.expired, heard.sessionless, heard.orphaning or [])
        return True

    def _asks_jobs(self) -> tuple[bool, float]:
        """Whether this heartbeat asks the jobs too, and when one did so last. Noted before it is sent: if it gets stuck,
        the next one does without.
        """
        due = time.monotonic() - self._jobs_asked_at >= HEARTBEAT_ASKS_JOBS_S
        return due, time.monotonic() if due else self._jobs_asked_at

    async def _lost(self) -> None:
        """Declared dead while we lived, frozen perhaps: nothing we hold is ours any more."""
        logger.error(
            "this worker was declared dead while it was unreachable; its jobs run elsewhere. Starting over with a new id."
        )
        self._identity.replace()
        for connection in self._connections:
            connection.rename(self._identity.session_name)
        self._on_lost()
        await self._control.close()
