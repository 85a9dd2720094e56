"""Graphile Worker (Node.js)."""

import json

from benchmarks.peers.environment import Environment, Node
from benchmarks.peers.peer import PROGRAMS, Look, Peer

# Its performance page to the letter.
SETTINGS = {
    "concurrentJobs": 24,
    "maxPoolSize": 25,
    "localQueue": {"size": 500},
    "completeJobBatchDelay": 0,
    "failJobBatchDelay": 0,
}


def _worker(environment: Environment, processes: int) -> list[str]:
    return [str(environment.interpreter), str(PROGRAMS / "graphile_jobs.js"), "worker"]


def _gone(look: Look, enqueued: int) -> int:
    """It keeps nothing of what succeeded; what failed stays and is missed."""
    return enqueued - look("select count(*) from graphile_worker._private_jobs")


PEER = Peer(
    name="graphile-worker",
    store="postgres",
    environment=Node("graphile", ["graphile-worker@0.18.0"]),
    program="graphile_jobs.js",
    worker=_worker,
    done=_gone,
    keeps="nothing",
    settings="concurrentJobs 24, localQueue 500, completeJobBatchDelay 0",
    source="its documentation's page Performance",
    bulk="addJobs",
    copies=True,
    variables={"PEER_WORKER": json.dumps(SETTINGS)},
)
