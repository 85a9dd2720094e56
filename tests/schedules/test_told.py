"""What people are told of schedules without asking for them, and what these cost a worker that has nothing to do."""

import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import psycopg
import pytest

from pgqueue import App, db
from pgqueue.ops.doctor import examine
from pgqueue.ops.stats import gather
from tests.conftest import Worker, eventually
from tests.schedules.shelf import Shelf
from tests.servers import shop_server
from tests.shell import Shell
from tests.test_costs import Counter

IDLE_S = 15.0  # ten heartbeats, of which three ask when schedules are due


@pytest.fixture
def shelf(app: App, conn: psycopg.Connection) -> Shelf:
    return Shelf(app, conn)


def test_stats_show_what_comes_next(shelf: Shelf, app: App, shell: Shell) -> None:
    ((now,),) = shelf.conn.execute("select now()").fetchall()
    for minutes in (20, 2):
        shelf.put(f"in {minutes} min", task="shop.report", next_run_at=now + timedelta(minutes=minutes, seconds=30))
    shelf.put("stopped", next_run_at=now, stopped_at=now)
    app.enqueue("shop.mail", delay=600)
    found = app.run(gather(app.queries))
    assert [(each.schedule, each.task) for each in found.upcoming] == [
        ("in 2 min", "shop.report"), (None, "shop.mail"), ("in 20 min", "shop.report"),
    ]  # fmt: skip
    first, second, _ = found.to_json()["upcoming"]
    assert (first["id"], first["queue"], first["schedule"]) == (None, None, "in 2 min") and second["queue"] == "default"
    page = shell.text("stats", "--once", dsn=app.dsn).stdout
    (line,) = (line for line in page.splitlines() if "in 2 min" in line)
    assert "shop.report" in line and "schedule" in line


def test_the_doctor_finds_what_does_not_run(shelf: Shelf, app: App) -> None:
    ((now,),) = shelf.conn.execute("select now()").fetchall()
    later = now + timedelta(days=1)
    shelf.put("well", next_run_at=later)
    shelf.put("left", next_run_at=later, stopped_at=now)
    shelf.put("failed", next_run_at=later, error="too long")
    shelf.put("late", next_run_at=now - timedelta(minutes=7))
    shelf.put("edited", next_run_at=later, source="person", fingerprint="f")
    with db.connect(app.dsn) as conn:
        found = db.run(conn, examine(app.queries, app.config, wire=db.wire(conn)))
    said = [f"{'problem' if each.problem else 'note'}: {each.what}" for each in found if "schedule" in each.what]
    assert sorted(said) == [
        "note: schedule edited was changed by a person, and the code says otherwise",
        "note: schedule left is stopped: no live worker declares it",
        "problem: schedule failed could not make its last job: too long",
        "problem: schedule late has been due for 7 min",
    ]


@pytest.fixture
def counting_dsn() -> Iterator[str]:
    """A server of this test's own that counts."""
    with shop_server(extension="pg_stat_statements", shared_preload_libraries="pg_stat_statements") as cluster:
        yield cluster.dsn("shop")


@pytest.mark.long
def test_ten_schedules_cost_an_idle_worker_no_statement(counting_dsn: str, start_worker: Callable[..., Worker]) -> None:
    """Neither those of its own code nor others: its heartbeat asks when the next one is due."""
    app = App(counting_dsn)
    with psycopg.connect(counting_dsn, autocommit=True) as conn:
        shelf = Shelf(app, conn)
        ((now,),) = conn.execute("select now() + interval '1 day'").fetchall()
        for number in range(10):
            shelf.put(f"s{number}", next_run_at=now)
        quiet = {"PGQUEUE_TEST_VERSION": "quiet"}
        start_worker("-c", "1", app="tests.scheduled_tasks", dsn=counting_dsn, env=quiet).ready()
        eventually(lambda: conn.execute("select from pgqueue.worker where sleeping").rowcount, what="it sleeps")
        eventually(lambda: conn.execute("select from pgqueue.schedule").rowcount == 13, what="its own are there too")
        time.sleep(2)  # what it does at its start is over
        counter = Counter(conn, inserted=0)
        time.sleep(IDLE_S)
        calls = counter.statements()
        of_schedules = counter.calls(r"^(?!with me as).*\.(schedule|declared|fired)")
    app.close()
    assert sum(calls.values()) < IDLE_S, calls
    assert of_schedules == 0 and counter_works(calls)


def counter_works(calls: dict[str, int]) -> bool:
    """The heartbeats were seen."""
    return any(text.startswith("with me as") and count >= 2 for text, count in calls.items())
