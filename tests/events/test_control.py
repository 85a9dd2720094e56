"""Pause, resume, replay and drop a subscription; and how far each is behind."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from pgqueue import App, ConfigError, InvalidOption, db
from pgqueue.cli import cli
from pgqueue.ops.doctor import Finding, examine
from tests.events.test_windows import drain, subscribe
from tests.hands import Hands


def made(conn: psycopg.Connection, name: str = "one") -> list[Any]:
    """The payloads of a subscription's jobs, in their order."""
    rows = conn.execute("select args from pgqueue.job where task = %s order by seq", [name])
    return [json.loads(args)[0]["payload"] for (args,) in rows]


def test_a_paused_subscription_goes_on_where_it_was(app: App, conn: psycopg.Connection) -> None:
    subscribe(app, "one", "two")
    app.subscription("one").pause()
    app.publish("t", 1)
    app.publish("t", 2)
    assert drain(app) == 2
    assert (made(conn, "one"), made(conn, "two")) == ([], [1, 2])
    behind = {state.name: (state.behind, state.paused) for state in app.subscription_states()}
    assert behind == {"one": (2, True), "two": (0, False)}
    app.subscription("one").resume()
    drain(app)
    assert made(conn, "one") == [1, 2]
    (one, _) = app.subscription_states()
    assert one.behind == 0 and one.behind_s is None and not one.paused


def now(conn: psycopg.Connection) -> datetime:
    ((moment,),) = conn.execute("select clock_timestamp()")
    assert isinstance(moment, datetime)
    return moment


def test_a_replay_from_a_time_is_exactly_what_came_since(app: App, conn: psycopg.Connection) -> None:
    subscribe(app, "one")
    with psycopg.connect(app.dsn) as late:
        app.publish("t", 0, conn=late)  # before the time, and committed after it
        app.publish("t", 1)
        drain(app)
        app.publish("t", 2)
        moment = now(conn)
        app.publish("t", 3)
        drain(app)
        app.publish("t", 4, conn=late)
        late.commit()
    app.publish("t", 5)
    drain(app)
    assert made(conn) == [1, 2, 3, 0, 4, 5]
    conn.execute("truncate pgqueue.job")
    app.subscription("one").replay(moment)
    drain(app)
    assert made(conn) == [3, 4, 5]
    app.publish("t", 6)
    drain(app)
    assert made(conn) == [3, 4, 5, 6]


def test_a_replay_from_an_event_begins_with_it(app: App, conn: psycopg.Connection) -> None:
    subscribe(app, "one")
    ids = []
    for number in range(6):
        ids.append(app.publish("t", number))
        if number % 2:
            drain(app)
    conn.execute("truncate pgqueue.job")
    app.subscription("one").replay(ids[3])
    drain(app)
    assert made(conn) == [3, 4, 5]


def test_a_copy_gets_all_from_the_beginning_and_disturbs_nobody(app: App, conn: psycopg.Connection) -> None:
    app.publish("t", 0)
    subscribe(app, "one")
    app.publish("t", 1)
    drain(app)
    app.subscription("one").replay("begin", to="again")
    drain(app)
    assert made(conn) == [1, 0, 1]  # the copy has the same task
    assert [state.name for state in app.subscription_states()] == ["again", "one"]
    app.publish("t", 2)
    drain(app)
    assert made(conn) == [1, 0, 1, 2, 2]
    app.subscription("again").drop()
    app.publish("t", 3)
    drain(app)
    assert made(conn) == [1, 0, 1, 2, 2, 3]


