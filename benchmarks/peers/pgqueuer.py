"""PgQueuer on asyncpg."""

from benchmarks.peers.environment import Environment, Python
from benchmarks.peers.peer import PROGRAMS, Look, Peer


def _worker(environment: Environment, processes: int) -> list[str]:
    return [str(environment.interpreter), str(PROGRAMS / "pgqueuer_jobs.py"), "worker"]


def _logged(look: Look, enqueued: int) -> int:
    return look("select count(*) from pgqueuer_log where status = 'successful'")


PEER = Peer(
    name="pgqueuer",
    store="postgres",
    environment=Python("pgqueuer", ["pgqueuer[asyncpg]==1.6.0", "asyncpg==0.32.0", "uvloop==0.23.0"]),
    program="pgqueuer_jobs.py",
    worker=_worker,
    done=_logged,
    keeps="a log row, no result",
    # Its benchmark takes batch_size 10, its page on tuning says to increase it for short jobs: 500 was the fastest of 10,
    # 100 and 500, several times as fast as 10.
    settings="asyncpg, uvloop, 5 consumers a process, batch_size 500, pgq autovac, durable tables (its default)",
    source="its docs/comparisons/benchmarks.md, tools/benchmark.py and docs/guides/performance-tuning.md",
    bulk="enqueue of lists",
    copies=True,
    variables={"PEER_CONSUMERS": "5", "PEER_BATCH": "500"},
)
