"""A child is killed, hangs, leaks or never comes up: its worker goes on, and only the job that did it is charged.

The server is not touched, so these use the shared one. B41 in tests/test_bad_inputs_worker.py is F7 under RLIMIT_AS: a
MemoryError is a failed attempt, and the child is replaced.
"""

import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from pgqueue import App, JobDead
from tests.conftest import Worker, eventually
from tests.faults import culprits
from tests.faults.conftest import Figure
from tests.faults.culprits import tasks, traces

Start = Callable[..., Worker]

HARD_GRACE_S = 5.0

pytestmark = pytest.mark.usefixtures("task_app")


@pytest.fixture
def dsn(shared_dsn: str) -> str:
    """No server of one's own: it is not what breaks here."""
    return shared_dsn


@pytest.fixture
def start(start_worker: Start) -> Start:
    """A worker that knows the culprits."""
    return lambda *options: start_worker(*options, app="tests.faults.culprits")


def causes(conn: psycopg.Connection, job_id: str) -> list[str]:
    rows = conn.execute("select cause from pgqueue.attempt where job_id = %s order by failed_at", [job_id])
    return [cause for (cause,) in rows]


def test_f1_a_killed_child_costs_its_job_no_attempt_and_the_others_nothing(
    start: Start, conn: psycopg.Connection, tmp_path: Path, figure: Figure
) -> None:
    start("-c", "3").ready()
    jobs = [culprits.hold.defer(str(tmp_path)) for _ in range(3)]
    eventually(lambda: len(traces(tmp_path)) == 3, what="all run")
    pids = {trace.job: trace.pid for trace in traces(tmp_path)}
    struck, *others = jobs
    began = time.monotonic()
    os.kill(pids[struck.id], signal.SIGKILL)
    eventually(lambda: len(traces(tmp_path)) == 4, what="it runs again")
    figure("re-claimed", time.monotonic() - began, "s", at_most=1)
    (tmp_path / "go").touch()
    assert [job.result(30) for job in others] == [pids[job.id] for job in others]
    assert struck.result(30) not in pids.values()
    assert [trace.token for trace in traces(tmp_path) if trace.job == struck.id] == [1, 2]
    assert [(job.snapshot().attempt, job.snapshot().crashes) for job in jobs] == [(1, 1), (1, 0), (1, 0)]
    assert causes(conn, struck.id) == ["crash"] and len(traces(tmp_path)) == 4


@pytest.mark.parametrize(
    ("how", "told"),
    [
        pytest.param(
            "kill", r"SIGKILL \(probably out of memory, unless it was sent by hand\)", id="f7-killed-as-by-the-kernel"
        ),
        pytest.param("segfault", "SIGSEGV", id="f8-segfault"),
        pytest.param("abort", "SIGABRT", id="f8-abort"),
        pytest.param("3", "exited with code 3", id="f8-exit"),
    ],
)
def test_f7_f8_a_poison_job_is_quarantined_and_good_jobs_beside_it_are_not(
    start: Start, conn: psycopg.Connection, figure: Figure, how: str, told: str
) -> None:
    worker = start("-c", "1").ready()
    good = tasks.echo.defer_many((n,) for n in range(50))
    poison = culprits.die.defer(how)
    with pytest.raises(JobDead, match=f"quarantined.*3 times.*{told}"):
        poison.result(60)
    after = tasks.echo.defer("still here")
    assert after.result(30) == "still here" and [job.result(30) for job in good] == list(range(50))
    assert causes(conn, poison.id) == ["crash"] * 3 and poison.snapshot().crashes == 3
    ((idle_s,),) = conn.execute(
        "select extract(epoch from (select finished_at from pgqueue.history where id = %s) - max(failed_at))::float8 "
        "from pgqueue.attempt", [after.id],
    )  # fmt: skip
    figure("throughput back", idle_s, "s", at_most=2)
    figure("crashes to quarantine", poison.snapshot().crashes, "", at_most=3)
    assert worker.process.poll() is None


def test_f9_poison_beside_a_hundred_good_jobs(start: Start, conn: psycopg.Connection, figure: Figure) -> None:
    start("-c", "8").ready()
    good = [*tasks.sleep.defer_many([(0.05,)] * 50)]
    poison = culprits.die.defer("kill")
    good += tasks.sleep.defer_many([(0.05,)] * 50)
    with pytest.raises(JobDead, match="quarantined"):
        poison.result(60)
    figure("good jobs done", sum(job.result(60) == 0.05 for job in good), "of 100", at_least=100)
    figure("crashes", poison.snapshot().crashes, "", at_most=3)
    blamed = conn.execute("select distinct job_id::text, cause from pgqueue.attempt").fetchall()
    assert blamed == [(poison.id, "crash")]
    assert conn.execute(
        "select sum(crashes), max(attempt) from pgqueue.history where state = 'succeeded'"
    ).fetchone() == (0, 1)


