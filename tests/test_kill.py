"""`cancel --kill` ends a job that heeds no cancel, and nothing else."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from pgqueue import JobCancelled
from pgqueue.cli import cli
from pgqueue.job import Claimed, new_id
from pgqueue.worker.link.running_slots import RunningSlots, blank
from pgqueue.worker.supervisor.cancels import Cancels
from pgqueue.worker.supervisor.child_handle import Ending, Run
from tests import hostile_tasks as tasks
from tests.conftest import Worker, alive, eventually
from tests.untyped import untyped

Start = Callable[..., Worker]

pytestmark = pytest.mark.usefixtures("task_app")


@pytest.fixture
def start(start_worker: Start) -> Start:
    """A worker that knows the hostile tasks."""
    return lambda *options, **settings: start_worker(*options, app="tests.hostile_tasks", **settings)


def running(conn: psycopg.Connection) -> int:
    ((count,),) = conn.execute("select count(*) from pgqueue.job where state = 'running'")
    return int(count)


@pytest.mark.parametrize(
    "task",
    [tasks.sleep_deaf, tasks.hold_the_interpreter, tasks.swallow_cancels],
    ids=lambda task: task.name.split(".")[-1],
)
def test_a_job_that_reaches_no_safe_point_is_ended_and_nobody_is_charged(
    start: Start, conn: psycopg.Connection, tmp_path: Path, task: Any
) -> None:
    worker = start("-c", "1").ready()
    (child,) = worker.children()
    job = task.defer(str(tmp_path / "runs"))
    eventually((tmp_path / "runs").exists, what="it runs")
    assert job.cancel("wrong month", kill=True)
    with pytest.raises(JobCancelled, match="wrong month"):
        job.result(30)
    worker.said(f"job {job.id} ({task.name}) is cancelled by force; child 0 is killed")
    told = f"job {job.id} ({task.name}) is cancelled"
    eventually(lambda: any(line.endswith(told) for line in worker.lines), what="its end is told, without an error")
    assert not alive(child) and tasks.echo.defer(1).result(30) == 1
    found = job.snapshot()
    assert (found.attempt, found.crashes) == (0, 0)
    assert conn.execute("select count(*) from pgqueue.attempt").fetchone() == (0,)
    assert conn.execute("select action from pgqueue.audit").fetchall() == [("kill",)]


@pytest.mark.parametrize("kind", ["threads", "async"])
def test_jobs_beside_a_killed_one_run_elsewhere_uncharged(
    start: Start, conn: psycopg.Connection, tmp_path: Path, kind: str
) -> None:
    worker = start("-c", "1", "--threads", "3").ready()
    (child,) = worker.children()
    marker = tmp_path / "beside"
    marker.touch()
    beside = tasks.wait_beside if kind == "threads" else tasks.wait_beside_async
    neighbours = [beside.defer(str(marker)) for _ in range(2)]
    job = (tasks.sleep_deaf if kind == "threads" else tasks.swallow_cancels).defer(str(tmp_path / "runs"))
    eventually(lambda: running(conn) == 3 and (tmp_path / "runs").exists(), what="all run")
    job.cancel(kill=True)
    eventually(lambda: not alive(child), what="the child is killed")
    marker.unlink()
    assert child not in {neighbour.result(30) for neighbour in neighbours}
    assert [(each.snapshot().attempt, each.snapshot().crashes) for each in neighbours] == [(1, 0)] * 2
    assert job.state == "cancelled" and conn.execute("select count(*) from pgqueue.attempt").fetchone() == (0,)


def test_a_job_that_heeds_the_cancel_costs_no_process(start: Start, tmp_path: Path) -> None:
    worker = start("-c", "1").ready()
    children = worker.children()
    job = tasks.stop_when_asked.defer(str(tmp_path / "runs"))
    eventually((tmp_path / "runs").exists, what="it runs")
    job.cancel(kill=True)
    with pytest.raises(JobCancelled, match=r"at a safe point|cancelled by request"):
        job.result(30)
    assert tasks.echo.defer(1).result(30) == 1 and worker.children() == children


def test_a_kill_may_follow_a_cancel_that_was_not_heeded(start: Start, conn: psycopg.Connection, tmp_path: Path) -> None:
    worker = start("-c", "1").ready()
    job = tasks.sleep_deaf.defer(str(tmp_path / "runs"))
    eventually((tmp_path / "runs").exists, what="it runs")
    job.cancel("politely")
    time.sleep(2.5)  # it is asked, and asked only once
    assert running(conn) == 1 and "by force" not in worker.output
    done = CliRunner().invoke(cli, ["cancel", job.id, "--kill", "--reason", "at last"])
    assert done.exit_code == 0 and "and killed if it does not" in done.stdout
    with pytest.raises(JobCancelled, match="at last"):
        job.result(30)


class Doubled:
    """What Cancels sees of a child; its slots are real."""

    number = 0

    def __init__(self, *runs: Run) -> None:
        self.runs = runs
        self.slots = RunningSlots(blank(slots=1), slots=1)
        self.ending = Ending()
        self.process = self
        self.kills = 0

    def was_running(self, run: Run) -> bool:
        return run.is_async or run.job.id in self.slots.running()

    def send(self, *_: Any) -> None: ...

    def kill(self) -> None:
        self.kills += 1


def a_run() -> Run:
    job = Claimed(new_id(), 1, "t", "[]", "{}", 1, None, 0, "default", 0, 1, None, None, 0.1, None)
    return Run(job, False, None, time.monotonic())


def test_what_has_just_ended_is_not_killed_and_neither_is_what_runs_in_its_place() -> None:
    ended, next_one = a_run(), a_run()
    child = Doubled(ended, next_one)
    cancels = Cancels([untyped(child)])
    cancels.deliver([(ended.job.id, True)])
    late = time.monotonic() + 60
    child.slots.write(0, next_one.job.id)  # the outcome of the first is on its way
    cancels.enforce(late)
    assert child.kills == 0 and not child.ending.by_force
    child.slots.write(0, ended.job.id)
    cancels.enforce(late)
    cancels.enforce(late)
    assert child.kills == 1 and child.ending.by_force
