"""The run's figures as a table for people and as a JSON file."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measurement import show
from benchmarks.peers.results import Results
from benchmarks.report import FOLDER

COLUMNS = {
    "drain_1": "drain -c1",
    "drain_2": "drain -c2",
    "enqueue": "enqueue",
    "bulk": "bulk",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "pinned_first": "pinned, first",
    "pinned_last": "pinned, last",
}
NOTE = (
    "jobs/s but for p50 and p99; in brackets: the peer's figure as a share of pgqueue's in the same run. "
    "PostgreSQL waits for the disk at each commit; Redis as Debian ships it saves snapshots and may lose a minute."
)


def print_table(found: list[Results]) -> None:
    """Every peer with its medians, and below it whoever takes no part and why."""
    ours = next((each.figures() for each in found if each.peer.name == "pgqueue"), {})
    shown = [key for key in COLUMNS if any(key in each.figures() for each in found)]
    table = Table("peer", "keeps of a success", *(COLUMNS[key] for key in shown), caption=NOTE)
    for each in found:
        figures = each.figures()
        table.add_row(each.peer.name, each.peer.keeps, *(_cell(key, figures, ours) for key in shown))
    console = Console()
    console.print(table)
    for each in found:
        if each.reason:
            console.print(f"{each.peer.name}: left out: {each.reason}", markup=False, highlight=False)


def _cell(key: str, figures: dict[str, float], ours: dict[str, float]) -> str:
    if key not in figures:
        return "-"
    ratio = f" ({figures[key] / ours[key]:.2f})" if ours.get(key) and figures is not ours else ""
    return show(figures[key]) + ratio


def write(found: list[Results], around: dict[str, Any]) -> Path:
    """results/peers-<UTC time>.json; the folder is not under version control."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"peers-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    content = {**around, "peers": [each.as_json() for each in found]}
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    return path
