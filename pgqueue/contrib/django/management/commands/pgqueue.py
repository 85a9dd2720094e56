"""`manage.py pgqueue ...`: the same commands as `pgqueue ...`, on the project's database and with its tasks."""

import os
import sys
from argparse import REMAINDER
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import connections

import pgqueue
from pgqueue.cli import main
from pgqueue.cli.options import Home, added_path
from pgqueue.config import environment_for

WORKER = "pgqueue.contrib.django.worker"
# Django's own options, which it has heeded before it comes to us; the second ones are followed by a value.
FLAGS = {"--traceback", "--no-color", "--force-color", "--skip-checks"}
VALUED = {"--settings", "--pythonpath", "-v", "--verbosity"}


class Command(BaseCommand):
    """`manage.py pgqueue`."""

    help = "The job queue: `manage.py pgqueue worker` runs jobs, `manage.py pgqueue --help` lists the other commands."
    requires_system_checks = []

    def run_from_argv(self, argv: list[str]) -> None:
        """As typed. The words are those of `pgqueue`, which knows other options than Django's commands do."""
        try:
            run(_without_django(argv[2:]), program=f"{Path(argv[0]).name} {argv[1]}")
        finally:
            connections.close_all()

    def print_help(self, prog_name: str, subcommand: str) -> None:
        """`manage.py help pgqueue`."""
        run(["--help"], program=f"{prog_name} {subcommand}")

    def add_arguments(self, parser: CommandParser) -> None:
        """For call_command("pgqueue", "stats", "--once")."""
        parser.add_argument("words", nargs=REMAINDER)

    def handle(self, *_: Any, **options: Any) -> None:
        """For call_command; raises SystemExit unless all went well."""
        run(options["words"], program="manage.py pgqueue")


def run(words: Sequence[str], *, program: str) -> None:
    """Run a command of ours. Returns if all went well, else raises SystemExit with its code.

    A worker takes the place of this process, which has imported the project: in a supervisor no user code runs.
    """
    command = next((word for word in words if not word.startswith("-")), None)
    if command == "worker" and "--help" not in words:
        sys.stdout.flush()
        sys.stderr.flush()
        connections.close_all()
        os.execve(
            sys.executable,
            [sys.executable, "-m", "pgqueue", *words],
            environment_for(app=WORKER, path=added_path()),
        )
    try:
        main(words, program=program, home=Home(pgqueue.app, WORKER))
    except SystemExit as end:
        if end.code:
            raise


def _without_django(words: Sequence[str]) -> list[str]:
    """What is left for `pgqueue`."""
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        name, given, _ = word.partition("=")
        if name in VALUED:
            if not given:
                next(rest, None)
        elif name not in FLAGS:
            kept.append(word)
    return kept
