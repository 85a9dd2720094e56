"""A worker or a command that cannot start says why in one line, without a password and without a traceback."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pgqueue import App
from pgqueue.worker.link.greeting import AppFacts, TaskFacts
from pgqueue.worker.settings import Settings
from pgqueue.worker.supervisor.preflight import advice
from tests.conftest import Worker
from tests.shell import Shell

SECRET = "hunter2-canary"
Run = Callable[..., str]


@pytest.fixture
def refused(dsn: str, tmp_path: Path, shell: Shell) -> Run:
    """Run a command that must fail with the exit code; its one line on standard error."""

    def run(*words: str, code: int, **environment: str) -> str:
        done = shell.text(*words, cwd=tmp_path, dsn=environment.pop("PGQUEUE_DSN", dsn), **environment)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        assert SECRET not in done.stdout + done.stderr and "Traceback" not in done.stderr
        return done.stderr.strip()

    return run


WORKER = ("worker", "-A", "tests.hostile_tasks", "-c", "1")


@pytest.mark.parametrize("words", [("jobs",), WORKER], ids=["jobs", "worker"])
@pytest.mark.parametrize(
    ("parts", "code", "told"),
    [
        pytest.param({"dbname": "nowhere"}, 1, 'database "nowhere" does not exist', id="b52-database"),
        pytest.param({"user": "nobody_here"}, 1, 'role "nobody_here" does not exist', id="b52-user"),
        pytest.param({"host": "127.0.0.1", "port": "1", "sslmode": "sometimes"}, 2, "sslmode", id="b52-sslmode"),
        pytest.param({"service": "nobody"}, 2, "service", id="b52-service"),
    ],
)
def test_a_wrong_dsn(
    refused: Run, dsn: str, words: tuple[str, ...], parts: dict[str, Any], code: int, told: str
) -> None:
    wrong = f"service=nobody password={SECRET}" if "service" in parts else make_conninfo(dsn, password=SECRET, **parts)
    line = refused(*words, code=code, PGQUEUE_DSN=wrong)
    assert line.startswith("pgqueue: ") and told in line and "\n" not in line


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        pytest.param({"host": "no-such-host.invalid"}, "cannot connect to", id="b52-host"),
        pytest.param({"host": "127.0.0.1", "port": "1"}, "Connection refused", id="b52-unreachable"),
    ],
)
def test_a_server_that_is_not_there(
    refused: Run, start_worker: Callable[..., Worker], dsn: str, parts: dict[str, Any], told: str
) -> None:
    wrong = make_conninfo(dsn, password=SECRET, **parts)
    line = refused("jobs", code=1, PGQUEUE_DSN=wrong)
    assert line.startswith("pgqueue: ") and told in line and "\n" not in line
    # A worker waits for it: workers and databases of one deployment start together.
    worker = start_worker("-c", "1", dsn=wrong)
    assert worker.said("starting: cannot connect to").endswith("trying again") and SECRET not in worker.output
    assert worker.stop() == 0


def test_b52_the_password_of_the_environment_and_of_a_service_file(refused: Run, tmp_path: Path) -> None:
    (tmp_path / "services").write_text(f"[shop]\nhost=127.0.0.1\nport=1\nuser=me\npassword={SECRET}\n")
    by_service = refused("jobs", code=1, PGQUEUE_DSN="service=shop", PGSERVICEFILE=str(tmp_path / "services"))
    by_variable = refused("jobs", code=1, PGQUEUE_DSN="host=127.0.0.1 port=1", PGPASSWORD=SECRET)
    assert all("Connection refused" in line and "\n" not in line for line in (by_service, by_variable))


@pytest.mark.parametrize("words", [("jobs",), ("stats", "--once"), ("defer", "t"), WORKER], ids=" ".join)
@pytest.mark.parametrize(
    ("edit", "told"),
    [
        pytest.param("insert into pgqueue.migration values (9999, 'x')", "upgrade pgqueue-jobs here", id="b53-newer"),
        pytest.param(
            "delete from pgqueue.migration; insert into pgqueue.migration values (-1, 'x')",
            "run `pgqueue migrate`", id="b53-older",
        ),
        pytest.param("drop schema pgqueue cascade", "run `pgqueue migrate`", id="b53-missing"),
    ],
)  # fmt: skip
def test_a_schema_that_does_not_fit(refused: Run, fresh_dsn: str, words: tuple[str, ...], edit: str, told: str) -> None:
    App(fresh_dsn).migrate()
    with psycopg.connect(fresh_dsn, autocommit=True) as conn:
        conn.execute(edit)
    line = refused(*words, code=1, PGQUEUE_DSN=fresh_dsn)
    assert line.startswith("pgqueue: ") and told in line and "\n" not in line


@pytest.mark.parametrize(
    ("options", "told"),
    [
        pytest.param(["-c", "0"], "Invalid value for", id="b54-no-children"),
        pytest.param(["-c", "10000"], "Invalid value for", id="b54-ten-thousand-children"),
        pytest.param(["--threads", "0"], "Invalid value for", id="b54-no-threads"),
        pytest.param(["--async", "0"], "Invalid value for", id="b54-no-async-jobs"),
        pytest.param(["-Q", ""], "-Q must not be empty", id="b54-no-queue"),
        pytest.param(["-Q", "a,,b"], "-Q must not be empty", id="b54-an-empty-queue"),
        pytest.param(["-Q", "x" * 129], "at most 128", id="b54-a-long-queue"),
        pytest.param(["-Q", "a\nb"], "control character", id="b54-a-newline"),
        pytest.param(["-Q", "a:0,b:1"], "a whole number from 1 to 1000", id="b54-a-weight-of-0"),
        pytest.param(["-Q", "a:5,b:1", "--strict"], "--strict or weights in -Q, not both", id="b54-strict-by-weight"),
    ],
)
def test_options_of_the_worker_that_cannot_work(refused: Run, options: list[str], told: str) -> None:
    assert told in refused("worker", "-A", "tests.hostile_tasks", *options, code=2)


def test_b54_what_is_probably_not_meant_is_warned_of(start_worker: Callable[..., Worker], tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.pgqueue]\npool_size = 4\n")
    worker = start_worker("-c", "1", "--threads", "8", "-Q", "default,mial", app="tests.hostile_tasks", cwd=tmp_path)
    worker.ready()
    assert "-Q mial: no task of tests.hostile_tasks belongs to this queue" in worker.said("mial: ")
    assert "set pool_size = 8" in worker.said("pool_size 4")
    assert not any("-Q default" in line for line in worker.lines)


def test_b54_the_figure_needed() -> None:
    facts = AppFacts(code="", dsn=None, config={"pool_size": 8}, tasks={"t": TaskFacts(False, None, "default")})
    settings = Settings(app="shop", concurrency=200)
    (line,) = advice(settings, facts, connections_allowed=97)
    assert line.startswith("-c 200: ") and "needs 203 connections and the server allows 97" in line
    assert list(advice(settings, facts, connections_allowed=203)) == []
