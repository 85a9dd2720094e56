"""Batches: a job takes many events; the one that fails is found, tried alone and put aside, and all others come once, in order."""

import json
import os
import signal
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from pgqueue import App, ConfigError, Event, InvalidOption, db
from pgqueue.cli import cli
from pgqueue.events.subscription import Mode, Subscription, declare
from tests.answers import one_value
from tests.conftest import Worker, eventually
from tests.events.test_windows import drain

Start = Callable[..., Worker]
KINDS: list[tuple[str, Mode]] = [("many", "batch"), ("one", "job")]
SHOP = """
create schema shop;
create table shop.seen (nth serial, handler text, numbers int[], keys text[], attempt int);
create table shop.bad (number int primary key, how text);
create table shop.kept (nth serial, number int, key text);
"""


@pytest.fixture
def start(start_worker: Start, conn: psycopg.Connection) -> Start:
    """Workers of tests/batch_tasks.py; the first one has made the subscriptions."""
    conn.execute(SHOP)
    assert start_worker("-c", "1", "--burst", app="tests.batch_tasks").wait() == 0
    return lambda *options, **settings: start_worker(
        *(options or ("-c", "1")), **{"app": "tests.batch_tasks", **settings}
    )


def publish(app: App, name: str, numbers: range, *, keys: int = 3) -> None:
    app.publish_many([{"type": f"{name}.new", "payload": number, "key": f"k{number % keys}"} for number in numbers])


def bad(conn: psycopg.Connection, **numbers: list[int]) -> None:
    for how, each in numbers.items():
        for number in each:
            conn.execute("insert into shop.bad values (%s, %s)", [number, how])


def seen(conn: psycopg.Connection, name: str) -> list[list[int]]:
    rows = conn.execute("select numbers from shop.seen where handler = %s order by nth", [name])
    return [numbers for (numbers,) in rows]


def ended(conn: psycopg.Connection, name: str, state: str) -> list[Any]:
    rows = conn.execute(
        "select id::text, args, error, attempt, crashes from pgqueue.history where task = %s and state = %s::pgqueue.job_state"
        " order by finished_at, id",
        [f"tests.batch_tasks.{name}", state],
    )
    return rows.fetchall()


def behind(app: App, name: str) -> int:
    return next(state.behind for state in app.subscription_states() if state.name == f"tests.batch_tasks.{name}")


def aside(conn: psycopg.Connection, name: str, state: str = "dead") -> list[int]:
    return [event["payload"] for _, args, *_ in ended(conn, name, state) for event in json.loads(args)[0]]


def test_a_job_takes_a_batch(start: Start, conn: psycopg.Connection, app: App) -> None:
    publish(app, "plain", range(20))
    publish(app, "other", range(20))
    assert start("-c", "2", "--burst").wait() == 0
    assert seen(conn, "plain") == [[*range(8)], [*range(8, 16)], [*range(16, 20)]]
    assert [row[1] for row in ended(conn, "plain", "succeeded")] == ["[]"] * 3  # the events stay in the log
    assert behind(app, "plain") == 0 and one_value(conn, "select count(*) from pgqueue.job") == 0
    publish(app, "plain", range(20, 22))
    assert start("-c", "2", "--burst").wait() == 0
    assert seen(conn, "plain")[3:] == [[20, 21]]


def test_a_lane_in_the_midst_of_a_window_gets_to_what_comes_after_it(app: App, conn: psycopg.Connection) -> None:
    with db.connect(app.dsn) as own, own.transaction():
        made = [Subscription(name=name, mode=mode, types=["t"], task=name, batch=5) for name, mode in KINDS]
        db.run(own, declare(app.queries, *made))
    for number in (1, 2):
        app.publish("t", number)
        drain(app)
    conn.execute("update pgqueue.place set seq = (select min(seq) from pgqueue.event) where subscription = 'many'")
    conn.execute("delete from pgqueue.job where task = 'many'")
    assert drain(app) > 0
    assert one_value(conn, "select count(*) from pgqueue.job where unique_key = 'pgqueue.lane:0:many'") == 1


