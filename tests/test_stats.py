"""Stats on a real database: right to the last row while there are few, bounded and honest when there are many."""

import contextlib
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import psycopg
import pytest

from pgqueue import App, db, schema
from pgqueue.config import Config
from pgqueue.events.subscription import Subscription, declare
from pgqueue.ops import stats
from pgqueue.ops.stats import Bucket, Count, Stats, Totals
from pgqueue.queries import Queries

Connection = psycopg.Connection[Any]
TABLES = "job, history, attempt, worker, queue, throughput, awaited, audit"


@pytest.fixture
def conn(conn: Connection) -> Connection:
    """Tables by their bare names, and a job sequence as on the first day."""
    conn.execute("set search_path = pgqueue")
    conn.execute("alter sequence job_seq restart")
    return conn


def look(conn: Connection, queries: Queries, **limits: int) -> Stats:
    found: Stats = db.run(conn, stats.gather(queries, **limits))
    return found


def add_jobs(conn: Connection, number: int, **columns: Any) -> None:
    values = {"queue": "default", "task": "shop.send", "state": "queued"} | columns
    names, places = ", ".join(values), ", ".join(f"%({name})s" for name in values)
    conn.execute(
        f"insert into job (id, {names}) select uuid7(), {places} from generate_series(1, %(number)s)",
        values | {"number": number},
    )


def add_worker(conn: Connection, name: str = "host:1", *, set: str = "state = 'alive'", queues: Any = None) -> str:
    id_ = str(uuid.uuid4())
    conn.execute(
        "insert into worker (id, lease_until, pid, concurrency, name, version, app, queues, tasks)"
        " values (%s, now() + interval '15 s', 1, 8, %s, '1.0', 'shop', %s, '{}')",
        (id_, name, queues),
    )
    conn.execute(f"update worker set {set} where id = %s", (id_,))
    return id_


# -- the whole --


def test_an_empty_schema_has_nothing_and_says_it_was_never_used(conn: Connection, queries: Queries) -> None:
    found = look(conn, queries)
    assert not found.ever_used
    assert found.queued == found.scheduled == found.running == found.dead_kept == Count(0)
    assert (found.queues, found.workers, found.upcoming, found.failures) == ((), (), (), ())
    assert found.last_hour == Totals()


def test_small_numbers_are_exact_without_planner_statistics(conn: Connection, queries: Queries) -> None:
    add_jobs(conn, 5)
    add_jobs(conn, 3, queue="mail", priority=7)
    add_jobs(conn, 2, state="scheduled")
    add_jobs(conn, 4, state="running", worker=uuid.uuid4())
    found = look(conn, queries)
    assert found.ever_used
    assert (found.queued, found.scheduled, found.running) == (Count(8), Count(2), Count(4))
    assert {queue.name: (queue.depth, queue.running) for queue in found.queues} == {
        "default": (Count(5), 4),
        "mail": (Count(3), 0),
    }


def test_ever_used_is_remembered_when_all_jobs_are_gone(conn: Connection, queries: Queries) -> None:
    add_jobs(conn, 1)
    conn.execute("delete from job")
    assert look(conn, queries).ever_used


def test_dead_jobs_are_counted_in_history_and_cancelled_ones_are_not(conn: Connection, queries: Queries) -> None:
    for state, number in (("dead", 3), ("cancelled", 2), ("succeeded", 4)):
        conn.execute(
            "insert into history (id, claim_token, run_at, created_at, state, attempt, crashes, priority, queue,"
            " task, args, kwargs) select uuid7(), 1, now(), now(), %s, 1, 0, 0, 'q', 't', '[]', '{}'"
            " from generate_series(1, %s)",
            (state, number),
        )
    assert look(conn, queries).dead_kept == Count(3)
    assert not look(conn, queries, count_limit=4).dead_kept.exact


