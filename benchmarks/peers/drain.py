"""How fast a worker empties a queue that was filled before it starts.

One rule for all. The tasks count themselves in shared memory, which costs every peer the same 0.3 us and asks nothing of
its store. The clock starts when a tenth of the jobs has run, so that neither start-up nor the worker's second process
coming later counts; it stops when the *store* says that all jobs are done, so that running ahead of one's own
bookkeeping gains nothing. The store is asked only once all jobs have run: asking earlier would slow down those whose
question is dear.
"""

import math
import time
from dataclasses import dataclass

from benchmarks.peers.peer import Peer
from benchmarks.peers.sample import POLL_S, Failed, Sample, Watch, sample
from benchmarks.peers.stores import Stores

SKIPPED = 0.1
TRIAL_JOBS, TRIAL_GROWTH = 1000, 8  # a trial of a quarter of AIM_S tells the rate well enough
AIM_S = 4.0  # a drain takes about so long: far above POLL_S, and autovacuum's minute stays out of it
LEAST, MOST = 500, 200_000


@dataclass(frozen=True)
class Drained:
    """rate: jobs a second; bulk_rate: at which they had been enqueued, in the peer's best way."""

    rate: float
    bulk_rate: float


class TooFew(Failed):
    """So many jobs are gone before the first look."""


def jobs_for(stores: Stores, peer: Peer) -> int:
    """How many jobs take about AIM_S with two processes."""
    jobs = TRIAL_JOBS
    while (rate := _trial(stores, peer, jobs)) * AIM_S / 4 > jobs and jobs < MOST:
        jobs = min(MOST, jobs * TRIAL_GROWTH)
    return MOST if rate == math.inf else min(MOST, max(LEAST, round(rate * AIM_S / 100) * 100))


def _trial(stores: Stores, peer: Peer, jobs: int) -> float:
    try:
        return measure(stores, peer, 2, jobs).rate
    except TooFew:
        return math.inf


def measure(stores: Stores, peer: Peer, processes: int, jobs: int) -> Drained:
    """Raises Failed unless every job ran, none twice, and the store knows of all."""
    with sample(stores, peer) as this:
        filled = this.client("bulk", jobs)
        this.place.settle()
        with this.worker(processes):
            rate = _watched(this, jobs)
        _check(this, jobs)
    return Drained(rate, filled["rate"])


def _watched(this: Sample, jobs: int) -> float:
    ran, started = _until_ran(this, math.ceil(jobs * SKIPPED))
    if ran == jobs:
        raise TooFew(f"{jobs} jobs are too few: all had run at the first look")
    _until_ran(this, jobs)
    return (jobs - ran) / (_until_done(this, jobs) - started)


def _until_ran(this: Sample, jobs: int) -> tuple[int, float]:
    watch = Watch(this, f"{jobs} jobs to run")
    while (ran := watch.saw(this.ticked())) < jobs:
        time.sleep(POLL_S)
    return ran, time.perf_counter()


def _until_done(this: Sample, jobs: int) -> float:
    watch = Watch(this, f"{jobs} jobs to be done")
    while watch.saw(this.done(jobs)) < jobs:
        time.sleep(POLL_S)
    return time.perf_counter()


def _check(this: Sample, jobs: int) -> None:
    ran, done = this.ticked(), this.done(jobs)
    if (ran, done) != (jobs, jobs):
        raise Failed(f"of {jobs} jobs enqueued {ran} ran and {done} are recorded as done")
