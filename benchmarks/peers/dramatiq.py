"""Dramatiq with Redis as broker and result backend."""

from benchmarks.peers.environment import Environment, Python
from benchmarks.peers.peer import Look, Peer


def _worker(environment: Environment, processes: int) -> list[str]:
    return [environment.script("dramatiq"), "dramatiq_jobs", "--processes", str(processes), "--threads", "1"]


def _results(look: Look, enqueued: int) -> int:
    return look("-n 1 dbsize")


PEER = Peer(
    name="dramatiq",
    store="redis",
    environment=Python("dramatiq", ["dramatiq[redis]==2.2.1", "redis[hiredis]==8.1.0"]),
    program="dramatiq_jobs.py",
    worker=_worker,
    done=_results,
    keeps="result, 10 min",
    # With the default prefetch, twice the number of threads, its consumer sleeps between short jobs: 8 threads ran 1,500
    # jobs/s and one thread 220; with 200 one thread runs 6,000 and 8 or 16 threads somewhat fewer.
    settings="1 thread a process, dramatiq_queue_prefetch 200, results middleware with store_results; hiredis",
    source="its reference, Environment Variables",
    prepares=False,
    variables={"dramatiq_queue_prefetch": "200"},
)
