"""The guides are true: their snippets run, their commands exist, and `pgqueue guide` shows them in a terminal and in a pipe."""

import os
import pty
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import psycopg
import pytest

from pgqueue.cli.guide import TOPICS, summary
from pgqueue.cli.output import WIDEST
from tests.conftest import Worker
from tests.shell import ROOT, Shell
from tests.snippets import blocks, commands, parse, run_blocks

FOLDER = files("pgqueue") / "guides"
PAGES = {topic: (FOLDER / f"{topic}.md").read_text("utf-8") for topic in TOPICS}
ONLY_SHOWN = 6  # blocks that need what is not here

Guide = Callable[..., "subprocess.CompletedProcess[bytes]"]

every_page = pytest.mark.parametrize("topic", TOPICS)
PROJECTS = (
    "django",
    "django-tasks",
)  # their snippets are files of one: see django/test_guide.py, django/test_backend_guide.py


@pytest.fixture
def guide(shell: Shell, tmp_path: Path) -> Guide:
    def guide(*words: str, **environment: str) -> "subprocess.CompletedProcess[bytes]":
        return shell.run("guide", *words, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT), **environment})

    return guide


def on_a_terminal(*words: str, **environment: str) -> tuple[int, str]:
    """The exit code of `pgqueue guide` and what a person would see."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pgqueue", "guide", *words], stdin=theirs, stdout=theirs, stderr=theirs,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLUMNS": "90", **environment},
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    try:
        while part := os.read(ours, 65_536):
            seen += part
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    return process.wait(30), seen.decode().replace("\r\n", "\n")


# -- the pages --


def test_every_page_is_a_topic_and_in_the_package() -> None:
    assert {page.name for page in FOLDER.iterdir()} == {f"{topic}.md" for topic in TOPICS}


@every_page
def test_a_page_has_a_title_a_summary_and_a_size_that_is_read(topic: str) -> None:
    page = PAGES[topic]
    assert re.match(r"# [A-Z][^\n]+\n\n[A-Z]", page)
    assert 60 <= len(page.splitlines()) <= 150
    assert len(summary(page)) <= WIDEST and summary(page).endswith(".")


@every_page
def test_its_links_lead_somewhere(topic: str) -> None:
    for text, name in re.findall(r"\[([^\]]+)\]\(([\w-]+)\.md\)", PAGES[topic]):
        assert name in TOPICS and text == f"`pgqueue guide {name}`"


@pytest.mark.parametrize("topic", [topic for topic in TOPICS if topic not in PROJECTS])
def test_its_snippets_run(
    topic: str, dsn: str, conn: psycopg.Connection, tmp_path: Path, start_worker: Callable[..., Worker], shell: Shell
) -> None:
    conn.execute("drop table if exists account, shop_order, member")
    run_blocks(PAGES[topic], tmp_path, dsn, start_worker=start_worker, shell=shell)


@every_page
def test_its_commands_exist_with_these_options(topic: str) -> None:
    for words in commands(PAGES[topic]):
        parse(words)


@every_page
def test_what_it_writes_into_pyproject_is_taken(topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pgqueue import Config

    monkeypatch.chdir(tmp_path)
    for block in blocks(PAGES[topic], "toml"):
        assert tomllib.loads(block.code)["tool"].keys() == {"pgqueue"}
        (tmp_path / "pyproject.toml").write_text(block.code)
        Config.load()


def test_every_block_is_run_parsed_or_counted() -> None:
    found = [block for page in PAGES.values() for block in blocks(page)]
    assert {block.language for block in found if not block.not_run} <= {"python", "sql", "sh", "toml"}
    assert sum(block.not_run is not None for block in found) == ONLY_SHOWN
    assert sum(page.count("\n```") for page in PAGES.values()) == 2 * len(found)


def test_a_wrong_option_would_be_noticed() -> None:
    (words,) = commands("```sh\nPGQUEUE_DSN=x pgqueue worker --no-such-option &\n```\n")
    with pytest.raises(Exception, match="no-such-option"):
        parse(words)


def test_the_readme_links_every_page() -> None:
    readme = (ROOT / "README.md").read_text()
    for topic in TOPICS:
        assert f"(pgqueue/guides/{topic}.md)" in readme, topic


# -- the command --


def test_the_list_has_one_line_for_each_page(guide: Guide) -> None:
    done = guide()
    assert done.returncode == 0 and done.stderr == b""
    for topic in TOPICS:
        assert re.search(rf"^{topic} +{re.escape(summary(PAGES[topic]))}$", done.stdout.decode(), re.M)


def test_in_a_pipe_it_is_the_page_itself(guide: Guide) -> None:
    assert guide("start").stdout.decode() == PAGES["start"]


def test_without_utf_8_too(guide: Guide) -> None:
    for topic in TOPICS:
        assert guide(topic, PYTHONIOENCODING="ascii").returncode == 0


@pytest.mark.parametrize(
    ("topic", "hint"), [("strat", "did you mean 'start'? There are start"), ("x", "; there are start")]
)
def test_a_topic_that_is_none(guide: Guide, topic: str, hint: str) -> None:
    done = guide(topic)
    (line,) = done.stderr.decode().splitlines()
    assert done.returncode == 2 and done.stdout == b"" and line.startswith(f"pgqueue: no guide is called '{topic}'")
    assert hint in line and TOPICS[-1] in line


def test_on_a_terminal_it_is_drawn_and_paged() -> None:
    code, seen = on_a_terminal("start", PAGER="cat")
    assert code == 0 and "\x1b" not in seen and "```" not in seen and "](" not in seen
    assert "Write a task, run a worker" in seen and "pgqueue guide transactions" in seen
    assert max(map(len, seen.splitlines())) <= 90


def test_less_gets_colours_and_is_not_needed(tmp_path: Path) -> None:
    less = tmp_path / "less"
    less.write_text('#!/bin/sh\necho "options $*"\nexec cat\n')
    less.chmod(0o755)
    code, seen = on_a_terminal("start", PAGER=str(less))
    assert code == 0 and "options -R" in seen and "\x1b[" in seen
    code, seen = on_a_terminal("start", PAGER="/nonexistent/pager")
    assert code == 0 and "Write a task, run a worker" in seen


def test_no_other_command_imports_what_draws_it() -> None:
    code = "import sys, pgqueue.cli; sys.exit('rich.markdown' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
