"""Keys take turns: the bound of a newcomer, weights, and a key that is alone."""

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from pgqueue import App, ConfigError, Fair, InvalidOption, Limit, Task, db, testing
from pgqueue.cli import cli
from pgqueue.gates.admit import admit
from pgqueue.queries import Queries
from tests.conftest import Worker, eventually
from tests.gates import tasks
from tests.gates.doorkeeper import Doorkeeper
from tests.hands import Hands

WINDOW = 2  # one place by hand


@pytest.fixture
def line(dsn: str) -> Iterator[psycopg.Connection]:
    with db.connect(dsn) as made:
        yield made


@pytest.fixture
def hands(line: psycopg.Connection, queries: Queries) -> Hands:
    return Hands(line, queries)


@pytest.fixture
def keeper(line: psycopg.Connection, queries: Queries, hands: Hands) -> Doorkeeper:
    return Doorkeeper(line, queries, worker=hands.id)


def made(app: App, fair: Any = "tenant", **options: Any) -> Task[Any, Any, Any]:
    def send(tenant: Any, number: int = 0) -> None: ...

    return app.task(name="send", fair=fair, **options)(send)


def declared(app: App, fair: Any = "tenant", **options: Any) -> Task[Any, Any, Any]:
    task = made(app, fair, **options)
    app.run(app.queries.declare_gates([rule.as_json() for rule in app.rules()]))
    return task


def serve(hands: Hands, keeper: Doorkeeper, most: int, *, at_once: int = 1) -> list[str]:
    """The tenants whose jobs run, in the order of the queue; each end lets the next ones through."""
    served: list[str] = []
    keeper.look()
    while len(served) < most and (jobs := hands.claim(at_once)):
        hands.finish(jobs)
        served += [job.args[2 : job.args.index('"', 2)] for job in jobs]
        keeper.admit({gate for job in jobs for gate in job.gates or ()})
        keeper.look()
    return served


@pytest.mark.parametrize(("others", "each"), [(1, 10), (10, 10), pytest.param(1000, 3, marks=pytest.mark.long)])
def test_a_newcomer_waits_for_one_window_of_each(
    app: App, hands: Hands, keeper: Doorkeeper, others: int, each: int
) -> None:
    task = declared(app)
    task.defer_many([("big",)] * 3000)
    serve(hands, keeper, 20, at_once=WINDOW)
    for other in range(others):
        task.defer_many([(f"small{other}",)] * each)
    bound = (others + 1) * each + WINDOW
    served = serve(hands, keeper, bound + WINDOW, at_once=WINDOW)
    assert sum(tenant != "big" for tenant in served[:bound]) == others * each
    assert served[:bound].count("big") >= each - WINDOW


@pytest.mark.parametrize("places", [1, 8])
def test_a_key_that_is_alone_keeps_all_places_busy(
    app: App, hands: Hands, keeper: Doorkeeper, conn: psycopg.Connection, places: int
) -> None:
    """Whatever ends, as many are queued at once: those that end are replaced before they are let through."""
    conn.execute("update pgqueue.worker set concurrency = %s", [places])
    task = declared(app)
    task.defer_many([("alone",)] * 150)
    keeper.look()
    running = hands.claim(places)
    draw = random.Random(places)
    for _ in range(25):
        assert len(running) == places
        ended = [running.pop() for _ in range(draw.randint(1, places))]
        hands.finish(ended)
        running += hands.claim(len(ended))  # before anybody has looked at the gate
        keeper.admit({"fair:task:send=alone"})


