"""A worker that starts before its database does, or into one that refuses it."""

from collections.abc import Callable

import pytest

from benchmarks.chaos.cluster import Cluster
from tests import tasks
from tests.conftest import Worker

pytestmark = pytest.mark.usefixtures("task_app")


def test_a_worker_waits_for_a_database_that_starts_later(
    cluster: Cluster, dsn: str, start_worker: Callable[..., Worker]
) -> None:
    cluster.stop()
    worker = start_worker("-c", "1")
    worker.said("starting: cannot connect to")
    cluster.start()
    worker.ready()
    assert tasks.echo.defer(1).result(30) == 1


def test_a_worker_that_waits_for_its_database_can_be_stopped(
    cluster: Cluster, dsn: str, start_worker: Callable[..., Worker]
) -> None:
    cluster.stop()
    worker = start_worker("-c", "1")
    worker.said("starting: cannot connect to")
    assert worker.stop() == 0


def test_b52_a_worker_waits_without_telling_the_password(start_worker: Callable[..., Worker]) -> None:
    worker = start_worker("-c", "1", dsn="postgresql://me:hunter2@127.0.0.1:1/x")
    worker.said("starting: cannot connect to me@127.0.0.1:1/x: Connection refused")
    assert worker.stop() == 0 and "hunter2" not in worker.output


def test_a_worker_does_not_wait_for_what_time_cannot_cure(
    cluster: Cluster, start_worker: Callable[..., Worker]
) -> None:
    worker = start_worker("-c", "1", dsn=cluster.dsn("nowhere"))
    assert worker.wait() == 1
    assert worker.output.count("\n") == 0 and 'database "nowhere" does not exist' in worker.output


def test_a_worker_waits_for_a_connection_slot(cluster: Cluster, dsn: str, start_worker: Callable[..., Worker]) -> None:
    held = [cluster.connect() for _ in range(97)]  # of 100, three of them kept for superusers
    with cluster.connect("shop") as conn:
        conn.execute("create role web login")
        conn.execute("grant all on schema pgqueue to web; grant all on all tables in schema pgqueue to web")
    worker = start_worker("-c", "1", dsn=cluster.dsn("shop", user="web"))
    worker.said("remaining connection slots")
    for conn in held:
        conn.close()
    worker.ready()
