"""The command line as a person types it: what it prints, what it refuses, and with which exit code."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pgqueue import App
from pgqueue.bench.interruption import Interruption
from tests.conftest import Worker, eventually
from tests.shell import ROOT, Shell

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(shell: Shell, dsn: str, tmp_path: Path) -> Run:
    def run(*words: str, code: int = 0, **environment: str) -> "subprocess.CompletedProcess[str]":
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PGQUEUE_", "DATABASE_URL"))}
        told = shell.run(
            *words, cwd=tmp_path, options=["-W", "error"],
            env={**clean, "PGQUEUE_DSN": dsn, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **environment},
        )  # fmt: skip
        done = subprocess.CompletedProcess(words, told.returncode, told.stdout.decode(), told.stderr.decode())
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done

    return run


def one_line(done: "subprocess.CompletedProcess[str]") -> str:
    (line,) = done.stderr.splitlines()
    assert line.startswith("pgqueue: ")
    return line


def test_a_job_from_the_command_line_to_its_result(run: Run, app: App, start_worker: Callable[..., Worker]) -> None:
    job_id = run("defer", "tests.tasks.echo", "--args", '["hello"]', "--priority", "3", "--queue", "q").stdout.strip()
    assert app.job(job_id).snapshot()[1:7] == ("queued", "q", 3, "tests.tasks.echo", '["hello"]', "{}")
    assert "queued" in run("jobs").stdout
    start_worker("-c", "1").ready()
    assert app.job(job_id).result(30) == "hello"
    page = json.loads(run("jobs", "--state", "succeeded", "--json").stdout)
    (listed,) = page["jobs"]
    assert (page["looked_at"], page["looked_back_to"], page["next"]) == (1, None, None)
    assert listed["id"] == job_id and listed["result"] == '"hello"'
    assert json.loads(run("show", job_id, "--json").stdout)["attempts"] == []
    assert json.loads(run("health", "--json").stdout)["ok"] is True
    assert json.loads(run("workers", "--json").stdout)[0]["concurrency"] == 1


def test_a_failed_job_is_shown_with_its_traceback_and_retried(
    run: Run, app: App, start_worker: Callable[..., Worker]
) -> None:
    worker = start_worker("-c", "1").ready()
    job = app.enqueue("tests.tasks.fail_until", [9], max_attempts=1)
    eventually(lambda: job.state == "dead", what="the job is given up")
    shown = run("show", job.id).stdout
    assert "ValueError: attempt 1 fails" in shown and "Traceback" in shown and "exception" in shown
    assert run("show", job.id[-8:]).stdout == shown  # as the dashboard shows it
    assert worker.stop() == 0
    assert run("retry", "--dead", "--task", "tests.tasks.other").stdout.startswith("0 dead")
    assert run("retry", "--dead").stdout.startswith("1 dead")
    assert job.state == "queued"
    assert "is already queued or running" in run("retry", job.id).stdout
    assert "cancelled" in run("cancel", job.id, "--reason", "enough").stdout
    assert job.snapshot().error == "enough"
    assert "1 jobs deleted" in run("purge", "--state", "cancelled", "--yes").stdout
    assert "no job" in one_line(run("show", job.id, code=1))


def test_a_list_says_where_to_go_on(run: Run, app: App, conn: psycopg.Connection) -> None:
    ids = [app.enqueue("old").id] + [app.enqueue("t").id for _ in range(2)]
    first = run("jobs", "--limit", "2")
    assert ids[2] in first.stdout and ids[0] not in first.stdout
    assert first.stderr == f"there are older jobs: continue with --after {ids[1]}\n"
    second = run("jobs", "--limit", "2", "--after", ids[1], "--since", "2h")
    assert ids[0] in second.stdout and second.stderr == ""
    assert run("jobs", "--since", "2099-01-01 12:00").stdout == run("jobs", "--after", ids[0]).stdout == "no jobs\n"
    conn.execute("insert into pgqueue.job (id, task) select pgqueue.uuid7(), 't' from generate_series(1, 10000)")
    none = run("jobs", "--task", "old")
    assert none.stdout == "no jobs among those read\n"
    assert (
        none.stderr.startswith("read 10,000 jobs, back to 20")
        and "older ones were not read: continue with --after" in none.stderr
    )
    page = json.loads(run("jobs", "--task", "old", "--json").stdout)
    assert page["jobs"] == [] and page["next"] in none.stderr and page["looked_back_to"]
    assert ids[0] in run("jobs", "--task", "old", "--after", page["next"]).stdout


def test_all_dead_jobs_are_retried_but_those_whose_key_is_taken(run: Run, app: App, conn: psycopg.Connection) -> None:
    conn.execute(
        "insert into pgqueue.history (id, claim_token, run_at, created_at, state, attempt, crashes, priority, queue, task, args, "
        "kwargs, unique_key) select pgqueue.uuid7(), 1, now(), now(), 'dead', 1, 0, 0, 'q', 't', '[]', '{}', 'key ' || n "
        "from generate_series(1, 1005) as n"
    )
    app.enqueue("t", unique="key 7")
    said = run("retry", "--dead", "--queue", "q").stdout
    assert said == "1004 dead jobs run again; 1 cannot, as live jobs have their unique keys\n"
    assert len(app.jobs(state="queued", queue="q", limit=2000)) == 1004 and len(app.jobs(state="dead")) == 1


def test_a_job_of_many_commands(run: Run, app: App) -> None:
    for options in (["--once-per", "1h"], ["--debounce", "2m"]):
        first, second = (run("defer", "t", "--args", f'["{options[0]}"]', *options).stdout for _ in range(2))
        assert second == f"{first.strip()} (already exists)\n"
    assert sorted(job.state for job in app.jobs()) == ["queued", "scheduled"]
    assert "once_per='soon' is not a span of time" in run("defer", "t", "--once-per", "soon", code=2).stderr


def test_a_queue_is_paused_and_resumed(run: Run, conn: psycopg.Connection) -> None:
    assert "is paused" in run("pause", "q").stdout
    assert conn.execute("select paused_by is not null from pgqueue.queue").fetchone() == (True,)
    assert "is resumed" in run("resume", "q").stdout
    assert "was not paused" in run("resume", "q").stdout


def test_purge_asks_first(run: Run, app: App) -> None:
    app.enqueue("t")
    run("purge", "--state", "queued", code=1)
    assert len(app.jobs()) == 1


def test_the_tables_are_made_checked_and_printed(run: Run, fresh_dsn: str) -> None:
    assert "run `pgqueue migrate`" in one_line(run("migrate", "--check", code=1, PGQUEUE_DSN=fresh_dsn))
    script = run("migrate", "--sql", PGQUEUE_DSN=fresh_dsn).stdout
    assert "applied 0001_initial.sql" in run("migrate", PGQUEUE_DSN=fresh_dsn).stdout
    assert "is up to date" in run("migrate", PGQUEUE_DSN=fresh_dsn).stdout
    assert "is up to date" in run("migrate", "--check", PGQUEUE_DSN=fresh_dsn).stdout
    with psycopg.connect(fresh_dsn, autocommit=True) as conn:
        conn.execute("drop schema pgqueue cascade")
        conn.execute(script)
    run("migrate", "--check", PGQUEUE_DSN=fresh_dsn)


def test_the_page_and_its_json(run: Run, app: App) -> None:
    app.enqueue("some.task", queue="mail")
    assert "mail" in run("stats", "--once").stdout
    found = json.loads(run("stats", "--json").stdout)
    assert found["queued"] == 1 and found["queues"][0]["name"] == "mail"


def test_the_tasks_of_an_app(run: Run) -> None:
    names = [task["task"] for task in json.loads(run("tasks", "-A", "tests.tasks", "--json").stdout)]
    assert "tests.tasks.echo" in names and names == sorted(names)
    limits = json.loads(run("tasks", "-A", "tests.async_tasks", "--json").stdout)
    assert {task["task"]: task["async_limit"] for task in limits}.items() >= {"hold": None, "hold two": 2}.items()


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["worker"], 2, "where are your tasks? Give -A module"),
        (["worker", "-A", "no.such"], 2, "there is no module 'no.such'"),
        (["worker", "-A", "shop.py"], 2, "did you mean -A shop?"),
        (["worker", "-A", "json"], 2, "json has no App and defines no @task"),
        (["worker", "-A", "tests.tasks:nothing"], 2, "tests.tasks:nothing is missing"),
        (["worker", "-A", "tests.tasks:echo"], 2, "tests.tasks:echo is a Task, not an App"),
        (["worker", "-A", "tests.tasks", "-l", "loud"], 2, "is not a valid log level"),
        (["worker", "-A", "tests.tasks", "-Q", ""], 2, "-Q must not be empty"),
        (["defer", "x", "--args", "{}"], 2, "--args takes a JSON array"),
        (["defer", "x", "--kwargs", "[1"], 2, "--kwargs is not valid JSON"),
        (["defer", "x", "--delay", "nan"], 2, "delay=nan is not a valid duration"),
        (["defer", "nope", "-A", "tests.tasks"], 2, "tests.tasks has no task 'nope'; it has tests.tasks.answer_atomically"),
        (["jobs", "--state", "gone"], 2, "is not a valid state; take one of waiting"),
        (["jobs", "--since", "soon"], 2, "--since soon is not a valid time: write an age such as 90s, 15m"),
        (["jobs", "--since", "99999999999w"], 2, "is not a valid time"),
        (["jobs", "--since", "999999999w"], 2, "--since 999999999w is not a valid time"),
        (["jobs", "--after", "12345678"], 2, "after='12345678' is not a valid job id"),
        (["retry"], 2, "give the ids of jobs, or --dead"),
        (["purge", "--state", "running", "--yes"], 2, "running jobs cannot be purged"),
        (["show", "1234"], 1, "is not a known job id"),
        (["show", "12345678"], 1, "is not a known job id"),
        (["cancel", "01a208e7-51ed-7198-a687-0270704ff6cf"], 1, "no job 01a208e7"),
    ],
)  # fmt: skip
def test_a_wrong_call_gets_one_line_with_the_cure(run: Run, words: list[str], code: int, told: str) -> None:
    assert told in one_line(run(*words, code=code))


@pytest.mark.parametrize("words", [["worker", "-c", "0", "-A", "tests.tasks"], ["wrker"], ["jobs", "--limit", "no"]])
def test_what_the_parser_refuses_ends_with_2(run: Run, words: list[str]) -> None:
    run(*words, code=2)


@pytest.mark.parametrize(
    "words",
    [
        ["stats", "--once"],
        ["health"],
        ["jobs"],
        ["migrate"],
        ["defer", "x"],
    ],
)
@pytest.mark.parametrize(
    ("dsn", "code", "told"),
    [
        ("postgresql://me:hunter2@127.0.0.1:1/x", 1, "cannot connect to me@127.0.0.1:1/x: Connection refused"),
        ("host=/nowhere user=me password=hunter2", 1, "cannot connect to me@/nowhere"),
        ("postgresql://me:hunter2@[oops", 2, "the DSN cannot be read"),
        ("bananas=1 password=hunter2", 2, "the DSN has the parameter bananas"),
    ],
)
def test_b52_s17_a_wrong_dsn_is_one_line_without_the_password(
    run: Run, words: list[str], dsn: str, code: int, told: str
) -> None:
    wanted = 1 if words == ["health"] else code
    done = run(*words, code=wanted, PGQUEUE_DSN=dsn)
    assert told in one_line(done)
    assert "hunter2" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("dsn", "told"),
    [
        ("postgresql://me:hunter2@[oops", "the DSN cannot be read"),
        ("bananas=1 password=hunter2", "the DSN has the parameter bananas"),
    ],
)
def test_b52_a_worker_does_not_wait_for_a_dsn_that_cannot_be_read(run: Run, dsn: str, told: str) -> None:
    done = run("worker", "-A", "tests.tasks", "-c", "1", code=2, PGQUEUE_DSN=dsn)
    assert told in one_line(done)
    assert "hunter2" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "words", [["stats", "--once"], ["jobs"], ["worker", "-A", "tests.tasks", "-c", "1"], ["defer", "x"], ["health"]]
)
def test_b53_a_missing_schema_is_one_line_with_the_cure(run: Run, fresh_dsn: str, words: list[str]) -> None:
    assert "run `pgqueue migrate`" in one_line(run(*words, code=1, PGQUEUE_DSN=fresh_dsn))


def test_no_database_in_production_is_an_error_and_not_an_embedded_server(run: Run) -> None:
    assert "PGQUEUE_ENV is production" in one_line(run("jobs", code=2, PGQUEUE_DSN="", PGQUEUE_ENV="production"))


def test_hostile_names_do_not_reach_the_terminal(run: Run, conn: psycopg.Connection) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\u202egnp"
    conn.execute("insert into pgqueue.job (id, task, queue) values (gen_random_uuid(), %s, %s)", [evil, evil])
    for words in (["jobs"], ["stats", "--once"], ["jobs", "--json"], ["stats", "--json"]):
        out = run(*words).stdout
        assert not any(char < " " and char != "\n" for char in out) and "\u202e" not in out


def test_an_app_that_cannot_be_imported_says_why(run: Run, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import json\n1 / 0\n")
    done = subprocess.run(
        [sys.executable, "-m", "pgqueue", "worker", "-A", "broken", "-c", "2"], cwd=tmp_path, text=True, capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "ZeroDivisionError: division by zero" in done.stderr.splitlines()[-1]
    assert 'broken.py", line 2' in done.stderr


MEASURED = {
    "defer floor: the bare INSERT", "defer", "defer_many floor: the bare COPY", "defer_many, 1,000",
    "drain floor: claim.sql + finish.sql", "drain -c 1",
    "latency floor: INSERT + LISTEN + claim.sql, p50", "latency floor: INSERT + LISTEN + claim.sql, p99",
    "latency, p50", "latency, p99",
}  # fmt: skip
SCRATCH = "select nspname from pg_namespace where starts_with(nspname, 'pgqueue_bench_')"


def test_a_database_is_measured_and_left_as_it_was(run: Run, app: App, conn: psycopg.Connection) -> None:
    app.enqueue("t")
    done = run("bench", "--jobs", "1000", "--repeat", "1", "-c", "1", "--json")
    said = done.stderr.splitlines()[0]
    assert "pgqueue_bench_" in said and "dropped at the end" in said
    found = json.loads(done.stdout)
    assert found["jobs"] == 1000 and found["server"]["server_version"] and found["psycopg"]
    assert {each["name"] for each in found["measurements"]} == MEASURED
    assert all(each["value"] > 0 and each["samples"] for each in found["measurements"])
    assert all(each["floor_ratio"] for each in found["measurements"] if "floor" not in each["name"])
    assert conn.execute(SCRATCH).fetchall() == []
    assert [job.state for job in app.jobs()] == ["queued"]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_ending_that_python_drops_is_found_before_the_next_sample(
    monkeypatch: pytest.MonkeyPatch, ending: signal.Signals
) -> None:
    """What a callback of the garbage collector raises is dropped, a KeyboardInterrupt too."""
    before = signal.getsignal(signal.SIGINT)  # Python's own, but under nohup
    dropped: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", dropped.append)

    def interrupted(_: object) -> None:
        os.kill(os.getpid(), ending)
        for _ in range(1000):  # in one of the next steps Python runs the handler
            time.sleep(0)

    class Thing: ...

    with pytest.raises(KeyboardInterrupt), Interruption() as interruption:
        interruption.check()
        thing = Thing()
        watch = weakref.ref(thing, interrupted)
        del thing
        assert watch() is None and [each.exc_type for each in dropped] == [KeyboardInterrupt]
        interruption.check()
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("part", ["defer", "drain", "latency"])
def test_measuring_that_is_ended_early_leaves_nothing(
    dsn: str, conn: psycopg.Connection, tmp_path: Path, part: str, ending: signal.Signals
) -> None:
    command = [sys.executable, "-m", "pgqueue", "bench", "--jobs", "5000", "-c", "1"]
    with subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "PGQUEUE_DSN": dsn, "PYTHONPATH": str(ROOT)}, text=True,
        stderr=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as measuring:  # fmt: skip
        assert measuring.stderr is not None
        assert any(line == f"{part} ...\n" for line in measuring.stderr)
        assert conn.execute(SCRATCH).fetchall() != []
        measuring.send_signal(ending)
        _, told = measuring.communicate(timeout=60)
    assert measuring.returncode == 130 and "Traceback" not in told
    assert conn.execute(SCRATCH).fetchall() == []


def test_measuring_needs_the_right_to_make_a_schema_and_no_other(run: Run, conn: psycopg.Connection) -> None:
    role = f"bench_{uuid.uuid4().hex[:8]}"
    database = conn.info.dbname
    theirs = make_conninfo(conn.info.dsn, user=role, password="secret")
    conn.execute(f"create role {role} login password 'secret'")
    try:
        words = ("bench", "--jobs", "1000", "--repeat", "1", "-c", "1")
        told = one_line(run(*words, code=1, PGQUEUE_DSN=theirs))
        assert f"grant create on database {database} to {role}" in told
        conn.execute(f"grant create on database {database} to {role}")
        assert "drain -c 1" in run(*words, PGQUEUE_DSN=theirs).stdout
    finally:
        conn.execute(f"drop owned by {role}")
        conn.execute(f"drop role {role}")


def test_the_help_of_every_command_reads_as_one_types_it(run: Run) -> None:
    assert "retry [OPTIONS] [ID]..." in run("retry", "--help").stdout
    for command in ("retry", "cancel", "show", "why", "defer", "pause", "resume", "jobs", "purge"):
        shown = run(command, "--help").stdout
        assert "[[" not in shown and "...]" not in shown and "...}" not in shown, shown
