"""How limits are declared, by whom they are changed, and what each way of putting jobs in makes of them."""

import json
import uuid
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from pgqueue import App, ConfigError, Event, InvalidOption, Limit, Task, db
from pgqueue.cli import cli
from pgqueue.queries import Queries
from tests.gates.doorkeeper import Doorkeeper, declare
from tests.hands import Hands


def made(app: App, limit: Any, **options: Any) -> Task[Any, Any, Any]:
    def charge(account: Any = "", amount: int = 0) -> None: ...

    return app.task(name=options.pop("name", "charge"), limit=limit, **options)(charge)


def command(*words: str) -> str:
    """What `pgqueue` prints."""
    told = CliRunner().invoke(cli, words)
    assert told.exit_code == 0, told.output
    return told.output


def gates(conn: psycopg.Connection) -> list[list[str] | None]:
    return [row for (row,) in conn.execute("select gates from pgqueue.job order by seq").fetchall()]


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (-1, "limit=-1 is out of range: 0 to 1000000"),
        (True, "limit takes a whole number, not a bool"),
        ("5", "limit takes a whole number, not a str"),
        (
            [1, Limit(2, key="account"), Limit(3, key="amount", name="x")],
            "3 limits (task:charge, task:charge, x); a job passes at most two",
        ),
        ([1, Limit(2, key="account")], "two limits are called task:charge: give one of them name="),
        (Limit(1, key="nobody"), "limit has the key 'nobody', which the function does not take"),
    ],
)
def test_a_limit_that_cannot_be(app: App, limit: Any, message: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        made(app, limit)
    assert str(caught.value).startswith("@task charge: ") and message in str(caught.value)


@pytest.mark.parametrize("name", ["a=b", "task:x", "queue:x", "", " x"])
def test_a_name_that_cannot_be(name: str) -> None:
    with pytest.raises(InvalidOption):
        Limit(1, name=name)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (lambda account: account.id, "the function of key= raised AttributeError: 'str' object has no attribute 'id'"),
        (lambda account: None, "gives a NoneType as key of the limit task:charge: give text or a whole number"),
        (lambda account: account == "", "the function of key= gives a bool"),
        (lambda: "x", "the function of key= raised TypeError"),
    ],
)  # fmt: skip
def test_a_key_function_that_gives_none(app: App, conn: psycopg.Connection, key: Any, message: str) -> None:
    task = made(app, Limit(1, key=key))
    for call in (lambda: task.defer("x"), lambda: task.defer_many([("x",)]), lambda: app.enqueue("charge", ["x"])):
        with pytest.raises(InvalidOption) as caught:
            call()
        assert str(caught.value).startswith("charge: ") and message in str(caught.value)
        assert "\n" not in str(caught.value)
    assert gates(conn) == []


def test_keys(app: App, conn: psycopg.Connection) -> None:
    task = made(app, Limit(1, key="account", name="account"))
    one = uuid.uuid4()
    task.defer("a b=c")
    task.defer(account=7)
    task.defer()
    app.enqueue("charge", kwargs={"account": "d"})
    task.defer(str(one))
    task.defer("x" * 201)
    task.defer("two\nlines")
    task.options(key="by hand").defer("e")
    app.enqueue("charge", ["f"], key="by hand")
    found = [found[0] if found else "" for found in gates(conn)]
    assert found[:5] == ["account=a b=c", "account=7", "account=", "account=d", f"account={one}"]
    assert {len(gate) for gate in found[5:7]} == {len("account=") + 64} and found[7:] == ["account=by hand"] * 2
    with pytest.raises(InvalidOption, match="key= is for a task whose limit has a key"):
        made(app, 1, name="t").options(key="x")
    with pytest.raises(InvalidOption, match="so key= takes the limit too, as in 'tenant=7'"):
        app.enqueue("unknown", key="7")
    with pytest.raises(InvalidOption, match="key takes a string"):
        task.options(key=7)  # type: ignore[arg-type]


def test_tasks_that_share_a_limit_say_the_same(app: App) -> None:
    made(app, Limit(2, name="crm"), name="a")
    made(app, Limit(2, name="crm"), name="b")
    with pytest.raises(ConfigError, match="the limit crm is not as another task declares it"):
        made(app, Limit(3, name="crm"), name="c")


