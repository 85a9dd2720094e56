"""`pgqueue doctor` and `health`: each finding, there when its cause is there and gone when it is mended."""

import asyncio
import json
import socket
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from pgqueue import App, db
from pgqueue.ops import doctor
from pgqueue.worker.settings import CRASH_CAP, GRACE_S
from pgqueue.worker.supervisor.identity import Identity
from pgqueue.worker.supervisor.maintenance import GIVES_WAY, Maintenance
from pgqueue.worker.supervisor.wakeups import Wakeups
from tests.answers import one_value
from tests.conftest import Worker
from tests.hands import Hands
from tests.shell import Shell

Findings = Callable[[], str]


@pytest.fixture
def worker(conn: psycopg.Connection, app: App) -> Hands:
    hands = Hands(conn, app.queries)
    conn.execute("update pgqueue.worker set tasks = '{t}'")
    return hands


@pytest.fixture
def findings(conn: psycopg.Connection, app: App) -> Findings:
    """What the doctor says, as text."""

    def look(**wire: Any) -> str:
        found = db.run(conn, doctor.examine(app.queries, app.config, wire=db.wire(conn)._replace(**wire)))
        return "\n".join(f"{'PROBLEM' if problem else 'note'}: {what}: {cure}" for problem, what, cure in found)

    return look


def mend(conn: psycopg.Connection, app: App) -> list[str]:
    with conn.transaction():
        done: list[str] = db.run(conn, doctor.mend(app.queries, app.config, crash_cap=CRASH_CAP, grace_s=GRACE_S))
    return done


def test_no_worker(findings: Findings, app: App, conn: psycopg.Connection) -> None:
    assert "PROBLEM: no worker is alive" in findings()
    Hands(conn, app.queries)
    assert "no worker is alive" not in findings()


def test_an_old_snapshot_is_named_with_its_session(
    findings: Findings, dsn: str, monkeypatch: pytest.MonkeyPatch, worker: Hands
) -> None:
    monkeypatch.setattr(doctor, "OLD_S", 0.0)
    with psycopg.connect(dsn, application_name="reporting") as other:
        other.execute("set transaction isolation level repeatable read")
        other.execute("select count(*) from pgqueue.job")
        found = findings()
        assert f"session {other.info.backend_pid} of" in found and "reporting" in found
        assert f"select pg_terminate_backend({other.info.backend_pid})" in found
    assert "reporting" not in findings()


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("synchronous_commit", "off", "PROBLEM: synchronous_commit is off"),
        ("statement_timeout", "4s", "note: statement_timeout is 4 s"),
        ("lock_timeout", "200ms", "note: lock_timeout is 0.2 s"),
        ("idle_in_transaction_session_timeout", "3s", "note: idle_in_transaction_session_timeout is 3 s"),
        ("idle_session_timeout", "2s", "note: idle_session_timeout is 2 s"),
    ],
)
def test_a_setting(findings: Findings, conn: psycopg.Connection, setting: str, value: str, said: str) -> None:
    assert said not in findings()
    conn.execute("reset statement_timeout")
    conn.execute(f"set {setting} = '{value}'")
    assert said in findings()


def test_a_pooler(findings: Callable[..., str]) -> None:
    assert "pooler" not in findings()
    assert "note: a connection pooler sits in front of the database" in findings(backend_pid=1)


@pytest.mark.parametrize(
    ("host", "sslmode", "encrypted", "said"),
    [
        ("/run/postgresql", "prefer", False, None),
        ("127.0.0.1", "prefer", False, None),
        ("::1", "disable", False, None),
        ("10.0.0.7", "disable", False, "note: the connection to 10.0.0.7 is not encrypted"),
        ("db.example", "prefer", False, "note: the connection to db.example is not encrypted"),
        ("db.example", "require", True, "note: sslmode=require does not check who answers as db.example"),
        ("db.example", "prefer", True, "note: sslmode=prefer does not check who answers as db.example"),
        ("db.example", "verify-ca", True, None),
        ("db.example", "verify-full", True, None),
    ],
)
def test_s19_the_way_to_the_server(
    findings: Callable[..., str], host: str, sslmode: str, encrypted: bool, said: str | None
) -> None:
    found = findings(host=host, sslmode=sslmode, encrypted=encrypted)
    assert said in found if said else "sslmode" not in found


def test_a_queue_and_a_task_that_nobody_takes(findings: Findings, app: App, conn: psycopg.Connection) -> None:
    Hands(conn, app.queries, queues=["mail"])
    conn.execute("update pgqueue.worker set tasks = '{t}'")
    app.enqueue("t", queue="mail")
    assert "nobody" not in findings() and "no live worker" not in findings()
    app.enqueue("t", queue="web")
    app.enqueue("new", queue="mail")
    found = findings()
    assert "PROBLEM: no live worker serves queue web with 1 jobs" in found
    assert "PROBLEM: no live worker knows task new, of which 1 jobs are waiting" in found
    app.pause("mail")
    assert "note: queue mail is paused with 2 jobs: `pgqueue resume mail`" in findings()


