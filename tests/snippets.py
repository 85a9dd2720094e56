"""What our Markdown shows is true: its Python and SQL run as written, and its command lines are ones that `pgqueue` takes.

A block of Python that begins with `# name.py` is that file of the reader's folder; the next blocks may import it. A file named
test_*.py is given to pytest; any other block is a script, and one that asks for a `.result` gets a worker for the last file
before it. `<!-- not run: reason -->` above a block says that it is only shown.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import typer

from pgqueue.cli import cli
from tests.addresses import url
from tests.shell import ROOT, Shell

BLOCK = re.compile(r"(?:<!-- not run: (?P<reason>.+?) -->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.S | re.M)
WAITS = re.compile(r"\.result(_async)?\(|\.subscription_states\(")
FILE = re.compile(r"# ([\w/]+\.py)\n")
INLINE = re.compile(r"`(?:manage\.py )?(pgqueue [^`]+)`")
TIMEOUT_S = 60


class Block(NamedTuple):
    """One fenced block."""

    language: str
    code: str
    not_run: str | None
    """Why it is only shown."""

    @property
    def file(self) -> str | None:
        """The file that it is, if it says so."""
        named = FILE.match(self.code)
        return named and named[1]


def blocks(text: str, *languages: str) -> list[Block]:
    """The fenced blocks in these languages, or in all."""
    found = (Block(block["language"], block["code"], block["reason"]) for block in BLOCK.finditer(text))
    return [block for block in found if not languages or block.language in languages]


def run_python(folder: Path, dsn: str, script: str, *, shell: Shell) -> str:
    """Run a script in a folder, with warnings as errors; its output."""
    done = shell.run(
        script=str(folder / script),
        cwd=folder,
        env=_environment(dsn),
        options=("-B", "-W", "error"),
        within_s=TIMEOUT_S,
    )
    said = done.stdout.decode()
    assert done.returncode == 0, said + done.stderr.decode()
    return said


def run_tests(folder: Path, dsn: str, name: str) -> None:
    """Give a file to pytest."""
    done = subprocess.run(
        [sys.executable, "-B", "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ".", name],
        cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, env=_environment(dsn),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def _environment(dsn: str) -> dict[str, str]:
    return {**os.environ, "PGQUEUE_DSN": dsn, "DATABASE_URL": url(dsn), "PYTHONPATH": str(ROOT)}


def run_blocks(text: str, folder: Path, dsn: str, *, start_worker: Callable[..., Any], shell: Shell) -> None:
    """Run everything a page shows, from top to bottom, as its reader would."""
    app, served = "", set()
    for block in blocks(text, "python", "sql"):
        if block.not_run:
            continue
        if block.language == "sql":
            with psycopg.connect(dsn, autocommit=True) as conn:
                conn.execute(block.code)
            continue
        name = block.file or "snippet.py"
        (folder / name).write_text(block.code)
        if name.startswith("test_"):
            run_tests(folder, dsn, name)
            continue
        if WAITS.search(block.code) and app not in served:
            start_worker("-c", "1", app=app, cwd=folder, env={"DATABASE_URL": url(dsn)}).ready()
            served.add(app)
        run_python(folder, dsn, name, shell=shell)
        app = name.removesuffix(".py") if block.file else app


def commands(text: str) -> list[list[str]]:
    """The `pgqueue` command lines of a page: those of its shell blocks, and those that its sentences quote."""
    lines = [line for block in blocks(text, "sh") for line in block.code.replace("\\\n", " ").splitlines()]
    prose = BLOCK.sub("", text)
    return [words for line in [*lines, *INLINE.findall(prose)] for words in _pgqueue(line)]


def _pgqueue(line: str) -> Iterator[list[str]]:
    """The parts of a line that call us, without what the shell does with them."""
    words: list[str] = []
    for word in [*shlex.split(line, comments=True), ";"]:
        if word not in ("|", "||", "&&", "&", ";", ">", "2>"):
            words.append(word)
            continue
        if words[:2] == ["python", "manage.py"]:
            del words[:2]
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words.pop(0)
        if words[:1] == ["pgqueue"]:
            yield words[1:]
        words = []


def parse(words: list[str]) -> None:
    """Have the real command line read these words, without doing anything; raises what it would say."""
    name: str | None = "pgqueue"
    command: Any = typer.main.get_command(cli)
    if words and words[0] in ("--debug", "--version", "--help"):
        return
    while hasattr(command, "resolve_command") and (words or not command.invoke_without_command):
        name, command, words = command.resolve_command(None, words)
    if "--help" not in words:
        command.make_context(name, words)
