"""What strangers may try who can connect, insert rows, set search paths or plant files: nothing of it runs or stops anything."""

import ast
import base64
import os
import pickle
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import pgqueue
from pgqueue import App, ConfigError, JobDead, PgQueueError, embedded
from pgqueue.cli import cli
from pgqueue.cli.options import served_queues
from pgqueue.embedded.locks import make_private, try_lock
from pgqueue.errors import EmbeddedError
from tests import hostile_tasks as tasks
from tests.conftest import Worker, eventually
from tests.hands import Hands
from tests.shell import ROOT

Start = Callable[..., Worker]
PACKAGE = Path(pgqueue.__file__).parent


@pytest.fixture
def start(start_worker: Start) -> Start:
    """A worker that knows the hostile tasks."""
    return lambda *options, **settings: start_worker(*options, **{"app": "tests.hostile_tasks", **settings})


# -- S8 to S10: data stays data --

FORBIDDEN = {"pickle", "cPickle", "marshal", "dill", "cloudpickle", "shelve", "yaml", "jsonpickle", "joblib"}


def test_s8_no_module_unpickles_or_evaluates() -> None:
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if {name.split(".")[0] for name in names} & FORBIDDEN:
                found.append(f"{path.name} imports {names}")
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in ("eval", "exec", "__import__")
            ):
                found.append(f"{path.name} calls {node.func.id}")
    # A signature's empty twin, made of names that Python itself has checked: as collections.namedtuple does.
    assert found == ["calls.py calls eval"]


NO_PICKLE = """
import multiprocessing.reduction, os, pickle, sys

def forbidden(*args, **kwargs):
    os.write(2, b"somebody pickles\\n")
    os._exit(99)

for name in ("load", "loads", "dump", "dumps", "Pickler", "Unpickler", "_load", "_loads", "_dump", "_dumps"):
    setattr(pickle, name, forbidden)
"""
APP = """
from pgqueue import App
app = App()

@app.task(name="shop.echo", max_attempts=1)
def echo(value):
    return value

@app.task(name="shop.fail", max_attempts=1)
def fail(value):
    raise ValueError(value)
"""


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.marker),))


