"""Names, times and numbers at their edges, and a million jobs in one call."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgqueue import App, InvalidOption, Task
from pgqueue.config import SCHEMA_NAME, Config
from tests.conftest import Worker
from tests.hands import Hands
from tests.shell import ROOT, Shell

PARIS = ZoneInfo("Europe/Paris")
BULK = """
import resource, sys
from pgqueue import App
from tests.tasks import echo
base_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
app = App()
task = app.task(name="shop.bulk")(lambda number: number)
jobs = task.defer_many((number,) for number in range(1_000_000))
print(len(jobs), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base_kb)
"""


@pytest.fixture
def task(app: App) -> Task[Any, Any, Any]:
    return app.task(name="shop.work")(lambda x: None)


def run_at(conn: psycopg.Connection) -> datetime:
    ((moment,),) = conn.execute("select run_at from pgqueue.job").fetchall()
    assert isinstance(moment, datetime)
    return moment.astimezone(UTC)


@pytest.mark.long
def test_b24_a_million_jobs_in_one_call_take_little_memory(dsn: str, conn: psycopg.Connection) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BULK], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "PGQUEUE_DSN": dsn, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    count, grown_kb = map(int, done.stdout.split())
    assert count == 1_000_000 and grown_kb < 100_000
    # One transaction: every row was made by the same one.
    found = conn.execute("select count(*), count(distinct xmin::text) from pgqueue.job").fetchone()
    assert found == (1_000_000, 1)


def test_b25_the_bell_never_carries_what_would_not_fit(app: App, dsn: str, task: Task[Any, Any, Any]) -> None:
    with psycopg.connect(dsn, autocommit=True) as ear:
        ear.execute(f'listen "{app.config.jobs_channel}"')
        with psycopg.connect(dsn) as caller:
            task.options(conn=caller, queue="中" * 128).defer("x" * 900_000)
        (note,) = ear.notifies(timeout=60, stop_after=1)
    assert len(note.payload.encode()) < 7_999


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.from_regex(SCHEMA_NAME, fullmatch=True))
def test_b26_every_channel_is_heard_under_the_name_it_is_rung_by(conn: psycopg.Connection, name: str) -> None:
    config = Config(schema=name)
    for channel in (config.jobs_channel, config.results_channel):
        assert len(channel.encode()) <= 63  # LISTEN cuts a longer one without a word
        conn.execute(f'listen "{channel}"')
        assert (channel,) in conn.execute("select pg_listening_channels()").fetchall()
        conn.execute("unlisten *")


HOSTILE_NAMES = [
    '"',
    "'",
    ";",
    "--",
    "%s",
    "a b",
    "'; drop table pgqueue.job; --",
    "{schema}",
    "$1",
    "\\",
    "中😀",
    "x" * 128,
]


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=ascii)
def test_b27_a_queue_may_be_called_anything_that_can_be_printed(
    task: Task[Any, Any, Any], conn: psycopg.Connection, name: str
) -> None:
    app = task.app
    one = task.options(queue=name, unique=name).defer(1)
    many = task.options(queue=name).defer_many([(2,), (3,)])
    app.pause(name)
    assert app.resume(name)
    assert {job.id for job in app.jobs(queue=name)} == {one.id, *(job.id for job in many)}
    jobs = Hands(conn, app.queries, queues=[name]).claim()
    assert len(jobs) == 3 and {job.queue for job in jobs} == {name}


@pytest.mark.parametrize(
    "name", ["", " a", "a ", "a\nb", "a\tb", "a\0b", "a\x1b[31m", "a\u202eb", "x" * 129, "x" * 10_000]
)
def test_b27_what_cannot_be_printed_is_refused_everywhere(app: App, conn: psycopg.Connection, name: str) -> None:
    for way in (
        lambda: app.enqueue("t", queue=name),
        lambda: app.enqueue(name),
        lambda: app.pause(name),
        lambda: app.resume(name),
        lambda: app.jobs(queue=name),
        lambda: app.jobs(task=name),
        lambda: app.purge(state="dead", queue=name),
    ):
        with pytest.raises(InvalidOption) as refused:
            way()
        assert "\n" not in str(refused.value) and len(str(refused.value)) < 300
    assert conn.execute("select count(*) from pgqueue.job").fetchone() == (0,)


@pytest.mark.parametrize(
    ("moment", "utc"),
    [
        pytest.param(datetime(2030, 3, 31, 2, 30, tzinfo=PARIS), datetime(2030, 3, 31, 1, 30), id="gap"),
        pytest.param(datetime(2030, 3, 31, 2, 30, tzinfo=PARIS, fold=1), datetime(2030, 3, 31, 0, 30), id="gap, fold"),
        pytest.param(datetime(2030, 10, 27, 2, 30, tzinfo=PARIS), datetime(2030, 10, 27, 0, 30), id="overlap"),
        pytest.param(datetime(2030, 10, 27, 2, 30, tzinfo=PARIS, fold=1), datetime(2030, 10, 27, 1, 30), id="second"),
    ],
)
def test_b30_daylight_saving_is_pythons(
    task: Task[Any, Any, Any], conn: psycopg.Connection, moment: datetime, utc: datetime
) -> None:
    conn.execute("set time zone 'America/New_York'")
    task.options(at=moment).defer(1)
    assert run_at(conn) == utc.replace(tzinfo=UTC) == moment.astimezone(UTC)


@pytest.mark.parametrize("moment", ["infinity", "-infinity", "20000-01-01", "0044-03-15 BC"])
def test_b31_no_row_holds_a_time_that_nobody_can_read(conn: psycopg.Connection, moment: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        conn.execute("select pgqueue.enqueue('t', run_at => %s::timestamptz)", [moment])


def test_b31_an_infinite_expiry_stops_no_list_and_no_worker(
    app: App, conn: psycopg.Connection, start_worker: Any
) -> None:
    for moment in ("infinity", "20000-01-01", "-infinity"):
        conn.execute("select pgqueue.enqueue('tests.tasks.echo', '[1]', expires_at => %s::timestamptz)", [moment])
    assert len(app.jobs()) == 3
    worker: Worker = start_worker("-c", "1", "--burst")
    assert worker.wait() == 0
    assert sorted(job.state for job in app.jobs()) == ["cancelled", "succeeded", "succeeded"]


@pytest.mark.parametrize("delay", [-1, -0.0, -1e8, timedelta(seconds=-5)])
def test_b32_a_negative_delay_is_now(task: Task[Any, Any, Any], conn: psycopg.Connection, delay: Any) -> None:
    task.options(delay=delay).defer(1)
    task.options(delay=delay).defer_many([(2,)])
    states = conn.execute("select state::text, run_at <= now() from pgqueue.job").fetchall()
    assert states == [("queued", True)] * 2


@pytest.mark.parametrize("text", ["9" * 400, "-40000", "1e3", "nan"])
def test_b33_a_priority_from_the_command_line(dsn: str, shell: Shell, text: str) -> None:
    done = shell.text("defer", "t", "--priority", text, dsn=dsn)
    assert done.returncode == 2 and "Traceback" not in done.stderr and "priority" in done.stderr


def test_b51_a_key_longer_than_an_index_row(task: Task[Any, Any, Any], conn: psycopg.Connection) -> None:
    key = os.urandom(4_000).hex()  # PostgreSQL would compress a repeated letter into the index row
    first = task.options(unique=key).defer(1)
    assert not task.options(unique=key).defer(2).created
    assert task.options(unique=f"{key}x").defer(3).created
    assert json.loads(first.snapshot().args) == [1]