def overrun(worker: Worker, conn: psycopg.Connection, job_id: str) -> float:
    """How long after its start a job that is too long ended, on the database's clock."""
    ((seconds,),) = conn.execute(
        "select extract(epoch from finished_at - started_at)::float8 from pgqueue.history where id = %s", [job_id]
    )
    assert causes(conn, job_id) == ["time limit"]
    return float(seconds)


def test_f11_an_endless_loop_is_killed_after_its_timeout(
    start: Start, conn: psycopg.Connection, figure: Figure
) -> None:
    worker = start("-c", "2").ready()
    before = set(worker.children())
    jobs = [culprits.spin.defer(), tasks.too_long_deaf.defer()]
    for job in jobs:
        with pytest.raises(JobDead, match=r"timeout of 0\.3 s and was killed"):
            job.result(30)
        figure("ended after", overrun(worker, conn, job.id), "s", at_most=0.3 + HARD_GRACE_S + 1)
    assert tasks.echo.defer(1).result(30) == 1
    eventually(lambda: len(worker.children()) == 2, what="both are replaced")
    assert not before & set(worker.children())


@pytest.mark.slow
def test_f11_a_policy_that_ends_whoever_asks_it_is_not_asked_for_ever(start: Start, conn: psycopg.Connection) -> None:
    worker = start("-c", "1").ready()
    job = culprits.spin_with_a_fatal_policy.defer()
    with pytest.raises(JobDead, match=r"was killed; the process that asked its retry policy ended 3 times"):
        job.result(60)
    assert causes(conn, job.id) == ["time limit"] and tasks.echo.defer(1).result(30) == 1
    assert worker.stop() == 0


@pytest.mark.slow
def test_f12_a_call_that_holds_the_interpreter_is_killed_and_its_neighbours_live(
    start: Start, conn: psycopg.Connection, tmp_path: Path, figure: Figure
) -> None:
    worker = start("-c", "2").ready()
    watcher = start("-c", "1", "-Q", "other").ready()  # would declare the first dead if it were not heard
    neighbour = culprits.hold.defer(str(tmp_path))
    eventually(lambda: len(traces(tmp_path)) == 1, what="the neighbour runs")
    job = culprits.hold_the_interpreter.defer()
    oldest_beat_s = 0.0
    while job.state != "dead":
        ((age_s,),) = conn.execute("select max(extract(epoch from now() - heartbeat_at))::float8 from pgqueue.worker")
        oldest_beat_s = max(oldest_beat_s, age_s)
        time.sleep(0.05)
    figure("ended after", overrun(worker, conn, job.id), "s", at_most=0.3 + HARD_GRACE_S + 1)
    figure("longest without a heartbeat", oldest_beat_s, "s", at_most=3)
    (tmp_path / "go").touch()
    ((_, token, pid),) = traces(tmp_path)
    assert (neighbour.result(30), token) == (pid, 1)
    assert "dead" not in "".join(line for line in watcher.lines if "worker" in line)


# -- children that do not come up --


APP = """
import os, pathlib, signal, time
from pgqueue import App
here = pathlib.Path(__file__).parent
with open(here / "starts", "a") as starts:
    starts.write("x")
fault = (here / "fault").read_text() if (here / "fault").exists() else "return"
if fault == "raise":
    raise RuntimeError("no such shop")
if fault == "hang":
    time.sleep(3600)
if fault == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
app = App()

@app.task(name="shop.pid")
def pid():
    return os.getpid()
"""


class Shop:
    """An app whose import can be told to go wrong; it counts how often it was begun."""

    def __init__(self, folder: Path, start_worker: Start) -> None:
        self._folder = folder
        self._start_worker = start_worker
        (folder / "shop.py").write_text(APP)

    def fault(self, kind: str) -> None:
        (self._folder / "fault").write_text(kind)

    def start(self, *options: str) -> Worker:
        return self._start_worker(*options, app="shop", cwd=self._folder)

    @property
    def starts(self) -> int:
        path = self._folder / "starts"
        return path.stat().st_size if path.exists() else 0


@pytest.fixture
def shop(tmp_path: Path, start_worker: Start) -> Shop:
    return Shop(tmp_path, start_worker)


def kill_children(worker: Worker) -> None:
    for pid in worker.children():
        os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_f16_a_replacement_that_hangs_is_replaced_again(shop: Shop, app: App, figure: Figure) -> None:
    worker = shop.start("-c", "1").ready()
    shop.fault("hang")
    began = time.monotonic()
    kill_children(worker)
    eventually(lambda: shop.starts == 2, what="the replacement hangs")
    shop.fault("none")
    job = app.enqueue("shop.pid")
    assert job.result(60) in worker.children()
    figure("replaced", time.monotonic() - began, "s", at_most=30)
    assert (
        "child 0 failed to start: it did not finish importing the app, on_child_start included, within 25 s"
        in worker.output
    )
    assert shop.starts == 3 and job.snapshot().crashes == 0


