"""pgqueue demo: jobs of every kind, a worker, and the dashboard, in one command."""

import subprocess
import sys

import typer
from rich.console import Console

from pgqueue import dashboard
from pgqueue.cli.options import OPERATE, place_of
from pgqueue.cli.output import say
from pgqueue.ops import stats


def demo() -> None:
    """Run a thousand jobs, some of which fail, on the embedded server or the one in PGQUEUE_DSN."""
    from pgqueue.demo import app, defer_all, wait_for

    app.migrate()
    jobs = defer_all()
    say(
        f"{len(jobs)} jobs are in {place_of(app)}; to start the same worker by hand: pgqueue worker -A pgqueue.demo -c 4"
    )
    worker = subprocess.Popen(
        [sys.executable, "-m", "pgqueue", "worker", "-A", "pgqueue.demo", "-c", "4", "-l", "critical"]
    )
    try:
        wait_for(jobs)
        found = app.look(stats.gather(app.queries))
        Console().print(dashboard.page(found, title="demo"))
    finally:
        worker.terminate()
        worker.wait()
        app.close()
    say("look around with: pgqueue stats, pgqueue jobs --state dead, pgqueue show ID")


def add_to(cli: typer.Typer) -> None:
    """Register the command."""
    cli.command(rich_help_panel=OPERATE)(demo)
