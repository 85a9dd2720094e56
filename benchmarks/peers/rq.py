"""RQ with its fastest worker, which runs jobs in its own process instead of forking for each."""

from benchmarks.peers.environment import Environment, Python
from benchmarks.peers.peer import Look, Peer


def _worker(environment: Environment, processes: int) -> list[str]:
    pool = ["worker-pool", "--num-workers", str(processes), "--worker-class", "rq.worker.SimpleWorker", "--quiet"]
    return [environment.script("rq"), *pool, "default"]  # finds Redis by RQ_REDIS_URL


def _finished(look: Look, enqueued: int) -> int:
    return look("zcard rq:finished:default")


PEER = Peer(
    name="rq",
    store="redis",
    environment=Python("rq", ["rq==3.0.0", "redis[hiredis]==8.1.0"]),
    program="rq_jobs.py",
    worker=_worker,
    done=_finished,
    keeps="result, 500 s",
    settings="worker-pool of SimpleWorker; hiredis",
    source="its docs/benchmark.md: SimpleWorker is six times as fast as the default Worker",
    bulk="enqueue_many",
    prepares=False,
)