def test_the_event_that_fails_is_found_tried_alone_and_put_aside(
    start: Start, conn: psycopg.Connection, app: App
) -> None:
    bad(conn, **{"raise": [5]})
    publish(app, "plain", range(12))
    assert start("-c", "1", "--burst").wait() == 0
    halved = [[*range(8)], [*range(4)], [4, 5], [4], [5], [5]]
    assert seen(conn, "plain") == [*halved, [6, 7, 8, 9, 10, 11]]
    ((job, _, error, attempt, _),) = ended(conn, "plain", "dead")
    assert (aside(conn, "plain"), attempt, error) == ([5], 2, "ValueError: 5 is bad")
    told = [(failed.attempt, failed.error) for failed in app.attempts(job)]
    assert told[-2:] == [(1, "ValueError: 5 is bad"), (2, "ValueError: 5 is bad")]
    # What failed as a batch is told of the jobs of the lane.
    said = conn.execute(
        "select error from pgqueue.attempt where error like 'a batch of%' order by failed_at"
    ).fetchall()
    assert said == [(f"a batch of {n} events failed, and is halved: ValueError: 5 is bad",) for n in (8, 2)]
    assert one_value(conn, "select error from pgqueue.place where subscription = 'tests.batch_tasks.plain'") is None
    conn.execute("truncate shop.bad, shop.seen")
    assert app.retry(job)
    publish(app, "plain", range(12, 14))
    assert start("-c", "1", "--burst").wait() == 0
    assert sorted(seen(conn, "plain")) == [[5], [12, 13]] and aside(conn, "plain") == []


@pytest.mark.parametrize(
    ("how", "state", "calls"),
    [
        pytest.param(
            "cancel", "cancelled", [[*range(8)], [*range(4)], [4, 5], [4], [5], [6, 7]], marks=pytest.mark.long
        ),
        ("skip", "dead", [[*range(8)], [0, 1, 2, 3, 4, 6, 7]]),
        pytest.param(
            "retry",
            "dead",
            [[*range(8)], [*range(8)], [*range(4)], [4, 5], [4, 5], [4], [5], [5], [6, 7]],
            marks=pytest.mark.long,
        ),
        ("die", "dead", [[*range(8)], [*range(4)], [4, 5], [4], [5], [5], [5], [6, 7]]),
    ],
)
def test_whatever_an_event_does_it_is_put_aside_and_no_other(
    start: Start, conn: psycopg.Connection, app: App, how: str, state: str, calls: list[list[int]]
) -> None:
    bad(conn, **{how: [5]})
    publish(app, "plain", range(8))
    assert start("-c", "1", "--burst").wait() == 0
    assert seen(conn, "plain") == calls and aside(conn, "plain", state) == [5] and behind(app, "plain") == 0


@pytest.mark.long
def test_an_event_that_stays_over_its_time(start: Start, conn: psycopg.Connection, app: App) -> None:
    bad(conn, stay=[2])
    publish(app, "plain", range(4))
    assert start("-c", "2", "--burst").wait() == 0
    assert seen(conn, "plain") == [[0, 1, 2, 3], [0, 1], [2], [2], [3]] and aside(conn, "plain") == [2]


@pytest.mark.long
def test_what_cannot_be_read_is_put_aside(start: Start, conn: psycopg.Connection, app: App) -> None:
    """A payload that the task cannot take, and one that is no JSON, which only another program's INSERT can leave."""
    publish(app, "plain", range(2))
    app.publish("plain.new", {"no": "int"})
    conn.execute("insert into pgqueue.event (id, type, payload) values (gen_random_uuid(), 'plain.new', '{')")
    publish(app, "plain", range(2, 4))
    assert start("-c", "1", "--burst").wait() == 0
    assert [number for numbers in seen(conn, "plain") for number in numbers] == [0, 1, 2, 3]
    (first, second) = sorted(error for _, _, error, *_ in ended(conn, "plain", "dead"))
    assert "the stored arguments are not JSON" in first and "cannot adapt type 'dict'" in second
    assert behind(app, "plain") == 0