def test_s8_nothing_is_pickled_and_planted_pickles_are_inert(app: App, dsn: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(NO_PICKLE + APP)
    planted = pickle.dumps(Trap(tmp_path / "sprung"), protocol=0).decode("ascii")
    values = [
        planted,
        base64.b64encode(planted.encode()).decode(),
        {"__reduce__": ["os.mkdir", ["sprung"]]},
        {"py/object": "os"},
    ]
    jobs = [app.enqueue("shop.echo", [value]) for value in values]
    jobs += [app.enqueue("shop.fail", [value]) for value in values]
    run = (
        NO_PICKLE
        + "from pgqueue.cli import main\nsys.argv = ['pgqueue', 'worker', '-A', 'shop', '-c', '1', '--burst']\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", run], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PGQUEUE_DSN": dsn, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0 and "somebody pickles" not in done.stderr, done.stderr
    assert [job.result(30) for job in jobs[:4]] == values
    assert all(job.state == "dead" for job in jobs[4:]) and not (tmp_path / "sprung").exists()


NAMES = [
    "os.system", "builtins.eval", "__import__", "../x", "/bin/sh", "subprocess.Popen", "tests.hostile_tasks:swallow",
    "tests.hostile_tasks.swallow", "tests.hostile_tasks.echo.function", "antigravity.fly", "this", "turtle.Turtle",
    "tests.hostile_tasks.echo\0"[:-1] + " ", "TESTS.HOSTILE_TASKS.ECHO", "__class__", "tasks", "clear", "pop",
]  # fmt: skip


def test_s9_only_registered_tasks_run_and_nothing_is_imported(
    start: Start, conn: psycopg.Connection, task_app: App
) -> None:
    worker = start("-c", "1").ready()
    before = tasks.modules.defer().result(30)
    for name in NAMES:
        conn.execute(
            "insert into pgqueue.job (id, task, args) values (gen_random_uuid(), %s, '[\"touch owned\"]')", [name]
        )
    tasks.echo.defer(1).result(30)
    eventually(lambda: sum("no task named" in line for line in worker.lines) == len(NAMES), what="all were looked at")
    eventually(lambda: len(task_app.jobs(state="queued")) == len(NAMES), what="all are left for others")
    assert tasks.modules.defer().result(30) == before
    assert not {"antigravity", "this", "turtle"} & set(before)


def test_s10_stored_names_of_exceptions_are_text(app: App, conn: psycopg.Connection) -> None:
    hands = Hands(conn, app.queries)
    job = app.enqueue("t")
    hands.settle(hands.claim()[0], "dead", "os.system: touch owned")
    with pytest.raises(JobDead) as dead:
        job.result(30)
    assert type(dead.value) is JobDead and dead.value.error == "os.system: touch owned"
    assert dead.value.__cause__ is None
    assert job.retry()
    hands.run_all('{"__class__": "os.system", "exc_type": "os.system", "exc_module": "os"}')
    assert job.result(30) == {"__class__": "os.system", "exc_type": "os.system", "exc_module": "os"}


# -- S11, S20: SQL --


def test_s11_every_value_is_a_parameter(
    dsn: str, app: App, conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    for cursor, method in ((psycopg.Cursor, "execute"), (psycopg.Cursor, "copy"), (psycopg.Cursor, "executemany")):
        original = getattr(cursor, method)

        def spy(self: Any, query: Any, *rest: Any, original: Any = original, **options: Any) -> Any:
            sent.append(query.decode() if isinstance(query, bytes) else str(query))
            return original(self, query, *rest, **options)

        monkeypatch.setattr(cursor, method, spy)
    monkeypatch.setenv("PGQUEUE_DSN", dsn)
    runner = CliRunner()
    for name in ("'; drop table pgqueue.job; --canary", '"canary', "$1canary%s{schema}%(id)s", "canary\\'", "/*canary"):
        for words in (
            ["defer", name, "--args", f'["{name[:1]}canary"]', "--queue", name, "--unique", name],
            ["jobs", "--queue", name], ["jobs", "--task", name], ["pause", name], ["resume", name], ["show", name],
            ["cancel", name], ["retry", name], ["purge", "--state", "dead", "--queue", name, "--task", name, "--yes"],
            ["retry", "--dead", "--queue", name, "--task", name], ["jobs", "--state", name], ["stats", "--once"], ["workers"],
        ):  # fmt: skip
            runner.invoke(cli, words)
        app.enqueue(
            name, [name], {"canary": name}, queue=name, unique=name, on_duplicate="replace", headers={name: name}
        )
        app.task(name=f"task {name}")(lambda a: a).options(queue=name).defer_many([(name,), ("canary",)])
        (job, *_) = app.jobs(queue=name)
        app.cancel(job.id, reason=name)
        for job_id in (name, f"{job.id}{name}"):
            with pytest.raises(PgQueueError):
                app.job(job_id).cancel()
    assert len(sent) > 100 and [text for text in sent if "canary" in text] == []
    assert conn.execute("select count(*) from pgqueue.jobs where queue like '%canary%'").fetchone() == (15,)


def test_s11_identifiers_are_our_own() -> None:
    # What is filled into a statement's text is the schema, a channel, names of states, of tables or
    # of columns, a name made of table names and dates or of a test's database, or a number of ours.
    places = {place for file in (PACKAGE / "sql").rglob("*.sql") for place in re.findall(r"{(\w+)}", file.read_text())}
    assert places == {
        "schema", "channel", "results_channel", "source", "on_conflict", "period", "calm", "version", "name", "works_with",
        "jobs", "poked", "events_channel", "window", "wanted", "owner",
        "producer", "worker", "reader", "admin", "live", "states", "table", "finished_at", "template",
        "gates", "gates_given", "begins", "freed", "rung",
        # Of triggers: quoted by the server, or the SQL that their maker gave.
        "trigger", "declared_at", "table_name", "keys", "spec", "state", "prefix", "function", "body", "skip", "write", "task",
        "queue", "priority", "timeout_s", "expires_s", "headers", "op", "said", "rows", "sample", "condition", "type",
        "key", "their_channel", "event", "referencing", "changed", "when", "ring",
    }  # fmt: skip


EVIL_PATH = """
create schema evil;
create table evil.log (what text);
create function evil.now() returns timestamptz language plpgsql as $$ begin raise 'hijacked'; end $$;
create function evil.pg_notify(text, text) returns void language plpgsql as $$ begin raise 'hijacked'; end $$;
create function evil.pg_backend_pid() returns integer language plpgsql as $$ begin raise 'hijacked'; end $$;
create function evil.set_config(text, text, boolean) returns text language plpgsql as $$ begin raise 'hijacked'; end $$;
create function evil.current_setting(text) returns text language plpgsql as $$ begin raise 'hijacked'; end $$;
create function evil.unnest(text[]) returns setof text language plpgsql as $$ begin raise 'hijacked'; end $$;
create function evil.nextval(regclass) returns bigint language plpgsql as $$ begin raise 'hijacked'; end $$;
create function evil.pg_try_advisory_lock(integer, integer) returns boolean language plpgsql as $$ begin raise 'hijacked'; end $$;
create function evil.uuid_is(uuid, uuid) returns boolean language plpgsql as $$ begin raise 'hijacked'; end $$;
create operator evil.= (leftarg = uuid, rightarg = uuid, function = evil.uuid_is);
create function evil.text_is(text, text) returns boolean language plpgsql as $$ begin raise 'hijacked'; end $$;
create operator evil.= (leftarg = text, rightarg = text, function = evil.text_is);
create table evil.job (mine int);
create table evil.history (mine int);
create type evil.job_state as enum ('mine');
"""


@pytest.fixture
def own_dsn(fresh_dsn: str) -> str:
    """A migrated database of this test's own, whose settings it may change."""
    App(fresh_dsn).migrate()
    return fresh_dsn


def set_path(dsn: str, path: str) -> None:
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute(f"alter database {name} set search_path = {path}")


def test_s20_a_search_path_set_by_others_finds_nothing_of_ours(own_dsn: str, start: Start) -> None:
    with psycopg.connect(own_dsn, autocommit=True) as admin:
        admin.execute(EVIL_PATH)
    set_path(own_dsn, "evil, pg_catalog")
    with (
        psycopg.connect(own_dsn, autocommit=True) as victim,
        pytest.raises(psycopg.errors.RaiseException, match="hijacked"),
    ):
        victim.execute("select now()")
    app = App(own_dsn)
    worker = start("-c", "2", dsn=own_dsn).ready()
    name = "tests.hostile_tasks.now_in_the_database"
    jobs = [app.enqueue(name), app.enqueue(name, unique="a"), app.enqueue(name, delay=0.2, queue="other")]
    assert [job.result(60) for job in jobs] == ["done"] * 3
    assert app.enqueue("nobody").cancel() and jobs[0].retry()
    assert len(app.jobs()) == 4 and app.purge(state="cancelled") == 1
    assert app.run(pgqueue.ops.stats.gather(app.queries)).ever_used and app.migrate() == []
    assert worker.stop() == 0 and "hijacked" not in worker.output
    app.close()


def test_s20_a_task_sees_the_search_path_of_its_database(own_dsn: str, start: Start) -> None:
    with psycopg.connect(own_dsn, autocommit=True) as admin:
        admin.execute(
            "create schema shop; create table shop.belongings (value int); insert into shop.belongings values (7)"
        )
    set_path(own_dsn, "shop, public")
    start("-c", "1", dsn=own_dsn).ready()
    app = App(own_dsn)
    assert app.enqueue("tests.hostile_tasks.read_their_table").result(60) == 7
    app.close()


# -- S21, S29, S31, S33, S36 --


def rss_mb(pid: int, field: str = "VmRSS") -> float:
    """Resident memory of a process, or its peak (VmHWM), in MB."""
    (size_kb,) = re.findall(rf"{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(size_kb) / 1024


@pytest.mark.long
def test_s21_oversized_everything_does_not_swell_the_worker(
    start: Start, conn: psycopg.Connection, task_app: App
) -> None:
    worker = start("-c", "2").ready()
    [job.result(60) for job in tasks.echo.defer_many([(n,) for n in range(200)])]
    before_mb = rss_mb(worker.process.pid)
    failing = [tasks.fail_with.defer("huge message") for _ in range(2)]
    failing += [tasks.return_.defer("too large"), tasks.log_and_raise.defer("x" * 900_000)]
    large = tasks.echo.defer_many([("x" * 900_000,) for _ in range(60)])
    conn.execute("insert into pgqueue.job (id, task) values (gen_random_uuid(), repeat('x', 1000000))")
    conn.execute("insert into pgqueue.job (id, task, queue) values (gen_random_uuid(), 'nobody', repeat('q', 2000))")
    for job in large:
        assert len(job.result(120)) == 900_000
    for job in failing:
        with pytest.raises(JobDead):
            job.result(120)
    worker.said("no task named 'xxx")
    assert rss_mb(worker.process.pid, "VmHWM") - before_mb < 50
    assert len(worker.output) < 300_000
    longest = conn.execute("select max(length(error)), max(length(traceback)) from pgqueue.attempt").fetchone()
    assert longest is not None and max(longest) < 65_000
    assert worker.stop() == 0


def test_s29_files_of_the_embedded_server_are_private(tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    for parent in tmp_path.parents:
        if parent.stat().st_mode & 0o1 == 0:
            parent.chmod(parent.stat().st_mode | 0o1)  # the account that root drops to must reach it
    home = tmp_path / "home"
    embedded.ensure(data_dir=home, fsync=False)
    try:
        sockets = Path(embedded.status(data_dir=home).dsn.split("host=")[1].split()[0])
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [*home.glob("pg*/*"), sockets]}
        folders = {name: mode for name, mode in modes.items() if name == "data" or name == sockets.name}
        files = {name: mode for name, mode in modes.items() if name not in folders}
        assert folders == dict.fromkeys(folders, 0o700) and len(folders) == 2
        assert files == dict.fromkeys(("start.lock", "run.lock", "watch.lock", "used", "postgres.log"), 0o600)
    finally:
        embedded.stop(data_dir=home)


@pytest.mark.parametrize("name", ["postgres.log", "run.lock"])
def test_s29_no_planted_link_is_followed(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / name).symlink_to(victim)
    with pytest.raises(EmbeddedError, match="is a symbolic link, which is not ours: remove it"):
        make_private(tmp_path / name)
    with pytest.raises(OSError, match="symbolic link"):
        try_lock(tmp_path / name)
    assert victim.read_text() == "precious" and stat.S_IMODE(victim.stat().st_mode) != 0o600


def test_s31_a_worker_runs_as_whoever_starts_it_without_a_word(start: Start, task_app: App) -> None:
    worker = start("-c", "1").ready()
    assert tasks.echo.defer(1).result(30) == 1
    owners = {Path(f"/proc/{pid}").stat().st_uid for pid in (worker.process.pid, *worker.children())}
    assert owners == {os.geteuid()}
    assert worker.stop() == 0
    assert "root" not in worker.output and not any("WARNING" in line for line in worker.lines)


def test_s33_after_a_purge_nothing_of_a_job_is_left(
    start: Start, conn: psycopg.Connection, task_app: App, dsn: str
) -> None:
    canary = "canary-0815"
    worker = start("-c", "1").ready()
    done, failing = tasks.echo.defer(canary), tasks.log_and_raise.options(headers={"h": canary}).defer(canary)
    tasks.echo.options(delay=3600).defer(canary)
    done.result(30)
    with pytest.raises(JobDead):
        failing.result(30)
    assert worker.stop() == 0

    def traces() -> list[str]:
        tables = conn.execute(
            "select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace"
            " where n.nspname = 'pgqueue' and c.relkind = 'r'"
        ).fetchall()
        found = "select count(*) from {table} as t where t::text like %s"
        return [
            table for (table,) in tables if conn.execute(found.format(table=table), [f"%{canary}%"]).fetchone() != (0,)
        ]

    assert len(traces()) == 4  # job, succeeded, ended, attempt
    for state in ("succeeded", "dead", "scheduled"):
        assert task_app.purge(state=state) == 1
    assert traces() == []


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=200))
def test_s36_whatever_a_filter_says_it_is_an_answer_or_one_line(app: App, text: str) -> None:
    for call in (
        lambda: served_queues(text), lambda: app.find(text), lambda: app.jobs(queue=text), lambda: app.jobs(task=text),
        lambda: app.jobs(state=text), lambda: app.cancel(text), lambda: app.retry(text), lambda: app.resume(text),
        lambda: App(schema=text).config, lambda: App(text).config, lambda: app.enqueue(text, queue=text, unique=text),
    ):  # fmt: skip
        try:
            call()
        except PgQueueError as error:
            assert len(str(error)) < 1_000
            assert isinstance(error, ConfigError) is isinstance(error, ValueError | ConfigError)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    words=st.lists(st.text(max_size=30), max_size=4),
    command=st.sampled_from(["jobs", "show", "defer", "retry", "purge"]),
)
def test_s36_no_words_make_a_traceback(
    dsn: str, monkeypatch: pytest.MonkeyPatch, words: list[str], command: str
) -> None:
    monkeypatch.setenv("PGQUEUE_DSN", dsn)
    done = CliRunner().invoke(cli, [command, *words])
    assert done.exception is None or isinstance(done.exception, SystemExit | PgQueueError), done.exception
