"""Oban for Python, the free package; Oban Pro, which finishes jobs in batches, is sold."""

from benchmarks.peers.environment import Environment, Python
from benchmarks.peers.peer import Look, Peer

LIMIT = 200  # jobs at once in one process


def _worker(environment: Environment, processes: int) -> list[str]:
    options = ["--dsn", "application_name=oban", "--queues", f"default:{LIMIT}", "--log-level", "WARNING"]
    return [environment.script("oban"), "start", *options]


def _completed(look: Look, enqueued: int) -> int:
    return look("select count(*) from oban_jobs where state = 'completed'")


PEER = Peer(
    name="oban",
    store="postgres",
    environment=Python("oban", ["oban==0.7.0", "psycopg[binary]==3.3.9", "psycopg-pool==3.3.3"], least=(3, 12)),
    program="oban_client.py",
    worker=_worker,
    done=_completed,
    keeps="job row for a day, no result",
    settings=f"oban start, limit {LIMIT} a process, on a Python of its own (it needs 3.12)",
    source="its documentation states no settings for throughput; the limit is ours: 200 was faster than 10, 50, 500 and 1000",
    bulk="enqueue_many",
    copies=True,
)
