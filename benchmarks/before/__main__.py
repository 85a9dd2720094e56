"""`python -m benchmarks.before COMMIT`: this checkout beside an earlier commit, in interleaved pairs.

Each figure is a rate; the ratio is this build's to the earlier one's, pair by pair. Told are the median ratio and its 95 %
interval by order statistics (of 30 pairs the 10th and the 21st): nothing is assumed of how the ratios are spread.

Both programs of a pair live at once and take turns of a second or less: what a machine does to one it does to the other. One after
the other, the intervals of 30 pairs were +-0.05 for each figure on two shared cores.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from math import comb
from pathlib import Path
from statistics import median
from typing import Annotated

import psycopg
import typer
from psycopg.conninfo import make_conninfo

from benchmarks.bench import database
from pgqueue import App

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "benchmarks" / "before" / "program.py"
FIGURES = ("drain-1", "drain-2", "defer", "latency-1")
TURNS = {"drain": 6, "defer": 20, "latency": 10}  # of each program in a pair
FLOOR = 0.98  # of the median ratio, and
LOWER = 0.96  # of the lower end of its interval


def run(
    commit: Annotated[str, typer.Argument(help="The build to compare with.")],
    pairs: Annotated[int, typer.Option(min=6, help="Of each figure.")] = 30,
    only: Annotated[str, typer.Option(help=f"Comma-separated: {', '.join(FIGURES)}.")] = ",".join(FIGURES),
    dsn: Annotated[str | None, typer.Option(help="The server; default: PGQUEUE_DSN, else the embedded one.")] = None,
) -> None:
    """Measure both builds in turn; exit code 1 if a figure fell below what is asked of it."""
    fell = False
    with opened(commit, dsn) as sides:
        for figure in only.split(","):
            then, now = _measure(figure, sides, pairs)
            fell |= not _tell(figure, then, now)
    sys.exit(int(fell))


@contextmanager
def opened(commit: str, dsn: str | None) -> Iterator[Sequence[Mapping[str, str]]]:
    """The environments of both builds, the earlier one first, each with a database of its own on one server."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pgqueue-before-")))
        archive = subprocess.run(["git", "archive", commit, "pgqueue"], cwd=ROOT, check=True, stdout=subprocess.PIPE)
        subprocess.run(
            ["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True
        )  # tarfile's filters are of 3.11.4
        server = App(dsn).dsn
        admin = stack.enter_context(psycopg.connect(server, autocommit=True))
        names = [stack.enter_context(database(admin, prefix="pgqueue_before")) for _ in range(2)]
        yield [
            {**os.environ, "PYTHONPATH": str(path), "PGQUEUE_DSN": make_conninfo(server, dbname=name)}
            for path, name in zip((folder, ROOT), names, strict=True)
        ]


def _measure(figure: str, sides: Sequence[Mapping[str, str]], pairs: int) -> tuple[list[float], list[float]]:
    """Samples of both; who begins takes turns. The first pair warms up and is forgotten."""
    found: tuple[list[float], list[float]] = [], []
    for number in range(pairs + 1):
        for side, rate in _pair(figure, sides, (0, 1) if number % 2 else (1, 0)):
            found[side].append(rate)
    return found[0][1:], found[1][1:]


def _pair(figure: str, sides: Sequence[Mapping[str, str]], order: Sequence[int]) -> Iterator[tuple[int, float]]:
    """The median of each one's turns."""
    rates: dict[int, list[float]] = {side: [] for side in order}
    with ExitStack() as stack:
        programs = {side: stack.enter_context(_program(figure, sides[side])) for side in order}
        for program in programs.values():
            _rate(program)  # it is ready
        for _ in range(TURNS[figure.partition("-")[0]]):
            for side, program in programs.items():
                _ask(program)
                rates[side].append(_rate(program))
    for side, found in rates.items():
        yield side, median(found)


@contextmanager
def _program(figure: str, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """One that prints a rate for each line that it is sent, and ends when no more can come; it must succeed."""
    command = [sys.executable, str(PROGRAM), figure]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        yield program
    if program.returncode:
        raise subprocess.CalledProcessError(program.returncode, command)


def _ask(program: subprocess.Popen[str]) -> None:
    assert program.stdin is not None
    program.stdin.write("\n")
    program.stdin.flush()


def _rate(program: subprocess.Popen[str]) -> float:
    assert program.stdout is not None
    return float(program.stdout.readline())


def _tell(figure: str, then: Sequence[float], now: Sequence[float]) -> bool:
    """One line; whether the figure holds."""
    ratios = sorted(after / before for before, after in zip(then, now, strict=True))
    low, high = (ratios[place] for place in interval(len(ratios)))
    middle = median(ratios)
    holds = middle >= FLOOR and low >= LOWER
    typer.echo(
        f"{figure:<10} {median(then):>10,.0f} -> {median(now):>10,.0f} a second   ratio {middle:.3f} "
        f"({low:.3f} .. {high:.3f}, {len(ratios)} pairs){'' if holds else '   FELL'}"
    )
    return holds


def interval(count: int) -> tuple[int, int]:
    """Places, from 0, of the sorted samples between which their median lies with a probability of 95 % at least."""
    below, tail = 0, 0.0
    while tail + comb(count, below) / 2**count <= 0.025:
        tail += comb(count, below) / 2**count
        below += 1
    return max(0, below - 1), min(count - 1, count - below)


if __name__ == "__main__":
    typer.run(run)
