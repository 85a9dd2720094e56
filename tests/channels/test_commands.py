"""`pgqueue listen` and `pgqueue notify`, as a person types them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from pgqueue import App
from tests.channels.ways import Loop
from tests.shell import ROOT, Shell

END_SESSION = """
select pg_terminate_backend(pid) from pg_stat_activity
where application_name = 'pgqueue channels' and datname = current_database()
"""
Type = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def typed(shell: Shell, dsn: str, tmp_path: Path) -> Type:
    env = {**os.environ, "PGQUEUE_DSN": dsn, "PYTHONPATH": str(ROOT)}
    return lambda *words: shell.run(*words, cwd=tmp_path, env=env)


@contextmanager
def listening(dsn: str, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """`pgqueue listen` in a process of its own; Ctrl-C ends it."""
    with subprocess.Popen(
        [sys.executable, "-m", "pgqueue", "listen", *words], env={**os.environ, "PGQUEUE_DSN": dsn, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield process
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
        finally:
            process.kill()


def test_listen_prints_lines(dsn: str, typed: Type, conn: psycopg.Connection) -> None:
    with listening(dsn, "orders", "two words") as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stderr.readline() == "listening to 2 channels; press Ctrl-C to end\n"
        assert typed("notify", "orders", '{"id": 7}').stdout == b"sent to the programs that listen to orders\n"
        typed("notify", "two words", '"a\\u001b[31m"')
        assert process.stdout.readline() == 'orders  {"id":7}\n'
        assert process.stdout.readline() == 'two words  "a\\u001b[31m"\n'
        conn.execute(END_SESSION)
        assert process.stderr.readline().endswith("; trying again\n")
        assert process.stderr.readline() == "notifications may be missing: reconnected\n"


def test_listen_prints_json(dsn: str, app: App, conn: psycopg.Connection) -> None:
    with listening(dsn, "orders", "--json") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == {"item": "listening"}
        app.notify("orders", ["x", 1])
        expected = {"item": "notification", "channel": "orders", "payload": '["x",1]'}
        assert json.loads(process.stdout.readline()) == expected
        conn.execute(END_SESSION)
        assert json.loads(process.stdout.readline()) == {"item": "gap", "channel": "orders", "why": "reconnected"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["notify", "orders", "refresh"],
            "PAYLOAD is not valid JSON (Expecting value: line 1 column 1 (char 0)); write it as in",
        ),
        (["notify", "orders", "NaN"], "notify('orders'): payload"),
        (["notify", "", "1"], "the name of a channel must not be empty"),
        (["listen", "pgqueue_jobs"], "the channel 'pgqueue_jobs' is used by pgqueue itself: take another name"),
        (["listen", "a", ""], "the name of a channel must not be empty"),
    ],
)
def test_what_cannot_be_is_one_line(app: App, typed: Type, words: list[str], message: str) -> None:
    with Loop(app, "orders") as loop:
        done = typed(*words)
        (line,) = done.stderr.decode().splitlines()
        assert line.startswith(f"pgqueue: {message}") and done.returncode != 0 and done.stdout == b""
        app.notify("orders", "end")
        assert loop.heard(1) == ["end"]
