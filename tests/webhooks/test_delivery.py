"""Webhooks end to end: from the commit of an event to what an endpoint gets, and what becomes of the job by what it answers."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from standardwebhooks.webhooks import Webhook
from typer.testing import CliRunner

from pgqueue import App, ConfigError, Retry, Snooze
from pgqueue.cli import cli
from pgqueue.errors import WebhookFailed, WebhookRefused
from pgqueue.webhooks.delivery import judged
from pgqueue.webhooks.endpoint import Endpoint, subscription_of
from pgqueue.webhooks.post import Answer
from pgqueue.webhooks.signature import new_secret
from tests.conftest import Worker, eventually
from tests.webhooks.receiver import Delivered, Receiver, receiver, status

Start = Callable[..., Worker]
Command = Callable[..., str]
SHOP = """
import os
from pgqueue import App
app = App()
app.webhook(os.environ["HOOK_URL"], ["user.*"], secret="env:HOOK_SECRET", name="partner", allow_private=True)
"""


@pytest.fixture
def endpoint() -> Iterator[Receiver]:
    """Of somebody."""
    with receiver() as started:
        yield started


@pytest.fixture
def command(dsn: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Type `pgqueue webhook ...`; what it printed."""
    monkeypatch.setenv("PGQUEUE_DSN", dsn)

    def run(*words: str) -> str:
        done = CliRunner().invoke(cli, ["webhook", *words])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.output

    return run


LOOK = """
import sys
import psycopg, psycopg_pool  # which bring ssl and the better part of email along
before = {*sys.modules, "ssl"}
from pgqueue import App
from pgqueue.worker.child import main
app = App()
main.built_in.install(app)
assert "pgqueue.webhook" in app.tasks
print(*sorted(set(sys.modules) - before))
"""


def test_a_child_that_delivers_nothing_imports_nothing_of_it() -> None:
    found = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True).stdout.split()
    assert "pgqueue.worker.child.executor" in found
    heavy = {name for name in found if name.split(".")[0] in ("ssl", "email", "http")}
    assert not heavy and not {"pgqueue.webhooks.delivery", "pgqueue.webhooks.post"} & set(found)


def add(command: Command, endpoint: Receiver, name: str = "partner", types: str = "user.*") -> str:
    """An endpoint there; its secret."""
    said = command("add", endpoint.url, "--types", types, "--name", name, "--allow-private")
    return said.split()[-1]


def came(endpoint: Receiver, count: int) -> list[Delivered]:
    """The deliveries, once there are this many."""
    eventually(lambda: len(endpoint.delivered) >= count, what=f"{count} deliveries")
    assert len(endpoint.delivered) == count
    return endpoint.delivered


def verified(delivered: Delivered, secret: str) -> Any:
    return Webhook(secret).verify(delivered.body.decode(), dict(delivered.headers.items()))


def ended(conn: psycopg.Connection, count: int = 1) -> list[tuple[Any, ...]]:
    """State, attempt and error of the deliveries that ended, once there are this many."""
    asked = """
        select state::text, attempt, error, result from pgqueue.jobs
        where task = 'pgqueue.webhook' and state in ('succeeded', 'dead', 'cancelled') order by id
    """
    return eventually(lambda: len(rows := conn.execute(asked).fetchall()) >= count and rows, what="they ended")  # type: ignore[no-any-return]


