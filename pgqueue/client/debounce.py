"""Calls of one key that come soon after another make one job: the last call's, once it has been quiet for a while.

The job that waits is found by its key and gets these arguments. One that runs has its own already; so the next call makes another
job, under the next of a few keys. Two calls that meet while a job ends may each make one: then both run, none is lost.
"""

from typing import Any

from pgqueue.config import Notify
from pgqueue.queries import Queries, Steps, ask

# Jobs of one key that may run while another waits, where they take longer than it is quiet. Beyond that each call makes its own.
SLOTS = 4


def keys_of(key: str) -> list[str]:
    """The keys under which a job may be; the first that is free is taken."""
    return [key, f"{key}:next", *(f"{key}:next{number}" for number in range(2, SLOTS))]


def debounced(queries: Queries, row: dict[str, Any], *, most_s: float, ring: Notify, again: bool = False) -> Steps[str]:
    """Insert the row, or put it into the job that waits; returns the id of that job. again: the row may be there already.

    The job that waits may begin to run between the look for it and the write. Then there is none, and both are done again: each
    round needs another job to begin within a millisecond, so the loop ends.
    """
    keys, job_id = keys_of(row["unique_key"]), str(row["id"])
    while True:
        if again and (yield from ask(queries.ends([job_id]))):
            return job_id
        if made := (yield from ask(queries.insert_debounced(row, keys=keys, most_s=most_s, ring=ring))):
            return made[0].id
