"""Keys take turns: the bound of a newcomer, weights, and a key that is alone."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from pgqueue import App, Fair, InvalidOption, Limit, Task, db, testing
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


@pytest.mark.parametrize("others", [1, 10, pytest.param(1000, marks=pytest.mark.long)])
def test_a_newcomer_waits_for_one_window_of_each(app: App, hands: Hands, keeper: Doorkeeper, others: int) -> None:
    task = declared(app)
    task.defer_many([("big",)] * 3000)
    serve(hands, keeper, 20, at_once=WINDOW)
    for other in range(others):
        task.defer_many([(f"small{other}",)] * 10)
    bound = (others + 1) * 10 + WINDOW
    served = serve(hands, keeper, bound + WINDOW, at_once=WINDOW)
    assert sum(tenant != "big" for tenant in served[:bound]) == others * 10
    assert served[:bound].count("big") >= 10 - WINDOW


def test_weights_give_their_share(app: App, hands: Hands, keeper: Doorkeeper) -> None:
    task = declared(app, Fair("tenant", weights={"a": 3}))
    for tenant in "abc":
        task.defer_many([(tenant,)] * 400)
    serve(hands, keeper, 12)
    served = serve(hands, keeper, 300)
    assert [served.count(tenant) // 6 for tenant in "abc"] == [30, 10, 10]
    app.limit("fair:task:send=b", weight=3)
    serve(hands, keeper, 24)
    served = serve(hands, keeper, 350)
    assert [round(served.count(tenant) / 50) for tenant in "abc"] == [3, 3, 1]


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
    tasks.turns.defer_many([("small", 0.001)] * 9)
    eventually(lambda: ended("small") == 10, what="the newcomer's jobs have ended")
    assert ended("big") < 200
    stranger.close()
    app.close()
