"""An answer of the database that is lost does not lose, double or disown what it was the answer to."""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from benchmarks.chaos.cluster import Cluster
from benchmarks.chaos.proxy import Proxy
from tests import tasks
from tests.conftest import Worker, eventually

pytestmark = pytest.mark.usefixtures("task_app")


def test_a_finish_whose_answer_is_lost_was_a_finish(
    cluster: Cluster, proxy: Proxy, start_worker: Callable[..., Worker], conn: psycopg.Connection, tmp_path: Path
) -> None:
    worker = start_worker("-c", "1", dsn=cluster.dsn("shop", port=proxy.port)).ready()
    job = tasks.report.defer(str(tmp_path / "go"))
    eventually(lambda: job.snapshot().progress, what="it runs")
    proxy.request = lambda data: proxy.lose("replies") if b"with done as" in data else None
    (tmp_path / "go").touch()
    eventually(lambda: job.state == "succeeded", what="it is recorded")
    proxy.heal()
    assert tasks.echo.defer(1).result(30) == 1
    assert worker.stop() == 0
    assert "lease lost" not in worker.output
    assert conn.execute("select sum(succeeded), sum(failed) from pgqueue.throughput").fetchone() == (2, 0)
