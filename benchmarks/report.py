"""A run's figures as a table for people and as a JSON file that can be compared with an older one."""

import json
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from benchmarks.bench import Bench
from pgqueue.bench.measurement import Measurement
from pgqueue.bench.surroundings import surroundings as package_surroundings

FOLDER = Path(__file__).parent / "results"
WIDTH = 100  # columns, whatever the terminal has: the same in a mail or a commit
MET = {None: "", True: " yes", False: " NO"}


def surroundings(bench: Bench) -> dict[str, Any]:
    """What the figures depend on besides the code, and the code."""
    return package_surroundings(bench) | {"commit": commit(), "scale": bench.scale}


def commit() -> str | None:
    """The commit that was measured, `-dirty` if files differ from it; None outside of a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(command, cwd=FOLDER.parent, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def print_table(found: list[Measurement]) -> None:
    """Every figure with its spread, its share of the floor, its target and whether that is met."""
    table = Table(box=SIMPLE, pad_edge=False, padding=(0, 1))
    table.add_column("measurement", overflow="fold")
    for heading in ("value", "unit", "spread", "floor", "target"):
        table.add_column(heading, no_wrap=True, justify="right" if heading in ("value", "floor") else "left")
    for each in found:
        table.add_row(*each.cells(), f"{each.target}{MET[each.met]}" if each.target else "")
    Console(width=WIDTH).print(table)


def write(found: list[Measurement], around: dict[str, Any]) -> Path:
    """results/<UTC time>.json; the folder is not under version control."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.json"
    content = {**around, "measurements": [asdict(each) | {"met": each.met} for each in found]}
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    return path