def test_gates_at_which_jobs_wait_in_vain(
    findings: Findings, app: App, worker: Hands, conn: psycopg.Connection
) -> None:
    for key in ("tenant=a", "tenant=b", "crm=a", "crm=a", "crm=b", "crm=c", "task:t", "late=a"):
        app.enqueue("unknown", key=key) if "=" in key else app.enqueue("unknown")
    conn.execute("update pgqueue.job set state = 'waiting', gates = '{task:t}', gate = 1 where gates is null")
    conn.execute(
        "insert into pgqueue.gate (name, slots, source) values ('crm', 3, 'code'), ('crm=a', 0, 'person'), ('late', 1, 'code'), "
        "('task:t', 0, 'code')"
    )
    app.pause("late=a")
    app.pause("crm=b")
    conn.execute(
        "update pgqueue.gate set closed_at = now() - interval '3 hours', closed_by = 'ann' where name = 'late=a'"
    )
    found = findings()
    assert (
        "PROBLEM: no worker has declared the limit tenant, and 2 jobs wait there: start one whose code has it, or "
        "`pgqueue limit tenant N`" in found
    )
    assert "note: the limit crm=a is 0, and 2 jobs wait there: `pgqueue limit crm=a N`" in found
    assert "note: the limit task:t is 0, and 1 jobs wait there" in found
    assert (
        "note: the gate late=a has been closed by ann for 3 h, and 1 jobs wait there: `pgqueue resume late=a`" in found
    )
    for fine in ("crm=b", "crm=c", "limit crm is"):
        assert fine not in found
    app.limit("tenant", 1)
    app.limit("crm=a", 1)
    app.limit("task:t", 1)
    app.resume("late=a")
    found = findings()
    assert "wait there" not in found


@pytest.mark.parametrize("how", ["its lease ran out", "it is unknown"])
def test_jobs_of_workers_that_are_gone_are_given_back(
    findings: Findings, app: App, worker: Hands, conn: psycopg.Connection, how: str
) -> None:
    job = app.enqueue("t")
    worker.claim()
    if how == "it is unknown":
        conn.execute("delete from pgqueue.worker")
        assert "PROBLEM: 1 running jobs belong to workers that are gone" in findings()
    else:
        conn.execute("update pgqueue.worker set lease_until = now() - interval '1 minute'")
        assert "note: 1 leases of workers have expired" in findings()
    assert "1 jobs rescued" in mend(conn, app)[1]
    assert (job.state, job.snapshot().crashes) == ("queued", 1)
    assert "gone" not in findings() and "leases" not in findings()


def test_a_live_worker_keeps_its_jobs(app: App, worker: Hands, conn: psycopg.Connection) -> None:
    job = app.enqueue("t")
    worker.claim()
    assert len(mend(conn, app)) == 1
    assert job.state == "running"


def test_partitions_are_made(findings: Findings, app: App, worker: Hands, conn: psycopg.Connection) -> None:
    assert "partition" not in findings()
    job = app.enqueue("t")
    today = one_value(conn, "select to_char(now() at time zone 'utc', 'YYYYMMDD')")
    conn.execute(f"drop table pgqueue.history_succeeded_{today}")
    worker.run_all()
    found = findings()
    assert f"note: no partition for history_succeeded_{today}" in found and "1 rows are outside" in found
    mend(conn, app)
    assert "partition" not in findings()
    assert job.state == "succeeded"


def test_tables_of_others_among_ours(findings: Findings, conn: psycopg.Connection) -> None:
    """By PostgreSQL's default, where a role is called like the schema; where there is none, somebody chose it."""
    has_role = conn.execute("select to_regrole('pgqueue') is not null").fetchone() == (True,)
    conn.execute("create table pgqueue.shelf (id serial)")
    try:
        assert ("note: the schema pgqueue holds what pgqueue did not create: shelf: move it" in findings()) == has_role
    finally:
        conn.execute("drop table pgqueue.shelf")
    assert "did not create" not in findings()


def test_dead_rows(findings: Findings, app: App, conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "DEAD_ROWS", 10**12)
    assert "table job: " not in findings()  # but for old snapshots, which other sessions of the server may hold
    monkeypatch.setattr(doctor, "DEAD_ROWS", -1)
    assert "note: table job: " in findings()


# -- chores that fail --


