"""A due time makes one job: whatever was missed, overlaps, dies in between, or goes back."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import psycopg
import pytest

from pgqueue import App, db
from pgqueue.queries import Queries
from pgqueue.schedules.fire import MISSED_S, fire_round, jitter_s
from tests.conftest import Worker, eventually
from tests.gates.doorkeeper import Doorkeeper
from tests.hands import Hands
from tests.schedules.shelf import NOON, Shelf

MINUTE = timedelta(minutes=1)
QUEUES = '{"overlap": "queue"}'


@pytest.fixture
def shelf(app: App, conn: psycopg.Connection) -> Shelf:
    return Shelf(app, conn)


def test_a_due_time_makes_one_job_and_says_which(shelf: Shelf) -> None:
    shelf.put(
        options='{"queue": "mail", "priority": 3, "max_attempts": 2, "timeout_s": 5, "expires_s": 60, "headers": {"a": 1}}'
    )
    done = shelf.fire()
    assert (done.jobs, done.more, done.due_s) == (1, False, 60.0) and shelf.next() == NOON + MINUTE
    assert shelf.fire() == (0, False, 60.0, {})  # not again
    columns = "task, args, state::text, queue, priority, max_attempts, timeout_s::int, expires_at is not null, headers"
    rows = shelf.conn.execute(f"select {columns} from pgqueue.job").fetchall()
    headers = {"a": 1, "pgqueue.schedule": "s", "pgqueue.due_at": NOON.isoformat()}
    assert rows == [("tests.tasks.echo", '["x"]', "queued", "mail", 3, 2, 5, True, rows[0][-1])]
    assert json.loads(rows[0][-1]) == headers and shelf.fired() == [("12:00", None)]


@pytest.mark.parametrize(
    ("missed", "late_s", "jobs"),
    [
        ("once", 200, ["12:03"]), ("skip", 200, ["12:03"]), ("skip", 180 + MISSED_S - 1, ["12:03"]),
        ("all", 200, ["12:00", "12:01", "12:02", "12:03"]), ("all", 60 * 500, None),
    ],
)  # fmt: skip
def test_what_was_missed(shelf: Shelf, missed: str, late_s: float, jobs: list[str] | None) -> None:
    shelf.put(missed=missed, overlap="allow", cron="* 12 * * *" if jobs else "* * * * *")
    now = NOON + timedelta(seconds=late_s)
    shelf.fire(now)
    if jobs is None:  # a hundred, oldest first, and then no more of the past
        assert (
            len(shelf.made()) == 100 and shelf.made()[-1] == "13:39" and shelf.next() == now.replace(second=0) + MINUTE
        )
    else:
        assert shelf.made() == jobs
        assert [time for time, why in shelf.fired() if why is None] == jobs
        assert {why for time, why in shelf.fired() if time not in jobs} <= {"missed: no worker was there"}


def test_skip_leaves_what_is_later_than_a_minute(shelf: Shelf) -> None:
    shelf.put(missed="skip", cron="0 * * * *")
    shelf.fire(NOON + timedelta(seconds=MISSED_S + 1))
    assert shelf.made() == [] and shelf.fired() == [("12:00", "missed: no worker was there")]
    shelf.fire(NOON + timedelta(hours=1, seconds=MISSED_S - 1))
    assert shelf.made() == ["13:00"]


def test_a_year_of_seconds_was_missed(shelf: Shelf) -> None:
    shelf.put(cron="* * * * * *", overlap="allow")
    now = NOON + timedelta(days=365, milliseconds=5)
    shelf.fire(now)
    ((last,),) = shelf.conn.execute("select max(due_at) from pgqueue.fired where skipped is null").fetchall()
    assert last == now.replace(microsecond=0) and len(shelf.made()) == 1 and len(shelf.fired()) == 101


def test_a_run_does_not_overlap_the_last_one(shelf: Shelf) -> None:
    shelf.put("careful")
    shelf.put("careless", overlap="allow")
    for minute in range(2):
        shelf.fire(NOON + minute * MINUTE)
    ((job,),) = shelf.conn.execute("select last_job::text from pgqueue.schedule where name = 'careful'").fetchall()
    assert shelf.fired("careful") == [("12:00", None), ("12:01", f"its last job, {job}, had not ended")]
    assert shelf.fired("careless") == [("12:00", None), ("12:01", None)]
    shelf.end_jobs()
    shelf.fire(NOON + 2 * MINUTE)
    assert shelf.fired("careful")[-1] == ("12:02", None)
    shelf.put("both", missed="all")
    shelf.fire(NOON + 2 * MINUTE)
    assert shelf.fired("both") == [
        ("12:00", None),
        *((f"12:0{n}", "the job of an earlier time had not ended") for n in (1, 2)),
    ]


def test_one_waits_for_the_last_one_at_most(shelf: Shelf, queries: Queries) -> None:
    shelf.put(options=QUEUES, overlap="allow", missed="all")
    hands = Hands(shelf.conn, queries)
    keeper = Doorkeeper(shelf.conn, queries, worker=hands.id)
    for minute in range(3):
        shelf.fire(NOON + minute * MINUTE)
        keeper.look()
    waits = shelf.last_job()
    assert shelf.fired() == [("12:00", None), ("12:01", None), ("12:02", f"its last job, {waits}, waits already")]
    (listed,) = db.run(shelf.conn, queries.listed_schedules())
    assert (listed.last_job, listed.last_state) == (waits, "waiting")
    (first,) = hands.claim()
    hands.settle(first, "scheduled")  # it failed, and keeps its turn until it has ended
    keeper.look()
    assert hands.claim() == []
    db.run(shelf.conn, queries.promote(worker=hands.id))
    (again,) = hands.claim()
    assert again.id == first.id
    hands.finish([again])
    keeper.admit(["schedule:queue=s"])
    (second,) = hands.claim()
    assert second.id == waits
    shelf.fire(NOON + 3 * MINUTE)
    assert shelf.fired()[-1] == ("12:03", None)
    shelf.fire(NOON + 9 * MINUTE)
    assert [skipped for _, skipped in shelf.fired()[4:]] == [f"its last job, {shelf.last_job()}, waits already"] * 6


def test_of_what_was_missed_one_runs_and_one_waits(shelf: Shelf) -> None:
    shelf.put(options=QUEUES, overlap="allow", missed="all")
    shelf.fire(NOON + 3 * MINUTE)
    assert shelf.fired() == [
        ("12:00", None), ("12:01", None),
        *((f"12:0{n}", "the job of an earlier time waits already") for n in (2, 3)),
    ]  # fmt: skip
    gates = shelf.conn.execute("select gates, gate, state::text from pgqueue.job").fetchall()
    assert gates == [(["schedule:queue=s"], 0, "waiting")] * 2
    assert shelf.conn.execute("select slots, keeps, keyed from pgqueue.gate").fetchall() == [(1, True, True)]


def test_what_waits_for_its_turn_is_under_the_limits_of_its_task_too(
    shelf: Shelf, conn: psycopg.Connection, start_worker: Callable[..., Worker]
) -> None:
    """Its key is found out where the code is; its turn stays the first of its gates."""
    shelf.put(options=QUEUES, overlap="allow", task="tests.gates.tasks.each", args='["t1"]', next_run_at=NOON)
    conn.execute(
        "insert into pgqueue.gate (name, slots, source) values ('task:tests.gates.tasks.each=t1', 0, 'person')"
    )
    shelf.fire()
    start_worker("-c", "1", app="tests.gates.tasks")
    gates = ["schedule:queue=s", "task:tests.gates.tasks.each=t1"]
    waits = "select gates, gate from pgqueue.job where state = 'waiting' and gate = 2"
    eventually(lambda: conn.execute(waits).fetchall() == [(gates, 2)], what="it waits at the key")


def test_clocks_that_go_back_make_no_job_twice(shelf: Shelf) -> None:
    shelf.put(overlap="allow")
    shelf.fire()
    shelf.conn.execute("update pgqueue.schedule set next_run_at = %s", [NOON])  # or a row that somebody edited
    shelf.fire()
    shelf.conn.execute("delete from pgqueue.schedule")
    shelf.put(overlap="allow")
    shelf.fire()
    assert shelf.made() == ["12:00"]


def test_jitter_is_the_same_for_all_workers(shelf: Shelf) -> None:
    shelf.put(jitter_s=600)
    shelf.fire()
    start = NOON + timedelta(seconds=jitter_s("s", NOON, 600))
    ((run_at,),) = shelf.conn.execute("select run_at from pgqueue.job").fetchall()
    assert abs(run_at - start) < timedelta(milliseconds=1) and NOON <= start < NOON + timedelta(minutes=10)
    assert len({jitter_s("s", NOON + n * MINUTE, 600) for n in range(100)}) == 100


def test_a_unique_key_is_heeded(shelf: Shelf, app: App) -> None:
    holder = app.enqueue("tests.tasks.echo", ["x"], unique="one")
    shelf.put("ignores", options='{"unique": "one"}', overlap="allow")
    shelf.put("raises", options='{"unique": "one", "on_duplicate": "raise"}', overlap="allow")
    shelf.fire()
    for name in ("ignores", "raises"):
        assert shelf.fired(name) == [("12:00", "a live job has its unique key")]
    assert shelf.conn.execute("select id::text from pgqueue.job").fetchall() == [(holder.id,)]
    assert {last for (last,) in shelf.rows("last_job::text")} == {holder.id}


def test_what_another_worker_has_taken_is_not_waited_for(shelf: Shelf, app: App, conn: psycopg.Connection) -> None:
    shelf.put("a")
    shelf.put("b", next_run_at=NOON - MINUTE)
    with psycopg.connect(app.dsn) as other:
        other.execute("select from pgqueue.schedule where name = 'a' for update")
        assert shelf.fire().jobs == 1 and shelf.fired("a") == [] and len(shelf.fired("b")) == 2
    assert shelf.fire().jobs == 1


def test_a_transaction_that_is_lost_leaves_nothing(shelf: Shelf, app: App) -> None:
    shelf.put()
    steps = 0
    while True:
        steps += 1
        with db.connect(app.dsn) as lost:
            if not shelf_until(shelf, lost, steps):
                break
        assert shelf.made() == [] and shelf.fired() == [] and shelf.next() == NOON
    assert steps > 4 and shelf.made() == ["12:00"]


def shelf_until(shelf: Shelf, conn: db.Connection, count: int) -> bool:
    """A round that ends after so many statements, before its commit; False: it had no more."""
    steps = fire_round(shelf.app.queries, ring="never", now=NOON)
    with conn.transaction() as transaction:
        statement = next(steps)
        for _ in range(count):
            try:
                statement = steps.send(db.run(conn, statement))
            except StopIteration:
                return False
        raise psycopg.Rollback(transaction)
    return True


def test_one_that_cannot_be_read_holds_up_no_other(shelf: Shelf) -> None:
    shelf.put("zone", tz="Mars/Olympus")
    shelf.put("cron", cron="nonsense")
    shelf.put("options", options="[]")
    shelf.put("well")
    done = shelf.fire()
    assert done.jobs == 1 and done.due_s == 60.0 and done.unable.keys() == {"zone", "cron", "options"}
    assert shelf.next("zone") == NOON  # another worker may know the zone


def test_a_worker_fires_and_goes_on_where_the_server_refuses(
    shelf: Shelf, conn: psycopg.Connection, start_worker: Callable[..., Worker]
) -> None:
    """Its due times are on time, a refused one is passed over, and a job knows its time."""
    soon = datetime.now(UTC).replace(microsecond=0)
    for name in ("bad", "worse"):
        shelf.put(name, cron="* * * * * *", next_run_at=soon, task="tests.tasks.echo", args="\ufffe" + "x" * 10)
    conn.execute(
        "create function pgqueue.pgqueue_refuse() returns trigger language plpgsql as $$ begin "
        "if new.args like '%xxx%' then raise 'not this one' using errcode = '22023'; end if; return new; end $$;"
        "create trigger refuse before insert on pgqueue.job for each row execute function pgqueue.pgqueue_refuse()"
    )
    try:
        worker = start_worker("-c", "1", app="tests.scheduled_tasks").ready()
        ticks = "select result::json #>> '{}', headers from pgqueue.history where queue = 'ticks' order by 1"
        rows = eventually(lambda: (r := conn.execute(ticks).fetchall())[2:] and r, what="three ticks")
    finally:
        conn.execute("drop trigger refuse on pgqueue.job; drop function pgqueue.pgqueue_refuse()")
    worker.said("schedule bad: its job cannot be made: not this one")
    times = [datetime.fromisoformat(text) for text, _ in rows]
    assert {b - a for a, b in pairwise(times)} == {timedelta(seconds=0.25)}
    assert conn.execute("select error from pgqueue.schedule where name = 'worse'").fetchone() == ("not this one",)
    late = "select max(fired_at - due_at) < '0.5 s' from pgqueue.fired where schedule like '%tick'"
    assert conn.execute(late).fetchone() == (True,)


@pytest.mark.long
def test_events_are_heard_on_the_connection_that_fires(
    shelf: Shelf, app: App, conn: psycopg.Connection, start_worker: Callable[..., Worker]
) -> None:
    """A statement ends the dispatcher's wait for a moment, and no bell is lost for it: its poll is longer than this test."""
    start_worker("-c", "1", app="tests.event_tasks").ready()
    now = datetime.now(UTC)
    shelf.put("often", cron=None, every_s=0.1, anchor_at=now, next_run_at=now, task="unknown", overlap="allow")
    eventually(lambda: len(shelf.fired("often")) > 2, what="it fires")
    asleep = "select from pgqueue.event_reader where asleep"
    done = "select count(*) from pgqueue.history where task = 'tests.event_tasks.index_user'"
    for number in range(1, 4):
        eventually(lambda: conn.execute(asleep).rowcount, what="the dispatcher sleeps")
        before = len(shelf.fired("often"))
        app.publish("user.created", {"id": number})
        eventually(lambda: conn.execute(done).fetchone() == (number,), what="its job is done", within_s=10)  # noqa: B023
    eventually(lambda: len(shelf.fired("often")) > before, what="it fires on")
