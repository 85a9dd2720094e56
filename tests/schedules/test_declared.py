"""What code declares: of several versions the newest counts, what a person changed stays, and what nobody has is stopped."""

import functools
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from pgqueue import App, ConfigError, InvalidOption, Limit, db
from pgqueue.schedules import control
from tests.conftest import Worker, eventually
from tests.schedules.shelf import Shelf, schedules

HOUR = timedelta(hours=1)


@pytest.fixture
def shelf(app: App, conn: psycopg.Connection) -> Shelf:
    return Shelf(app, conn)


def of_version(cron: str, *more: tuple[str, str]) -> list:  # type: ignore[type-arg]
    return list(schedules(App("dbname=nowhere"), ("s", cron), *more))


def test_of_two_versions_the_newest_counts(shelf: Shelf) -> None:
    old, new = of_version("0 1 * * *", ("gone", "0 1 * * *")), of_version("0 2 * * *")
    first = shelf.worker(*old)
    assert shelf.rows("name", "cron") == [("gone", "0 1 * * *"), ("s", "0 1 * * *")]
    second = shelf.worker(*new)
    assert shelf.rows("name", "cron") == [("gone", "0 1 * * *"), ("s", "0 2 * * *")]
    shelf.leave(first)
    third = shelf.worker(*old)  # an old one that starts again takes nothing back
    assert shelf.rows("name", "cron")[1] == ("s", "0 2 * * *")
    shelf.leave(second)  # a real rollback
    shelf.reconcile()
    assert shelf.rows("name", "cron")[1] == ("s", "0 1 * * *")
    shelf.worker(*new)
    shelf.leave(third)
    shelf.reconcile()
    assert shelf.rows("name", "cron", "undeclared_at is null") == [
        ("gone", "0 1 * * *", False),
        ("s", "0 2 * * *", True),
    ]


def test_a_changed_time_never_runs_for_the_past_and_an_unchanged_one_stays(shelf: Shelf) -> None:
    shelf.worker(*of_version("0 1 * * *"))
    shelf.conn.execute("update pgqueue.schedule set next_run_at = now() - interval '1 minute'")  # it is due
    app = App("dbname=nowhere")
    app.schedule("s", "tests.tasks.echo", cron="0 1 * * *", args=["other"], missed="skip")
    second = shelf.worker(*app.schedules.made())
    assert shelf.rows("args", "missed", "next_run_at < now()") == [('["other"]', "skip", True)]
    shelf.worker(*of_version("0 2 * * *"))
    assert shelf.rows("next_run_at > now()") == [(True,)]
    shelf.leave(second)


def test_what_nobody_declares_is_stopped_and_forgotten(shelf: Shelf, app: App) -> None:
    wanted = of_version("* * * * *")
    worker = shelf.worker(*wanted)
    shelf.leave(worker)
    for passed, stopped in ((timedelta(0), False), (timedelta(minutes=59), False), (timedelta(minutes=2), True)):
        shelf.passes(passed)
        shelf.reconcile()
        assert shelf.rows("undeclared_at is not null", "stopped_at is not null") == [(True, stopped)]
    shelf.conn.execute("update pgqueue.schedule set next_run_at = now() - interval '1 minute'")
    assert shelf.fire(None) == (0, False, None, {})
    back = shelf.worker(*wanted)  # what it missed is answered by its rule
    assert shelf.rows("undeclared_at", "stopped_at") == [(None, None)] and shelf.fire(None).jobs == 1
    shelf.leave(back)
    shelf.reconcile()
    for passed, left in ((timedelta(days=29), 1), (timedelta(days=2), 0)):
        shelf.passes(passed)
        shelf.conn.execute("update pgqueue.fired set fired_at = fired_at - %s", [passed])
        db.run(shelf.conn, app.queries.forget_schedules())
        for table in ("schedule", "declared", "fired"):
            ((count,),) = shelf.conn.execute(f"select count(*) from pgqueue.{table}").fetchall()
            assert min(count, 1) == left, table


