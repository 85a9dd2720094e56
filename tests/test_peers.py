"""The comparison with other queues measures what it says, tried on pgqueue itself; the others need an installation."""

import fcntl
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.peers import drain, enqueue, environment, latency, pinned
from benchmarks.peers.environment import Python
from benchmarks.peers.pgqueue import PEER
from benchmarks.peers.sample import Failed
from benchmarks.peers.stores import Stores

pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent


@pytest.fixture
def stores(server_dsn: str) -> Iterator[Stores]:
    with ExitStack() as stack:
        yield Stores(server_dsn, stack)


def test_a_drain_counts_every_job_once_and_waits_for_the_store(stores: Stores) -> None:
    drained = drain.measure(stores, PEER, 1, 5000)
    assert drained.rate > 0
    assert drained.bulk_rate > 0


def test_a_job_that_the_store_does_not_know_of_fails_the_peer(stores: Stores) -> None:
    forgetful = replace(PEER, done=lambda look, enqueued: enqueued + 1)
    with pytest.raises(Failed, match="of 5000 jobs enqueued 5000 ran and 5001 are recorded"):
        drain.measure(stores, forgetful, 1, 5000)


def test_a_drain_too_short_to_measure_says_so(stores: Stores) -> None:
    with pytest.raises(drain.TooFew, match="1 jobs are too few"):
        drain.measure(stores, PEER, 1, 1)


def test_latency_and_enqueue(stores: Stores) -> None:
    assert enqueue.measure(stores, PEER, 50) > 0
    samples_ms = latency.measure(stores, PEER, 5)
    assert len(samples_ms) == 5
    assert all(0 < each < 60_000 for each in samples_ms)


def test_a_steady_load_beside_an_old_snapshot(stores: Stores) -> None:
    found = pinned.measure(stores, PEER, drain_rate=100, seconds=2)
    assert len(found.ran) == 2
    assert 60 <= found.enqueued <= 120
    assert 0 <= found.backlog <= found.enqueued


def test_a_peer_that_needs_a_newer_python_says_so() -> None:
    with pytest.raises(RuntimeError, match=re.escape("it needs Python 3.99 or later")):
        Python("never", [], least=(3, 99)).install()


def test_an_environment_is_made_by_one_process_at_a_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A second one cleared the folder that the first was filling."""
    made = []

    def run(command: Sequence[str]) -> str:
        made.append(command)
        (tmp_path / "shared").mkdir(exist_ok=True)
        with (tmp_path / "shared.lock").open("w") as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return ""

    monkeypatch.setattr(environment, "FOLDER", tmp_path)
    monkeypatch.setattr(environment, "_run", run)
    for _ in range(2):
        Python("shared", ["anything"]).install()
    assert len(made) == 2, "the interpreter and its packages, once"


def test_a_peer_that_cannot_take_part_is_reported_and_the_run_goes_on(server_dsn: str, tmp_path: Path) -> None:
    """No `node`, no `npm`: Graphile Worker cannot be had. git tells which commit is measured."""
    if git := shutil.which("git"):
        (tmp_path / "git").symlink_to(git)
    command = [sys.executable, "-m", "benchmarks.peers", "--only", "graphile-worker", "--dsn", server_dsn]
    done = subprocess.run(
        command, cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    written = Path(done.stdout.split("written to ")[1].strip())
    figures = json.loads(written.read_text("utf-8"))
    written.unlink()
    assert "PATH" in figures["peers"][0]["reason"]
