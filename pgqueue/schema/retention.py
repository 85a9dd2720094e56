"""Retention: history and failed attempts lie in one partition per day, made ahead and dropped when their time is over.

A row that came before its day's partition lies in the rest and is moved when the partition is made. A query in
that moment may have been planned without the new partition and miss it, so partitions are made with the schema and a week
ahead, and no code says "not found" after one look.
"""

from pgqueue.config import Config
from pgqueue.queries import Queries, Steps


def tidy_partitions(queries: Queries, config: Config) -> Steps[None]:
    """One transaction: the only tidier makes and drops partitions, and never makes a finish wait for long."""
    yield queries.tidy(keep_succeeded_days=config.keep_succeeded_days, keep_dead_days=config.keep_dead_days)
    yield queries.tidy_events(keep_days=config.keep_events_days, keep_days_at_most=config.keep_events_days_at_most)
