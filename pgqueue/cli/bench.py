"""pgqueue bench: the throughput and latency of this database, next to those of the same SQL by bare psycopg."""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pgqueue import db
from pgqueue.cli.options import CORES, OPERATE, Json, chosen_app
from pgqueue.cli.output import say, say_json, say_table

if TYPE_CHECKING:
    from pgqueue.bench.measurement import Measurement

HEADINGS = ("MEASUREMENT", "VALUE", "UNIT", "SPREAD", "OF FLOOR")


def bench(
    jobs: Annotated[
        int, typer.Option("--jobs", min=1000, max=10_000_000, help="Number of jobs to run in each measurement.")
    ] = 50_000,
    repeat: Annotated[int, typer.Option("--repeat", min=1, max=100, help="Number of samples of each rate.")] = 3,
    concurrency: Annotated[
        int, typer.Option("-c", "--concurrency", min=1, max=1024, help="Number of child processes of the worker.")
    ] = CORES,
    as_json: Json = False,
) -> None:
    """Measure your database in about a minute, in a schema of its own that is dropped at the end."""
    from pgqueue.bench import defer, defer_many, drain, latency
    from pgqueue.bench.interruption import Interruption
    from pgqueue.bench.scratch import scratch
    from pgqueue.bench.surroundings import surroundings

    with (
        Interruption() as ending,
        scratch(chosen_app().dsn, jobs=jobs, repeat=repeat, concurrency=concurrency, check=ending.check) as place,
    ):
        _note(f"in the schema {place.app.config.schema} of {db.describe(place.app.dsn)}, which is dropped at the end")
        around = surroundings(place) | {"jobs": jobs, "concurrency": concurrency}
        found: list[Measurement] = []
        for part in (defer, defer_many, drain, latency):
            _note(f"{part.__name__.rpartition('.')[2]} ...")
            found += part.measure(place)
            ending.check()
    _print(found, around, as_json=as_json)


def _note(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _print(found: "list[Measurement]", around: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        say_json({**around, "measurements": [_figure(each) for each in found]})
        return
    say_table(HEADINGS, (each.cells() for each in found), empty="nothing was measured")
    server = around["server"]
    say(
        f"\nmedians of {around['repeat']}; floor: the same SQL by bare psycopg. PostgreSQL {server['server_version']}, "
        f"fsync {server['fsync']}, synchronous_commit {server['synchronous_commit']}; {around['cpu_count']} cores here"
    )


def _figure(found: "Measurement") -> dict[str, Any]:
    """Without our own targets, which hold for one machine only."""
    return {name: value for name, value in asdict(found).items() if name != "target"}


def add_to(cli: typer.Typer) -> None:
    """Register the command."""
    cli.command(rich_help_panel=OPERATE)(bench)
