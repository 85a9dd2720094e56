"""What is shown: nothing of what others wrote moves a cursor or forges a log record, and no secret is in it."""

import gc
import io
import json
import logging
import os
import re
import subprocess
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo

from pgqueue import App, InvalidOption, JobDead
from pgqueue.codec import redact
from pgqueue.config import SECRET_NAMES, Config
from pgqueue.job import Snapshot
from pgqueue.terminal import HIDDEN, LogFormat, escape
from tests import hostile_tasks as tasks
from tests.conftest import Worker, eventually
from tests.shell import ROOT, Shell

Run = Callable[..., str]

EVIL = (
    "\x1b]0;owned\x07\x1b[2J\x1b]8;;http://evil\x1b\\x\x1b]52;c;cm0=\x07[red]bold[/red]\u202egnp\x9b31m\x85\u2028\t\r\n"
    "2026-01-01 00:00:00,000 ERROR   pgqueue.worker: forged"
)


@pytest.fixture
def run(shell: Shell, dsn: str, tmp_path: Path) -> Run:
    """Run a command; everything it prints."""

    def command(*words: str, **environment: str) -> str:
        done = shell.run(
            *words, cwd=tmp_path,
            env={**os.environ, "PGQUEUE_DSN": dsn, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **environment},
        )  # fmt: skip
        return (done.stdout + done.stderr).decode("utf-8", "strict")

    return command


@pytest.fixture
def run_plain(shell: Shell, dsn: str, tmp_path: Path) -> Callable[..., str]:
    """Run a command on a terminal that may know few characters; everything it prints."""

    def command(*words: str, **terminal: str) -> str:
        done = shell.run(
            *words, cwd=tmp_path, stdin=b"n\n",
            env={**os.environ, "PGQUEUE_DSN": dsn, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **terminal},
        )  # fmt: skip
        return (done.stdout + done.stderr).decode(terminal.get("PYTHONIOENCODING", "ascii").partition(":")[0], "strict")

    return command


def is_harmless(text: str) -> bool:
    return not any(char != "\n" and unicodedata.category(char) in HIDDEN for char in text)


# -- terminals --


@pytest.fixture
def hostile_rows(conn: psycopg.Connection) -> list[str]:
    """Rows in every table whose texts were written by somebody who may insert; the ids of the jobs."""
    for name in (EVIL, EVIL * 100):
        args = json.dumps([name])
        for state in ("queued", "running", "scheduled"):
            conn.execute(
                "insert into pgqueue.job (id, worker, task, queue, args, kwargs, state, progress_note, unique_key, headers)"
                " values (gen_random_uuid(), gen_random_uuid(), %s, %s, %s, %s, %s, %s, %s, %s)",
                [name, name, args, f'{{"k": "{name}"}}', state, name, f"{state}{name}"[:900], args],
            )
        conn.execute(
            "insert into pgqueue.history (id, claim_token, run_at, created_at, state, attempt, crashes, priority, queue,"
            " task, args, kwargs, error) values (gen_random_uuid(), 1, now(), now(), 'dead', 1, 0, 0, %s, %s, %s, '{}', %s)",
            [name, name, args, name],
        )
        conn.execute(
            "insert into pgqueue.worker (id, lease_until, pid, concurrency, name, version, app, queues, tasks)"
            " values (gen_random_uuid(), now() + interval '1 hour', 1, 1, %s, %s, %s, %s, %s)",
            [name, name, name, [name], [name]],
        )
        conn.execute("insert into pgqueue.queue (name, paused_at, paused_by) values (%s, now(), %s)", [name, name])
    conn.execute(
        "update pgqueue.job set worker = (select id from pgqueue.worker order by name limit 1) where state = 'running'"
    )
    ids = [row[0] for row in conn.execute("select id::text from pgqueue.jobs").fetchall()]
    for job_id in ids:
        conn.execute(
            "insert into pgqueue.attempt (job_id, claim_token, attempt, task, queue, worker_name, cause, error, traceback)"
            " values (%s, 1, 1, %s, %s, %s, %s, %s, %s)",
            [job_id, EVIL, EVIL, EVIL, EVIL, EVIL * 100, EVIL * 100],
        )
        conn.execute("insert into pgqueue.audit (job_id, who, action) values (%s, %s, %s)", [job_id, EVIL, EVIL])
    return ids


