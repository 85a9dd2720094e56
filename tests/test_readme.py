"""The README is true: its snippets run as written, its commands exist, and every command and option is in it."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import typer

from benchmarks.peers.report import readme_table
from pgqueue.cli import cli
from tests.conftest import Worker
from tests.shell import ROOT, Shell
from tests.snippets import blocks, commands, parse, run_python

README = (ROOT / "README.md").read_text()
PYTHON = [block.code for block in blocks(README, "python")]


@pytest.fixture
def folder(dsn: str, tmp_path: Path) -> Path:
    """A folder with the README's shop.py."""
    (tmp_path / "shop.py").write_text(PYTHON[0])
    return tmp_path


def run(shell: Shell, folder: Path, dsn: str, code: str) -> str:
    """Run a snippet as a script; its output."""
    (folder / "snippet.py").write_text(code)
    return run_python(folder, dsn, "snippet.py", shell=shell)


def test_the_first_lines_work(shell: Shell, folder: Path, dsn: str, start_worker: Callable[..., Worker]) -> None:
    start_worker("-c", "1", app="shop", cwd=folder).ready()
    assert run_python(folder, dsn, "shop.py", shell=shell) == "sent 'hello' to a@b.c\n"


def test_the_transaction_snippet(shell: Shell, folder: Path, dsn: str, conn: psycopg.Connection) -> None:
    run(shell, folder, dsn, PYTHON[1])
    assert conn.execute("select state, priority, args from pgqueue.job").fetchall() == [("scheduled", 5, '["a@b.c"]')]
    assert conn.execute("select email from signup").fetchall() == [("a@b.c",)]
    conn.execute("drop table signup")
    (sql,) = re.findall(r"`(select pgqueue\.enqueue.*?)`", README)
    assert conn.execute(sql).fetchone() is not None


def test_the_snippet_of_everything(shell: Shell, folder: Path, dsn: str, conn: psycopg.Connection) -> None:
    out = run(shell, folder, dsn, PYTHON[2])
    assert re.fullmatch(r"[0-9a-f-]{36} queued True 1000\n", out)
    assert conn.execute("select count(*) from pgqueue.jobs").fetchone() == (1004,)


def test_every_snippet_is_run() -> None:
    assert len(PYTHON) == 3


def test_the_shell_lines_name_what_there_is() -> None:
    for block in blocks(README, "sh"):
        for words in commands(f"```sh\n{block.code}```\n"):
            parse(words)
        for target in re.findall(r"^make (\S+)", block.code, re.M):
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)


def test_every_command_and_option_is_documented() -> None:
    group = typer.main.get_command(cli)
    assert isinstance(group, typer.core.TyperGroup)
    for name, command in group.commands.items():
        assert f"`pgqueue {name}" in README, name
        for option in command.params:
            long = max(option.opts, key=len)
            if long.startswith("--") and long not in ("--help", "--app", "--json"):
                short = min(option.opts, key=len)
                assert long in README or re.search(rf"\[{short} ", README), f"pgqueue {name} {long}"


def test_every_setting_is_documented() -> None:
    from dataclasses import fields

    from pgqueue import Config

    for setting in fields(Config):
        assert f"`{setting.name}`" in README, setting.name


def test_the_figures_are_those_of_the_published_run() -> None:
    published = ROOT / "benchmarks" / "published"
    peers = json.loads((published / "peers.json").read_text())["peers"]
    assert readme_table(peers) in README
    for picture in re.findall(r"!\[.+\]\((.+)\)", README):
        assert (ROOT / picture).is_file(), picture


def test_it_is_read_in_ten_minutes() -> None:
    lines = README.splitlines()
    assert len(lines) <= 200
    cells = [cell for line in lines if line.startswith("|") for cell in re.split(r"(?<!\\)\|", line)]
    assert [cell for cell in cells if len(cell.strip()) >= 150] == []
