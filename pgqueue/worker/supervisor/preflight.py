"""What cannot work, or is probably a mistake, reported when a worker starts."""

import resource
from collections.abc import Iterator

from pgqueue.errors import ConfigError
from pgqueue.worker.link.greeting import AppFacts
from pgqueue.worker.settings import Settings

OWN_CONNECTIONS = 3  # of the supervisor; the third while it takes long to look for jobs
OWN_DESCRIPTORS = 20  # of the supervisor, its connections and the start of a child included
CHILD_DESCRIPTORS = 3  # a socket, running slots, and from Python 3.12 on a handle of the process


def check_descriptors(settings: Settings) -> None:
    """Raise ConfigError if the children would leave no file descriptor for the database."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = OWN_DESCRIPTORS + CHILD_DESCRIPTORS * settings.concurrency
    if needed > allowed != resource.RLIM_INFINITY:
        raise ConfigError(
            f"-c {settings.concurrency} needs {needed} file descriptors and the limit is {allowed}: "
            f"raise it (ulimit -n {needed}), or lower -c"
        )


def advice(settings: Settings, facts: AppFacts, *, connections_allowed: int) -> Iterator[str]:
    """Warnings of a worker that runs all the same, each with the figure that is needed. `facts` are a child's account."""
    used = {task.queue for task in facts.tasks.values()}
    for queue in settings.queues or ():
        if queue not in used:
            yield f"-Q {queue}: no task of {settings.app} belongs to this queue; jobs get there only by options(queue=...)"
    pool_size = facts.config["pool_size"]
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