def test_s13_no_command_sends_a_control_character(run: Run, hostile_rows: list[str]) -> None:
    outputs = [run(*words) for words in (
        ("stats", "--once"), ("stats", "--once", "--json"), ("jobs",), ("jobs", "--json"), ("workers",), ("workers", "--json"),
        ("health",), ("health", "--json"), *(("show", job_id) for job_id in hostile_rows),
        *(("show", job_id, "--json") for job_id in hostile_rows[:2]), ("jobs", "--queue", EVIL), ("show", EVIL),
        ("--debug", "jobs", "--queue", EVIL), ("pause", EVIL), ("cancel", EVIL), ("cancel", hostile_rows[0]),
        ("defer", EVIL), ("worker", "-A", EVIL), ("worker", "-A", "json", "-l", EVIL),
    )]  # fmt: skip
    for output in outputs:
        assert output and is_harmless(output), ascii(output)[:2_000]
    shown = "".join(outputs)
    assert "[red]bold[/red]" in shown  # as it was written, never as markup
    assert "\\x1b]0;owned\\x07" in shown


# Terminals and logs without UTF-8: what a person meets in LANG=C, in an old container, over an old ssh.
PLAIN = [
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "latin-1"},
    {"PYTHONIOENCODING": "cp1252:strict"},
    {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
]
FAR = "caf\u00e9 5 \u20ac \u6f22\u5b57"


@pytest.fixture
def far_rows(conn: psycopg.Connection, app: App) -> str:
    """Rows of people who write in their own language; the id of a dead job."""
    for state in ("queued", "running", "scheduled"):
        conn.execute(
            "insert into pgqueue.job (id, worker, task, queue, state, progress_note, args) "
            "values (pgqueue.uuid7(), gen_random_uuid(), %s, %s, %s, %s, %s)", [FAR, FAR, state, FAR, json.dumps([FAR])],
        )  # fmt: skip
    conn.execute(
        "insert into pgqueue.worker (id, lease_until, pid, concurrency, name, version, app, queues, tasks) "
        "select worker, now() + interval '1 hour', 1, 1, %s, '1', %s, %s, %s from pgqueue.job where state = 'running'",
        [FAR, FAR, [FAR], [FAR]],
    )
    conn.execute("insert into pgqueue.throughput values (now() - interval '1 minute', gen_random_uuid(), 9, 1, 1, 0)")
    app.pause(FAR)
    job_id = app.enqueue(FAR, [FAR]).id
    conn.execute(
        "insert into pgqueue.attempt (job_id, claim_token, attempt, task, queue, worker_name, cause, error, traceback)"
        " values (%s, 1, 1, %s, %s, %s, 'exception', %s, %s)", [job_id, FAR, FAR, FAR, FAR, f"Traceback: {FAR}"],
    )  # fmt: skip
    app.cancel(job_id, reason=FAR)
    return job_id


@pytest.mark.parametrize("terminal", PLAIN, ids=str)
def test_s13_a_terminal_without_utf_8_shows_escapes(
    run_plain: Callable[..., str], far_rows: str, terminal: dict[str, str]
) -> None:
    for words in (
        ("jobs",), ("jobs", "--queue", FAR), ("jobs", "--json"), ("show", far_rows), ("show", far_rows, "--json"),
        ("why", far_rows), ("stats", "--once"), ("stats", "--json"), ("workers",), ("workers", "--json"), ("doctor",), ("health",),
        ("--help",), ("jobs", "--help"), ("jobs", "--state", FAR), ("jobs", "--limit", FAR), ("pause", FAR), ("resume", FAR),
        (FAR,),
        ("tasks", "-A", "tests.tasks"), ("worker", "-A", FAR), ("worker", "-A", "tests.tasks", "-l", FAR), ("cancel", FAR),
        ("purge", "--state", "queued", "--queue", FAR), ("migrate",), ("defer", FAR, "--args", json.dumps([FAR])),
        ("retry", "--dead", "--queue", FAR), ("migrate", "--sql"),
    ):  # fmt: skip
        shown = run_plain(*words, **terminal)
        assert shown and "UnicodeEncodeError" not in shown and ("Traceback" in shown) == (words[0] == "show"), shown
    for words in ("jobs",), ("show", far_rows), ("stats", "--once"), ("workers",), ("why", far_rows):
        assert "\\u6f22\\u5b57" in run_plain(*words, **terminal)