def test_s22_beyond_the_limit_a_count_is_an_estimate_near_the_truth(conn: Connection, queries: Queries) -> None:
    add_jobs(conn, 3000, queue="deep")
    add_jobs(conn, 7, queue="shallow")
    add_jobs(conn, 900, state="scheduled")
    found = look(conn, queries, count_limit=200)
    depths = {queue.name: queue.depth for queue in found.queues}
    assert depths == {"deep": Count(3000, exact=False), "shallow": Count(7)}  # a small table is sampled as a whole
    assert found.queued == Count(3007, exact=False)
    assert found.scheduled == Count(900, exact=False)


def test_more_running_jobs_than_are_counted_are_an_estimate(conn: Connection, queries: Queries) -> None:
    add_jobs(conn, 900, state="running", worker=uuid.uuid4(), queue="busy")
    add_jobs(conn, 7, state="running", worker=uuid.uuid4())
    found = look(conn, queries, count_limit=200)
    assert found.running == Count(907, exact=False)
    assert {queue.name: queue.running for queue in found.queues}["busy"] == 900


def test_beyond_a_hundred_priorities_the_depth_is_not_called_exact(conn: Connection, queries: Queries) -> None:
    conn.execute("insert into job (id, task, priority) select uuid7(), 't', i from generate_series(1, 99) as i")
    assert look(conn, queries).queued == Count(99)
    conn.execute("insert into job (id, task, priority) select uuid7(), 't', -i from generate_series(1, 50) as i")
    assert look(conn, queries).queued == Count(149, exact=False)


def test_an_estimate_is_never_below_what_was_counted(conn: Connection, queries: Queries) -> None:
    sample = stats._Sample(10.0, {("queued", "other"): 5})
    assert sample.count("queued", "mine", counted=200, capped=True) == Count(200, exact=False)
    assert sample.count("queued", "other", counted=20, capped=True) == Count(50, exact=False)
    assert sample.count("queued", "other", counted=20, capped=False) == Count(20)


def test_the_name_of_the_schema_is_respected(conn: Connection) -> None:
    other = Queries(Config(schema="other"))
    with conn.transaction(force_rollback=True):
        db.run(conn, schema.migrate(other, schema="other"))
        add_jobs(conn, 1)
        assert look(conn, other).queued == Count(0)


# -- throughput --


def add_throughput(conn: Connection, *, ago_s: int, succeeded: int, failed: int = 0) -> None:
    conn.execute(
        "insert into throughput values (to_timestamp(floor(extract(epoch from now()) / 10) * 10)"
        " - %s * interval '1 s', uuid7(), %s, %s, 1, 0)",
        (ago_s, succeeded, failed),
    )


def test_rates_are_those_of_the_last_minute_over_all_workers(conn: Connection, queries: Queries) -> None:
    for ago_s in range(10, 70, 10):
        add_throughput(conn, ago_s=ago_s, succeeded=600)
        add_throughput(conn, ago_s=ago_s, succeeded=600, failed=60)
    add_throughput(conn, ago_s=1800, succeeded=50_000)
    found = look(conn, queries)
    assert 7200 / 70 <= found.succeeded_per_s <= 7200 / 60 + 20
    assert 360 / 70 <= found.failed_per_s <= 6
    assert found.last_hour.succeeded == 57_200


def test_the_chart_has_sixty_complete_buckets_without_a_gap(conn: Connection, queries: Queries) -> None:
    add_throughput(conn, ago_s=100, succeeded=40, failed=5)
    found = look(conn, queries)
    times = [bucket.at for bucket in found.throughput]
    assert len(times) == 60
    assert {(later - earlier).total_seconds() for earlier, later in pairwise(times)} == {10.0}
    assert 10 <= (found.at - times[-1]).total_seconds() < 20
    (filled,) = (bucket for bucket in found.throughput if bucket.succeeded_per_s)
    # The one of 100 s ago, and the next if a bucket began between the insert and the look.
    assert filled in (Bucket(times[-10], 4.0, 0.5), Bucket(times[-11], 4.0, 0.5))


