"""pgqueue itself, as usual and with keep=0."""

from dataclasses import replace

from benchmarks.peers.environment import Environment, Own
from benchmarks.peers.peer import Look, Peer


def _worker(environment: Environment, processes: int) -> list[str]:
    options = ["-A", "pgqueue_jobs", "-c", str(processes), "-l", "warning"]
    return [str(environment.interpreter), "-m", "pgqueue", "worker", *options]


def _recorded(look: Look, enqueued: int) -> int:
    return look("select count(*) from pgqueue.history where state = 'succeeded' and result is not null")


def _gone(look: Look, enqueued: int) -> int:
    return enqueued - look("select count(*) from pgqueue.jobs")


PEER = Peer(
    name="pgqueue",
    store="postgres",
    environment=Own(),
    program="pgqueue_jobs.py",
    worker=_worker,
    done=_recorded,
    keeps="result, times, history",
    settings="defaults",
    source="README.md",
    bulk="defer_many",
)

# Nothing of a job that succeeded is kept, as graphile-worker does; fails with the reason where @task has no such option.
KEEP_NOTHING = replace(PEER, name="pgqueue keep=0", done=_gone, keeps="nothing", variables={"PEER_KEEP": "0"})
