"""More work than ever, all at once, and a schema that changes while jobs flow."""

import time
from collections.abc import Callable
from statistics import quantiles

import psycopg
import pytest

from pgqueue import App
from tests import tasks
from tests.conftest import Worker, eventually
from tests.faults.conftest import Figure
from tests.hands import Hands

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("task_app")]

BACKLOG = 1_000_000


def claim_p95_ms(hands: Hands) -> float:
    """Of claims of ten jobs, each of which are finished."""
    times = []
    for _ in range(200):
        began = time.perf_counter()
        jobs = hands.claim(10)
        times.append((time.perf_counter() - began) * 1e3)
        assert len(jobs) == 10
        hands.finish(jobs)
    return quantiles(times, n=20)[-1]


def peak_mb(pid: int) -> float:
    with open(f"/proc/{pid}/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def test_f59_a_million_jobs_at_once(
    start_worker: Callable[..., Worker], app: App, conn: psycopg.Connection, figure: Figure
) -> None:
    def ended() -> int:
        return int(conn.execute("select count(*) from pgqueue.history").fetchone()[0])  # type: ignore[index]

    hands = Hands(conn, app.queries)
    tasks.echo.defer_many((n,) for n in range(2000))
    nearly_empty_ms = claim_p95_ms(hands)
    tasks.echo.defer_many((n,) for n in range(BACKLOG))
    conn.execute("vacuum (analyze) pgqueue.job")
    figure("claim at p95 against a nearly empty queue", claim_p95_ms(hands) / nearly_empty_ms, "x", at_most=2)
    worker = start_worker("-c", "2").ready()
    eventually(lambda: ended() > 20_000, what="it has found its pace")
    before_mb = peak_mb(worker.process.pid)
    eventually(lambda: ended() > 120_000, what="much more has run")
    figure("growth of the worker", peak_mb(worker.process.pid) - before_mb, "MB", at_most=20)
    assert worker.stop() == 0
    kept = "select (select count(*) from pgqueue.job where state = 'queued') + (select count(*) from pgqueue.history)"
    assert conn.execute(kept).fetchone() == (BACKLOG + 2000,)
