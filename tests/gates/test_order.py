"""Jobs of one key run in their order, each to its end; a rate is never exceeded in any window."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from pgqueue import App, InvalidOption, Limit, Rate, db
from pgqueue.gates.limit import Rule
from pgqueue.queries import Queries
from tests.conftest import Worker, eventually
from tests.gates import tasks
from tests.gates.doorkeeper import Doorkeeper
from tests.gates.test_workers import LEDGER
from tests.hands import Hands

KEYS, EACH = "abc", 12


@pytest.fixture
def ledger(conn: psycopg.Connection, dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[psycopg.Connection]:
    conn.execute(LEDGER)
    monkeypatch.setenv("LEDGER", dsn)
    yield conn


@pytest.fixture
def keeper(dsn: str, queries: Queries) -> Iterator[Doorkeeper]:
    with db.connect(dsn) as line:
        yield Doorkeeper(line, queries, worker=Hands(line, queries).id)


def test_in_order_through_failures_and_kills(
    app: App, ledger: psycopg.Connection, start_worker: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.in_order, "app", app)
    workers = [start_worker("-c", "2", app="tests.gates.tasks").ready() for _ in range(2)]
    for number, key in itertools.product(range(EACH), KEYS):
        tasks.in_order.defer(key, number)
    done = "select count(*) from pgqueue.history"
    eventually(lambda: (ledger.execute(done).fetchone() or (0,))[0] > 5, what="some have ended")
    workers[0].process.kill()
    workers[0].wait()
    # Those of the one that was killed are rescued once its lease is over.
    eventually(lambda: ledger.execute(done).fetchone() == (EACH * len(KEYS),), what="all have ended", within_s=90)
    rows = ledger.execute("select what, attempt, began, ended from shop.ledger order by began").fetchall()
    for key in KEYS:
        numbers = [int(what.split()[1]) for what, *_ in rows if what.startswith(key)]
        assert numbers == sorted(numbers) and set(numbers) == {*range(EACH)}, (key, numbers)
        times = [(began, ended) for what, _, began, ended in rows if what.startswith(key)]
        assert all(ended is None or ended <= began for (_, ended), (began, _) in itertools.pairwise(times))
    failed = ledger.execute("select count(*) from pgqueue.attempt where cause = 'exception'").fetchone()
    assert failed == (EACH // 3 * len(KEYS),)


def end_dead(queries: Queries, hands: Hands) -> Any:
    (job,) = hands.claim()
    return job, end_as(queries, hands, job, "dead")


def end_as(queries: Queries, hands: Hands, job: Any, state: str) -> Any:
    columns: dict[str, list[Any]] = {
        "ids": [job.id], "tokens": [job.token], "states": [state], "delays": [0.0], "refunds": [0], "crashes": [0],
        "causes": ["exception"], "errors": ["E"], "tracebacks": [None], "gates": [None],
    }  # fmt: skip
    return queries.settle(worker=hands.id, worker_name="by hand", columns=columns)


def test_a_dead_job_stops_the_line_behind_it(app: App, queries: Queries, dsn: str, conn: psycopg.Connection) -> None:
    def move(account: str) -> None: ...

    task = app.task(name="move", ordered="account", on_dead="halt")(move)
    db.run(conn, queries.declare_gates([rule.as_json() for rule in app.rules()]))
    with db.connect(dsn) as line:
        hands = Hands(line, queries)
        keeper = Doorkeeper(line, queries, worker=hands.id)
        first, second = task.defer("7"), task.defer("7")
        keeper.look()
        job, settle = end_dead(queries, hands)
        assert keeper.admit(job.gates, settle).queued == 0 and job.id == first.id
        assert keeper.sweep() == set() and hands.claim() == []
        assert (
            app.why(second.id)
            .reasons[0]
            .startswith(
                f"the gate order:move=7 is closed by a dead job (job {first.id} is dead: retry it, or resume without it)"
            )
        )
        first.retry()
        assert keeper.look() == 0
        assert app.resume("order:move=7") and keeper.look() == 1
        (job,) = hands.claim()
        assert job.id == first.id  # the first of the line again


@pytest.mark.parametrize("ordered", ["account", True])
def test_the_order_is_kept_with_a_limit_whatever_that_is_called(
    app: App, queries: Queries, dsn: str, conn: psycopg.Connection, ordered: Any
) -> None:
    """A job that waits for its bank is not passed, an attempt that failed keeps its place, and a dead one stops the line."""

    def move(account: str, bank: str) -> None: ...

    limit = Limit(1, key="bank", name="bank")  # a key, and called so that it comes before `order:`
    task = app.task(name="move", limit=limit, ordered=ordered, on_dead="halt")(move)
    db.run(conn, queries.declare_gates([rule.as_json() for rule in app.rules()]))
    line_of_7 = "order:move" if ordered is True else "order:move=7"
    with db.connect(dsn) as line:
        hands = Hands(line, queries)
        keeper = Doorkeeper(line, queries, worker=hands.id)
        app.limit("bank=full", 0)
        first, second = task.defer("7", "full"), task.defer("7", "free")
        assert keeper.look() == 0 and hands.claim() == []  # the first waits for its bank, and the second behind it
        app.limit("bank=full", 1)
        assert keeper.look() == 0  # sent back to be looked at it would lose its turn
        assert keeper.admit(keeper.sweep()).queued == 1
        (job,) = hands.claim()
        assert (job.id, job.gates) == (first.id, [line_of_7, "bank=full"])
        assert keeper.admit(job.gates or [], end_as(queries, hands, job, "scheduled")).queued == 0
        assert keeper.look() == 0 and hands.claim() == []
        db.run(conn, queries.promote(worker=hands.id))
        assert keeper.admit(job.gates or []).queued == 1
        (job,) = hands.claim()
        assert job.id == first.id
        keeper.admit(job.gates or [], end_as(queries, hands, job, "dead"))
        assert keeper.sweep() == set() and keeper.look() == 0 and second.state == "waiting"
        first.retry()
        assert app.resume(line_of_7) and keeper.look() == 1
        assert [job.id for job in hands.claim()] == [first.id]


@pytest.mark.parametrize("what", ["a place is free", "it is run now"])
def test_one_that_has_begun_keeps_its_turn_while_it_waits_for_another_limit(
    app: App, queries: Queries, conn: psycopg.Connection, dsn: str, what: str
) -> None:
    """A look at the other limit, or its time, that comes early must not send it back to its line, behind others."""

    def move(account: str) -> None: ...

    task = app.task(name="move", ordered="account", limit=1)(move)
    db.run(conn, queries.declare_gates([rule.as_json() for rule in app.rules()]))
    with db.connect(dsn) as line:
        hands = Hands(line, queries)
        keeper = Doorkeeper(line, queries, worker=hands.id)
        first, second = task.defer("7"), task.options(priority=5).defer("7")
        second.cancel()
        second = task.defer("7")
        keeper.look()
        (job,) = hands.claim()
        hands.settle(job, "scheduled", delay_s=60.0 if what == "it is run now" else 0.0)
        other = task.defer("8")
        keeper.look()
        assert (first.state, second.state, other.state) == ("scheduled", "waiting", "queued")
        if what == "it is run now":
            assert first.retry()
        else:
            db.run(line, queries.promote(worker=hands.id))
        assert other.cancel()
        keeper.look()
        while gates := keeper.sweep():
            keeper.admit(gates)
        assert [job.id for job in hands.claim()] == [first.id]


def test_nobody_passes_one_whose_row_is_locked(app: App, queries: Queries, keeper: Doorkeeper, dsn: str) -> None:
    def move(account: str) -> None: ...

    task = app.task(name="move", ordered="account")(move)
    app.run(queries.declare_gates([rule.as_json() for rule in app.rules()]))
    first, second = task.defer("7"), task.defer("7")
    with psycopg.connect(dsn) as person:
        person.execute("select from pgqueue.job where id = %s for update", [first.id])
        admitted = keeper.admit(["order:move=7"])
        assert (admitted.queued, admitted.due_s) == (0, {"order:move=7": 0.1})
    assert keeper.admit(["order:move=7"]).queued == 1
    assert (first.state, second.state) == ("queued", "waiting")


def test_a_rate_holds_in_every_window(app: App, queries: Queries, dsn: str, conn: psycopg.Connection) -> None:
    every_s, burst, jobs = 0.01, 5, 150

    def call(key: str) -> None: ...

    task = app.task(name="call", rate=Rate(1 / every_s, key="key", burst=burst))(call)
    db.run(conn, queries.declare_gates([rule.as_json() for rule in app.rules()]))
    conn.execute("create schema shop; create table shop.seen (gate text, at timestamptz)")
    conn.execute(
        "create function shop.see() returns trigger language plpgsql as $$ begin "
        "insert into shop.seen values (new.gates[1], statement_timestamp()); return null; end $$"
    )
    conn.execute(
        "create trigger see after update on pgqueue.job for each row "
        "when (new.state = 'queued' and old.state = 'waiting') execute function shop.see()"
    )
    try:
        task.defer_many([(key,) for _ in range(jobs) for key in "ab"])
        until = time.monotonic() + 20

        def keep() -> None:
            with db.connect(dsn) as line:
                keeper = Doorkeeper(line, queries, worker=Hands(line, queries).id)
                while time.monotonic() < until and counted() < 2 * jobs:
                    keeper.admit(["task:call=a", "task:call=b"])

        def counted() -> int:
            with psycopg.connect(dsn, autocommit=True) as look:
                return int((look.execute("select count(*) from shop.seen").fetchone() or (0,))[0])

        keepers = [threading.Thread(target=keep) for _ in range(3)]
        for thread in keepers:
            thread.start()
        for thread in keepers:
            thread.join()
        for key in "ab":
            found = "select extract(epoch from at)::float8 from shop.seen where gate = %s order by 1"
            times = [at for (at,) in conn.execute(found, [f"task:call={key}"]).fetchall()]
            assert len(times) == jobs
            for window in (0.02, 0.1, 0.5, 1.0):
                worst = max(sum(at <= other < at + window for other in times) for at in times)
                assert worst <= burst + window / every_s + 1e-6, (window, worst)
    finally:
        conn.execute("drop trigger see on pgqueue.job; drop schema shop cascade")


def test_a_clock_that_was_set_back_stalls_for_a_burst_at_most(
    app: App, queries: Queries, keeper: Doorkeeper, conn: psycopg.Connection
) -> None:
    db.run(conn, queries.declare_gates([Rule("task:t", every_s=1.0, burst=3).as_json()]))
    conn.execute("insert into pgqueue.pace values ('task:t', now() + interval '1 hour')")
    app.task(name="t", rate="1/s")(_nothing).defer_many([()] * 5)
    (due_s,) = keeper.admit(["task:t"]).due_s.values()
    assert due_s <= 1.01  # the next one passes then, and not in an hour


def _nothing() -> None: ...


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": "0/s"}, "lets nothing through"),
        ({"rate": "5"}, "rate='5' is not a rate: write 100/m"),
        ({"rate": "5/y"}, "is not a rate"),
        ({"rate": 5}, "rate takes text such as '100/m', or a Rate, not a int"),
        ({"rate": "5/s", "burst": 0}, "burst=0 is out of range"),
        ({"burst": 2}, "burst= is for a task with rate="),
        ({"ordered": "x"}, "ordered has the key 'x', which the function does not take"),
        ({"ordered": 5}, "the key of ordered is an argument's name or a function, not 5"),
        ({"on_dead": "halt"}, "on_dead= is for a task with ordered="),
        ({"ordered": True, "on_dead": "stop"}, "on_dead takes 'next' or 'halt', not 'stop'"),
        ({"ordered": True, "limit": 1, "rate": Rate(1, name="x")}, "3 limits (task:t, order:t, x)"),
    ],
)
def test_what_cannot_be(app: App, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        app.task(name="t", **options)(_nothing)
    assert message in str(caught.value) and str(caught.value).startswith("@task t: ")


def test_a_rate_and_a_limit_share_a_gate(app: App) -> None:
    task = app.task(name="t", limit=5, rate="100/m")(_nothing)
    assert task.limits.rules == [Rule("task:t", 5, every_s=0.6)]
    with pytest.raises(InvalidOption, match="lets nothing through"):
        Rate(5, per=0)
