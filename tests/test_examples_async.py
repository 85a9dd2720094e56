"""The examples on FastAPI and on plain asyncpg run as they are written, each with a real worker."""

import os
import subprocess
import sys
from collections.abc import Callable

import psycopg
import pytest

from tests.addresses import url
from tests.conftest import PATIENCE_S, Worker
from tests.shell import ROOT

Start = Callable[..., Worker]
Run = Callable[..., str]


@pytest.fixture
def run(dsn: str) -> Run:
    """Run Python at the root of the repository; its output."""

    def run(*words: str, address: str) -> str:
        environment = {name: value for name, value in os.environ.items() if name != "PGQUEUE_DSN"}
        done = subprocess.run(
            [sys.executable, *words], cwd=ROOT, env={**environment, "DATABASE_URL": address, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=2 * PATIENCE_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout

    return run


def count(conn: psycopg.Connection, what: str) -> int:
    ((number,),) = conn.execute(f"select count(*) from {what}").fetchall()
    return int(number)


def test_the_tests_of_the_web_shop_pass(dsn: str, conn: psycopg.Connection, run: Run) -> None:
    conn.execute("drop table if exists shop_order, shop_stock")
    # Of its own settings: ours make an error of Starlette's wish for httpx2.
    said = run(
        "-m", "pytest", "-q", "-c", os.devnull, "-p", "no:cacheprovider", "examples/fastapi_app", address=url(dsn)
    )
    assert "3 passed" in said
    assert count(conn, "pgqueue.jobs where state = 'succeeded'") == count(conn, "pgqueue.jobs") == 1


def test_a_row_of_asyncpg_and_its_job(dsn: str, conn: psycopg.Connection, run: Run, start_worker: Start) -> None:
    conn.execute("drop table if exists receipt")
    address = url(dsn, "postgresql")
    worker = start_worker("-c", "1", app="examples.asyncpg_app.shop", env={"DATABASE_URL": address}).ready()
    said = run("-m", "examples.asyncpg_app.place", "a@b.c", "d@e.f", address=address)
    assert said.splitlines() == ["sent to a@b.c", "sent to d@e.f"]
    assert count(conn, "receipt where sent_at is not null") == count(conn, "pgqueue.jobs") == 2
    assert worker.stop() == 0, worker.output
