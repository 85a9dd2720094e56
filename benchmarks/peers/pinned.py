"""What becomes of a steady load while somebody else's transaction keeps an old snapshot, so that no dead row can go.

Jobs come at a share of what the peer drains on its own and are worked off at once; what is measured is how many run in
each second. A peer whose claim reads past dead rows slows down until it no longer keeps up.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import psycopg
from psycopg import IsolationLevel

from benchmarks.peers.peer import Peer
from benchmarks.peers.sample import Failed, Sample, sample
from benchmarks.peers.stores import Stores

LOAD = 0.6  # of the peer's own drain rate with the same worker
MOST = 2000.0  # jobs/s
PROCESSES = 2


@dataclass(frozen=True)
class Pinned:
    """rate: jobs/s that were to come. ran: how many ran in each second. backlog: what of those enqueued had not run."""

    rate: float
    seconds: int
    ran: list[int]
    enqueued: int
    backlog: int


def measure(stores: Stores, peer: Peer, drain_rate: float, seconds: int) -> Pinned:
    """For a peer on PostgreSQL."""
    rate = min(MOST, LOAD * drain_rate)
    with sample(stores, peer) as this, _old_snapshot(this), this.worker(PROCESSES):
        with this.started("paced", rate, seconds) as client:
            counts = list(_each_second(this, seconds))
            output, _ = client.communicate()
        ran = this.ticked()
        if client.returncode:
            raise Failed(f"the paced client ended with {client.returncode}")
    enqueued = int(json.loads(output)["enqueued"])
    return Pinned(rate, seconds, [after - before for before, after in pairwise(counts)], enqueued, enqueued - ran)


def _each_second(this: Sample, seconds: int) -> Iterator[int]:
    began = time.monotonic()
    for second in range(seconds + 1):
        time.sleep(max(0.0, began + second - time.monotonic()))
        yield this.ticked()


@contextmanager
def _old_snapshot(this: Sample) -> Iterator[None]:
    """A transaction that has looked once and now does nothing: a report, a dump, a forgotten session."""
    with psycopg.connect(this.place.variables["PGQUEUE_DSN"]) as conn:
        conn.isolation_level = IsolationLevel.REPEATABLE_READ
        conn.execute("select count(*) from pg_class")
        yield