@pytest.mark.slow
def test_f16_a_worker_whose_first_import_hangs_says_so_and_ends(shop: Shop, figure: Figure) -> None:
    shop.fault("hang")
    began = time.monotonic()
    worker = shop.start("-c", "2")
    assert worker.wait(120) == 2
    figure("given up", time.monotonic() - began, "s", at_most=65)
    assert worker.lines == ["pgqueue: it did not finish importing the app, on_child_start included, within 60 s"]


def test_f17_a_worker_whose_app_cannot_be_imported_says_so_and_ends(shop: Shop, figure: Figure) -> None:
    shop.fault("raise")
    worker = shop.start("-c", "1")
    assert worker.wait() == 2
    assert worker.lines[-1] == "pgqueue: RuntimeError: no such shop"
    assert "shop.py" in worker.output and worker.output.count("Traceback") == 1
    figure("starts", shop.starts, "", at_most=1)


def test_f17_a_worker_whose_children_die_as_they_start_says_so_and_ends(shop: Shop, figure: Figure) -> None:
    shop.fault("kill")
    worker = shop.start("-c", "1")
    assert worker.wait() == 2
    assert worker.lines[-1].startswith("pgqueue: no child started in 3 tries: it was killed by SIGKILL")
    figure("starts", shop.starts, "", at_most=3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["raise", "kill"])
def test_f17_replacements_that_cannot_start_are_tried_once_a_second_and_come_back(
    shop: Shop, app: App, figure: Figure, kind: str
) -> None:
    worker = shop.start("-c", "4").ready()
    eventually(lambda: shop.starts == 4 and len(worker.children()) == 4, what="all have started")
    shop.fault(kind)
    kill_children(worker)
    eventually(lambda: shop.starts == 8, what="each place tried at once")
    began = time.monotonic()
    time.sleep(8)
    figure("starts a second", (shop.starts - 8) / (time.monotonic() - began), "", at_most=1)
    worker.said("no such shop" if kind == "raise" else "it was killed by SIGKILL")
    shop.fault("none")
    cured = time.monotonic()
    app.enqueue("shop.pid").result(60)
    eventually(lambda: len(worker.children()) == 4, what="every place is filled")
    figure("all back after the cure", time.monotonic() - cured, "s", at_most=10)
    assert worker.stop() == 0


def test_f17_a_worker_that_waits_before_the_next_start_can_be_stopped(shop: Shop, figure: Figure) -> None:
    worker = shop.start("-c", "1").ready()
    shop.fault("raise")
    kill_children(worker)
    eventually(lambda: shop.starts == 4, what="the pause has grown to seconds")
    began = time.monotonic()
    assert worker.stop() == 0
    figure("ended", time.monotonic() - began, "s", at_most=1)


def test_f19_a_thread_left_behind_is_told_of_and_keeps_nobody(start: Start, figure: Figure) -> None:
    worker = start("-c", "1").ready()
    began = time.monotonic()
    first = culprits.leave_thread.defer().result(30)
    figure("finished", time.monotonic() - began, "s", at_most=1)
    warning = worker.said("left a thread running")
    assert "task tests.faults.culprits.leave_thread left a thread running (forgotten)" in warning
    pids = [culprits.leave_thread.defer().result(30) for _ in range(7)]
    assert pids == [first] * 7 and tasks.echo.defer(1).result(30) == 1
    worker.said("8 such threads are running in this child")
    assert sum("left a thread" in line for line in worker.lines) == 4  # at 1, 2, 4 and 8
    began = time.monotonic()
    assert worker.stop() == 0
    figure("ended", time.monotonic() - began, "s", at_most=1)


def test_f20_a_child_without_descriptors_is_replaced(start: Start, conn: psycopg.Connection) -> None:
    conn.execute("create schema shop")
    conn.execute("create table shop.paid (job uuid, amount int)")
    worker = start("-c", "1").ready()
    (child,) = worker.children()
    resource.prlimit(child, resource.RLIMIT_NOFILE, (40, 40))
    with pytest.raises(JobDead, match="Too many open files"):
        culprits.leak_descriptors.defer().result(30)
    worker.said("ran out of file descriptors and is replaced")
    job = tasks.pay.defer(1)  # needs a connection
    assert job.result(30) == 1 and job.snapshot().attempt == 1
    assert worker.children() != [child] and causes(conn, job.id) == []
