"""What is probably not meant as it was said, told when a worker starts: it runs all the same."""

from collections.abc import Iterator
from typing import Any

from pgqueue.worker.settings import Settings

OWN_CONNECTIONS = 2  # of the supervisor


def advice(settings: Settings, hello: dict[str, Any], *, connections_allowed: int) -> Iterator[str]:
    """Lines for the log, each with the figure that is needed. `hello` is a child's account of its app."""
    used = {task["queue"] for task in hello["tasks"].values()}
    for queue in settings.queues or ():
        if queue not in used:
            yield f"-Q {queue}: no task of {settings.app} belongs to this queue; jobs get there only by options(queue=...)"
    pool_size = hello["config"]["pool_size"]
    if settings.threads > pool_size:
        yield (
            f"--threads {settings.threads} with pool_size {pool_size}: tasks that defer wait for each other's connections; "
            f"set pool_size = {settings.threads}"
        )
    needed = settings.concurrency + OWN_CONNECTIONS
    if needed > connections_allowed:
        yield (
            f"-c {settings.concurrency}: if every child's task uses the database, this worker needs {needed} connections and "
            f"the server allows {connections_allowed} in all; raise max_connections or lower -c"
        )