def test_a_limit_of_a_queue(app: App, conn: psycopg.Connection) -> None:
    app.queue("money", limit=3)
    task = made(app, Limit(1, key="account", name="account"), queue="money")
    task.defer("a")
    task.defer_many([("b",), ("c",)])
    task.options(unique="x").defer_many([("d",)])
    task.options(queue="other").defer("e")
    app.enqueue("unknown", queue="money")
    app.enqueue("unknown", queue="money", key="crm=7")
    assert gates(conn) == [
        ["account=a", "queue:money"], ["account=b", "queue:money"], ["account=c", "queue:money"],
        ["account=d", "queue:money"], ["account=e"], ["queue:money"],
        ["crm=7", "queue:money"],
    ]  # fmt: skip
    two = [1, Limit(1, key="account", name="x")]
    with pytest.raises(ConfigError, match=r"three limits \(x, task:u, queue:money\): a job passes at most two"):
        made(app, two, name="u", queue="money")
    full = made(app, two, name="v")
    with pytest.raises(InvalidOption, match=r"v: three limits \(x=a, task:v, queue:money\)"):
        full.options(queue="money").defer("a")
    made(app, two, name="w", queue="slow")
    with pytest.raises(ConfigError, match="three limits"):
        app.queue("slow", limit=1)
    with pytest.raises(InvalidOption, match="limit=-1 is out of range"):
        app.queue("slow", limit=-1)


def test_in_sql(app: App, conn: psycopg.Connection) -> None:
    for arguments in ("key => 'crm=7'", "delay => '0 s'", "delay => '1 h', key => 'k'"):
        conn.execute(f"select pgqueue.enqueue('t', {arguments})")
    assert conn.execute("select state::text, gates, gate from pgqueue.job order by seq").fetchall() == [
        ("waiting", ["crm=7"], 0), ("queued", None, None), ("scheduled", ["k"], 0)
    ]  # fmt: skip


def test_a_change_at_run_time(
    app: App, dsn: str, conn: psycopg.Connection, queries: Queries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGQUEUE_DSN", dsn)
    with db.connect(dsn) as line:
        keeper = Doorkeeper(line, queries, worker=Hands(line, queries).id)
        task = made(app, Limit(1, key="account", name="account"))
        declare(conn, queries, account=1)
        for key in "abc":
            task.defer_many([(key,)] * 4)
        assert keeper.look() == 3
        app.limit("account=a", 3)
        assert keeper.look() == 2  # it is looked at without a sweep
        assert "account lets 2 through at once" in command("limit", "account", "2")
        assert keeper.look() == 2
        app.limit("account=a", None)
        app.limit("account", 0)
        assert keeper.sweep() == set()
        declare(conn, queries, account=9)  # a deploy changes nothing of what a person has said
        assert conn.execute("select slots, source from pgqueue.gate where name = 'account'").fetchone() == (0, "person")
        assert "as the code says" in command("limit", "account", "code")
        declare(conn, queries, account=2)
        assert conn.execute("select slots, source from pgqueue.gate where name = 'account'").fetchone() == (2, "code")
        rows = {row.gate: row for row in app.limits()}
        assert (rows["account=b"].slots, rows["account=b"].past, rows["account=b"].waiting) == (2, 2, 2)
        assert (rows["account=a"].slots, rows["account=a"].past, rows["account=a"].waiting) == (2, 3, 1)
        listed = command("limits")
        assert "account=b" in listed and "SET BY" in listed
        for wrong in ("-1", "x", "1.5"):
            assert CliRunner().invoke(cli, ["limit", "account", "--", wrong]).exit_code != 0
        assert json.loads(command("limits", "--json"))[0]["gate"] == "account"
        with pytest.raises(InvalidOption, match="a limit is a whole number, None or 'code'"):
            app.limit("account", "5")  # type: ignore[arg-type]
    deeds = conn.execute("select distinct action, task from pgqueue.audit order by 1, 2").fetchall()
    assert deeds == [("limit", "account"), ("limit", "account=a")]


def test_a_task_or_key_is_paused(app: App, dsn: str, conn: psycopg.Connection, queries: Queries) -> None:
    with db.connect(dsn) as line:
        keeper = Doorkeeper(line, queries, worker=Hands(line, queries).id)
        task = made(app, Limit(5, key="account"))
        declare(conn, queries, **{"task:charge": 5})
        app.pause("task:charge=a", for_=timedelta(minutes=10), why="refunds first")
        task.defer("a")
        task.defer("b")
        assert keeper.look() == 1
        assert app.resume("task:charge=a") and keeper.look() == 1
        assert not app.resume("task:charge=a")
        app.pause("task:charge")
        task.defer("c")
        assert keeper.look() == 0
        assert app.resume("task:charge") and keeper.look() == 1
        assert conn.execute("select slots from pgqueue.gate where name = 'task:charge'").fetchone() == (5,)
    with pytest.raises(InvalidOption, match="why= is of a task or a key that is paused"):
        app.pause("money", why="audit")


def test_batches_of_events_have_lanes_instead(app: App) -> None:
    def handle(events: list[Event[Any]]) -> None: ...

    with pytest.raises(
        ConfigError, match=r"@app.on\(batch=\) takes no limit=: lanes= says how many batches run at once"
    ):
        app.on("a", batch=5, name="handle", limit=1)(handle)
