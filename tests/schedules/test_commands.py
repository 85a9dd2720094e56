"""pgqueue cron: what people see of schedules, and what they change."""

import json
from collections.abc import Callable
from datetime import datetime

import psycopg
import pytest

from pgqueue import App
from tests.schedules.shelf import Shelf, schedules
from tests.shell import Shell

Typed = Callable[..., str]


@pytest.fixture
def shelf(app: App, conn: psycopg.Connection) -> Shelf:
    return Shelf(app, conn)


@pytest.fixture
def typed(shell: Shell, dsn: str) -> Typed:
    def cron(*words: str, code: int = 0) -> str:
        done = shell.text("cron", *words, dsn=dsn)
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    return cron


def test_a_schedule_is_listed_paused_changed_and_taken_back(shelf: Shelf, typed: Typed) -> None:
    code = schedules(App("dbname=nowhere"), ("nightly", "0 3 * * *"), tz="Europe/Berlin")
    shelf.worker(*code)
    (heading, line) = typed().splitlines()
    assert heading.split() == ["NAME", "WHEN", "ZONE", "NEXT", "NEXT", "IN", "UTC", "LAST", "LAST", "JOB", "STATE"]
    assert (
        line.startswith("nightly  0 3 * * *  Europe/Berlin  ")
        and "03:00:00" in line
        and line.endswith("-     -         on")
    )
    assert "until `pgqueue cron resume`" in typed("pause", "nightly")
    assert "is paused until 20" in typed("pause", "nightly", "--for", "2h")
    assert typed("resume", "nightly") == "the schedule nightly runs again\n"
    said = typed("set", "nightly", "--cron", "30 5 * * *", "--args", '["b"]', "--missed", "all", "--overlap", "allow", "--jitter",
                 "30", "--queue", "night", "--kwargs", "{}", "--tz", "UTC")  # fmt: skip
    assert "runs next at" in said and "until `pgqueue cron reset nightly`" in said
    (told,) = json.loads(typed("--json"))
    assert told["state"] == "changed by a person; the code says otherwise"
    assert (told["cron"], told["missed"], told["overlap"], told["jitter_s"]) == ("30 5 * * *", "all", "allow", 30.0)
    assert shelf.rows("args", "options") == [('["b"]', '{"queue": "night"}')]
    typed("set", "nightly", "--every", "90s")
    assert shelf.rows("cron", "every_s", "args") == [(None, 90.0, '["b"]')]
    assert " every 0:01:30 " in typed()
    typed("set", "nightly", "--every", "0.5s")
    assert " every 0.5 s " in typed()
    assert typed("reset", "nightly") == "the schedule nightly is as in the code\n"
    assert shelf.rows("cron", "tz", "args", "source") == [("0 3 * * *", "Europe/Berlin", '["nightly"]', "code")]
    assert "remove it there, or `pgqueue cron pause nightly`" in typed("remove", "nightly", code=2)


def test_run_now_leaves_the_next_time_where_it_is(shelf: Shelf, app: App, typed: Typed) -> None:
    shelf.worker(*schedules(App("dbname=nowhere"), ("nightly", "0 3 * * *")))
    before = shelf.next("nightly")
    job = app.job(typed("run", "nightly").split()[1])
    assert job.state == "queued" and shelf.next("nightly") == before
    assert f"{job.id} queued" in typed()
    ((due_at,),) = shelf.conn.execute("select headers::json ->> 'pgqueue.due_at' from pgqueue.job").fetchall()
    assert datetime.fromisoformat(due_at).tzinfo is not None and len(shelf.fired("nightly")) == 1


def test_a_person_makes_one_and_removes_it(shelf: Shelf, typed: Typed) -> None:
    typed("set", "mine", "--task", "shop.report", "--cron", "@weekly")
    assert shelf.rows("task", "cron", "source", "next_run_at > now()") == [("shop.report", "0 0 * * 0", "person", True)]
    assert typed("remove", "mine") == "removed the schedule mine\n" and typed() == "no schedules\n"


def test_next_asks_no_database(shell: Shell) -> None:
    done = shell.text("cron", "next", "30 2 * * *", "--tz", "Europe/Berlin", dsn="host=/nowhere")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 11 and done.stdout.startswith("Europe/Berlin")
    times = json.loads(shell.text("cron", "next", "* * * * *", "--json", dsn="host=/nowhere").stdout)
    assert len(times) == 10 and times[0].endswith("+00:00")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pause", "nigthly"], "no schedule has the name 'nigthly'; did you mean 'nightly'?"),
        (["run", "x"], "no schedule has the name 'x'; there are nightly"),
        (["set", "nightly"], "say what is to change"),
        (["set", "nightly", "--cron", "0 24 * * *"], "cron='0 24 * * *': field 2, hour: 24"),
        (["set", "nightly", "--missed", "x"], "take one of once, skip, all"),
        (["set", "nightly", "--args", "{}"], "--args takes a JSON list"),
        (["set", "nightly", "--every", "2026-01-01"], "is not a duration"),
        (["set", "nightly", "--every", "5m", "--cron", "@daily"], "give cron= or every="),
        (["set", "x", "--task", "t"], "give cron= or every="),
        (["next", "0 0 30 2 *"], "never comes"),
        (["next", "@daily", "--tz", "Mars"], "pip install tzdata"),
        (["reset", "mine"], "no live worker's code declares the schedule 'mine'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_in_one_line(shelf: Shelf, typed: Typed, words: list[str], said: str) -> None:
    shelf.put("nightly")
    if "mine" in words:
        shelf.put("mine", source="person")
    before = shelf.rows("*")
    told = typed(*words, code=2)
    assert said in told and told.count("\n") == 1 and shelf.rows("*") == before
