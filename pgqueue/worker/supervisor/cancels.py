"""Delivers cancels to the children that run the jobs, and kills a child whose job was to be killed and still runs.

The database says whom; the running slots say what really runs in a child at this moment. A job that has just ended is killed no
more, and neither is the one that runs in its place. Should that one begin in the instant between the look and the kill, it
is given back like all others of the child, and nothing is charged.
"""

import logging
import time
from collections.abc import Iterable

from pgqueue.worker.settings import CANCELS_S, KILL_GRACE_S
from pgqueue.worker.supervisor.child_handle import ChildHandle, Run

logger = logging.getLogger("pgqueue.worker")


class Cancels:
    """`children` is the list that Children keeps."""

    def __init__(self, children: list[ChildHandle]) -> None:
        self._children = children

    def open(self) -> list[str]:
        """The jobs of which more may be heard: most end before it is worth a question."""
        before = time.monotonic() - CANCELS_S / 2
        return [run.job.id for child in self._children for run in child.runs if run.given_at < before and not run.kill]

    def deliver(self, wanted: Iterable[tuple[str, bool]]) -> None:
        """(id, kill) of jobs that are to be cancelled: ask them to stop."""
        kills = dict(wanted)
        for child in self._children:
            for run in child.runs:
                if run.job.id not in kills:
                    continue
                run.kill = kills[run.job.id]
                if run.cancelled_at is None:
                    run.cancelled_at = time.monotonic()
                    child.send("cancel", run.job.id)

    def enforce(self, now: float) -> None:
        """End the children of jobs that were asked, did not stop, and are to be killed."""
        for child in self._children:
            for run in child.runs:
                if (
                    run.kill
                    and not child.ending.by_force
                    and run.cancelled_at is not None
                    and now - run.cancelled_at > KILL_GRACE_S
                ):
                    self._kill(child, run)

    def _kill(self, child: ChildHandle, run: Run) -> None:
        if not child.was_running(run):
            return
        logger.warning("job %s (%s) is cancelled by force; child %d is killed", run.job.id, run.job.task, child.number)
        child.ending.by_force = True
        child.process.kill()
