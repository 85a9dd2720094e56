"""A whole worker is killed, frozen, told to go or starved of descriptors: its jobs run elsewhere, once as far as it counts.

The server is not touched, so these use the shared one. Nobody is declared dead within 5 s of a server's start.
"""

import os
import random
import resource
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgqueue import App
from pgqueue.client.handle import Job
from tests.conftest import Worker, alive, eventually
from tests.faults import culprits
from tests.faults.conftest import Figure
from tests.faults.culprits import tasks, traces

Start = Callable[..., Worker]

pytestmark = pytest.mark.usefixtures("task_app")


@pytest.fixture
def dsn(shared_dsn: str) -> str:
    """No server of one's own: it is not what breaks here."""
    return shared_dsn


@pytest.fixture
def start(start_worker: Start) -> Start:
    """A worker that knows the culprits."""
    return lambda *options: start_worker(*options, app="tests.faults.culprits")


@pytest.fixture
def paid(conn: psycopg.Connection) -> Callable[[], list[int]]:
    """What the atomic task wrote."""
    conn.execute("create schema shop")
    conn.execute("create table shop.paid (number int)")
    return lambda: [number for (number,) in conn.execute("select number from shop.paid order by number")]


def wait_for_judges(conn: psycopg.Connection) -> None:
    """Until the server is so old that workers may be declared dead."""
    old = "select now() - pg_postmaster_start_time() > interval '6 seconds'"
    eventually(lambda: conn.execute(old).fetchone() == (True,), what="the server is no longer young")


def count(conn: psycopg.Connection, query: str) -> int:
    ((value,),) = conn.execute(query).fetchall()
    return int(value)


RUNNING = "select count(*) from pgqueue.job where state = 'running'"


def charged(jobs: Sequence[Job[Any]]) -> list[tuple[int, int]]:
    """(attempt, crashes) of each job."""
    return [(job.snapshot().attempt, job.snapshot().crashes) for job in jobs]


def test_f2_a_killed_supervisor_takes_its_children_along_and_others_run_its_jobs(
    start: Start, conn: psycopg.Connection, tmp_path: Path, figure: Figure
) -> None:
    first = start("-c", "2").ready()
    children = first.children()
    jobs = [culprits.hold.defer(str(tmp_path)) for _ in range(2)]
    eventually(lambda: len(traces(tmp_path)) == 2, what="both run")
    start("-c", "2").ready()
    wait_for_judges(conn)
    began = time.monotonic()
    first.process.kill()
    eventually(lambda: not any(map(alive, children)), what="the children are gone")
    figure("children dead", time.monotonic() - began, "s", at_most=0.5)
    eventually(lambda: len(traces(tmp_path)) == 4, what="both run again")
    figure("re-claimed", time.monotonic() - began, "s", at_most=5)
    (tmp_path / "go").touch()
    assert not {job.result(30) for job in jobs} & set(children)
    assert charged(jobs) == [(1, 1), (1, 1)]
    assert conn.execute("select distinct cause from pgqueue.attempt").fetchall() == [("worker lost",)]


