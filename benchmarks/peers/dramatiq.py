"""Dramatiq with Redis as broker and result backend."""

from benchmarks.peers.environment import Environment, Python
from benchmarks.peers.peer import Look, Peer


def _worker(environment: Environment, processes: int) -> list[str]:
    return [environment.script("dramatiq"), "dramatiq_jobs", "--processes", str(processes), "--threads", "8"]


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
    settings="8 threads a process (default), results middleware with store_results; hiredis",
    source="its own bench.py, which starts the command with its defaults",
    prepares=False,
)