def test_what_cannot_be_is_one_line_and_changes_nothing(app: App, conn: psycopg.Connection) -> None:
    subscribe(app, "one", "two")
    one, none = app.subscription("one"), app.subscription("none")
    for order in (
        none.pause,
        none.resume,
        none.drop,
        lambda: none.replay("begin"),
        lambda: none.replay("begin", to="x"),
    ):
        with pytest.raises(InvalidOption, match="there is no subscription 'none': `pgqueue subscriptions` lists them"):
            order()
    with pytest.raises(InvalidOption, match="there is a subscription 'two' already"):
        one.replay("begin", to="two")
    with pytest.raises(InvalidOption, match="is the subscription itself"):
        one.replay("begin", to="one")
    with pytest.raises(InvalidOption, match="has no time zone"):
        one.replay(datetime(2026, 1, 1))
    with pytest.raises(InvalidOption, match="start='yesterday' is not understood: take"):
        one.replay("yesterday")
    with pytest.raises(
        InvalidOption, match="start=0190b6e2-0000-7000-8000-000000000000 is the id of no event in the log"
    ):
        one.replay("0190b6e2-0000-7000-8000-000000000000")
    ((places,),) = conn.execute(
        "select count(*) from pgqueue.place where tick = (select max(id) from pgqueue.tick) and seq = 0"
    )
    assert places == 2
    one.replay(datetime.now(UTC) - timedelta(days=400))  # before all: the beginning
    assert drain(app) == 0


def test_the_same_on_the_command_line(app: App, conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGQUEUE_DSN", app.dsn)
    runner = CliRunner()

    def typed(*words: str) -> str:
        done = runner.invoke(cli, words, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output.strip()

    assert typed("subscriptions") == "no subscriptions" and typed("events") == "no events"
    subscribe(app, "one")
    first = typed("publish", "t", '{"a": 1}', "--key", "k")
    second = typed("publish", "other")
    assert [line.split()[0] for line in typed("events").splitlines()] == ["ID", second, first]
    (event,) = json.loads(typed("events", "--type", "t", "--json"))
    assert (event["id"], event["key"], event["payload"], event["headers"]) == (first, "k", '{"a":1}', None)
    assert typed("events", "--type", "t", "--since", "1h").splitlines()[1].startswith(first)
    assert "is paused; run `pgqueue subscription resume one`" in typed("subscription", "pause", "one")
    (state,) = json.loads(typed("subscriptions", "--json"))
    assert (state["name"], state["types"], state["paused"], state["behind"]) == ("one", ["t"], True, 1)
    typed("subscription", "resume", "one")
    drain(app)
    for start in ("begin", "1h", first):
        assert (
            typed("subscription", "replay", "one", "--from", start, "--in-place")
            == f"subscription one reads from {start}"
        )
        drain(app)
    assert made(conn) == [{"a": 1}] * 4
    typed("subscription", "replay", "one", "--from", "begin", "--to", "two")
    assert len(typed("subscriptions").splitlines()) == 3
    typed("subscription", "drop", "two")
    with pytest.raises(InvalidOption, match="say --to NEW for a copy"):
        runner.invoke(cli, ["subscription", "replay", "one", "--from", "begin"], catch_exceptions=False)
    with pytest.raises(ConfigError, match="the payload is not valid JSON"):
        runner.invoke(cli, ["publish", "t", "{"], catch_exceptions=False)


def test_the_doctor_finds_what_is_lost_behind_or_nobodys(app: App, conn: psycopg.Connection) -> None:
    subscribe(app, "one", "two")
    app.publish("t", 1)
    drain(app)
    told = [finding.what for finding in found(app, conn)]
    assert not [what for what in told if "subscription" in what]
    app.subscription("one").pause()
    app.publish("t", 2)
    Hands(conn, app.queries)
    conn.execute("update pgqueue.worker set tasks = '{one,two}'")
    conn.execute("update pgqueue.event set at = at - interval '2 hours'")
    conn.execute("update pgqueue.subscription set lost = 3 where name = 'two'")
    told = sorted(finding.what for finding in found(app, conn) if "subscription" in finding.what)
    assert told == [
        "subscription one is 2 h behind and paused: its events are kept, and so is their day",
        "subscription two is 2 h behind: its events are kept, and so is their day",
        "subscription two lost 3 events, which were dropped after keep_events_days_at_most",
    ]
    conn.execute("update pgqueue.worker set tasks = '{}'")
    told = [finding.what for finding in found(app, conn)]
    assert "no live worker has the task of subscription one: its jobs pile up" in told
    app.subscription("two").replay("begin")
    assert not [finding for finding in found(app, conn) if "lost" in finding.what]


def found(app: App, conn: psycopg.Connection) -> list[Finding]:
    with db.connect(app.dsn) as own:
        return db.run(own, examine(app.queries, app.config, wire=db.wire(own)))
