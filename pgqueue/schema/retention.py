"""Retention: history and failed attempts lie in one partition per day, made ahead and dropped when their time is over.

A row that came before its day's partition lies in the rest and is moved when the partition is made. A query in
that moment may have been planned without the new partition and miss it, so partitions are made with the schema and a week
ahead, and no code says "not found" after one look.
"""

from pgqueue.config import Config
from pgqueue.queries import Queries, Steps, ask

NOTICES_KEPT_S = 86_400.0  # a listener reads them within seconds, or gets a Gap
AT_ONCE_NOTICES = AT_ONCE_PERIODS = 1_000  # in one statement


SINCE_EVENTS = 5  # the migration that makes the log


def tidy_partitions(queries: Queries, config: Config, *, version: int | None = None) -> Steps[None]:
    """One transaction: the only tidier makes and drops partitions, and never makes a finish wait for long.

    version: of a schema that is not this code's; what it does not have is left out.
    """
    yield queries.tidy(keep_succeeded_days=config.keep_succeeded_days, keep_dead_days=config.keep_dead_days)
    if version is None or version >= SINCE_EVENTS:
        yield queries.tidy_events(keep_days=config.keep_events_days, keep_days_at_most=config.keep_events_days_at_most)


def forget_notices(queries: Queries) -> Steps[None]:
    """Delete the large payloads of live channels that are old, each statement by itself."""
    while (
        len((yield from ask(queries.forget_notices(keep_s=NOTICES_KEPT_S, at_most=AT_ONCE_NOTICES)))) == AT_ONCE_NOTICES
    ):
        pass


def forget_periods(queries: Queries) -> Steps[None]:
    """Delete the periods that are over, each statement by itself."""
    while len((yield from ask(queries.forget_periods(at_most=AT_ONCE_PERIODS)))) == AT_ONCE_PERIODS:
        pass
