"""pgqueue worker, and the tasks it would run."""

import asyncio
import logging
from typing import Annotated, Any

import typer

from pgqueue.cli.options import CORES, RUN, AppName, Json, app_spec, served_queues
from pgqueue.cli.output import say, say_json, say_table
from pgqueue.errors import ConfigError, InvalidOption
from pgqueue.loader import load_app
from pgqueue.terminal import log_to_stderr

LEVELS = ("debug", "info", "warning", "error", "critical")


def worker(
    app: AppName = None,
    concurrency: Annotated[
        int, typer.Option("-c", "--concurrency", min=1, max=1024, help="Number of child processes.")
    ] = CORES,
    queues: Annotated[
        str | None,
        typer.Option("-Q", "--queues", help="Serve only these queues: mail,money; or by weight: mail:5,money:1."),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="The queues of -Q one after the other, then by priority, however long others wait."
        ),
    ] = False,
    loglevel: Annotated[
        str | None,
        typer.Option(
            "-l", "--loglevel", help=f"One of {', '.join(LEVELS)}. Default: the app's own logging, else info."
        ),
    ] = None,
    threads: Annotated[
        int, typer.Option("--threads", min=1, max=1024, help="Sync jobs that each child runs concurrently.")
    ] = 1,
    async_jobs: Annotated[
        int | None,
        typer.Option(
            "--async",
            min=1,
            max=10_000,
            help="Async jobs that each child runs at once, at most. Default: the setting async_jobs, 100.",
        ),
    ] = None,
    burst: Annotated[bool, typer.Option("--burst", help="Exit when nothing is left to run.")] = False,
    shutdown_timeout: Annotated[
        float,
        typer.Option(
            "--shutdown-timeout", min=0, help="Seconds that running jobs have to finish after TERM or Ctrl-C."
        ),
    ] = 25.0,
    max_tasks_per_child: Annotated[
        int | None, typer.Option("--max-tasks-per-child", min=1, help="Replace a child after this many jobs.")
    ] = None,
    max_memory_per_child: Annotated[
        float | None,
        typer.Option("--max-memory-per-child", min=1, help="Replace a child above this many MB of memory."),
    ] = None,
    no_listen: Annotated[bool, typer.Option("--no-listen", help="Poll instead of LISTEN.")] = False,
) -> None:
    """Run jobs until TERM, HUP or Ctrl-C. A second signal, or QUIT, does not wait for running jobs."""
    from pgqueue.worker.settings import Settings  # a stats page needs none of this
    from pgqueue.worker.supervisor.supervisor import Supervisor

    if loglevel is not None and loglevel.lower() not in LEVELS:
        raise ConfigError(f"-l {loglevel} is not a valid log level; take one of {', '.join(LEVELS)}")
    served = served_queues(queues)
    if strict and served.weights:
        raise InvalidOption("give --strict or weights in -Q, not both: by weight no queue has to wait for another")
    settings = Settings(
        app=app_spec(app), concurrency=concurrency, queues=served.queues, weights=served.weights, strict=strict,
        threads=threads, async_jobs=async_jobs, burst=burst,
        shutdown_timeout_s=shutdown_timeout, max_tasks_per_child=max_tasks_per_child,
        max_memory_per_child_mb=max_memory_per_child, listen=not no_listen,
        log_level=None if loglevel is None else loglevel.lower(),
    )  # fmt: skip
    log_to_stderr(level=loglevel or "info", form=settings.log_format)
    logging.getLogger("asyncio").setLevel(logging.WARNING)

    async def main() -> None:
        await Supervisor(settings, greet=_banner).run()

    asyncio.run(main())


def _banner(facts: dict[str, Any]) -> None:
    """Print everything that an issue report needs."""
    say(f"pgqueue {facts.pop('version')} is ready")
    for name, value in facts.items():
        lines = value if isinstance(value, list) else [value]
        for number, line in enumerate(lines):
            say(f"  {name if number == 0 else '':<10} {line}")


def tasks(app: AppName = None, as_json: Json = False) -> None:
    """List the tasks of an app."""
    found = [
        {
            "task": task.name,
            "queue": task.queue,
            "async": task.is_async,
            "async_limit": task.async_limit,
            "timeout_s": task.timeout_s,
            "atomic": task.atomic,
        }
        for _, task in sorted(load_app(app_spec(app)).tasks.items())
    ]
    if as_json:
        say_json(found)
    else:
        say_table(
            ("TASK", "QUEUE", "ASYNC", "ASYNC_LIMIT", "TIMEOUT_S", "ATOMIC"),
            (list(task.values()) for task in found),
            empty="no tasks",
        )


def add_to(cli: typer.Typer) -> None:
    """Register the commands of this module."""
    cli.command(rich_help_panel=RUN)(worker)
    cli.command(rich_help_panel=RUN)(tasks)
