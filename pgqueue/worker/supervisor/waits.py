"""Notices jobs that wait for other jobs' results while they hold the slots that those would need."""

import logging

from pgqueue.worker.supervisor.child_handle import ChildHandle

logger = logging.getLogger("pgqueue.worker")


class Waits:
    """`children` is the list that Children keeps. Told once a worker: what waits so does it with every job."""

    def __init__(self, children: list[ChildHandle]) -> None:
        self._children = children
        self._told = False

    def heard(self, task: str, awaited: str) -> None:
        """A job of this task has waited for another one for a while."""
        begun = any(awaited in child.sync_runs or awaited in child.async_runs for child in self._children)
        full = all(len(child.sync_runs) >= child.threads for child in self._children)
        if self._told or begun or not full:
            return
        self._told = True
        logger.warning(
            "task %s waits in result() for job %s, which has not begun here, and every slot of this worker is taken: if they are "
            "held by jobs that wait like this one and no other worker serves that queue, none of them ever ends. Give the "
            "awaited task its own queue and worker (-Q), raise -c, or let the last job continue instead of waiting.",
            task, awaited,
        )  # fmt: skip