def test_the_window_is_of_the_workers_that_serve_its_queue(
    app: App, hands: Hands, keeper: Doorkeeper, line: psycopg.Connection, conn: psycopg.Connection, queries: Queries
) -> None:
    """Whoever looks, and whatever flows through that worker."""
    task = declared(app, queue="a")
    conn.execute("update pgqueue.worker set queues = '{a}'")
    others = Hands(line, queries, queues=["b"])
    conn.execute("update pgqueue.worker set concurrency = 50 where queues = '{b}'")
    task.defer_many([("x",)] * 40)
    task.options(queue="b").defer_many([("y",)] * 200)
    task.options(queue="c").defer_many([("z",)] * 40)  # nobody serves it yet
    stranger = Doorkeeper(line, queries, worker=others.id)

    def past() -> list[int | None]:
        return [row.past for row in app.limits() if "=" in row.gate]

    stranger.look()
    assert past() == [2, 100, 2]
    conn.execute("update pgqueue.worker set concurrency = 3 where queues = '{a}'")
    assert stranger.sweep() == {"fair:task:send=x"}
    db.run_together(line, admit(queries, {"fair:task:send=x"}, worker=others.id, flow=1000.0))
    assert past() == [6, 100, 2]
    db.run_together(line, admit(queries, {"fair:task:send=x"}, worker=hands.id, flow=9.0))  # three times the places
    assert past() == [18, 100, 2]


def test_the_sweep_finds_keys_with_room_and_no_others(
    app: App, hands: Hands, keeper: Doorkeeper, conn: psycopg.Connection
) -> None:
    task = declared(app, Fair("tenant", weights={"b": 3}))
    task.defer_many([(tenant,) for tenant in "abc"] * 10)
    assert keeper.look() == 2 * WINDOW + 3 * WINDOW
    assert keeper.sweep() == set()
    conn.execute("delete from pgqueue.job where state = 'queued' and gates = '{fair:task:send=b}'")
    assert keeper.sweep() == {"fair:task:send=b"}
    conn.execute("update pgqueue.gate set closed_at = now()")
    assert keeper.sweep() == set()


def test_weights_give_their_share(app: App, hands: Hands, keeper: Doorkeeper) -> None:
    task = declared(app, Fair("tenant", weights={"a": 3}))
    for tenant in "abc":
        task.defer_many([(tenant,)] * 120)
    serve(hands, keeper, 12)
    served = serve(hands, keeper, 75)
    assert [round(served.count(tenant) / 15) for tenant in "abc"] == [3, 1, 1]
    app.limit("fair:task:send=b", weight=3)
    serve(hands, keeper, 14)
    served = serve(hands, keeper, 70)
    assert [round(served.count(tenant) / 10) for tenant in "abc"] == [3, 3, 1]


def test_what_has_had_its_turn_is_behind_others_at_the_next_gate(app: App, hands: Hands, keeper: Doorkeeper) -> None:
    task = declared(app, limit=1)
    task.defer_many([("big",)] * 100)
    serve(hands, keeper, 5)
    task.defer_many([("small",)] * 5)
    assert serve(hands, keeper, 12).count("small") == 5


def test_a_person_says_a_number_or_stops_a_key(app: App, hands: Hands, keeper: Doorkeeper) -> None:
    task = declared(app)
    task.defer_many([("a",), ("b",)] * 10)
    app.pause("fair:task:send=a")
    app.limit("fair:task:send=b", 5)
    keeper.look()
    assert len(hands.claim()) == 5
    rows = {row.gate: row for row in app.limits()}
    assert (rows["fair:task:send=a"].closed, rows["fair:task:send=b"].past) == (True, 5)


def test_why_and_limits_tell_of_turns(app: App, hands: Hands, keeper: Doorkeeper) -> None:
    task = declared(app, Fair("tenant", weights={"a": 2}))
    jobs = [task.defer("a") for _ in range(6)]
    keeper.look()
    (reason, *_) = app.why(jobs[-1].id).reasons
    assert reason.startswith("it waits for its turn at fair:task:send=a: 4 jobs of that key are before others' (")
    assert reason.endswith("), 1 job before it")
    rows = {row.gate: (row.fair, row.weight, row.past, row.waiting) for row in app.limits()}
    assert rows == {"fair:task:send": (True, 1, 0, 0), "fair:task:send=a": (True, 2, 4, 2)}


def command(*words: str) -> str:
    """What `pgqueue` prints, or why it refuses."""
    told = CliRunner().invoke(cli, words)
    return told.output if told.exit_code == 0 else str(told.exception)


