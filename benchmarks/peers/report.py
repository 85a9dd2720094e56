"""The run's figures as a table for people and as a JSON file."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.peers.results import Results
from benchmarks.report import FOLDER
from pgqueue.bench.measurement import show

COLUMNS = {
    "drain_1": "drain -c1",
    "drain_2": "drain -c2",
    "enqueue": "enqueue",
    "bulk": "bulk",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "pinned_load": "pinned: load",
    "pinned_first": "ran first",
    "pinned_last": "ran last",
    "pinned_backlog": "backlog",
}
WIDTH = 160  # the table is of no use in less
NOTE = (
    "jobs/s but for p50, p99 and backlog (jobs); in brackets: the figure as a share of pgqueue's in the same run. "
    "PostgreSQL waits for the disk at each commit; Redis as Debian ships it saves snapshots and may lose minutes."
)


def print_table(found: list[Results]) -> None:
    """Every peer with its medians; below it what its settings are, or why it takes no part."""
    ours = next((each.figures() for each in found if each.peer.name == "pgqueue"), {})
    shown = [key for key in COLUMNS if any(key in each.figures() for each in found)]
    table = Table("peer")
    for key in shown:
        table.add_column(COLUMNS[key], justify="right", no_wrap=True)
    for each in found:
        table.add_row(each.peer.name, *(_cell(key, each.figures(), ours) for key in shown))
    console = Console(width=max(Console().width, WIDTH))
    console.print(table)
    console.print(NOTE, markup=False, highlight=False)
    for each in found:
        console.print(f"{each.peer.name}: {_about(each)}", markup=False, highlight=False)


README = {
    "drain_1": "1 process",
    "drain_2": "2 processes",
    "enqueue": "enqueue",
    "bulk": "in bulk",
    "p50_ms": "p50",
    "p99_ms": "p99",
}


def readme_table(peers: list[dict[str, Any]]) -> str:
    """The figures of a JSON file's peers as a table in Markdown; a peer that was left out has none."""
    lines = [
        "| | kept of a success | " + " | ".join(README.values()) + " |",
        "|---|---|" + "--:|" * len(README),
    ]
    for each in (peer for peer in peers if not peer["reason"]):
        cells = [show(each["figures"][key]) if key in each["figures"] else "-" for key in README]
        lines.append(f"| {each['name']} {_version(each)} | {each['keeps']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _version(peer: dict[str, Any]) -> str:
    wanted = "pgqueue-jobs" if peer["name"].startswith("pgqueue ") or peer["name"] == "pgqueue" else peer["name"]
    return str(peer["versions"].get(wanted, ""))


def _about(each: Results) -> str:
    if each.reason:
        return f"left out at {each.reason}"
    return f"{each.peer.settings}; keeps of a success: {each.peer.keeps}"


def _cell(key: str, figures: dict[str, float], ours: dict[str, float]) -> str:
    if key not in figures:
        return "-"
    # Each peer has its own load beside an old snapshot: how it holds against that is what counts.
    compared = ours.get(key) and figures != ours and not key.startswith("pinned")
    return show(figures[key]) + (f" ({figures[key] / ours[key]:.2f})" if compared else "")


def write(found: list[Results], around: dict[str, Any]) -> Path:
    """results/peers-<UTC time>.json; the folder is not under version control."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"peers-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.json"
    content = {**around, "peers": [each.as_json() for each in found]}
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    return path
