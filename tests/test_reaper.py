"""A worker that is the first process of a container waits for orphans, and for nobody else's children."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pgqueue import JobDead
from tests import hostile_tasks as tasks
from tests.conftest import Worker, eventually

pytestmark = [
    pytest.mark.usefixtures("task_app"),
    pytest.mark.skipif(sys.platform != "linux", reason="orphans go to a subreaper on Linux only"),
]

BECOME = "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"
SUBREAPER = [sys.executable, "-c", BECOME]
FIRST = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]


@pytest.mark.parametrize(
    "prefix",
    [
        pytest.param(SUBREAPER, id="subreaper"),
        pytest.param(
            FIRST, id="pid-1",
            marks=pytest.mark.skipif(os.getuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare"),
        ),
    ],
)  # fmt: skip
def test_orphans_are_waited_for_and_our_own_children_still_tell_how_they_ended(
    start_worker: Callable[..., Worker], tmp_path: Path, prefix: list[str]
) -> None:
    start_worker("-c", "2", app="tests.hostile_tasks", prefix=prefix).ready()
    orphans = [tasks.leave_an_orphan.defer(str(tmp_path / "go")).result(30) for _ in range(3)]
    assert [tasks.parent_and_state.defer(pid).result(30)[0] for pid in orphans] == ["the worker"] * 3
    (tmp_path / "go").touch()
    eventually(
        lambda: not any(tasks.parent_and_state.defer(pid).result(30) for pid in orphans),
        what="all have been waited for",
    )
    with pytest.raises(JobDead, match="3 times while running it; the last one exited with code 7"):
        tasks.exit_with.defer(7).result(60)
