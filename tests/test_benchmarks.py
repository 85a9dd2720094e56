"""The benchmarks run; what they find is nobody's business here."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def _run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_a_small_run_prints_a_table_and_writes_its_figures(dsn: str) -> None:
    done = _run("--scale", "0.01", "--repeat", "1", "--only", "defer,defer_many", "--dsn", dsn)
    assert done.returncode == 0, done.stderr
    assert "bare INSERT" in done.stdout
    written = Path(done.stdout.split("written to ")[1].strip())
    figures = json.loads(written.read_text("utf-8"))
    written.unlink()
    assert {each["name"] for each in figures["measurements"]} >= {"defer", "defer, share of the bare INSERT"}
    assert figures["server"]["fsync"] in ("on", "off")


def test_an_unknown_measurement_is_named() -> None:
    done = _run("--only", "speed")
    assert done.returncode == 2
    assert "speed" in done.stderr