def test_what_a_person_changed_stays_until_it_is_reset(shelf: Shelf, app: App) -> None:
    shelf.worker(*of_version("0 1 * * *"))
    shelf.passes(timedelta(0))
    with shelf.conn.transaction():
        db.run(shelf.conn, control.change(app.queries, "s", {"cron": "30 5 * * *", "tz": "Asia/Tokyo"}))
    shelf.worker(*of_version("0 2 * * *"))
    assert shelf.rows("cron", "tz", "source") == [("30 5 * * *", "Asia/Tokyo", "person")]
    for expected in (True, False):
        with shelf.conn.transaction():
            assert db.run(shelf.conn, control.reset(app.queries, "s")) is expected
    assert shelf.rows("cron", "tz", "source", "next_run_at > now()") == [("0 2 * * *", "UTC", "code", True)]
    with shelf.conn.transaction(), pytest.raises(ConfigError, match="remove it there"):
        db.run(shelf.conn, control.remove(app.queries, "s"))


def test_jobs_that_queue_are_allowed_for_workers_of_an_older_version(shelf: Shelf, app: App) -> None:
    """They know no gates of schedules, and no other value of the column."""
    (wanted,) = schedules(App("dbname=nowhere"), ("s", "0 3 * * *"), overlap="queue", queue="night")
    assert (wanted.overlap, json.loads(wanted.options)) == ("allow", {"queue": "night", "overlap": "queue"})
    shelf.worker(wanted)

    def after(**changes: Any) -> list[tuple[Any, ...]]:
        with shelf.conn.transaction():
            db.run(shelf.conn, control.change(app.queries, "s", changes))
        return shelf.rows("overlap", "options")

    assert after(queue="day") == [("allow", '{"queue": "day", "overlap": "queue"}')]
    assert after(every=5) == [("allow", '{"queue": "day", "overlap": "queue"}')]
    assert after(overlap="allow") == [("allow", '{"queue": "day"}')]
    assert after(overlap="queue") == [("allow", '{"queue": "day", "overlap": "queue"}')]
    assert after(overlap="skip") == [("skip", '{"queue": "day"}')]


def test_a_pause_outlives_deploys(shelf: Shelf, app: App) -> None:
    worker = shelf.worker(*of_version("0 1 * * *"))
    with shelf.conn.transaction():
        db.run(shelf.conn, control.pause(app.queries, "s"))
    shelf.worker(*of_version("0 2 * * *"))
    assert shelf.rows("cron", "paused_at is not null", "next_run_at") == [("0 2 * * *", True, None)]
    with shelf.conn.transaction():
        row = db.run(shelf.conn, control.pause(app.queries, "s", span=36 * HOUR))
    assert row.resume_at is not None and row.next_run_at is not None and row.next_run_at >= row.resume_at
    shelf.conn.execute("update pgqueue.schedule set next_run_at = now(), resume_at = now()")
    assert shelf.fire(None).jobs == 1 and shelf.rows("paused_at", "resume_at") == [(None, None)]  # the pause is over
    shelf.leave(worker)


def test_what_a_person_made_needs_no_code(shelf: Shelf, app: App) -> None:
    with shelf.conn.transaction():
        db.run(shelf.conn, control.change(app.queries, "mine", {"every": 60}, task="t"))
    shelf.worker()
    shelf.reconcile()
    shelf.passes(timedelta(days=40))
    db.run(shelf.conn, app.queries.forget_schedules())
    assert shelf.rows("name", "every_s", "undeclared_at") == [("mine", 60.0, None)]
    with shelf.conn.transaction():
        db.run(shelf.conn, control.remove(app.queries, "mine"))
    assert shelf.rows("name") == []


def test_a_zone_that_this_machine_lacks_is_left_to_others(shelf: Shelf) -> None:
    (wanted,) = of_version("0 1 * * *")
    object.__setattr__(wanted, "tz", "Mars/Olympus")
    shelf.worker(wanted, *of_version("0 1 * * *", ("t", "0 3 * * *"))[1:])
    assert shelf.rows("name") == [("t",)]


