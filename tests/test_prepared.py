"""A worker that is forked is what a start by the interpreter makes of it."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import prepared
from tests.conftest import alive, eventually
from tests.shell import ROOT


def begin(forked: bool, *words: str, cwd: Path = ROOT, **environment: str) -> prepared.Process:
    start = prepared.start if forked else prepared.launch
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environment}
    process = start([sys.executable, "-m", "pgqueue", *words], cwd=cwd, env=env)
    assert isinstance(process, prepared.Forked) == forked
    return process


def outcome(process: prepared.Process) -> tuple[str, int]:
    assert process.stdout is not None
    with process.stdout:
        return re.sub(r"\d+", "1", process.stdout.read()), process.wait(60)  # times and process ids


@pytest.mark.parametrize(
    "words",
    [["--version"], ["worker", "-A", "nowhere"], ["worker", "-A", "here", "-c", "1"], ["defer", "--nothing"], []],
)
def test_it_says_and_returns_the_same(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "here.py").write_text("import os\nraise OSError(os.getcwd() + os.environ['MARK'])\n")
    forked, launched = (outcome(begin(way, *words, cwd=tmp_path, MARK="marked")) for way in (True, False))
    assert forked == launched and forked[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
@pytest.mark.parametrize("forked", [True, False])
def test_signals_and_the_session(forked: bool, number: signal.Signals, dsn: str) -> None:
    process = begin(forked, "worker", "-A", "tests.tasks", "-c", "1", PGQUEUE_DSN=dsn)
    assert os.getsid(process.pid) == process.pid and process.poll() is None
    assert process.stdout is not None
    with process.stdout as output:
        assert any("is ready" in line for line in output)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0)
        process.send_signal(number)
        assert process.wait(60) == (-number if number == signal.SIGKILL else 0)
    assert process.returncode == process.poll() == process.wait()
    eventually(lambda: not alive(process.pid), what="its end")


def test_what_the_interpreter_reads_makes_a_real_start() -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "ascii"}
    process = prepared.start([sys.executable, "-m", "pgqueue", "--version"], cwd=ROOT, env=env)
    assert isinstance(process, subprocess.Popen) and outcome(process)[1] == 0
