"""Retention: history and failed attempts lie in one partition per day, made ahead and dropped when their time is over.

A row that came before its day's partition lies in the rest and is moved when the partition is made. Whoever looks for it in
that moment may have planned without the new partition and miss it, so partitions are made with the schema and a week ahead,
and nobody says "not found" after one look.
"""

from datetime import date, timedelta

from pgqueue.config import Config
from pgqueue.queries import Queries, Steps

AHEAD_DAYS = 7  # partitions are there a week before they are needed: nobody notices a weekend without workers

# parent -> (its retention setting, the column it is partitioned by)
PARENTS = {
    "history_succeeded": ("keep_succeeded_days", "finished_at"),
    "history_ended": ("keep_dead_days", "finished_at"),
    "attempt": ("keep_dead_days", "failed_at"),
}


def tidy_partitions(queries: Queries, config: Config) -> Steps[None]:
    """One transaction: the only tidier makes and drops partitions, and never makes a finish wait for long."""
    ((today, mine),) = yield queries.today()
    if not mine:
        return
    yield queries.lock_timeout()
    there = {(parent, child) for parent, child in (yield queries.partitions())}
    for parent, (setting, column) in PARENTS.items():
        days = [today + timedelta(days=ahead) for ahead in range(AHEAD_DAYS)]
        for day in days:
            if (parent, _partition(parent, day)) not in there:
                yield from _make(queries, parent, day, column=column)
        oldest = _partition(parent, today - timedelta(days=getattr(config, setting)))
        for of, child in sorted(there):
            if of == parent and not child.endswith("_rest") and child < oldest:
                yield queries.partition("drop", partition=child)


def _make(queries: Queries, parent: str, day: date, *, column: str) -> Steps[None]:
    names = {"parent": parent, "partition": _partition(parent, day)}
    span = {"first": f"{day} 00:00:00+00", "next": f"{day + timedelta(days=1)} 00:00:00+00"}
    yield queries.partition("create", **names)
    yield queries.partition("move", rest=f"{parent}_rest", partition=names["partition"], day_column=column, **span)
    yield queries.partition("attach", **names, **span)


def _partition(parent: str, day: date) -> str:
    return f"{parent}_{day:%Y%m%d}"
