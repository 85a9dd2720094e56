"""`python -m benchmarks.peers`: measure pgqueue and its peers in turn, print a table and write a JSON file beside it."""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Annotated

import typer

from benchmarks.peers import (
    celery,
    drain,
    dramatiq,
    enqueue,
    graphile,
    latency,
    oban,
    pgqueue,
    pgqueuer,
    pinned,
    procrastinate,
    report,
    rq,
)
from benchmarks.peers.results import Results
from benchmarks.peers.stores import Stores
from benchmarks.report import commit
from pgqueue.bench.surroundings import machine

PEERS = (
    pgqueue.PEER,
    pgqueue.KEEP_NOTHING,
    graphile.PEER,
    pgqueuer.PEER,
    procrastinate.PEER,
    oban.PEER,
    celery.PEER,
    dramatiq.PEER,
    rq.PEER,
)
NAMES = [each.name for each in PEERS]
PROCESSES = (1, 2)

Step = Callable[[Results], None]


def run(
    only: Annotated[str, typer.Option(help=f"Comma-separated: {', '.join(NAMES)}.")] = ",".join(NAMES),
    jobs: Annotated[int, typer.Option(min=0, help="In each drain; 0: as many as take the peer about 4 s.")] = 0,
    repeat: Annotated[int, typer.Option(min=1, help="Samples of each figure; the median counts.")] = 3,
    pinned_seconds: Annotated[int, typer.Option(min=0, help="How long the old snapshot lasts; 0: leave it out.")] = 120,
    dsn: Annotated[str | None, typer.Option(help="The server; default: PGQUEUE_DSN, else the embedded one.")] = None,
) -> None:
    """Measure pgqueue beside other queues, each at its own documented best, in one run on this machine."""
    found = [Results(each) for each in PEERS if each.name in _names(only)]
    with ExitStack() as stack:
        stores = Stores(dsn, stack)
        for what, step in _steps(stores, jobs, repeat, pinned_seconds):
            for each in found:
                _taken(what, step, each)
        around = machine() | {"commit": commit(), "stores": stores.settings(), "repeat": repeat}
    path = report.write(found, around)
    report.print_table(found)
    typer.echo(f"written to {path}")


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(NAMES):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: there are {', '.join(NAMES)}", param_hint="--only")
    return names


def _steps(stores: Stores, jobs: int, repeat: int, pinned_seconds: int) -> list[tuple[str, Step]]:
    """What is done, in order; the peers take turns within each step, so that a disturbance meets them alike."""
    rounds = [step for n in range(1, repeat + 1) for step in _round(stores, f"repeat {n}")]
    held = [("pinned snapshot", lambda each: _pin(stores, each, pinned_seconds))] if pinned_seconds else []
    return [("installed", _install), ("trial", lambda each: _size(stores, each, jobs)), *rounds, *held]


def _round(stores: Stores, name: str) -> list[tuple[str, Step]]:
    drains = [(f"{name}: drain -c{n}", lambda each, n=n: _drain(stores, each, n)) for n in PROCESSES]
    return [
        *drains,
        (f"{name}: enqueue", lambda each: each.singles.append(enqueue.measure(stores, each.peer))),
        (f"{name}: latency", lambda each: each.latencies_ms.append(latency.measure(stores, each.peer))),
    ]


def _install(each: Results) -> None:
    each.peer.environment.install()
    each.versions = each.peer.environment.versions()


def _size(stores: Stores, each: Results, jobs: int) -> None:
    each.jobs = jobs or drain.jobs_for(stores, each.peer)


def _drain(stores: Stores, each: Results, processes: int) -> None:
    drained = drain.measure(stores, each.peer, processes, each.jobs)
    each.drained.setdefault(processes, []).append(drained)


def _pin(stores: Stores, each: Results, seconds: int) -> None:
    if each.peer.store == "postgres":
        each.pinned = pinned.measure(stores, each.peer, each.figures()["drain_2"], seconds)


def _taken(what: str, step: Step, each: Results) -> None:
    """A peer that fails is reported with its reason and takes no further part; the others go on."""
    if each.reason:
        return
    sys.stderr.write(f"{what}: {each.peer.name} ...\n")
    try:
        step(each)
    except Exception as error:
        each.reason = f"{what}: {str(error) or type(error).__name__}"
        sys.stderr.write(f"{each.peer.name} left out: {each.reason}\n")


if __name__ == "__main__":
    typer.run(run)