@pytest.mark.slow
def test_f3_a_worker_killed_with_all_its_children_in_the_midst_of_a_thousand_jobs(
    start: Start, conn: psycopg.Connection, paid: Callable[[], list[int]], tmp_path: Path, figure: Figure
) -> None:
    first = start("-c", "4").ready()
    ((struck,),) = conn.execute("select id::text from pgqueue.worker").fetchall()
    second = start("-c", "4").ready()
    wait_for_judges(conn)
    briefs = list(culprits.brief.defer_many([(str(tmp_path), 0.01)] * 500))
    payments = list(culprits.pay.defer_many((n,) for n in range(500)))
    eventually(lambda: len(traces(tmp_path)) > 200, what="it is at it")
    began = time.monotonic()
    children = first.children()
    first.process.send_signal(signal.SIGSTOP)  # so that it sees none of them die before it does
    for pid in [*children, first.process.pid]:
        os.kill(pid, signal.SIGKILL)
    in_flight = count(conn, f"{RUNNING} and worker = '{struck}'")
    assert in_flight > 0
    second.said("rescued")
    figure("re-claimed", time.monotonic() - began, "s", at_most=5)
    for job in [*briefs, *payments]:
        job.result(60)
    figure("duplicates", len(traces(tmp_path)) - 500, f"of {in_flight} in flight", at_most=in_flight)
    assert {trace.job for trace in traces(tmp_path)} == {job.id for job in briefs}
    assert paid() == list(range(500))
    assert count(conn, "select sum(crashes) from pgqueue.history") == in_flight
    assert count(conn, "select count(*) from pgqueue.attempt where cause <> 'worker lost'") == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "frozen_s", [pytest.param(25, id="f4-a-pause"), pytest.param(90, id="f60-a-machine-that-slept")]
)
def test_f4_f60_a_worker_frozen_beyond_its_lease_changes_nothing_when_it_thaws(
    start: Start, conn: psycopg.Connection, paid: Callable[[], list[int]], tmp_path: Path, figure: Figure, frozen_s: int
) -> None:
    frozen = start("-c", "2").ready()
    children = frozen.children()
    jobs = [culprits.hold.defer(str(tmp_path)), culprits.hold_and_pay.defer(str(tmp_path), 1)]
    eventually(lambda: len(traces(tmp_path)) == 2, what="both run")
    other = start("-c", "2").ready()
    wait_for_judges(conn)
    began = time.monotonic()
    for pid in [frozen.process.pid, *children]:
        os.kill(pid, signal.SIGSTOP)
    eventually(lambda: len(traces(tmp_path)) == 4, what="both run again")
    figure("re-claimed", time.monotonic() - began, "s", at_most=20)
    time.sleep(frozen_s - (time.monotonic() - began))
    # The old attempts end first, and what they say waits for the supervisor when it wakes.
    (tmp_path / "go").touch()
    for pid in children:
        os.kill(pid, signal.SIGCONT)
    assert {job.result(30) for job in jobs} <= set(other.children())
    time.sleep(1)
    frozen.process.send_signal(signal.SIGCONT)
    frozen.said("declared dead")
    eventually(lambda: not any(map(alive, children)), what="its children are replaced")
    last = {trace.job: trace.token for trace in traces(tmp_path)}
    written = conn.execute("select id::text, claim_token from pgqueue.history").fetchall()
    figure("stale writes", sum(token < last[job] for job, token in written) + len(paid()) - 1, "", at_most=0)
    assert dict(written) == last and paid() == [1]
    assert charged(jobs) == [(1, 1), (1, 1)] and other.stop() == 0
    assert tasks.echo.defer(1).result(30) == 1  # the one that thawed works under its new id


@pytest.mark.slow
def test_f13_a_deploy_finishes_what_it_can_and_hands_the_rest_over(
    start: Start, conn: psycopg.Connection, tmp_path: Path, figure: Figure
) -> None:
    old = start("-c", "2", "--shutdown-timeout", "5").ready()
    children = old.children()
    long, short = culprits.hold.defer(str(tmp_path)), culprits.brief.defer(str(tmp_path), 3)
    eventually(lambda: len(traces(tmp_path)) == 2, what="both run")
    new = start("-c", "1").ready()
    old.process.terminate()
    began = time.monotonic()
    old.said("may finish within 5 s")
    after = culprits.brief.defer(str(tmp_path), 0)
    after.result(30)
    assert traces(tmp_path)[-1].pid in new.children()
    eventually(lambda: len(traces(tmp_path)) == 4, what="the long one runs again")
    figure("handed over", time.monotonic() - began - 5, "s", at_most=2)
    assert old.wait() == 0
    figure("ended", time.monotonic() - began, "s", at_most=5 + 1)
    (tmp_path / "go").touch()
    assert long.result(30) in new.children()
    assert [trace.token for trace in traces(tmp_path) if trace.job == long.id] == [1, 2]
    assert short.state == "succeeded" and charged([long, short, after]) == [(1, 0)] * 3
    assert count(conn, "select count(*) from pgqueue.attempt") == 0 and not any(map(alive, children))


CYCLES = 200


@pytest.mark.slow
def test_f14_a_worker_told_to_go_at_any_moment_leaves_no_job_running(
    start: Start, conn: psycopg.Connection, paid: Callable[[], list[int]], tmp_path: Path, figure: Figure
) -> None:
    """Half of the moments lie between the start of the process and its first jobs, half between claims and finishes."""
    dice = random.Random(14)
    began = time.monotonic()
    start("-c", "1").ready().stop()
    life_s = time.monotonic() - began
    stuck = 0
    briefs: list[Job[None]] = []
    for cycle in range(CYCLES):
        briefs += culprits.brief.defer_many((str(tmp_path), dice.choice([0, 0, 0.001, 0.03])) for _ in range(40))
        culprits.pay.defer_many((n,) for n in range(20 * cycle, 20 * cycle + 20))
        worker = start("-c", "2")
        if cycle % 2:
            worker.ready()
        time.sleep(dice.uniform(0, 0.3 if cycle % 2 else 1.5 * life_s))
        number = dice.choice([signal.SIGTERM, signal.SIGHUP])
        worker.process.send_signal(number)
        code = worker.wait()
        assert code == 0 or (code == -number and "is ready" not in worker.output), worker.output  # not yet listening
        assert "lease lost" not in worker.output, worker.output
        stuck += count(conn, RUNNING)
    figure(f"stuck in {CYCLES} cycles", stuck, "", at_most=0)
    assert start("-c", "2", "--burst").wait(120) == 0
    assert count(conn, "select count(*) from pgqueue.job") == 0
    assert count(conn, "select count(*) from pgqueue.history where state = 'succeeded'") == 60 * CYCLES
    assert count(conn, "select count(*) from pgqueue.history where attempt <> 1 or crashes <> 0") == 0
    assert sorted(trace.job for trace in traces(tmp_path)) == sorted(job.id for job in briefs)
    assert paid() == list(range(20 * CYCLES)) and count(conn, "select count(*) from pgqueue.worker") == 0


