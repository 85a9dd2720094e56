"""The long measurements run, each at a small scale; of what they find, only what is counted is anybody's business here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent


def measured(name: str, dsn: str) -> dict[str, float]:
    """The figures of one run, by name."""
    command = [sys.executable, "-m", "benchmarks", "--scale", "0.0005", "--repeat", "1", "--only", name, "--dsn", dsn]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    written = Path(done.stdout.split("written to ")[1].strip())
    figures = json.loads(written.read_text("utf-8"))["measurements"]
    written.unlink()
    return {figure["name"]: figure["value"] for figure in figures}


def test_backlog(dsn: str) -> None:
    figures = measured("backlog", dsn)
    blocks = {name: value for name, value in figures.items() if name.startswith("claim of 10,") and "blocks" in name}
    assert len(blocks) == 5 and 10 < min(blocks.values()) <= max(blocks.values()) < 1000


def test_costs(dsn: str) -> None:
    figures = measured("costs", dsn)
    rows = ("rows inserted", "rows updated", "rows deleted", "rows dead")
    defers = [figures[f"costs of a defer: {name}"] for name in rows]
    assert defers == [1, 0, 0, 0]
    # A worker's own row and its counters come on top of the 50 jobs. Each claim is an update, and so is what gives a job back
    # that is claimed again, as where a child got no turn.
    inserted, updated, deleted, dead = drain = [figures[f"costs of a drain: {name}"] for name in rows]
    given_back = figures["costs of a drain: claims"] - 1
    own = inserted, updated - 2 * given_back, deleted
    assert all(1 <= each < 2 for each in own) and dead == updated + deleted, (drain, given_back)


def test_limits(dsn: str) -> None:
    figures = measured("limits", dsn)
    assert len(figures) == 15 and min(figures.values()) > 0


def test_doors(dsn: str) -> None:
    figures = measured("doors", dsn)
    assert len([name for name in figures if name.startswith("defer_many of ")]) == 7 and min(figures.values()) > 0
    assert len([name for name in figures if name.startswith("defer, ")]) == 6


def test_growth(dsn: str) -> None:
    figures = measured("growth", dsn)
    assert 10 < figures["memory of the supervisor after 500 jobs, Rss"] < 200


def test_events(dsn: str) -> None:
    figures = measured("events", dsn)
    assert len(figures) == 6 and min(figures.values()) > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("pinned", "pinned, 2,000 jobs/s for 10 s: deferred"),
        ("scheduled", "promote 1,000 of 2,000: blocks"),
        ("doorbell", "doorbell, 32 clients, idle to never"),
    ],
)
def test_those_that_need_time(dsn: str, name: str, figure: str) -> None:
    assert measured(name, dsn)[figure] > 0


def test_relay(dsn: str) -> None:
    figures = measured("relay", dsn)
    # A short run may take no tick of the clock that counts the work of a process.
    assert len(figures) >= 4 and min(value for name, value in figures.items() if "processor" not in name) > 0
