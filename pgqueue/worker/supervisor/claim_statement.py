"""One claim as it is sent, and what becomes of a job that cannot be claimed.

A job that cannot be claimed, as its text is none in our encoding or a number in it is at its end, would stop all that come
after it. So a claim that is refused for values is made smaller until it brings something, or is for a single job: that one is
set aside, dead with the reason. Where one after the other is refused it is not their fault, and the claimer waits.
"""

import logging
from functools import partial

from pgqueue.job import Claimed
from pgqueue.queries import Queries
from pgqueue.worker.supervisor.avoided import AvoidedTasks
from pgqueue.worker.supervisor.connection import WorkConnection
from pgqueue.worker.supervisor.cursors import Position
from pgqueue.worker.supervisor.sieve import REFUSED, Refused, run_or_refuse

logger = logging.getLogger("pgqueue.worker")

MOST_SET_ASIDE = 10  # jobs that cannot be claimed, one after the other; more of them, and it is not their fault


class ClaimStatement:
    """Sends claims for the worker of this name."""

    def __init__(self, connection: WorkConnection, queries: Queries, avoided: AvoidedTasks, *, name: str) -> None:
        self._connection = connection
        self._queries = queries
        self._avoided = avoided
        self._name = name
        self._set_aside = 0  # since a claim was last taken

    async def rows(self, worker: str, positions: list[Position], limit: int) -> list[Claimed]:
        """What a claim brings, of fewer jobs if there is one among them that cannot be claimed."""
        try:
            unknown = self._avoided.names()
            claim = partial(self._queries.claim, worker=worker, cursors=positions, unknown=unknown, limit=limit)
            rows = await run_or_refuse(self._connection, claim)
        except Refused as refused:
            if not refused.of_values or self._set_aside >= MOST_SET_ASIDE:
                raise
            if limit > 1:
                return await self.rows(worker, positions, limit // 2)
            return await self._set_one_aside(worker, positions, refused)
        self._set_aside = 0
        return rows

    async def _set_one_aside(self, worker: str, positions: list[Position], refused: Refused) -> list[Claimed]:
        rows = await run_or_refuse(
            self._connection,
            lambda: self._queries.set_aside(
                worker=worker, worker_name=self._name, cursors=positions, unknown=self._avoided.names(), cause=REFUSED,
                error=f"this job cannot be claimed: the database refused to hand it out ({refused.line})",
            ),
        )  # fmt: skip
        for job_id in rows:
            self._set_aside += 1
            logger.error("job %s is dead: it cannot be claimed: %s", job_id, refused.line)
        return await self.rows(worker, positions, 1)
