"""`python -m benchmarks`: measure, print a table and write a JSON file beside it."""

import sys
from collections.abc import Callable, Iterator
from typing import Annotated

import typer

from benchmarks import (
    backlog,
    calls,
    costs,
    defer,
    defer_many,
    doorbell,
    doors,
    drain,
    enqueue,
    events,
    growth,
    idle,
    latency,
    limits,
    memory,
    pinned,
    relay,
    report,
    scheduled,
)
from benchmarks.bench import Bench, opened
from pgqueue.bench.measurement import Measurement

MEASURES: dict[str, Callable[[Bench], Iterator[Measurement]]] = {
    "drain": drain.measure,
    "defer": defer.measure,
    "defer_many": defer_many.measure,
    "enqueue": enqueue.measure,
    "calls": calls.measure,
    "doors": doors.measure,
    "latency": latency.measure,
    "memory": memory.measure,
    "idle": idle.measure,
    "backlog": backlog.measure,
    "pinned": pinned.measure,
    "doorbell": doorbell.measure,
    "costs": costs.measure,
    "scheduled": scheduled.measure,
    "growth": growth.measure,
    "events": events.measure,
    "relay": relay.measure,
    "limits": limits.measure,
}


def run(
    only: Annotated[str, typer.Option(help=f"Comma-separated: {', '.join(MEASURES)}.")] = ",".join(MEASURES),
    scale: Annotated[float, typer.Option(min=0.0001, max=10, help="1 is what the targets are about.")] = 1.0,
    repeat: Annotated[int, typer.Option(min=1, help="Samples of each rate; the median counts.")] = 3,
    dsn: Annotated[str | None, typer.Option(help="The server; default: PGQUEUE_DSN, else the embedded one.")] = None,
) -> None:
    """Measure pgqueue against its targets, in a database made for the run."""
    names = _names(only)
    found: list[Measurement] = []
    with opened(dsn, scale=scale, repeat=repeat) as bench:
        around = report.surroundings(bench)
        try:
            for name in names:
                sys.stderr.write(f"{name} ...\n")
                found += MEASURES[name](bench)
        finally:  # a run takes an hour: what one failure or Ctrl-C ends has figures too
            report.print_table(found)
            typer.echo(f"written to {report.write(found, around)}")


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - MEASURES.keys():
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: there are {', '.join(MEASURES)}", param_hint="--only")
    return names


if __name__ == "__main__":
    typer.run(run)