def test_the_commands(
    app: App, dsn: str, conn: psycopg.Connection, hands: Hands, keeper: Doorkeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGQUEUE_DSN", dsn)
    task = declared(app, Fair("tenant", weights={"b": 2}))
    jobs = [task.defer(tenant) for tenant in "aaaaaaabbbbb"]
    assert keeper.look() == WINDOW + 2 * WINDOW
    gate = "fair:task:send=a"
    assert command("limit", gate, "--weight", "3") == f"{gate} has 3 shares\n"
    assert keeper.look() == 2 * WINDOW  # it is looked at without a sweep
    app.run(app.queries.declare_gates([rule.as_json() for rule in app.rules()]))  # a deploy changes nothing of it
    rows = {row["gate"]: row for row in json.loads(command("limits", "--json"))}
    assert [(row["fair"], row["weight"], row["past"], row["waiting"], row["source"]) for row in rows.values()] == [
        (True, 1, 0, 0, "code"), (True, 3, 6, 1, "person"), (True, 2, 4, 1, "code"),
    ]  # fmt: skip
    listed = command("limits").splitlines()
    assert [" ".join(line.split()) for line in listed[1:]] == [
        "fair:task:send fair 0 0 open code", f"{gate} fair, 3 shares 6 1 open person",
        "fair:task:send=b fair, 2 shares 4 1 open code",
    ]  # fmt: skip
    assert f"it waits for its turn at {gate}: 6 jobs of that key are before others'" in command("why", jobs[6].id)
    assert command("limit", gate, "--weight", "1") == f"{gate} has 1 share\n"
    assert "as the code says" in command("limit", gate, "code")
    assert {row.gate: row.weight for row in app.limits()}[gate] == 1
    assert "fair:task:send=b lets 5 through at once" in command("limit", "fair:task:send=b", "5")
    assert keeper.look() == 1
    for words, said in (
        ([gate], "say either how many at once, or --weight"),
        ([gate, "5", "--weight", "2"], "say either how many at once, or --weight"),
        (
            ["tenant=a", "--weight", "2"],
            "a weight is of one key that takes turns, as in fair:task:shop.send=acme, not of",
        ),
        (["fair:task:send", "--weight", "2"], "a weight is of one key that takes turns"),
        ([gate, "--weight", "0"], "weight=0 is out of range: 1 to 100"),
    ):
        assert said in command("limit", *words)
    deeds = conn.execute("select distinct action, task from pgqueue.audit order by 1, 2").fetchall()
    assert deeds == [("limit", gate), ("limit", "fair:task:send=b")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fair": "nobody"}, "fair has the key 'nobody', which the function does not take"),
        ({"fair": True}, "the key of fair is an argument's name or a function, not True"),
        ({"fair": "tenant", "ordered": True}, "ordered=True is one line for all"),
        (
            {"fair": "tenant", "limit": [1, Limit(1, key="tenant", name="x")]},
            "3 limits (task:send, x, fair:task:send); a job passes at most two",
        ),
    ],
)
def test_a_share_that_cannot_be(app: App, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        made(app, **options)
    assert str(caught.value).startswith("@task send: ") and message in str(caught.value)


def test_weights_that_cannot_be(app: App) -> None:
    with pytest.raises(InvalidOption, match="the weight of 'a'=0 is out of range: 1 to 100"):
        Fair("tenant", weights={"a": 0})
    with pytest.raises(InvalidOption, match=r"weights takes a dict.* not a list"):
        Fair("tenant", weights=["a"])  # type: ignore[arg-type]
    with pytest.raises(InvalidOption, match=r"weights has the key .*: keys are text or whole numbers"):
        Fair("tenant", weights={1.5: 2})  # type: ignore[dict-item]
    numbers: Any = {7: 2, "a": 3}
    assert Fair("tenant", numbers).gate("t") == Fair("tenant", dict(reversed(numbers.items()))).gate("t")
    for name, weight, message in (
        ("fair:task:send=a", 0, "weight=0 is out of range"),
        ("fair:task:send", 2, "a weight is of one key that takes turns"),
        ("task:send=a", 2, "a weight is of one key that takes turns"),
    ):
        with pytest.raises(InvalidOption, match=message):
            app.limit(name, weight=weight)
    with pytest.raises(InvalidOption, match="say either"):
        app.limit("fair:task:send=a")


@pytest.mark.parametrize("key", [lambda tenant, *_: tenant.nothing, lambda tenant, *_: None])
def test_a_function_that_gives_no_key(app: App, conn: psycopg.Connection, key: Any) -> None:
    task = made(app, key)
    for call in (lambda: task.defer("x"), lambda: task.defer_many([("x",)]), lambda: app.enqueue("send", ["x"])):
        with pytest.raises(InvalidOption, match=r"^send: the function of key= "):
            call()
    assert conn.execute("select count(*) from pgqueue.job").fetchone() == (0,)


def test_each_way_in_and_the_kit(app: App, conn: psycopg.Connection) -> None:
    task = declared(app, limit=5)
    task.defer("a")
    task.defer_many([("b",), ("b",)])
    app.enqueue("send", ["c"])
    stranger = App(app.dsn)
    stranger.enqueue("send", ["d"])
    stranger.close()
    found = conn.execute("select gates from pgqueue.job order by seq").fetchall()
    assert [gates for (gates,) in found] == [
        *([f"fair:task:send={key}", "task:send"] for key in "abbc"), None,
    ]  # fmt: skip
    assert len(testing.drain(app=app)) == 5


def found(conn: psycopg.Connection) -> list[list[str] | None]:
    return [gates for (gates,) in conn.execute("select gates from pgqueue.job order by seq").fetchall()]


def test_a_queue_takes_turns_through_every_door(app: App, conn: psycopg.Connection) -> None:
    app.queue("money", fair=Fair("tenant", weights={"acme": 2}))
    send = app.task(name="send", queue="money")(lambda tenant, number=0: None)
    other = app.task(name="other", limit=5)(lambda number, tenant="acme": None)
    send.defer("a")
    send.defer_many([("b",), {"tenant": "c"}])
    send.options(unique="x").defer_many([("d",)])
    send.options(key="by hand").defer("e")
    send.options(queue="else").defer("f")
    other.options(queue="money").defer(1)
    other.options(queue="money", delay=60).defer_many([(1, "g")])
    app.enqueue("send", ["h"])
    app.enqueue("other", [1], queue="money", key="i")
    app.enqueue("unknown", queue="money", kwargs={"tenant": "j"})
    app.enqueue("unknown", ["k"], queue="money")
    app.enqueue("unknown", queue="money", key="l")
    app.enqueue("unknown", queue="money", key="crm=m", kwargs={"tenant": 7})
    turns = [[f"fair:queue:money={key}"] for key in ("a", "b", "c", "d", "by hand")]
    assert found(conn) == [
        *turns, None, ["fair:queue:money=acme", "task:other"], ["fair:queue:money=g", "task:other"],
        ["fair:queue:money=h"], ["fair:queue:money=i", "task:other"],
        ["fair:queue:money=j"], None, ["fair:queue:money=l"], ["crm=m", "fair:queue:money=7"],
    ]  # fmt: skip
    assert [rule.name for rule in app.rules()] == ["task:other", "fair:queue:money"]
    app.queue("money", limit=3)  # what is left out stays
    send.defer("n")
    assert found(conn)[-1] == ["fair:queue:money=n", "queue:money"]
    with pytest.raises(InvalidOption, match=r"other: three limits \(fair:queue:money=acme, task:other, queue:money\)"):
        other.options(queue="money").defer(1)


def test_a_queue_serves_a_newcomer_of_another_task(app: App, hands: Hands, keeper: Doorkeeper) -> None:
    app.queue("money", fair=lambda tenant, *_: tenant)
    one, two = (app.task(name=name, queue="money")(lambda tenant: None) for name in ("one", "two"))
    app.run(app.queries.declare_gates([rule.as_json() for rule in app.rules()]))
    one.defer_many([("big",)] * 100)
    serve(hands, keeper, 10)
    two.defer_many([("small",)] * 10)
    assert serve(hands, keeper, 24).count("small") == 10
    rows = {row.gate: (row.fair, row.waiting) for row in app.limits()}
    assert rows["fair:queue:money=big"] == (True, 100 - 10 - 14 - WINDOW)


@pytest.mark.parametrize(
    ("options", "fair", "message"),
    [
        ({}, "nobody", "the fair share of the queue 'money' has the key 'nobody', which the function does not take"),
        ({"ordered": True}, "tenant", "send: ordered=True is one line for all, and in the queue 'money' keys take turns"),
        (
            {"limit": [1, Limit(1, key="tenant", name="x")]}, "tenant",
            "@task send has three limits (x, task:send, fair:queue:money): a job passes at most two",
        ),
        (
            {"fair": Fair("tenant", name="x")}, Fair("tenant", weights={"a": 2}, name="x"),
            "queue('money'): the limit fair:x is not as a task or another queue declares it: let both say the same",
        ),
        ({}, True, "queue('money'): the key of fair is an argument's name or a function, not True"),
        ({}, None, "queue('money'): say limit=, fair=, or both"),
    ],
)  # fmt: skip
def test_a_queue_that_cannot_take_turns(app: App, options: dict[str, Any], fair: Any, message: str) -> None:
    made(app, options.pop("fair", None), queue="money", **options)
    with pytest.raises(ConfigError) as caught:
        app.queue("money", fair=fair)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_call_that_cannot_take_its_turn(app: App, conn: psycopg.Connection) -> None:
    app.queue("money", fair="tenant")
    strange = app.task(name="strange")(lambda number: None)
    ordered = app.task(name="ordered", ordered=True)(lambda tenant: None)
    unkeyed = made(app)
    for call, message in (
        (
            lambda: strange.options(queue="money").defer(1),
            "strange: its queue has the key 'tenant', which the function",
        ),
        (lambda: app.enqueue("strange", [1], queue="money"), "strange: its queue has the key 'tenant'"),
        (lambda: ordered.options(queue="money").defer("a"), "ordered: ordered=True is one line for all"),
        (
            lambda: unkeyed.options(queue="money").defer(1.5),
            "send: the argument tenant gives a float as key of the limit",
        ),
        (
            lambda: app.enqueue("unknown", queue="money", kwargs={"tenant": None}),
            "unknown: the argument tenant gives a None",
        ),
    ):
        with pytest.raises(InvalidOption) as caught:
            call()
        assert str(caught.value).startswith(message)
    assert found(conn) == []


def test_one_name_for_a_task_and_its_queue_is_one_turn(app: App, conn: psycopg.Connection) -> None:
    shared = Fair("tenant", name="all")
    app.queue("money", fair=shared)
    made(app, shared, queue="money").defer("a")
    assert found(conn) == [["fair:all=a"]]


def test_the_kit_has_jobs_without_their_turn_take_it(app: App, conn: psycopg.Connection) -> None:
    app.queue("money", fair="tenant")
    made(app, None, queue="money", limit=5)
    conn.execute("select pgqueue.enqueue('send', '[\"a\"]', queue => 'money')")
    assert len(testing.drain(app=app)) == 1
    assert conn.execute("select gates from pgqueue.history").fetchone() == (["fair:queue:money=a", "task:send"],)


Start = Callable[..., Worker]


def test_a_worker_serves_newcomers_and_a_key_alone(
    dsn: str, conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, start_worker: Start
) -> None:
    app = App(dsn)
    monkeypatch.setattr(tasks.turns, "app", app)
    start_worker("-c", "2", app="tests.gates.tasks").ready()
    tasks.turns.defer_many([("big", 0.02)] * 300)
    stranger = App(dsn)

    def ended(tenant: str) -> int:
        (count,) = conn.execute(
            "select count(*) from pgqueue.history where args like %s", [f'["{tenant}%']
        ).fetchone() or (0,)
        return int(count)

    eventually(lambda: ended("big") > 10, what="the first are under way")
    stranger.enqueue("tests.gates.tasks.turns", ["small", 0.001])  # parked by the child, which knows the key
    stranger.enqueue("tests.gates.tasks.free", kwargs={"tenant": "small"}, queue="shared")  # so is that of its queue
    tasks.turns.defer_many([("small", 0.001)] * 9)
    eventually(lambda: ended("small") == 10, what="the newcomer's jobs have ended")
    assert ended("big") < 200
    shared = "select state::text from pgqueue.history where gates = '{fair:queue:shared=small}'"
    eventually(lambda: conn.execute(shared).fetchall() == [("succeeded",)], what="the queue's newcomer too")
    stranger.close()
    app.close()