@pytest.mark.parametrize("terminal", [PLAIN[0], PLAIN[-1]], ids=str)
def test_s13_the_log_of_a_worker_without_utf_8_shows_escapes(
    task_app: App, start_worker: Callable[..., Worker], terminal: dict[str, str]
) -> None:
    worker = start_worker("-c", "1", app="tests.hostile_tasks", env=terminal).ready()
    job = task_app.enqueue("tests.hostile_tasks.log_and_raise", [FAR])
    with pytest.raises(JobDead):
        job.result(60)
    worker.said("\\u6f22\\u5b57")
    assert worker.stop() == 0 and "UnicodeEncodeError" not in worker.output


def test_s13_cells_are_bounded(run: Run, hostile_rows: list[str]) -> None:
    for words in (("jobs",), ("workers",), ("stats", "--once")):
        assert max(map(len, run(*words).splitlines())) < 600


@given(text=st.text())
def test_s13_any_text_is_made_harmless_and_what_can_be_read_stays(text: str) -> None:
    shown = escape(text)
    assert is_harmless(shown)
    assert shown == text or not is_harmless(text)


# -- logs --


def record(text: str, *, logger: str = "pgqueue.worker", error: BaseException | None = None) -> str:
    info = None if error is None else (type(error), error, error.__traceback__)
    made = logging.LogRecord(logger, logging.ERROR, __file__, 1, "job %s", (text,), info)
    return LogFormat("%(asctime)s %(levelname)-7s %(name)s: %(message)s").format(made)


def test_s14_our_own_record_is_one_line() -> None:
    text = record(EVIL * 100)
    assert "\n" not in text and is_harmless(text) and len(text) < 4_100


def test_s14_lines_of_a_users_record_are_marked_as_its_own() -> None:
    text = record(EVIL, logger="shop", error=ValueError(EVIL))
    first, *others = text.splitlines()
    assert others and all(line.startswith("  | ") for line in others) and is_harmless(text)
    assert first.endswith("\\r")


def test_s14_a_worker_logs_no_line_that_others_wrote(
    task_app: App, conn: psycopg.Connection, start_worker: Callable[..., Worker]
) -> None:
    worker = start_worker("-c", "1", app="tests.hostile_tasks").ready()
    conn.execute("insert into pgqueue.job (id, task) values (gen_random_uuid(), %s)", [EVIL])
    with pytest.raises(JobDead):
        tasks.log_and_raise.defer(EVIL).result(60)
    worker.said("such jobs stay queued")
    worker.stop()
    assert "forged" in worker.output and is_harmless(worker.output)
    assert not any(line.startswith("2026-01-01") for line in worker.lines)
    # What stands at the beginning of a line is ours: a date, the banner, or the mark of a line that goes on.
    begins = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z [A-Z]+ +[\w.]+: |  \| |pgqueue |  [a-z-]* +")
    assert [line for line in worker.lines if not begins.match(line)] == []


# -- secrets --

CANARY = "canary-4711"
HIDDEN_VALUES: dict[str, Any] = {
    "user": "bob", "password": f"{CANARY}-password", "iban": f"{CANARY}-iban", "options": {"token": f"{CANARY}-token"},
    "api_key": f"{CANARY}-key",
}  # fmt: skip


