"""No look ever finds more jobs past a gate than it has places, whatever is killed; and the run finds each known mistake."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.gates.chaos import MUTANTS

pytestmark = pytest.mark.long


def chaos(dsn: str, *options: str) -> dict[str, Any]:
    """One run."""
    command = [sys.executable, "-m", "tests.gates.chaos", dsn, *options]
    told = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=200)
    assert told.returncode == 0, told.stderr
    seen: dict[str, Any] = json.loads(told.stdout.splitlines()[-1])
    return seen


def test_a_limit_holds_whatever_is_killed(dsn: str) -> None:
    seen = chaos(dsn, "12", "1")
    assert (seen["over"], seen["left"], seen["deadlocks"]) == ([], [], 0), seen
    assert seen["looks"] > 100 and seen["kills"] > 5 and seen["ended"]["succeeded"] > 100, seen


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mistake_is_found(dsn: str, mutant: str) -> None:
    seen = chaos(dsn, "30", "2", mutant)
    assert seen["over"], seen