@pytest.mark.long
def test_a_deploy_of_real_workers(shelf: Shelf, conn: psycopg.Connection, start_worker: Callable[..., Worker]) -> None:
    start = {"app": "tests.scheduled_tasks"}
    old = start_worker("-c", "1", **start).ready()
    new = start_worker("-c", "1", **start, env={"PGQUEUE_TEST_VERSION": "2"}).ready()
    nightly = "select cron, args, tz from pgqueue.schedule where name = 'nightly'"
    assert conn.execute(nightly).fetchone() == ("0 4 * * *", '["2"]', "Europe/Berlin")
    secret = "select options::json -> 'headers' -> 'pgqueue.redact' from pgqueue.schedule where name = 'secret'"
    assert conn.execute(secret).fetchone() == ([1, "password"],)
    assert old.stop() == 0
    shelf.reconcile()
    assert conn.execute("select name from pgqueue.schedule where undeclared_at is not null").fetchall() == [("old",)]
    assert new.stop() == 0
    eventually(lambda: conn.execute("select from pgqueue.worker").rowcount == 0, what="both have signed out")


def test_b50_declarations_that_are_refused_at_import(app: App) -> None:
    @app.task(name="t")
    def t(a: int) -> None: ...

    def refused(what: Callable[[], object], error: type[Exception] = InvalidOption) -> str:
        with pytest.raises(error) as raised:
            what()
        return str(raised.value)

    def two(a: int) -> None: ...

    assert "schedule s: cron='0 25 * * *': field 2, hour: 25" in refused(
        lambda: app.schedule("s", t, args=[1], cron="0 25 * * *")
    )
    assert "give cron= or every=" in refused(lambda: app.schedule("s", t, args=[1]))
    assert "give cron= or every=" in refused(lambda: app.schedule("s", t, args=[1], cron="@daily", every=5))
    assert "tz= belongs to cron=" in refused(lambda: app.schedule("s", t, args=[1], every=5, tz="UTC"))
    assert "every=0.01 is too short" in refused(lambda: app.schedule("s", t, args=[1], every=0.01))
    assert "missed='never' is not understood: take one of once, skip, all" in refused(
        lambda: app.schedule("s", t, args=[1], every=5, missed="never")  # type: ignore[arg-type]
    )
    assert "overlap='wait' is not understood: take one of skip, allow, queue" in refused(
        lambda: app.schedule("s", t, args=[1], every=5, overlap="wait")  # type: ignore[arg-type]
    )
    in_line = app.task(name="in line", ordered=True)(two)
    assert "the task in line is ordered, so its jobs wait for each other anyway: write overlap='allow'" in refused(
        lambda: app.schedule("s", in_line, args=[1], every=5, overlap="queue")
    )
    narrow = app.task(name="narrow", limit=[2, Limit(1, key="a", name="each")])(two)
    assert "a job passes at most two; the task narrow has each, task:narrow" in refused(
        lambda: app.schedule("s", narrow, args=[1], every=5, overlap="queue")
    )
    one_call: list[dict[str, Any]] = [{"delay": 3}, {"debounce": 5}, {"once_per": "1h"}, {"key": "tenant=1"}]
    for option in one_call:
        said = functools.partial(app.schedule, "s", "t", args=[1], every=5, **option)
        assert f"{next(iter(option))}= is of one call" in refused(said)
    assert "no option 'quue'; did you mean 'queue'" in refused(
        lambda: app.schedule("s", t, args=[1], every=5, quue="x")  # type: ignore[call-arg]
    )
    assert "on_duplicate='replace' is of one call" in refused(
        lambda: app.schedule("s", t, args=[1], every=5, unique="x", on_duplicate="replace")
    )
    assert "names that begin with pgqueue. are pgqueue's own" in refused(
        lambda: app.schedule("s", t, args=[1], every=5, headers={"pgqueue.due_at": "x"})
    )
    assert "missing" in refused(lambda: app.schedule("s", t, every=5), TypeError)
    assert "args takes a list" in refused(lambda: app.schedule("s", t, args="x", every=5))
    assert "cron= and every= call it without arguments" in refused(lambda: app.task(name="two", cron="@daily")(two))
    assert "missed needs cron= or every=" in refused(lambda: app.task(missed="all"))
    app.schedule("s", t, args=[1], every=5)
    assert "two schedules have the name s" in refused(lambda: app.schedule("s", t, args=[2], every=5), ConfigError)
    assert [made.name for made in app.schedules.made()] == ["s"] and "two" not in app.tasks
