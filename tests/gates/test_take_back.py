"""A limit that is lowered at once: those that were let through and do not run yet wait again."""

import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from pgqueue import App, ConfigError, InvalidOption, Limit, PgQueueError, Task, db
from pgqueue.cli import cli
from pgqueue.gates.limit import Rule
from pgqueue.ops import limits
from pgqueue.queries import Queries
from tests.conftest import eventually
from tests.gates.doorkeeper import Doorkeeper, declare
from tests.hands import Hands

NOBODY = "00000000-0000-0000-0000-000000000000"


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


def made(app: App, limit: Any, **options: Any) -> Task[Any, Any, Any]:
    def t(key: str = "", bank: str = "") -> None: ...

    return app.task(name="t", limit=limit, **options)(t)


def end(queries: Queries, hands: Hands, job: Any) -> Any:
    return queries.finish(worker=hands.id, ids=[job.id], tokens=[job.token], results=["1"])


def test_the_last_that_were_let_through_wait_again_and_none_that_runs(
    app: App, keeper: Doorkeeper, hands: Hands, conn: psycopg.Connection, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGQUEUE_DSN", dsn)
    task = made(app, 4)
    declare(conn, app.queries, **{"task:t": 4})
    *others, high = [task.options(priority=priority).defer() for priority in (0, 0, 0, 0, 0, 1)]
    assert keeper.look() == 4
    (first,) = hands.claim(1)
    assert first.id == high.id
    told = CliRunner().invoke(cli, ["limit", "task:t", "2", "--now"])
    assert "task:t lets 2 through at once; of those that were let through 2 wait again" in told.output
    assert [job.state for job in others] == ["queued", *["waiting"] * 4]
    assert keeper.sweep() == set() and keeper.look() == 0
    assert app.limit("task:t", 2, now=True) == app.limit("task:t", 3, now=True) == 0
    assert app.limit("task:t", 0, now=True) == 1 and hands.claim() == []
    assert keeper.admit(["task:t"], end(app.queries, hands, first)).queued == 0
    app.limit("task:t", 1)
    keeper.look()
    ran = []
    while jobs := hands.claim():  # in the order in which they came, as if they had never been let through
        (job,) = jobs
        ran.append(job.id)
        keeper.admit(["task:t"], end(app.queries, hands, job))
    assert ran == [job.id for job in others]


def test_of_a_rule_all_keys_and_of_a_key_no_other(app: App, keeper: Doorkeeper, conn: psycopg.Connection) -> None:
    task = made(app, Limit(2, key="key", name="tenant"))
    declare(conn, app.queries, **{"tenant": 2, "tenant=own": 2, "tenantry": 2})
    for key in ("a", "a=b", "b", "own"):
        task.defer_many([(key,)] * 3)
    conn.execute(
        "insert into pgqueue.job (id, task, gates, gate) "
        "select pgqueue.uuid7(), 't', '{tenantry=a}', 2 from generate_series(1, 2)"
    )
    assert keeper.look() == 8
    assert app.limit("tenant=a", 1, now=True) == 1
    assert app.limit("tenant", 1, now=True) == 2  # of a=b and of b
    counted = "select gates[1], count(*) from pgqueue.job where state = 'queued' group by 1 order by 1"
    assert conn.execute(counted).fetchall() == [
        ("tenant=a", 1), ("tenant=a=b", 1), ("tenant=b", 1), ("tenant=own", 2), ("tenantry=a", 2)
    ]  # fmt: skip


def test_more_keys_than_there_are_locks_in_a_transaction(
    app: App, keeper: Doorkeeper, conn: psycopg.Connection
) -> None:
    task = made(app, Limit(2, key="key", name="tenant"))
    declare(conn, app.queries, tenant=2)
    task.defer_many([(str(number),) for number in range(250) for _ in range(2)])
    assert keeper.look() == 500
    assert app.limit("tenant", 1, now=True) == 250


def test_the_place_at_the_next_gate_is_taken_at_once(app: App, keeper: Doorkeeper, conn: psycopg.Connection) -> None:
    task = made(app, [Limit(2, key="key", name="tenant"), 2])
    declare(conn, app.queries, **{"tenant": 2, "task:t": 2})
    first, second = [task.defer("a") for _ in range(2)]
    third, fourth = [task.defer("b") for _ in range(2)]
    assert keeper.look() == 2 and second.state == "queued"
    assert app.limit("tenant=a", 1, now=True) == 1
    assert (first.state, second.state) == ("queued", "waiting")
    assert keeper.look() == 1 and third.state == "queued"
    # The fourth is past its key, and waits at the wider gate: it is the first that is taken back.
    assert app.limit("tenant=b", 1, now=True) == 1 and third.state == "queued"
    assert app.limit("task:t", 1, now=True) == 1  # keeps the place of its key
    gates: dict[str, int] = dict(conn.execute("select id::text, gate from pgqueue.job").fetchall())
    assert [gates[job.id] for job in (first, second, third, fourth)] == [3, 1, 2, 1] and fourth.state == "waiting"


def test_the_order_is_kept(app: App, keeper: Doorkeeper, hands: Hands, queries: Queries) -> None:
    task = made(app, None, ordered="key")
    app.run(queries.declare_gates([Rule("order:t", 1, keyed=True, keeps=True).as_json()]))
    jobs = [task.defer("a") for _ in range(3)]
    assert keeper.look() == 1
    assert app.limit("order:t", 0, now=True) == 1 and hands.claim() == []
    app.limit("order:t", 1)
    assert keeper.look() == 1 and hands.claim()[0].id == jobs[0].id


def test_who_looks_at_the_gate_is_waited_for_and_not_for_ever(
    app: App, conn: psycopg.Connection, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What that session lets through is by the limit as it was, and is taken back too."""
    task = made(app, 2)
    declare(conn, app.queries, **{"task:t": 2})
    task.defer_many([()] * 2)
    with psycopg.connect(dsn) as other:
        db.run(other, app.queries.lock_gates(["task:t"]))
        monkeypatch.setattr(limits, "TRIES", 3)
        with pytest.raises(PgQueueError, match="a session that lets jobs through hangs"):
            app.limit("task:t", 1, now=True)
        monkeypatch.undo()
        app.limit("task:t", 2)
        db.run(other, app.queries.admit(worker=NOBODY, most=10))
        told: list[int] = []
        lower = threading.Thread(target=lambda: told.append(app.limit("task:t", 1, now=True)))
        lower.start()
        lowered = "select slots from pgqueue.gate where name = 'task:t'"
        eventually(lambda: conn.execute(lowered).fetchone() == (1,), what="the limit is set")
        other.commit()
        lower.join()
    assert told == [1]


def test_beside_workers_none_is_lost_and_none_runs_that_waits(
    app: App, conn: psycopg.Connection, queries: Queries, dsn: str
) -> None:
    task = made(app, 20)
    declare(conn, queries, **{"task:t": 20})
    task.defer_many([()] * 100)
    ended: list[str] = []

    def work() -> None:
        with db.connect(dsn) as line:
            hands = Hands(line, queries)
            keeper = Doorkeeper(line, queries, worker=hands.id)
            while conn_left():
                keeper.look()
                for job in hands.claim(5):
                    ended.append(job.id)
                    keeper.admit(["task:t"], end(queries, hands, job))

    def conn_left() -> bool:
        with psycopg.connect(dsn, autocommit=True) as look:
            return bool(look.execute("select exists (select from pgqueue.job)").fetchone() == (True,))

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    taken = 0
    while conn_left():
        taken += app.limit("task:t", 2, now=True)
        past = conn.execute("select count(*) from pgqueue.job where gate > 1 and state = 'queued'").fetchone()
        assert past is not None and past[0] <= 2
        app.limit("task:t", 20)
    for worker in workers:
        worker.join()
    assert taken > 0 and len(ended) == len({*ended}) == 100


def test_what_cannot_be_lowered_at_once(app: App, conn: psycopg.Connection) -> None:
    for slots in (None, "code"):
        with pytest.raises(InvalidOption, match="now= is for a limit that is lowered to a number"):
            app.limit("task:t", slots, now=True)
    with app.using(conn), pytest.raises(ConfigError, match=r"call it outside of using\(\)"):
        app.limit("task:t", 1, now=True)
    assert app.limits() == []