def test_what_is_older_than_an_hour_is_not_counted(conn: Connection, queries: Queries) -> None:
    add_throughput(conn, ago_s=3700, succeeded=5)
    assert look(conn, queries).last_hour == Totals()


# -- queues --


def test_the_age_is_that_of_the_oldest_runnable_job_whatever_its_priority(conn: Connection, queries: Queries) -> None:
    now = datetime.now(UTC)
    for priority, age_s in ((9, 10), (0, 500), (-3, 60)):
        add_jobs(conn, 1, priority=priority, run_at=datetime.fromtimestamp(now.timestamp() - age_s, UTC))
        add_jobs(conn, 5, priority=priority)
    (queue,) = look(conn, queries).queues
    assert queue.oldest_age_s == pytest.approx(500, abs=30)


def test_a_queue_is_served_by_a_worker_that_names_it_or_serves_all(conn: Connection, queries: Queries) -> None:
    for name in ("mail", "video"):
        add_jobs(conn, 1, queue=name)
    add_worker(conn, queues=["mail"])
    assert {queue.name: queue.served for queue in look(conn, queries).queues} == {"mail": True, "video": False}
    add_worker(conn)
    assert all(queue.served for queue in look(conn, queries).queues)


@pytest.mark.parametrize("set", ["state = 'dead'", "state = 'draining'", "lease_until = now() - interval '1 s'"])
def test_a_worker_that_claims_nothing_serves_nothing(conn: Connection, queries: Queries, set: str) -> None:
    add_jobs(conn, 1)
    add_worker(conn, set=set)
    assert [queue.served for queue in look(conn, queries).queues] == [False]


def test_queues_without_jobs_are_listed_when_paused_busy_or_named(conn: Connection, queries: Queries) -> None:
    conn.execute("insert into queue values ('halted', now(), 'me'), ('resumed', null, null)")
    add_jobs(conn, 1, queue="busy", state="running", worker=uuid.uuid4())
    add_worker(conn, queues=["named"])
    found = {queue.name: queue for queue in look(conn, queries).queues}
    assert found.keys() == {"halted", "busy", "named"}
    assert [name for name, queue in found.items() if queue.paused] == ["halted"]
    assert found["busy"].running == 1


def test_of_many_queues_the_unserved_the_deepest_and_the_oldest_are_shown(conn: Connection, queries: Queries) -> None:
    conn.execute("insert into job (id, task, queue) select uuid7(), 't', 'q' || i from generate_series(1, 80) as i")
    add_jobs(conn, 9, queue="deep")
    add_jobs(conn, 1, queue="old", run_at=datetime(2024, 1, 1, tzinfo=UTC))
    add_worker(conn, queues=["deep", "old", *(f"q{i}" for i in range(1, 80))])
    found = look(conn, queries)
    assert [queue.name for queue in found.queues[:3]] == ["q80", "deep", "old"]
    assert (len(found.queues), found.queues_not_shown) == (50, 32)
    assert found.queued == Count(90)


def test_more_queues_than_are_looked_at_give_an_estimate(
    conn: Connection, queries: Queries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stats, "QUEUE_LIMIT", 10)
    conn.execute("insert into job (id, task, queue) select uuid7(), 't', 'q' || i from generate_series(1, 30) as i")
    assert look(conn, queries).queued == Count(30, exact=False)


# -- workers --


def test_the_state_of_workers_and_their_order(conn: Connection, queries: Queries) -> None:
    add_worker(conn, "a", set="state = 'dead'")
    add_worker(conn, "b")
    add_worker(conn, "c", set="state = 'draining'")
    add_worker(conn, "d", set="suspect_since = now()")
    add_worker(conn, "e", set="lease_until = now() - interval '1 s'")
    add_worker(conn, "forgotten", set="state = 'dead', heartbeat_at = now() - interval '2 hours'")
    found = [(worker.name, worker.state) for worker in look(conn, queries).workers]
    assert found == [("d", "suspect"), ("e", "suspect"), ("b", "alive"), ("c", "draining"), ("a", "lost")]


