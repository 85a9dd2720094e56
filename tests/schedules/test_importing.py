"""Schedules of other schedulers, read by their shape.

The shapes are those of celery 5.7.0, APScheduler 3.11.3, rq 3.0.0 and rq-scheduler 0.14.0, with the attributes that they had there.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import psycopg
import pytest

from pgqueue import App, ConfigError
from pgqueue.schedules.importing import as_code, imported
from tests.schedules.shelf import Shelf
from tests.shell import ROOT, Shell


def of_kind(kind: str, **attributes: Any) -> Any:
    """An object of a class of this name."""
    return type(kind, (SimpleNamespace,), {})(**attributes)


CRONTAB = {"minute": "*", "hour": "*", "day_of_month": "*", "month_of_year": "*", "day_of_week": "*"}


def crontab(sets: dict[str, set[int]] | None = None, **given: Any) -> Any:
    """As celery.schedules.crontab: what was given, and the values that it means."""
    originals = {f"_orig_{name}": value for name, value in (CRONTAB | given).items()}
    return of_kind("crontab", **originals, **(sets or {}))


def celery(**entries: dict[str, Any]) -> Any:
    return SimpleNamespace(conf=SimpleNamespace(timezone="Europe/Berlin", beat_schedule=entries))


class TriggerField(NamedTuple):
    """As BaseField: its text is its expression."""

    name: str
    text: str

    def __str__(self) -> str:
        return self.text


def cron_trigger(**fields: str) -> Any:
    """As CronTrigger: fields in this order, each with its text; those below the largest that was given are at their least."""
    names = ("year", "month", "day", "week", "day_of_week", "hour", "minute", "second")
    told = dict.fromkeys(names, "*") | {"second": "0"} | fields
    made = [TriggerField(name, told[name]) for name in names]
    return of_kind("CronTrigger", fields=made, timezone="Europe/Berlin", jitter=None, end_date=None)


def aps(name: str, trigger: Any, **more: Any) -> Any:
    return SimpleNamespace(id=name, func_ref="shop:report", trigger=trigger, **{"args": (), "kwargs": {}, **more})


def scheduler(*jobs: Any) -> Any:
    return SimpleNamespace(get_jobs=lambda: iter(jobs))


def rq(name: str, **meta: Any) -> Any:
    return SimpleNamespace(id=name, func_name="shop.report", args=(1,), kwargs={}, origin="low", meta=meta)


def test_celery_beat() -> None:
    found = imported(
        celery(
            often={
                "task": "t.a", "schedule": crontab(minute="*/15", hour="8-17", day_of_week="mon-fri"), "args": (1,),
                "options": {"queue": "q", "expires": 5},
            },
            numbers={"task": "t", "schedule": crontab(minute=5, hour=3, day_of_week=0)},
            wide={
                "task": "t",
                "schedule": crontab({"day_of_week": {0, 1, 5, 6}}, minute="0", hour="*/3, 5", day_of_week="fri-mon"),
            },
            lists={"task": "t", "schedule": crontab(minute={2, 1})},
            delta={"task": "t", "schedule": timedelta(minutes=5), "kwargs": {"x": 1}},
            number={"task": "t", "schedule": 30.0},
            interval={"task": "t", "schedule": of_kind("schedule", run_every=timedelta(seconds=9))},
            sun={"task": "t", "schedule": of_kind("solar", event="sunset")},
            both={"task": "t", "schedule": crontab(minute=0, hour=0, day_of_month="13", day_of_week="fri")},
            code={"task": "t", "schedule": of_kind("my_schedule")},
            routed={"task": "t", "schedule": 5, "options": {"routing_key": "x", "priority": 3}},
            odd={"task": "t", "schedule": 5, "args": (object(),)},
        )
    )  # fmt: skip
    assert [(each.name, each.cron, each.tz, each.every_s) for each in found.schedules] == [
        ("often", "*/15 8-17 * * mon-fri", "Europe/Berlin", None), ("numbers", "5 3 * * 0", "Europe/Berlin", None),
        ("wide", "0 */3,5 * * 0,1,5,6", "Europe/Berlin", None), ("lists", "1,2 * * * *", "Europe/Berlin", None),
        ("delta", None, "UTC", 300.0), ("number", None, "UTC", 30.0), ("interval", None, "UTC", 9.0),
    ]  # fmt: skip
    first = found.schedules[0]
    assert (first.task, first.args, json.loads(first.options)) == ("t.a", "[1]", {"expires_s": 5.0, "queue": "q"})
    assert found.refused.keys() == {"sun", "both", "code", "routed", "odd"}
    assert found.refused["sun"].startswith("solar: its times follow the sun")
    assert "day_of_month and day_of_week are both given" in found.refused["both"]
    assert found.refused["routed"] == "options priority, routing_key have no counterpart"
    assert "args[0] is an object" in found.refused["odd"]


def test_apscheduler() -> None:
    interval = of_kind("IntervalTrigger", interval=timedelta(minutes=5), jitter=7, end_date=None)
    found = imported(
        scheduler(
            aps("workdays", cron_trigger(day_of_week="mon-fri", hour="3", minute="0"), args=(1,)),
            aps("numbers", cron_trigger(day_of_week="0,2-4", hour="1", minute="0")),  # Monday is 0 there
            aps("sunday", cron_trigger(day_of_week="6", hour="1", minute="0")),
            aps("steps", cron_trigger(day_of_week="*/2", hour="1", second="*/5")),
            aps("last day", cron_trigger(day="last", minute="*/10")),
            aps("second friday", cron_trigger(day="2nd fri", hour="1", minute="0")),
            aps("last sunday", cron_trigger(day="last sun", hour="1", minute="0")),
            aps("interval", interval, max_instances=3),
            aps("year", cron_trigger(year="2027", hour="1")),
            aps("week", cron_trigger(week="5", hour="1")),
            aps("both", cron_trigger(day="13", day_of_week="fri", hour="1")),
            aps("once", of_kind("DateTrigger")),
            aps("either", of_kind("OrTrigger")),
            aps("ends", of_kind("IntervalTrigger", interval=timedelta(1), end_date=datetime(2030, 1, 1, tzinfo=UTC))),
        )
    )
    assert {each.name: each.cron or each.every_s for each in found.schedules} == {
        "workdays": "0 3 * * 1,2,3,4,5", "numbers": "0 1 * * 1,3,4,5", "sunday": "0 1 * * 0", "steps": "*/5 * 1 * * 1,3,5,0",
        "last day": "*/10 * L * *", "second friday": "0 1 * * 5#2", "last sunday": "0 1 * * 0L", "interval": 300.0,
    }  # fmt: skip
    assert {each.tz for each in found.schedules if each.cron} == {"Europe/Berlin"}
    assert {each.task for each in found.schedules} == {"shop.report"}
    assert (found.schedules[-1].jitter_s, found.schedules[-1].overlap) == (7.0, "allow")
    assert found.refused.keys() == {"year", "week", "both", "once", "either", "ends"}
    assert found.refused["once"] == "DateTrigger: it runs once: use options(at=...).defer()"


def test_rq() -> None:
    jobs = [
        rq("utc", cron_string="0 3 * * *", use_local_timezone=False), rq("interval", interval=60),
        rq("local", cron_string="0 3 * * *", use_local_timezone=True), rq("ends", interval=60, repeat=3), rq("once"),
    ]  # fmt: skip
    found = imported(scheduler(*jobs))
    assert [(each.name, each.cron, each.every_s) for each in found.schedules] == [
        ("utc", "0 3 * * *", None), ("interval", None, 60.0),
    ]  # fmt: skip
    assert json.loads(found.schedules[0].options) == {"queue": "low"} and found.schedules[0].args == "[1]"
    assert found.refused.keys() == {"local", "ends", "once"} and "by --tz" in found.refused["local"]
    (local,) = (each for each in imported(scheduler(*jobs), tz="Asia/Tokyo").schedules if each.tz != "UTC")
    assert (local.name, local.tz) == ("local", "Asia/Tokyo")
    own = {"func_name": "shop.report", "queue_name": "low", "args": (), "kwargs": {}}
    crons = [
        SimpleNamespace(name="hourly", cron="0 * * * *", interval=None, **own),
        SimpleNamespace(name="minute", cron=None, interval=60, **own),
        SimpleNamespace(name="minute", cron=None, interval=90, **own),
    ]
    found = imported(crons, tz="Asia/Tokyo")
    assert [(each.name, each.tz) for each in found.schedules] == [("hourly", "Asia/Tokyo"), ("minute", "UTC")]
    assert found.refused == {"minute": "another one has this name"}


@pytest.mark.parametrize("source", [None, 5, object(), ["x"], App("dbname=nowhere")])
def test_anything_else_is_refused(source: Any) -> None:
    with pytest.raises(ConfigError, match="holds no schedule that is known: name a Celery app"):
        imported(source)


def test_a_line_of_code_declares_the_same() -> None:
    entry = {
        "task": "t",
        "schedule": crontab(hour=3),
        "args": ["a'b"],
        "kwargs": {"n": 1},
        "options": {"queue": "q", "expires": 9},
    }
    (made,) = imported(celery(nightly=entry)).schedules
    app = App("dbname=nowhere")
    exec(as_code(made), {"app": app})
    assert app.schedules.made() == [made]


@pytest.fixture
def typed(shell: Shell, dsn: str, tmp_path: Path) -> Callable[..., Any]:
    (tmp_path / "beat.py").write_text(
        "from datetime import timedelta\n"
        "GOOD = {'a': {'task': 't', 'schedule': timedelta(minutes=5)}, 'b': {'task': 't', 'schedule': 60, 'args': [1]}}\n"
        "BAD = GOOD | {'c': {'task': 't', 'schedule': 0}}\n"
    )
    return lambda *words: shell.text("cron", "import", *words, dsn=dsn, cwd=tmp_path, PYTHONPATH=f"{ROOT}:{tmp_path}")


def test_the_command(typed: Callable[..., Any], app: App, conn: psycopg.Connection) -> None:
    shelf = Shelf(app, conn)
    bad = typed("beat:BAD")
    assert (bad.returncode, bad.stdout) == (1, "") and shelf.rows("name") == []
    assert (
        bad.stderr.startswith("c: every=0 is too short")
        and "1 of these cannot be made, so none is: --skip" in bad.stderr
    )
    assert typed("beat:BAD", "--code", "--skip").stdout.splitlines()[0] == "app.schedule('a', 't', every=300.0)"
    assert shelf.rows("name") == []
    assert typed("beat:GOOD").stdout == "made 2 schedules: see `pgqueue cron`\n"
    assert shelf.rows("name", "every_s", "args", "source") == [
        ("a", 300.0, "[]", "person"),
        ("b", 60.0, "[1]", "person"),
    ]
    for words, said in (
        (["beat:GOOD"], "there is a schedule 'a' already"), (["beat"], "names no object: write module:name"),
        (["beat:NONE"], "beat:NONE is missing: there is no NONE"),
    ):  # fmt: skip
        done = typed(*words)
        assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1, done.stderr