def test_a_chore_that_fails_is_told_by_the_worker_and_found(
    fresh_dsn: str, start_worker: Callable[..., Worker], shell: Shell
) -> None:
    App(fresh_dsn).migrate()
    with psycopg.connect(fresh_dsn, autocommit=True) as conn:
        days = conn.execute(
            "select relname from pg_class where relkind = 'r' and relname ~ '_2[0-9]{7}$' order by 1"
        ).fetchall()
        assert "hourly chores" not in shell.text("doctor", dsn=fresh_dsn).stdout  # there is nothing to do yet
        for (day,) in days:
            conn.execute(
                f"drop table pgqueue.{day}; create domain pgqueue.{day} as integer"
            )  # a table's row type has its name
        worker = start_worker("-c", "1", dsn=fresh_dsn).ready()
        told = worker.said("the chore 'maintain partitions' fails: type \"history_succeeded_")
        assert "It is tried again every 10 s" in told and "WARNING" in told.upper()
        found = shell.text("doctor", dsn=fresh_dsn)
        assert (
            found.returncode == 1
            and 'PROBLEM  the hourly chores of a worker fail: type "history_succeeded_' in found.stdout
        )
        left = conn.execute("select count(*) from pg_class where relkind = 'r' and relname ~ '_2[0-9]{7}$'").fetchone()
        assert left == (0,)
        conn.execute("; ".join(f"drop domain pgqueue.{day}" for (day,) in days))
        assert "hourly chores" not in shell.text("doctor", dsn=fresh_dsn).stdout


def test_a_chore_is_told_of_once_until_it_passes_or_fails_otherwise(
    dsn: str, conn: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    says = {"statement": "select 1/0"}

    async def count() -> None:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as mine:
            await mine.execute("set lock_timeout = '10ms'")
            await mine.execute(says["statement"])

    async def scenario() -> None:
        nothing: Any = None  # such a chore needs none of them
        chores = Maintenance(
            nothing,
            nothing,
            nothing,
            children=nothing,
            outcome_queue=nothing,
            finisher=nothing,
            wakeups=Wakeups(Identity("w")),
        )
        chores._every[count] = 5.0

        async def told(statement: str, times: int) -> list[str]:
            says["statement"] = statement
            caplog.clear()
            for _ in range(times):
                await chores._do(count)
            return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]

        (said,) = await told("select 1/0", 3)
        assert said.startswith("the chore 'count' fails: division by zero. It is tried again every 5 s")
        assert len(await told("select 1/0", 3)) == 0
        assert len(await told("select nothing", 3)) == 1
        assert len(await told("select 1", 1)) == 0
        assert len(await told("select nothing", 3)) == 1
        assert len(await told("select pg_terminate_backend(pg_backend_pid())", 3)) == 0  # others tell of that
        with conn.transaction():
            conn.execute("lock table pgqueue.queue")
            assert len(await told("select from pgqueue.queue", GIVES_WAY - 1)) == 0
            assert len(await told("select from pgqueue.queue", GIVES_WAY)) == 1

    caplog.set_level("DEBUG", "pgqueue.worker")
    asyncio.run(scenario())


# -- on the command line --


def test_doctor_prints_and_exits(dsn: str, shell: Shell, app: App, conn: psycopg.Connection) -> None:
    done = shell.text("doctor", dsn=dsn)
    assert done.returncode == 1 and "PROBLEM  no worker is alive\n         start one" in done.stdout
    found = json.loads(shell.text("doctor", "--json", dsn=dsn).stdout)["findings"]
    assert {"problem": True, "what": "no worker is alive", "cure": "start one with `pgqueue worker`"} in found
    fixed = shell.text("doctor", "--fix", dsn=dsn)
    assert "done     partitions and counters are up to date\ndone     the table of jobs is vacuumed\n" in fixed.stdout


def test_health_answers_in_100_ms(dsn: str, shell: Shell, worker: Hands) -> None:
    answers = [json.loads(shell.text("health", "--json", dsn=dsn).stdout) for _ in range(3)]
    assert all(answer["ok"] and answer["workers"] == 1 for answer in answers)
    assert min(answer["took_ms"] for answer in answers) < 100, answers


def test_health_says_what_is_missing(dsn: str, shell: Shell) -> None:
    done = shell.text("health", dsn=dsn)
    assert done.returncode == 1 and "no worker is alive" in done.stderr


def test_health_does_not_wait_for_a_server_that_says_nothing(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        done = shell.text("health", dsn=f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/x")
        assert done.returncode == 1 and "timeout" in done.stderr
        assert time.monotonic() - began < 30  # 3 s for the connection; the rest is a busy machine


def test_health_imports_no_user_code(dsn: str, shell: Shell, worker: Hands, tmp_path: Any) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.pgqueue]\napp = "explosive"\n')
    (tmp_path / "explosive.py").write_text("raise SystemExit('imported')")
    done = shell.text("health", cwd=tmp_path, dsn=dsn)
    assert done.returncode == 0, done.stderr