def test_s16_s17_no_secret_is_shown_anywhere(
    task_app: App, dsn: str, conn: psycopg.Connection, run: Run, start_worker: Callable[..., Worker],
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setenv("SHOP_SECRET", f"{CANARY}-environment")
    with_password = make_conninfo(dsn, password=f"{CANARY}-dsn")
    caplog.set_level(logging.DEBUG)
    worker = start_worker("-c", "1", "-l", "debug", app="tests.hostile_tasks", dsn=with_password).ready()
    *positional, api_key = HIDDEN_VALUES.values()
    headers = {"Authorization": f"Bearer {CANARY}-header", "trace": "shown"}
    with pytest.raises(JobDead) as dead:
        tasks.login.options(headers=headers, unique=f"{CANARY}-password").defer(*positional, api_key=api_key).result(60)
    jobs = [
        tasks.login.defer(**HIDDEN_VALUES),
        *tasks.login.defer_many([HIDDEN_VALUES]),
        task_app.enqueue("tests.hostile_tasks.login", positional, {"api_key": api_key}),
    ]
    eventually(lambda: len(task_app.jobs(state="dead")) == 4, what="all are dead")
    processes = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    sessions = conn.execute("select application_name from pg_stat_activity").fetchall()
    ids = [job.id for job in task_app.jobs()]
    shown = [
        str(dead.value), processes, str(sessions), caplog.text, repr(task_app.jobs()), repr(jobs), repr(task_app.config),
        *(run(*words, PGQUEUE_DSN=with_password) for words in (
            ("stats", "--once"), ("stats", "--json"), ("jobs",), ("jobs", "--json"), ("workers", "--json"), ("health",),
            *(("show", job_id) for job_id in ids), ("show", ids[0], "--json"),
            ("show", ids[0], "-A", "tests.hostile_tasks"),
        )),
        str(conn.execute("select * from pgqueue.attempt").fetchall()),
    ]  # fmt: skip
    worker.stop()
    shown.append(worker.output)
    assert [text for text in shown if CANARY in text] == []
    everything = "".join(shown)
    assert "bob" in everything and "***" in everything and '"trace": "shown"' in everything
    assert "cannot log in as bob with '***', ***, ***, ***: postgresql://u:***@h/db" in everything
    # The task itself got all of it.
    got = conn.execute("select count(*) from pgqueue.history where args || kwargs like %s", [f"%{CANARY}-iban%"])
    assert got.fetchone() == (4,)


def snapshot(**columns: Any) -> Snapshot:
    fields = dict.fromkeys(Snapshot._fields)
    return Snapshot(**{**fields, "args": "[]", "kwargs": "{}", **columns})


def shown(**columns: Any) -> Snapshot:
    return redact.shown(snapshot(**columns), secret_names=SECRET_NAMES)


@pytest.mark.parametrize(
    "name",
    ["password", "passwd", "db_password", "token", "access_token", "apiKey", "api_key", "key", "signing-key", "accessKey",
     "Authorization", "secret", "client_secret", "credentials", "Set-Cookie", "session_id", "jwt", "DSN", "pwd"],
)  # fmt: skip
def test_s16_names_that_tell(name: str) -> None:
    assert json.loads(shown(kwargs=json.dumps({name: "x", "a": [{name: {"b": 1}}]})).kwargs) == {
        name: "***",
        "a": [{name: "***"}],
    }


@pytest.mark.parametrize("name", ["monkey", "keyboard", "passenger", "author", "user", "sessions", "subject"])
def test_s16_names_that_tell_nothing(name: str) -> None:
    assert json.loads(shown(kwargs=json.dumps({name: "x"})).kwargs) == {name: "x"}


def test_s16_positions_rest_and_results() -> None:
    app = App()

    @app.task(name="t", redact=["pin", "more"])
    def t(user: str, pin: int, *more: str, note: str = "") -> None: ...

    assert t.marks == [1, "pin", "*2"]
    headers = json.dumps({redact.MARKS: t.marks})
    job = shown(args='["bob", 12345, "a1b2c3", null]', headers=headers, result='{"pin was": "12345"}', error="a1b2c3!")
    assert (job.args, job.headers, job.result, job.error) == (
        '["bob", "***", "***", null]',
        None,
        '{"pin was": "***"}',
        "***!",
    )


@pytest.mark.parametrize(
    "headers",
    ["", "{", "[]", "5", f'{{"{redact.MARKS}": 5}}', f'{{"{redact.MARKS}": [[], {{}}, "*x", "*99999999999"]}}'],
)
@pytest.mark.parametrize("args", ["", "[", "5", "{}", "[" * 100_000, "[" * 900 + "]" * 900, '[{"key": 1}]'])
def test_s16_rows_that_others_wrote_are_shown_all_the_same(args: str, headers: str) -> None:
    gc.collect()  # what other tests left is not to be finalized in the depth of these
    job = shown(args=args, kwargs=args, headers=headers)
    assert job.args in (args, "***", '[{"key": "***"}]')


@pytest.mark.parametrize("names", ["pin", ["nip"], [5]])
def test_s16_a_wrong_name_is_refused_at_import(names: Any) -> None:
    with pytest.raises(InvalidOption, match="@task t: redact"):
        App().task(name="t", redact=names)(lambda pin: None)


def test_s16_the_pattern_is_a_setting() -> None:
    app = App(secret_names="^nip$")
    assert app.task(name="t")(lambda password, nip: None).marks == [1, "nip"]
    with pytest.raises(InvalidOption, match="secret_names must be a regular expression"):
        Config.load(secret_names="(")


def test_s16_a_traceback_has_no_values_of_variables(
    task_app: App, conn: psycopg.Connection, start_worker: Callable[..., Worker]
) -> None:
    start_worker("-c", "1", app="tests.hostile_tasks").ready()
    with pytest.raises(JobDead):
        tasks.fail_with.defer("cyclic cause").result(60)
    ((trace,),) = conn.execute("select traceback from pgqueue.attempt").fetchall()
    assert "raise ERRORS[kind]()" in trace and "'cyclic cause'" not in trace


def test_s23_no_filter_is_a_pattern(run: Run, conn: psycopg.Connection) -> None:
    conn.execute("select pgqueue.enqueue('t', queue => repeat('a', 100))")
    for pattern in ("(a+)+$", "a%", "a*", "^(a|a)*b$"):
        assert run("jobs", "--queue", pattern) == "no jobs\n"
    files = list((ROOT / "pgqueue" / "sql").rglob("*.sql"))
    texts = {f"{file.parent.name}/{file.name}": re.sub(r"--.*", "", file.read_text()) for file in files}
    matching = {name for name, text in texts.items() if re.search(r"\s~|similar to|regexp_|\bi?like\b", text)}
    # The end of an id, of hexadecimal digits that were checked before; types of events, whose own signs are escaped; a table
    # like another one.
    assert matching == {
        "ops/find.sql", "events/wanted_by_lane.sql", "migrations/0001_initial.sql", "migrations/0002_surroundings.sql",
        "migrations/0005_events.sql",
    }  # fmt: skip


def test_s30_health_tells_nothing_that_others_wrote(run: Run, hostile_rows: list[str]) -> None:
    shown = run("health", "--json")
    assert "owned" in EVIL and "owned" not in shown and is_harmless(shown)
    found = json.loads(shown)
    assert found.keys() == {"ok", "problem", "workers", "took_ms"} and (found["ok"], found["workers"]) == (True, 2)
    assert re.fullmatch(r"ok: 2 workers alive, answered in [0-9.]+ ms\n", run("health"))


def test_s13_the_log_of_a_program_is_its_own() -> None:
    # A handler of the user's is left alone: only the one that `pgqueue worker` installs speaks our format.
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.emit(logging.LogRecord("shop", logging.INFO, __file__, 1, "a\tb", (), None))
    assert stream.getvalue() == "a\tb\n"
