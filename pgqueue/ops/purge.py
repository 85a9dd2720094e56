"""Deletes jobs at a bounded cost per statement: one reads a window of jobs by id, others delete what it has found.

They are apart because the reading one must walk along the ids, whatever the server knows of the table. The settings for that
are taken back by a rollback (see db.in_index_order). A deletion checks again what the window has seen.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from pgqueue.client.connections import AppConnections
from pgqueue.errors import InvalidOption
from pgqueue.job import State
from pgqueue.ops.listing import WINDOW, beside, check_filters, check_state
from pgqueue.queries import Queries, Statement, Steps, ask
from pgqueue.queries.ops import Purgeable

PURGE_BATCH = 1_000  # jobs deleted by one statement
OLDER_THAN_ALL = "00000000-0000-0000-0000-000000000000"


def purge(database: AppConnections, *, state: str, queue: str | None, task: str | None) -> int:
    """Delete every job in one state; returns how many. Raises InvalidOption."""
    check_filters(queue, task)
    wanted = check_state(state)
    if wanted is State.RUNNING:
        raise InvalidOption("running jobs cannot be purged: cancel them")
    total, after = 0, OLDER_THAN_ALL
    while rows := database.look(window(database.queries, wanted, after=after, queue=queue, task=task)):
        for statement in deletions(database.queries, wanted, rows, queue=queue, task=task):
            total += len(database.run(statement))
        after = rows[-1].id
    return total


def window(queries: Queries, state: State, **wanted: Any) -> Steps[list[Purgeable]]:
    """The jobs of one window that are wanted, and always its last one; no rows: no jobs are left."""
    return (yield from ask(queries.purge_window(state, beside(state), **wanted, window=WINDOW)))


def deletions(queries: Queries, state: State, rows: Sequence[Purgeable], **wanted: Any) -> Iterator[Statement[str]]:
    """The statements that delete what a window has found; each gives the ids of what it has deleted."""
    found = [row for row in rows if row.wanted]
    for start in range(0, len(found), PURGE_BATCH):
        batch = found[start : start + PURGE_BATCH]
        ids = [row.id for row in batch]
        times = [row.finished_at for row in batch if row.finished_at is not None]
        if state.ended:
            yield queries.purge_history(ids, times, state=state, **wanted)
        else:
            yield queries.purge(ids, state=state, **wanted)