def test_a_lane_stops_at_a_poison_event_if_it_is_told_to(
    start: Start, conn: psycopg.Connection, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad(conn, **{"raise": [1]})
    publish(app, "strict", range(4))
    worker = start().ready()
    place = "select error, retry_at = 'infinity' from pgqueue.place where subscription = 'tests.batch_tasks.strict'"
    eventually(lambda: ended(conn, "strict", "dead"), what="the poison event is dead")
    publish(app, "strict", range(4, 6))
    publish(app, "plain", range(1))
    eventually(lambda: seen(conn, "plain"), what="others continue")
    assert seen(conn, "strict") == [[0, 1, 2, 3], [0, 1], [0], [1]] and behind(app, "strict") == 4
    ((error, stopped),) = conn.execute(place).fetchall()
    assert stopped and "is alone in job" in error and "1 is bad" in error
    ((job, *_),) = ended(conn, "strict", "dead")
    monkeypatch.setenv("PGQUEUE_DSN", app.dsn)

    def typed(*words: str) -> str:
        return CliRunner().invoke(cli, [*words], catch_exceptions=False).output

    name = "tests.batch_tasks.strict"
    assert "1 of 1 lanes stopped: event" in typed("subscriptions")
    assert [line.split()[0] for line in typed("subscription", "aside", name).splitlines()] == ["JOB", job]
    conn.execute("delete from shop.bad where number = 1; insert into shop.bad values (4, 'raise')")
    assert typed("subscription", "retry", name, job) == f"tried again: 1 event of {name}\n"
    # When it has succeeded the lane continues, to the next one.
    eventually(lambda: [event.key for event in app.subscription(name).aside()] == ["k1"], what="it stops again")
    assert seen(conn, "strict")[4:] == [[1], [2, 3, 4, 5], [2, 3], [4]]
    assert app.subscription(name).start(lane=0) == [0] and app.subscription(name).start() == []
    eventually(lambda: behind(app, "strict") == 0, what="it continues after the event")
    assert typed("subscription", "discard", name, "--all") == f"forgotten: 1 event of {name}\n"
    assert typed("subscription", "aside", name) == "nothing was put aside\n"
    assert conn.execute(place).fetchall() == [(None, None)] and worker.stop() == 0


def test_what_cannot_be_ordered_is_one_line(app: App, conn: psycopg.Connection) -> None:
    conn.execute(
        "insert into pgqueue.subscription (name, mode, types) values ('to', 'relay', '{a}'), ('job', 'job', '{a}')"
    )
    there, job = app.subscription("job"), str(uuid.uuid4())
    for order, told in (
        (app.subscription("none").aside, "there is no subscription 'none'"),
        (app.subscription("none").retry, "there is no subscription 'none'"),
        (app.subscription("none").discard, "there is no subscription 'none'"),
        (app.subscription("none").start, "there is no subscription 'none'"),
        (
            app.subscription("to").retry,
            "to is a relay, whose events have numbers in order: `pgqueue subscription replay to",
        ),
        (lambda: there.retry("x"), "'x' is not a job id: `pgqueue subscription aside job` lists them"),
        (lambda: there.discard(job), f"job {job} keeps no event that was put aside of job"),
        (lambda: there.start(lane=256), "lane=256 is out of range"),
        (lambda: there.aside(limit=0), "limit=0 is out of range"),
    ):
        with pytest.raises(InvalidOption, match=told):
            order()
    assert (there.retry(), there.discard(), there.start()) == (0, 0, [])
    for words in (["retry", "job"], ["discard", "job", job, "--all"]):
        with pytest.raises(InvalidOption, match="name the jobs"):
            CliRunner().invoke(cli, ["subscription", *words], catch_exceptions=False)


def test_a_child_that_is_killed_in_the_midst_loses_and_doubles_nothing(
    start: Start, conn: psycopg.Connection, app: App, tmp_path: Path
) -> None:
    """Of an atomic task, whose effects go with its batch: the lane and they have one transaction."""
    block = tmp_path / "block"
    block.touch()
    worker = start("-c", "3", env={"TEST_BLOCK": str(block)}).ready()
    publish(app, "atomic", range(60), keys=7)
    for child in [pid for pid in worker.children() if b"child.main" in Path(f"/proc/{pid}/cmdline").read_bytes()]:
        eventually(lambda: seen(conn, "atomic"), what="a batch is worked on")
        os.kill(child, signal.SIGKILL)
    block.unlink()
    kept = "select key, array_agg(number order by nth) from shop.kept group by key"
    count = "select count(*) >= 60 from shop.kept"
    eventually(lambda: one_value(conn, count), what="all are kept")
    eventually(lambda: behind(app, "atomic") == 0, what="all lanes moved")
    assert dict(conn.execute(kept).fetchall()) == {f"k{n}": [*range(n, 60, 7)] for n in range(7)}
    assert ended(conn, "atomic", "dead") == [] and worker.stop() == 0


@pytest.mark.long
def test_a_batch_waits_for_more(start: Start, conn: psycopg.Connection, app: App) -> None:
    start().ready()
    publish(app, "slow", range(60))
    publish(app, "plain", range(1))
    eventually(lambda: seen(conn, "plain"), what="the dispatcher has looked")
    publish(app, "slow", range(60, 99))
    assert seen(conn, "slow") == []
    publish(app, "slow", range(99, 100))
    eventually(lambda: seen(conn, "slow") == [[*range(100)]], what="it is full")
    publish(app, "slow", range(100, 101))
    conn.execute("update pgqueue.event set at = at - interval '2 hours'")
    publish(app, "slow", range(101, 102))
    eventually(lambda: seen(conn, "slow")[1:] == [[100, 101]], what="it has waited long enough")


@pytest.mark.long
def test_a_lane_that_is_moved_meanwhile_is_read_again(
    start: Start, conn: psycopg.Connection, app: App, tmp_path: Path
) -> None:
    block = tmp_path / "block"
    block.touch()
    start("-c", "1", env={"TEST_BLOCK": str(block)}).ready()
    publish(app, "atomic", range(3), keys=1)
    eventually(lambda: seen(conn, "atomic"), what="it is worked on")
    app.subscription("tests.batch_tasks.atomic").replay("begin")
    block.unlink()
    count = "select count(*) from shop.kept"
    eventually(lambda: one_value(conn, count) == 3, what="it came again, and what was done before was rolled back")
    eventually(lambda: behind(app, "atomic") == 0, what="the lane moved")
    assert one_value(conn, count) == 3


def test_bad_options_are_refused_where_they_are_written(app: App) -> None:
    def handler(events: list[Event[int]]) -> None: ...
    def none() -> None: ...

    for options, told in (
        ({"batch": 0}, "batch=0 is out of range: 1 to 10000"),
        ({"batch": "5"}, "batch takes a whole number, not a str"),
        ({"batch": 5, "lanes": 0}, "lanes=0 is out of range: 1 to 256"),
        ({"batch": 5, "on_poison": "drop"}, "on_poison='drop' is not understood: take 'skip'"),
        ({"batch": 5, "batch_wait": -1}, "batch_wait=-1 is negative"),
        ({"batch": 5, "batch_wait": 3601}, "batch_wait=3601 is out of range: 0 to 3600 seconds"),
        ({"batch_wait": 1.0}, "batch_wait= is for batches; add batch=, as in batch=100"),
        ({"lanes": 4}, "lanes= is for batches"),
        ({"on_poison": "stop"}, "on_poison= is for batches"),
        ({"batch": 5, "quue": "x"}, "@task has no option 'quue'"),
    ):
        with pytest.raises(InvalidOption, match=told):
            app.on("a.b", **options)(handler)
    with pytest.raises(InvalidOption, match="@task has no option 'batch'; batches are of events"):
        app.task(batch=5)(handler)  # type: ignore[call-overload]
    with pytest.raises(ConfigError, match="one argument, the events: write `def none\\(events: list\\[Event\\]\\)`"):
        app.on("a.b", batch=5)(none)
    task = app.task(name="known")(handler)
    with pytest.raises(ConfigError, match=r"is a task already, and @app\.on makes one"):
        app.on("a.b", batch=5)(task)
    assert app.subscriptions == {}
