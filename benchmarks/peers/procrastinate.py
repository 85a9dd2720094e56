"""Procrastinate with its asynchronous worker."""

from benchmarks.peers.environment import Environment, Python
from benchmarks.peers.peer import PROGRAMS, Look, Peer


def _worker(environment: Environment, processes: int) -> list[str]:
    return [str(environment.interpreter), str(PROGRAMS / "procrastinate_jobs.py"), "worker"]


def _succeeded(look: Look, enqueued: int) -> int:
    return look("select count(*) from procrastinate_jobs where status = 'succeeded'")


PEER = Peer(
    name="procrastinate",
    store="postgres",
    environment=Python("procrastinate", ["procrastinate==3.10.0", "psycopg[binary]==3.3.9", "psycopg-pool==3.3.3"]),
    program="procrastinate_jobs.py",
    worker=_worker,
    done=_succeeded,
    keeps="job row and events, no result",
    # A pool of 31 connections halved the rate of two processes on two cores.
    settings="async tasks, concurrency 30 a process, psycopg_pool's default of 4 connections",
    source="its page on executing multiple jobs at the same time, whose example this is",
    bulk="batch_defer",
    copies=True,
    variables={"PEER_CONCURRENCY": "30", "PEER_POOL": "4"},
)
