"""How fast one client enqueues no-ops one by one, each accepted by the store before the next; nobody works meanwhile."""

from benchmarks.peers.peer import Peer
from benchmarks.peers.sample import sample
from benchmarks.peers.stores import Stores

JOBS = 1000  # about a second for a peer that waits for the disk at each


def measure(stores: Stores, peer: Peer, jobs: int = JOBS) -> float:
    """Jobs a second."""
    with sample(stores, peer) as this:
        return float(this.client("single", jobs)["rate"])
