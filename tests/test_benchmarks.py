"""The benchmarks run, and measure what they say; how fast it is is nobody's business here."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from benchmarks import drain, enqueue, pgbench
from benchmarks.before.__main__ import interval
from benchmarks.before.__main__ import opened as builds
from benchmarks.bench import Bench, opened
from benchmarks.drain import Noop, Sleeping
from benchmarks.load import load
from benchmarks.report import WIDTH
from pgqueue.bench import floor, latency
from pgqueue.bench.measurement import Measurement
from tests.answers import one_value
from tests.conftest import eventually

pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent
SMALL = 0.01
DIFFERING = {"id", "seq", "run_at", "created_at"}  # columns in which two jobs of one call differ


@pytest.fixture
def bench(server_dsn: str) -> Iterator[Bench]:
    with opened(server_dsn, scale=SMALL, repeat=1) as made:
        yield made


def _run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def _by_name(found: Iterator[Measurement]) -> dict[str, Measurement]:
    return {each.name: each for each in found}


def test_a_small_run_prints_a_table_and_writes_its_figures(dsn: str) -> None:
    done = _run("--scale", str(SMALL), "--repeat", "2", "--only", "defer,defer_many", "--dsn", dsn)
    assert done.returncode == 0, done.stderr
    assert "bare INSERT" in done.stdout
    table, _, path = done.stdout.partition("written to ")
    assert max(map(len, table.splitlines())) <= WIDTH
    written = Path(path.strip())
    figures = json.loads(written.read_text("utf-8"))
    written.unlink()
    assert {each["name"] for each in figures["measurements"]} >= {"defer", "defer, share of the bare INSERT"}
    assert figures["server"]["fsync"] in ("on", "off")
    assert figures["scale"] == SMALL and figures["pgqueue"]


def test_an_unknown_measurement_is_named() -> None:
    done = _run("--only", "speed")
    assert done.returncode == 2
    assert "speed" in done.stderr


def test_clients_of_every_kind_put_jobs_in(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enqueue, "CLIENTS", (8,))
    found = _by_name(enqueue.measure(bench))
    assert found.keys() - {"defer by pgbench, 8 clients"} == {
        "defer floor, 8 clients", "defer, 8 clients", "defer_many floor, 8 clients", "defer_many of 1,000, 8 clients"
    }  # fmt: skip
    assert all(each.value > 0 for each in found.values())
    assert found["defer, 8 clients"].floor_ratio


def test_pgbench_inserts_what_defer_inserts(bench: Bench) -> None:
    program = pgbench.find()
    if program is None:
        pytest.skip("there is no pgbench here")
    bench.task("noop").defer()
    ours = _job_rows(bench)
    bench.empty()
    assert pgbench.rate(bench, program, clients=1, seconds=1) > 0
    assert _job_rows(bench) == ours


def _job_rows(bench: Bench) -> set[str]:
    """All jobs, without the columns in which two jobs of one call differ."""
    schema = bench.app.config.schema
    with psycopg.connect(bench.app.dsn) as conn:
        rows = conn.execute(f"select to_jsonb(job) - %s::text[] from {schema}.job as job", [list(DIFFERING)])
        return {json.dumps(row, sort_keys=True) for (row,) in rows}


def test_the_floor_copies_what_defer_many_copies(bench: Bench) -> None:
    task = bench.task("noop")
    task.defer_many([()])
    ours = _job_rows(bench)
    bench.empty()
    ids = [f"{number:032x}" for number in range(3)]
    with floor.copying(bench.app) as copy:
        copy(ids)
    assert _job_rows(bench) == ours


def test_jobs_that_leave_no_row_are_told_by_marks(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    both = (Noop(options=("-c", "1")), Noop(options=("-c", "1"), note=", marked", marked=True))
    monkeypatch.setattr(drain, "NOOPS", both)
    monkeypatch.setattr(drain, "SLEEPING", ())
    found = _by_name(drain.measure(bench))
    plain, marked = found["drain -c 1"].value, found["drain -c 1, marked"].value
    assert 0.1 < marked / plain < 10  # the same jobs, by the other rows; a hundred times as many or as few is a mistake


def test_jobs_that_sleep_do_not_beat_their_ideal_rate(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "NOOPS", ())
    monkeypatch.setattr(drain, "SLEEPING", (Sleeping(ms=100, options=("-c", "4"), places=4),))
    found = _by_name(drain.measure(bench))["drain 100 ms, -c 4"]
    assert 0 < found.value < 40 * 1.2  # batches are recorded some milliseconds late, the first as well as the last


def test_a_load_keeps_its_rate(bench: Bench) -> None:
    count = f"select count(*) from {bench.app.config.schema}.job"
    with load(bench, 500) as offered, psycopg.connect(bench.app.dsn) as conn:
        eventually(lambda: one_value(conn, count) > 250, what="half a second's jobs are in")
        rate = offered()
        assert 0.5 < rate / 500 < 1.2


def test_samples_that_fell_due_in_a_stall_count_from_the_time_they_were_due() -> None:
    """Three more, 0.05 s apart at most, are all due within this one, and over it none of them is let go."""
    due_ns = latency.paced(4)
    next(due_ns)
    began_ns = time.monotonic_ns()
    time.sleep(0.2)
    assert all(at_ns < began_ns + 0.16e9 for at_ns in due_ns)


def test_the_floor_leaves_no_worker_behind(bench: Bench) -> None:
    """One that seems to sleep would have all that is measured after it ring."""
    assert len(floor.starts_ms(bench.app, latency.paced(3))) == 3
    assert floor.drain(bench.app) == 0
    with bench.connect() as conn:
        assert conn.execute(bench.query("select count(*) from {schema}.worker")).fetchone() == (0,)


@pytest.mark.parametrize(("count", "places"), [(6, (0, 5)), (30, (9, 20)), (100, (39, 60))])
def test_the_median_lies_within_its_interval_in_95_cases_of_100(count: int, places: tuple[int, int]) -> None:
    """The places are those that tables of the sign test name, from 0."""
    assert interval(count) == places


def test_two_builds_are_measured_with_their_own_code(server_dsn: str, tmp_path: Path) -> None:
    with builds("HEAD", server_dsn) as (then, now):
        found = [
            subprocess.run(
                [sys.executable, "-c", "import sys, pgqueue; del sys.path[0]; print(pgqueue.__file__)"],
                env=side, cwd=tmp_path, text=True, stdout=subprocess.PIPE, check=True,
            ).stdout
            for side in (then, now)
        ]  # fmt: skip
    assert found[1].strip() == str(ROOT / "pgqueue" / "__init__.py") and found[0] != found[1]
    assert then["PGQUEUE_DSN"] != now["PGQUEUE_DSN"]
