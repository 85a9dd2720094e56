"""A run's figures as a table for people and as a JSON file that can be compared with an older one."""

import json
import os
import platform
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.bench import Bench
from benchmarks.measurement import Measurement, show

FOLDER = Path(__file__).parent / "results"
SERVER_SETTINGS = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "wal_level")


def surroundings(bench: Bench) -> dict[str, Any]:
    """What the figures depend on besides the code."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu_count": os.cpu_count(),
        "psycopg": version("psycopg"),
        "server": _server_settings(bench),
        "scale": bench.scale,
        "repeat": bench.repeat,
    }


def _server_settings(bench: Bench) -> dict[str, str]:
    names = list(SERVER_SETTINGS)
    return dict(bench.admin.execute("select name, setting from pg_settings where name = any (%s)", [names]).fetchall())


def commit() -> str | None:
    """The commit that was measured, `-dirty` if files differ from it; None outside of a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(command, cwd=FOLDER.parent, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def print_table(found: list[Measurement]) -> None:
    """Every figure with its spread, its target and whether that is met."""
    table = Table("measurement", "value", "unit", "spread", "of floor", "target", "met")
    for each in found:
        table.add_row(*_cells(each))
    Console().print(table)


def _cells(each: Measurement) -> tuple[str, ...]:
    spread = f"{show(min(each.samples))} .. {show(max(each.samples))}" if len(each.samples) > 1 else ""
    ratio = "" if each.floor_ratio is None else f"{each.floor_ratio:.0%}"
    met = {None: "", True: "yes", False: "NO"}[each.met]
    return each.name, show(each.value), each.unit, spread, ratio, str(each.target or ""), met


def write(found: list[Measurement], around: dict[str, Any]) -> Path:
    """results/<UTC time>.json; the folder is not under version control."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    content = {**around, "measurements": [asdict(each) | {"met": each.met} for each in found]}
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    return path