def test_a_worker_shows_its_longest_running_jobs(conn: Connection, queries: Queries) -> None:
    me = add_worker(conn, "me", set="started_at = now() - interval '60 s'", queues=["mail"])
    for age_s in range(8):
        add_jobs(conn, 1, state="running", worker=me, attempt=2, started_at=datetime.fromtimestamp(1e9 + age_s, UTC))
    conn.execute("update job set progress = 0.5, progress_note = 'half' where started_at = to_timestamp(1e9)")
    (worker,) = look(conn, queries).workers
    assert (worker.busy, worker.concurrency, worker.queues) == (8, 8, ("mail",))
    assert worker.uptime_s == pytest.approx(60, abs=30)
    assert len(worker.jobs) == 5
    assert (worker.jobs[0].progress, worker.jobs[0].note, worker.jobs[0].attempt) == (0.5, "half", 2)
    ages = [job.running_s for job in worker.jobs if job.running_s is not None]
    assert len(ages) == 5 and ages == sorted(ages, reverse=True)


def test_what_is_claimed_ahead_takes_no_place(conn: Connection, queries: Queries) -> None:
    me = add_worker(conn, "me")
    for _ in range(20):
        add_jobs(conn, 1, state="running", worker=me, started_at=datetime.now(UTC) + timedelta(hours=1))
    (worker,) = look(conn, queries).workers
    assert (worker.busy, worker.concurrency, worker.claimed) == (8, 8, 20)
    conn.execute("update job set started_at = now() - interval '2 s'")
    (worker,) = look(conn, queries).workers
    assert worker.busy == 20  # so long nothing lies in hand: they are async


def test_workers_beyond_what_is_shown_are_counted(
    conn: Connection, queries: Queries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stats, "WORKERS_SHOWN", 2)
    for place in range(5):
        add_worker(conn, f"w{place}")
    found = look(conn, queries)
    assert (len(found.workers), found.workers_not_shown) == (2, 3)


# -- what comes, and what went wrong --


def test_upcoming_jobs_come_in_order_and_tell_retries_apart(conn: Connection, queries: Queries) -> None:
    now = datetime.now(UTC).timestamp()
    add_jobs(conn, 1, state="scheduled", task="late", run_at=datetime.fromtimestamp(now + 900, UTC))
    add_jobs(conn, 1, state="scheduled", task="again", attempt=3, run_at=datetime.fromtimestamp(now + 60, UTC))
    first, second = look(conn, queries).upcoming
    assert (first.task, first.attempt, second.task, second.attempt) == ("again", 3, "late", 0)
    assert first.due_in_s == pytest.approx(60, abs=30)


def test_failures_come_newest_first_with_one_line_of_error(conn: Connection, queries: Queries) -> None:
    for age_s, error in ((60, "old"), (5, "\n  ValueError: no\nmore lines"), (30, "")):
        conn.execute(
            "insert into attempt (failed_at, job_id, claim_token, attempt, task, queue, cause, error)"
            " values (now() - %s * interval '1 s', uuid7(), 1, 2, 't', 'q', 'exception', %s)",
            (age_s, error),
        )
    found = look(conn, queries).failures
    assert [failure.error for failure in found] == ["ValueError: no", "", "old"]
    assert found[0].age_s == pytest.approx(5, abs=30)
    assert found[0].worker is None


def test_long_texts_are_cut_before_they_travel(conn: Connection, queries: Queries) -> None:
    add_jobs(conn, 1, state="scheduled", task="x" * 10_000)
    assert len(look(conn, queries).upcoming[0].task) == 200


# -- subscriptions --