@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param([signal.SIGTERM] * 2, id="term-twice"),
        pytest.param([signal.SIGINT] * 2, id="int-twice"),
        pytest.param([signal.SIGHUP] * 2, id="hup-twice"),
        pytest.param([signal.SIGTERM, signal.SIGQUIT], id="term-quit"),
        pytest.param([signal.SIGQUIT], id="quit"),
    ],
)
def test_f15_a_second_signal_or_quit_ends_it_at_once(
    start: Start, conn: psycopg.Connection, tmp_path: Path, figure: Figure, numbers: list[signal.Signals]
) -> None:
    worker = start("-c", "2").ready()
    children = worker.children()
    jobs = [culprits.hold.defer(str(tmp_path)) for _ in range(2)]
    eventually(lambda: len(traces(tmp_path)) == 2, what="both run")
    *first, last = numbers
    for number in first:
        worker.process.send_signal(number)
        worker.said("a second signal")
    began = time.monotonic()
    worker.process.send_signal(last)
    assert worker.wait() == 0
    figure("ended", time.monotonic() - began, "s", at_most=1)
    assert [job.state for job in jobs] == ["queued"] * 2 and charged(jobs) == [(0, 0)] * 2
    assert "Traceback" not in worker.output and not any(map(alive, children))
    assert (
        count(conn, "select count(*) from pgqueue.worker") == count(conn, "select count(*) from pgqueue.attempt") == 0
    )


def test_f20_a_worker_short_of_descriptors_says_so_and_recovers(
    start: Start, conn: psycopg.Connection, app: App, tmp_path: Path, figure: Figure
) -> None:
    worker = start("-c", "8").ready()
    eventually(lambda: len(worker.children()) == 8, what="all have started")
    pid = worker.process.pid
    jobs = [culprits.hold.defer(str(tmp_path)) for _ in range(8)]
    eventually(lambda: len(traces(tmp_path)) == 8, what="all run")
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))  # what is open stays open; nothing new can be opened
    conn.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where application_name like 'pgqueue:%' and datname = current_database()"
    )
    for child in worker.children()[:4]:
        os.kill(child, signal.SIGKILL)
    worker.said("failed to start: cannot start another process (Too many open files)")
    worker.said("libpq failed before connecting: out of file descriptors")
    (tmp_path / "go").touch()
    assert worker.process.poll() is None
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
    cured = time.monotonic()
    for job in jobs:
        job.result(60)
    figure("all done after the cure", time.monotonic() - cured, "s", at_most=10)
    eventually(lambda: len(worker.children()) == 8, what="every place is filled again")
    figure("all back after the cure", time.monotonic() - cured, "s", at_most=10)
    assert sum(crashes for _, crashes in charged(jobs)) == 4


def test_f20_a_limit_of_40_descriptors(start: Start, figure: Figure) -> None:
    """Children that would leave none for the database are refused; as many as fit work."""
    jobs = list(tasks.echo.defer_many((n,) for n in range(200)))
    too_many, fitting = start("-c", "8"), start("-c", "6")
    for worker in (too_many, fitting):
        resource.prlimit(worker.process.pid, resource.RLIMIT_NOFILE, (40, 40))
    assert too_many.wait() == 2
    assert too_many.lines == [
        "pgqueue: -c 8 needs 44 file descriptors and the limit is 40: raise it (ulimit -n 44), or lower -c"
    ]
    fitting.ready()
    figure("jobs done", sum(job.result(60) == n for n, job in enumerate(jobs)), "of 200", at_least=200)
    eventually(lambda: len(fitting.children()) == 6, what="every place is filled")
    assert fitting.stop() == 0