def test_an_endpoint_of_the_code_gets_each_event_signed(
    start_worker: Start, app: App, conn: psycopg.Connection, endpoint: Receiver, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    secret = new_secret()
    start_worker("-c", "1", app="shop", cwd=tmp_path, env={"HOOK_URL": endpoint.url, "HOOK_SECRET": secret}).ready()
    event_id = app.publish("user.created", {"id": 1, "name": "é"}, key="user:1")
    app.publish("order.paid", 5)
    (got,) = came(endpoint, 1)
    body = verified(got, secret)
    assert (body["type"], body["data"], got.headers["webhook-id"]) == ("user.created", {"id": 1, "name": "é"}, event_id)
    (at,) = conn.execute("select at from pgqueue.event where id = %s", [event_id]).fetchone() or ()
    assert datetime.fromisoformat(body["timestamp"]) == at
    assert ended(conn) == [("succeeded", 1, None, '{"status":204}')]
    found = conn.execute("select name, site, secrets, declared_at is not null from pgqueue.webhook").fetchall()
    assert found == [("partner", endpoint.url.removesuffix("/hook?source=shop"), ["env:HOOK_SECRET"], True)]
    with pytest.raises(ConfigError, match="declared in code"):
        CliRunner().invoke(cli, ["webhook", "rotate", "partner"], env={"PGQUEUE_DSN": app.dsn}, catch_exceptions=False)


@pytest.mark.long
def test_an_endpoint_of_a_command_through_its_life(
    start_worker: Start, app: App, endpoint: Receiver, command: Command
) -> None:
    first = add(command, endpoint)
    assert first.startswith("whsec_") and first not in command("list") + command("list", "--json")
    assert json.loads(command("list", "--json"))[0]["types"] == ["user.*"] and "enabled" in command("list")
    start_worker("-c", "1").ready()
    app.publish("user.created", 1)
    assert verified(came(endpoint, 1)[0], first)["data"] == 1

    second = command("rotate", "partner", "--keep", "1h").split()[-1]
    app.publish("user.created", 2)
    got = came(endpoint, 2)[1]
    assert verified(got, first) == verified(got, second)
    third = command("rotate", "partner", "--keep", "0s").split()[-1]
    app.publish("user.created", 3)
    got = came(endpoint, 3)[2]
    assert verified(got, third)["data"] == 3 and got.headers["webhook-signature"].count("v1,") == 1

    assert "is disabled" in command("disable", "partner") and "disabled: by a command" in command("list")
    app.publish("user.created", 4)
    assert "disabled already" in command("disable", "partner")
    assert "is enabled" in command("enable", "partner")
    assert verified(came(endpoint, 4)[3], third)["data"] == 4

    assert "dropped" in command("drop", "partner") and "no webhooks" in command("list")
    app.publish("user.created", 5)
    add(command, endpoint, "other", "end")
    app.publish("end")
    assert json.loads(came(endpoint, 5)[4].body)["type"] == "end"


def test_gone_disables_it(
    start_worker: Start, app: App, conn: psycopg.Connection, endpoint: Receiver, command: Command
) -> None:
    add(command, endpoint)
    endpoint.replies = [status(410)]
    endpoint.usual = status(500)
    app.publish_many({"type": "user.created", "payload": n} for n in range(3))
    start_worker("-c", "1", "--async", "1").ready()
    rows = ended(conn, 3)
    assert [row[:2] for row in rows] == [("cancelled", 1)] * 3 and len(endpoint.delivered) == 1
    assert "answered 410 Gone" in command("list")
    (paused,) = conn.execute("select paused_at is not null from pgqueue.subscription").fetchone() or ()
    assert paused


def test_what_it_answers_decides(
    start_worker: Start, app: App, conn: psycopg.Connection, endpoint: Receiver, command: Command
) -> None:
    add(command, endpoint)
    endpoint.replies = [status(429, retry_after="1"), status(404, b"unknown shop"), status(302, location=endpoint.url)]
    app.publish_many({"type": "user.created", "payload": n} for n in range(3))
    start_worker("-c", "1", "--async", "1").ready()
    rows = sorted(ended(conn, 3))
    site = endpoint.url.removesuffix("/hook?source=shop")
    assert [row[:3] for row in rows] == [
        ("dead", 1, f"WebhookRefused: {site} answered 302"),
        ("dead", 1, f"WebhookRefused: {site} answered 404: unknown shop"),
        ("succeeded", 1, None),  # it snoozed for a second
    ]
    came(endpoint, 4)


@pytest.mark.long
def test_one_that_is_down_holds_up_no_other(
    start_worker: Start, app: App, conn: psycopg.Connection, endpoint: Receiver, command: Command
) -> None:
    add(command, endpoint, "up")
    with receiver() as down:
        add(command, down, "down")
    app.publish_many({"type": "user.created", "payload": n} for n in range(20))
    start_worker("-c", "1").ready()
    came(endpoint, 20)
    waiting = "select count(*), min(attempt) from pgqueue.job where task = 'pgqueue.webhook' and state = 'scheduled'"
    eventually(lambda: conn.execute(waiting).fetchone() == (20, 1), what="the others wait for their next attempt")


def test_a_missing_secret_and_a_missing_endpoint(
    start_worker: Start, app: App, conn: psycopg.Connection, endpoint: Receiver, command: Command
) -> None:
    command("add", endpoint.url, "--types", "a", "--name", "x", "--allow-private", "--secret", "env:NO_SUCH_SECRET")
    app.enqueue(
        "pgqueue.webhook", [{"id": "1", "type": "a", "payload": 1, "at": "2026-11-28T12:00:00+00:00"}], queue="webhooks"
    )
    app.publish("a")
    start_worker("-c", "1").ready()
    (row,) = ended(conn)
    assert row[0] == "cancelled" and "there is no webhook 'None' any longer" in row[2]
    failed = "select error from pgqueue.attempt"
    eventually(lambda: conn.execute(failed).fetchone(), what="the attempt failed")
    assert "the environment variable NO_SUCH_SECRET, which is not set here" in str(conn.execute(failed).fetchone())
    assert endpoint.delivered == []


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        (Answer(200, None, ""), 200),
        (Answer(299, None, ""), 299),
        (Answer(429, 30, ""), Snooze),
        (Answer(503, 30, ""), Retry),
        (Answer(429, None, ""), WebhookFailed),
        (Answer(500, 30, ""), WebhookFailed),
        (Answer(408, None, ""), WebhookFailed),
        (Answer(425, None, ""), WebhookFailed),
        (Answer(599, None, ""), WebhookFailed),
        (Answer(301, None, ""), WebhookRefused),
        (Answer(400, None, ""), WebhookRefused),
        (Answer(404, 30, ""), WebhookRefused),
    ],
)
def test_what_an_answer_means(answer: Answer, meaning: Any) -> None:
    if isinstance(meaning, int):
        assert judged(answer, site="https://host", age_s=0) == meaning
        return
    with pytest.raises(meaning) as raised:
        judged(answer, site="https://host", age_s=0)
    if meaning in (Snooze, Retry):
        assert raised.value.delay_s == 30