def statements(conn: Connection, queries: Queries) -> int:
    steps, said = stats.gather(queries), 1
    statement = next(steps)
    with contextlib.suppress(StopIteration):
        while True:
            statement = steps.send(db.run(conn, statement))
            said += 1
    return said


def test_subscriptions_cost_a_statement_where_there_are_some(app: App, conn: Connection, queries: Queries) -> None:
    assert look(conn, queries).subscriptions == () and statements(conn, queries) == 7
    with db.connect(app.dsn) as own, own.transaction():
        wanted = [
            Subscription(name="job", mode="job", types=["t"], task="t"),
            Subscription(name="paused", mode="job", types=["t"], task="t"),
            Subscription(name="relay", mode="relay", types=["t.*"]),
            Subscription(name="search", mode="pull", types=["x", "t"]),
        ]
        db.run(own, declare(queries, *wanted))
    app.subscription("paused").pause()
    app.publish_many([{"type": "t"}] * 3 + [{"type": "x"}])
    reader = str(uuid.uuid4())
    conn.execute(
        "update place set held_by = %s, held_until = now() + interval '1 minute' where subscription = 'search'",
        [reader],
    )
    conn.execute(
        "update place set retry_at = 'infinity', error = E'no\nwhy', held_by = %s, held_until = now() - interval '1 s' "
        "where subscription = 'relay'",
        [reader],
    )
    add_worker(conn, set="tasks = '{t}'")
    assert statements(conn, queries) == 8
    found = look(conn, queries, count_limit=4).subscriptions
    assert found[0].name == "relay"  # it has stopped
    found = tuple(sorted(found, key=lambda each: each.name))
    assert [(each.name, each.behind, each.paused, each.stopped, each.served, each.error) for each in found] == [
        ("job", Count(3), False, False, True, None),
        ("paused", Count(3), True, False, True, None),
        ("relay", Count(0), False, True, True, "no"),
        ("search", Count(4, exact=False), False, False, True, None),
    ]
    assert [each.readers for each in found] == [(), (), (), (reader,)]
    assert found[2].behind_s is None and found[0].behind_s is not None and found[0].behind_s >= 0
    app.subscription("search").drop()
    assert set(look(conn, queries).to_json()["subscriptions"][1]) == {
        "name", "mode", "behind", "behind_is_exact", "behind_s", "lost", "paused", "stopped", "served", "error", "readers",
    }  # fmt: skip


# -- JSON --


def test_json_is_plain_and_has_stable_names(conn: Connection, queries: Queries) -> None:
    me = add_worker(conn, "a\x1b[2J", queues=["mail"])
    add_jobs(conn, 2)
    add_jobs(conn, 1, state="running", worker=me)
    plain = json.loads(json.dumps(look(conn, queries).to_json()))
    assert plain["queued"] == 2
    assert plain["queued_is_exact"] is True
    assert plain["at"].endswith("+00:00")
    assert plain["workers"][0]["queues"] == ["mail"]
    assert plain["workers"][0]["jobs"][0]["progress"] is None
    assert plain["queues"][0].keys() == {
        "name", "depth", "depth_is_exact", "oldest_age_s", "running", "paused", "served", "resume_s",
    }  # fmt: skip


def test_the_docstring_names_every_key(conn: Connection, queries: Queries) -> None:
    me = add_worker(conn)
    add_jobs(conn, 1, state="running", worker=me)
    add_jobs(conn, 1, state="scheduled")
    conn.execute(
        "insert into attempt (job_id, claim_token, attempt, task, queue, cause, error)"
        " values (uuid7(), 1, 2, 't', 'q', 'c', 'e')"
    )
    documented = Stats.to_json.__doc__ or ""
    assert not [key for key in _keys(look(conn, queries).to_json()) if f'"{key}"' not in documented]


def _keys(value: Any) -> Iterator[str]:
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _keys(item)
    if isinstance(value, dict):
        yield from value
