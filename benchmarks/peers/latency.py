"""From the call that enqueues to the first line of the task, with a worker of two processes that has nothing else to do."""

import time

from benchmarks.peers.peer import Peer
from benchmarks.peers.sample import POLL_S, Sample, Watch, sample
from benchmarks.peers.stores import Stores

JOBS = 200
WARM_UP = 20  # as in programs/producer.py: calls before those that count
PROCESSES = 2


def measure(stores: Stores, peer: Peer, jobs: int = JOBS) -> list[float]:
    """Milliseconds of each job. The client's first calls, which wait for the worker to come up, are not among them."""
    with sample(stores, peer) as this, this.worker(PROCESSES):
        _warm(this)
        called_ns = this.client("spaced", jobs)["called_ns"]
        began_ns = _all_stamps(this, jobs)
    return [(began_ns[number] - int(called)) / 1e6 for number, called in enumerate(called_ns)]


def _warm(this: Sample) -> None:
    """A worker that has run jobs in all its processes is up."""
    jobs = this.client("bulk", 100)["enqueued"]
    watch = Watch(this, "the warm-up")
    while watch.saw(this.done(jobs)) < jobs:
        time.sleep(POLL_S)


def _all_stamps(this: Sample, jobs: int) -> dict[int, int]:
    watch = Watch(this, f"{jobs} stamps")
    while watch.saw(len(stamps := this.stamps())) < jobs + WARM_UP:
        time.sleep(POLL_S)
    return stamps
