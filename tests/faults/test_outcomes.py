"""An answer of the database that is lost does not lose, double or disown what it was the answer to."""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from benchmarks.chaos.cluster import Cluster
from benchmarks.chaos.proxy import Proxy
from pgqueue.task import AnyTask
from tests import tasks
from tests.conftest import Worker, eventually

pytestmark = pytest.mark.usefixtures("task_app")


@pytest.mark.parametrize("task", [tasks.report, tasks.report_and_forget], ids=lambda task: str(task.name))
def test_a_finish_whose_answer_is_lost_was_a_finish(
    cluster: Cluster, proxy: Proxy, start_worker: Callable[..., Worker], conn: psycopg.Connection, tmp_path: Path,
    task: AnyTask,
) -> None:  # fmt: skip
    worker = start_worker("-c", "1", dsn=cluster.dsn("shop", port=proxy.port)).ready()
    job = task.defer(str(tmp_path / "go"))
    eventually(lambda: job.snapshot().progress, what="it runs")
    # The text was prepared before; it is told by the results that it carries.
    proxy.request = lambda data: proxy.lose("replies") if b'{"\\"done\\""}' in data or b"{NULL}" in data else None
    (tmp_path / "go").touch()
    recorded = "select not exists (select from pgqueue.job)"
    eventually(lambda: conn.execute(recorded).fetchone() == (True,), what="it is recorded")
    proxy.heal()
    assert tasks.echo.defer(1).result(30) == 1
    assert worker.stop() == 0
    assert "lease lost" not in worker.output
    assert conn.execute("select sum(succeeded), sum(failed) from pgqueue.throughput").fetchone() == (2, 0)
