"""A real PostgreSQL for every test: the embedded one, or the server that PGQUEUE_TEST_DSN names.

Each test process makes a database of its own and empties its tables between tests.
"""

import compileall
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pgqueue import App, embedded
from pgqueue.queries import Queries
from tests import prepared
from tests.shell import ROOT, Shell

PATIENCE_S = 60.0  # for an event that comes in a fraction of a second on a quiet machine

TABLES = (
    "job, history, attempt, worker, queue, throughput, awaited, audit, "
    "event, tick, subscription, place, event_reader, notice, webhook, schedule, fired, declared, gate, pace, period, breaker"
)
FILLED = """
select part.oid::regclass::text
from pg_class as part, pg_class as whole
where whole.relnamespace = 'pgqueue'::regnamespace and whole.relname = any (%s)
  and part.oid in (select relid from pg_partition_tree(whole.oid) where isleaf union all select whole.oid)
  and part.relkind = 'r' and pg_relation_size(part.oid) > 0
"""


def eventually(condition: Callable[[], Any], *, what: str, within_s: float = PATIENCE_S) -> Any:
    """Wait for a condition, not for a time; its value, once true. Fails by name when it never comes."""
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.005)
    return value


def pytest_configure(config: pytest.Config) -> None:
    """Compile our modules once, where Python is told to keep nothing (a usual setting of containers).

    The tests start hundreds of processes, and each would compile all that it imports: half of the time that it runs.
    """
    if sys.dont_write_bytecode and not hasattr(config, "workerinput"):
        for folder in "pgqueue", "tests", "examples", "benchmarks":
            compileall.compile_dir(ROOT / folder, quiet=2, rx=re.compile(r"/\."))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Keep what pytest makes of the test files too; but not modules that tests write, of which two may be of one second."""
    told, sys.dont_write_bytecode = sys.dont_write_bytecode, False
    try:
        return (yield)
    finally:
        sys.dont_write_bytecode = told


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest test first: nobody is to wait for it alone in the end."""
    items.sort(key=lambda item: item.path.name != "test_model.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Of `-n auto`: most tests wait for others most of the time. More than eight would be too many for one server."""
    cores = os.cpu_count() or 1
    return max(cores, min(2 * cores, 8))


@pytest.fixture(scope="session", autouse=True)
def heeded_signals() -> None:
    """Under nohup, or in the background of a shell, every process we start would ignore what we send it.

    A handler is not inherited as being ignored is; so we stay deaf, as whoever started us wants it, and they are not.
    """
    for number in signal.SIGINT, signal.SIGHUP:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@pytest.fixture(scope="session")
def shell() -> Iterator[Shell]:
    """Where commands are typed."""
    opened = Shell()
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def server_dsn() -> str:
    """A server on which databases may be made."""
    given = os.environ.get("PGQUEUE_TEST_DSN")
    return given or embedded.ensure(data_dir=Path(tempfile.gettempdir()) / f"pgqueue-tests-{os.getuid()}", fsync=False)


@pytest.fixture(scope="session")
def database(server_dsn: str) -> Iterator[str]:
    """This process's own migrated database, as a DSN."""
    name = f"pgqueue_test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_dsn, autocommit=True) as admin:
        admin.execute(f"create database {name}")
        dsn = make_conninfo(server_dsn, dbname=name)
        App(dsn).migrate()
        yield dsn
        admin.execute(f"drop database {name} with (force)")


@pytest.fixture
def shared_dsn(database: str) -> str:
    """The database with empty tables."""
    with psycopg.connect(database, autocommit=True) as conn:
        filled = [name for (name,) in conn.execute(FILLED, [TABLES.split(", ")])]
        if filled:  # most are empty, and to truncate all that there are takes 40 ms
            conn.execute(f"truncate {', '.join(filled)} cascade")
        conn.execute("drop schema if exists shop cascade")
    return database


@pytest.fixture
def dsn(shared_dsn: str) -> str:
    """The database with empty tables, unless a folder or module has another one."""
    return shared_dsn


@pytest.fixture
def fresh_dsn(server_dsn: str) -> Iterator[str]:
    """A database of this test's own, without pgqueue's tables."""
    name = f"pgqueue_fresh_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_dsn, autocommit=True) as admin:
        admin.execute(f"create database {name}")
        yield make_conninfo(server_dsn, dbname=name)
        admin.execute(f"drop database {name} with (force)")


@pytest.fixture
def conn(dsn: str) -> Iterator[psycopg.Connection]:
    """An autocommit connection to look at tables with."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
def app(dsn: str) -> Iterator[App]:
    """An App on the test database, with the tasks of tests/tasks.py callable through `enqueue`."""
    made = App(dsn)
    yield made
    made.close()


@pytest.fixture
def queries(app: App) -> Queries:
    """The statements for the test schema."""
    return app.queries


def alive(pid: int) -> bool:
    """Whether the process runs, or is stopped; a zombie is dead."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # the latter if it ends while it is read
        return False
    return state != "Z"


class Worker:
    """A real `pgqueue worker` process."""

    def __init__(
        self,
        dsn: str,
        *options: str,
        app: str = "tests.tasks",
        cwd: Path = ROOT,
        env: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        program: str = "pgqueue",
        command: Sequence[str] | None = None,
    ) -> None:
        self.dsn = dsn
        self.lines: list[str] = []
        self._changed = threading.Condition()
        start = prepared.launch if command or prefix or program != "pgqueue" else prepared.start
        self.process = start(
            [*(command or [*prefix, sys.executable, "-m", program, "worker", "-A", app]), *options],
            env={**os.environ, "PGQUEUE_DSN": dsn, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT), **(env or {})},
            cwd=cwd,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as out:
            for line in out:
                with self._changed:
                    self.lines.append(line.rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def said(self, text: str, *, within_s: float = PATIENCE_S) -> str:
        """Wait for a line that contains the text."""
        with self._changed:
            found = self._changed.wait_for(
                lambda: next((line for line in self.lines if text in line), None) or not self._reader.is_alive(),
                within_s,
            )
        assert isinstance(found, str), f"the worker never said {text!r}:\n{self.output}"
        return found

    def ready(self) -> "Worker":
        self.said("is ready")
        return self

    def children(self) -> list[int]:
        """The process ids of its children."""
        out = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True
        ).stdout
        return [int(pid) for pid in out.split()]

    def wait(self, within_s: float = PATIENCE_S) -> int:
        code = self.process.wait(within_s)
        self._reader.join(5)
        return code

    def stop(self) -> int:
        """Ask it to stop and wait for its end."""
        self.process.terminate()
        return self.wait()


@pytest.fixture
def task_app(dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    """The App of tests/tasks.py, so that `task.defer` goes to the test database."""
    from tests import tasks

    monkeypatch.setenv("PGQUEUE_DSN", dsn)
    shared = tasks.echo.app
    shared.close()
    shared._database.forget()
    yield shared
    shared.close()
    shared._database.forget()


@pytest.fixture
def start_worker(dsn: str) -> Iterator[Callable[..., Worker]]:
    """Start workers; those still running at the end are killed with their children."""
    started: list[Worker] = []

    def start(*options: str, **settings: Any) -> Worker:
        worker = Worker(settings.pop("dsn", dsn), *options, **settings)
        started.append(worker)
        return worker

    yield start
    for worker in started:
        worker.process.kill()
        worker.wait()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what the fault tests measured, row by row."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    figures = [
        f"{report.nodeid.rpartition('::')[2]}: {text} [{report.duration:.1f} s]"
        for report in reports
        if report.when == "call"
        for name, text in report.user_properties
        if name == "figure"
    ]
    if figures:
        terminalreporter.section("faults")
        for line in sorted(figures):
            terminalreporter.line(line)
