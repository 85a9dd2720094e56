"""`python -m benchmarks.plots [FILE]`: draw the README's two pictures from a run of `make bench-peers`.

Without a file it takes the newest run, else the published one, whose figures stand beside the pictures.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import typer

from benchmarks.peers.report import readme_table
from benchmarks.report import FOLDER

PUBLISHED = Path(__file__).parent / "published"
DATA = PUBLISHED / "peers.json"
OURS, THEIRS = "#1f6feb", "#9aa4af"
LINES = ("#1f6feb", "#d1492e", "#2a9d5c", "#8250df", "#bf8700", "#57606a")
SMOOTH_S = 5  # each point is the mean of so many seconds: the peers' batches end at odd moments
STARTING_S = 3  # in which a worker comes up and works off what has come meanwhile
PROCESSES = "2"

Peer = dict[str, Any]


def run(
    file: Annotated[Path | None, typer.Argument(help="A results/peers-*.json; default: the newest.")] = None,
) -> None:
    """Draw throughput beside the peers, and throughput over time beside an old snapshot."""
    source = file or max(FOLDER.glob("peers-*.json"), default=DATA)
    PUBLISHED.mkdir(exist_ok=True)
    if source != DATA:
        shutil.copyfile(source, DATA)
    peers = [each for each in json.loads(DATA.read_text("utf-8"))["peers"] if not each["reason"]]
    # The same data give the same bytes, and the text stays text.
    mpl.rcParams.update(
        {"svg.hashsalt": "pgqueue", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 11}
    )
    _throughput(peers)
    _pinned([each for each in peers if each["samples"].get("pinned")])
    typer.echo(f"{PUBLISHED}: drawn from {source.name}; the README's table:\n\n{readme_table(peers)}")


def _throughput(peers: Sequence[Peer]) -> None:
    """Bars, the fastest on top; each end of a bar is the median of the run's repeats."""
    ranked = sorted(peers, key=lambda each: each["figures"][f"drain_{PROCESSES}"])
    rates = [each["figures"][f"drain_{PROCESSES}"] for each in ranked]
    figure, axes = plt.subplots(figsize=(8, 0.42 * len(ranked) + 1))
    colours = [
        OURS if each["name"].startswith("pgqueue") and "pgqueuer" not in each["name"] else THEIRS for each in ranked
    ]
    bars = axes.barh([_label(each) for each in ranked], rates, color=colours)
    axes.bar_label(bars, [f"{rate:,.0f}" for rate in rates], padding=4)
    axes.set_xlim(right=max(rates) * 1.15)
    axes.xaxis.set_visible(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(left=False)
    _save(figure, f"No-op jobs a second, one worker with {PROCESSES} processes", "throughput")


def _label(peer: Peer) -> str:
    return f"{peer['name']}  ({'PostgreSQL' if peer['store'] == 'postgres' else 'Redis'})"


def _pinned(peers: Sequence[Peer]) -> None:
    """Lines: what ran in each second, as a share of the load that came in."""
    figure, axes = plt.subplots(figsize=(8, 4))
    for each, colour in zip(peers, LINES, strict=False):
        pinned = each["samples"]["pinned"]
        load = pinned["enqueued"] / pinned["seconds"]
        shares = [100 * rate / load for rate in _smoothed(pinned["ran"][STARTING_S:])]
        seconds = range(STARTING_S + SMOOTH_S, STARTING_S + SMOOTH_S + len(shares))
        axes.plot(seconds, shares, color=colour, label=f"{each['name']}, {load:,.0f} jobs/s came in")
    axes.set_ylim(0, 130)
    axes.set_xlabel("seconds since another transaction took its snapshot and kept it")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower left", fontsize=9)
    _save(figure, "Jobs that ran beside an old snapshot, in % of those that came in", "pinned")


def _smoothed(values: Sequence[float]) -> list[float]:
    return [fmean(values[at : at + SMOOTH_S]) for at in range(len(values) - SMOOTH_S + 1)]


def _save(figure: Any, title: str, name: str) -> None:
    figure.suptitle(title, x=0.02, ha="left")
    figure.tight_layout()
    figure.savefig(PUBLISHED / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    typer.run(run)
