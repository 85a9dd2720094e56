"""Celery with Redis as broker and result backend."""

from benchmarks.peers.environment import Environment, Python
from benchmarks.peers.peer import Look, Peer


def _worker(environment: Environment, processes: int) -> list[str]:
    options = ["-P", "prefork", "-c", str(processes), "--prefetch-multiplier", "128", "-l", "warning"]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    return [environment.script("celery"), "-A", "celery_jobs", "worker", *options, *quiet]


def _results(look: Look, enqueued: int) -> int:
    return look("-n 1 dbsize")


PEER = Peer(
    name="celery",
    store="redis",
    environment=Python("celery", ["celery[redis]==5.7.0", "kombu==5.7.0", "redis[hiredis]==8.1.0"]),
    program="celery_jobs.py",
    worker=_worker,
    done=_results,
    keeps="result, 1 day",
    settings="prefork, prefetch multiplier 128, acks early (default), results recorded, no gossip, mingle, heartbeat; hiredis",
    source='its userguide/optimizing: for short tasks a multiplier that is "large", "64 or 128"',
    prepares=False,
)