def test_one_that_always_says_later_begins_to_cost_attempts() -> None:
    with pytest.raises(Retry):
        judged(Answer(429, 30, ""), site="https://host", age_s=4 * 86_400)
    with pytest.raises(Snooze) as raised:
        judged(Answer(429, 10**9, ""), site="https://host", age_s=0)
    assert raised.value.delay_s == 3_600


# -- bad input: one line, and nothing is written --


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["add", "http://host/", "--types", "a"], "which is not encrypted"),
        (["add", "https://10.0.0.1/", "--types", "a"], "a private address"),
        (["add", "https://host/", "--types", ""], "type must not be empty"),
        (["add", "https://host/", "--types", "us*er"], "only 'user.*' and '*' are understood"),
        (["add", "https://host/", "--types", "a", "--secret", "geheim"], "--secret takes env:NAME"),
        (
            ["add", "https://host/", "--types", "a", "--name", " x"],
            "name must not be empty nor begin or end with a space",
        ),
        (["rotate", "nobody"], "there is no webhook 'nobody': there are none"),
        (["disable", "nobody"], "there is no webhook 'nobody'"),
        (["enable", "nobody"], "there is no webhook 'nobody'"),
        (["drop", "nobody"], "there is no webhook 'nobody'"),
    ],
)
def test_a_bad_command_writes_nothing(command: Command, conn: psycopg.Connection, words: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        command(*words)
    assert said in str(refused.value) and "\n" not in str(refused.value) and "geheim" not in str(refused.value)
    assert conn.execute("select count(*) from pgqueue.webhook").fetchone() == (0,)


def test_a_second_of_the_name_is_refused(command: Command, endpoint: Receiver, app: App) -> None:
    add(command, endpoint)
    with pytest.raises(ConfigError, match="there is a webhook 'partner' already"):
        add(command, endpoint)
    app.webhook("https://host/", "a", secret="env:X")
    with pytest.raises(ConfigError, match="two webhooks have the name host"):
        app.webhook("https://host/other", "b", secret="env:X")
    with pytest.raises(ConfigError, match="takes a secret"):
        app.webhook("https://another/", "b", secret=[])


def test_a_task_of_this_name_is_refused(start_worker: Start, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "from pgqueue import App\napp = App()\n@app.task(name='pgqueue.webhook')\ndef mine(): ...\n"
    )
    start_worker("-c", "1", app="shop", cwd=tmp_path).said("the task name pgqueue.webhook is pgqueue's own")


def test_nothing_shows_a_secret() -> None:
    made = Endpoint.make("https://host/token?key=geheim", "a", secret=[secret := new_secret(), "env:X"])
    assert repr(made) == "<Endpoint host https://host>"
    assert secret not in repr(subscription_of(made, in_code=True))
