"""What lets a job through a gate, and what makes room there: every way on which a job can come and go."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pgqueue import App, Limit, Task, db
from pgqueue.queries import Queries
from pgqueue.worker.supervisor.admission import EXPIRY_BEGINS
from tests.gates.doorkeeper import Doorkeeper, declare
from tests.hands import Hands


@pytest.fixture
def line(dsn: str) -> Iterator[psycopg.Connection]:
    """A worker's connection."""
    with db.connect(dsn) as conn:
        yield conn


@pytest.fixture
def hands(line: psycopg.Connection, queries: Queries) -> Hands:
    return Hands(line, queries)


@pytest.fixture
def keeper(line: psycopg.Connection, queries: Queries, hands: Hands) -> Doorkeeper:
    return Doorkeeper(line, queries, worker=hands.id)


def limited(app: App, limit: Any, *, name: str = "t") -> Task[Any, Any, Any]:
    def task(key: str = "", number: int = 0) -> None: ...

    return app.task(name=name, limit=limit)(task)


def rows(conn: psycopg.Connection) -> list[tuple[Any, ...]]:
    """State, gates and gate of each job, in the order of the queue."""
    return conn.execute("select state::text, gates, gate from pgqueue.job order by seq").fetchall()


def counts(conn: psycopg.Connection) -> dict[str, int]:
    return dict(conn.execute("select state::text, count(*) from pgqueue.job group by 1").fetchall())


def test_no_more_than_the_limit_are_let_through(app: App, keeper: Doorkeeper, conn: psycopg.Connection) -> None:
    task = limited(app, 2)
    for _ in range(4):
        task.defer()
    assert rows(conn) == [("waiting", ["task:t"], 0)] * 4
    assert keeper.look() == 0  # nobody has said how many
    declare(conn, app.queries, **{"task:t": 2})
    assert keeper.sweep() == {"task:t"}
    assert keeper.admit(["task:t"]).queued == 2
    assert sorted(rows(conn)) == [("queued", ["task:t"], 2)] * 2 + [("waiting", ["task:t"], 1)] * 2
    assert keeper.sweep() == set() and keeper.admit(["task:t"]).queued == 0


def finish(queries: Queries, hands: Hands, *jobs: Any) -> Any:
    """The statement that records their success."""
    return queries.finish(
        worker=hands.id, ids=[job.id for job in jobs], tokens=[job.token for job in jobs], results=["1"] * len(jobs)
    )


def end_as(queries: Queries, hands: Hands, job: Any, state: str, *, gates: str | None = None) -> Any:
    """The statement that records the end of an attempt that did not succeed."""
    refund = int(state in ("queued", "waiting"))
    columns: dict[str, list[Any]] = {
        "ids": [job.id], "tokens": [job.token], "states": [state], "delays": [0.0], "refunds": [refund], "crashes": [0],
        "causes": [None], "errors": [None], "tracebacks": [None], "gates": [gates],
    }  # fmt: skip
    return queries.settle(worker=hands.id, worker_name="by hand", columns=columns)


def test_the_end_of_a_job_lets_the_next_one_through_with_its_commit(
    app: App, keeper: Doorkeeper, hands: Hands, conn: psycopg.Connection
) -> None:
    declare(conn, app.queries, **{"task:t": 1})
    first, second, third = [limited(app, 1).defer() for _ in range(3)]
    assert keeper.look() == 1
    (job,) = hands.claim()
    assert (job.id, job.gates, job.astray) == (first.id, ["task:t"], False)
    assert keeper.admit(["task:t"], finish(app.queries, hands, job)).queued == 1
    (job,) = hands.claim()
    assert job.id == second.id
    assert keeper.admit(["task:t"], end_as(app.queries, hands, job, "dead")).queued == 1
    (job,) = hands.claim()
    assert job.id == third.id and conn.execute("select count(*) from pgqueue.history").fetchone() == (2,)
    kept = conn.execute("select gates from pgqueue.history").fetchall()
    assert kept == [(["task:t"],)] * 2


def test_a_failed_attempt_gives_its_place_up_and_a_release_keeps_it(
    app: App, keeper: Doorkeeper, hands: Hands, conn: psycopg.Connection
) -> None:
    declare(conn, app.queries, **{"task:t": 1})
    first, second = [limited(app, 1).defer() for _ in range(2)]
    keeper.look()
    (job,) = hands.claim()
    assert keeper.admit(["task:t"], end_as(app.queries, hands, job, "queued")).queued == 0
    (job,) = hands.claim()
    assert job.id == first.id
    assert keeper.admit(["task:t"], end_as(app.queries, hands, job, "scheduled")).queued == 1
    assert hands.claim()[0].id == second.id
    (promoted,) = db.run(conn, app.queries.promote(worker=hands.id))
    assert (promoted.promoted, promoted.gates) == (1, ["task:t"])
    assert app.job(first.id).state == "waiting" and keeper.look() == 0 and hands.claim() == []


def test_a_rule_that_keeps_places_holds_them_through_failures(
    app: App, keeper: Doorkeeper, hands: Hands, conn: psycopg.Connection
) -> None:
    declare(conn, app.queries, **{"task:t": 1})
    conn.execute("update pgqueue.gate set keeps = true")
    first, second = [limited(app, 1).defer() for _ in range(2)]
    keeper.look()
    (job,) = hands.claim()
    assert keeper.admit(["task:t"], end_as(app.queries, hands, job, "scheduled")).queued == 0
    (promoted,) = db.run(conn, app.queries.promote(worker=hands.id))
    assert (promoted.promoted, promoted.gates) == (1, [])
    (job,) = hands.claim()
    assert job.id == first.id
    assert keeper.admit(["task:t"], finish(app.queries, hands, job)).queued == 1
    assert [job.id for job in hands.claim()] == [second.id]


def test_two_gates_are_passed_one_after_the_other(
    app: App, keeper: Doorkeeper, hands: Hands, conn: psycopg.Connection
) -> None:
    task = limited(app, [3, Limit(1, key="key", name="tenant")])
    declare(conn, app.queries, **{"task:t": 3, "tenant": 1})
    for key in "aabbccdd":
        task.defer(key)
    assert rows(conn)[0] == ("waiting", ["tenant=a", "task:t"], 0)
    assert keeper.look() == 3
    assert sorted({tuple(gates) for state, gates, _ in rows(conn) if state == "queued"}) == [
        ("tenant=a", "task:t"), ("tenant=b", "task:t"), ("tenant=c", "task:t")
    ]  # fmt: skip
    assert [gate for state, _, gate in rows(conn) if state == "waiting"].count(
        2
    ) == 1  # that of d holds its key's place
    (job, *_) = hands.claim(1)
    admitted = keeper.admit(job.gates or [], finish(app.queries, hands, job))
    assert (admitted.queued, admitted.again) == (1, {"task:t"})  # d ran up, and the next a waits at the wider gate
    assert keeper.admit(admitted.again).queued == 0


def test_a_key_of_its_own_has_its_own_limit(app: App, keeper: Doorkeeper, conn: psycopg.Connection) -> None:
    task = limited(app, Limit(1, key="key", name="tenant"))
    declare(conn, app.queries, **{"tenant": 1, "tenant=b": 3, "tenant=c": None})
    task.defer_many([(key,) for key in "abc" for _ in range(5)])
    assert [gate for _, _, gate in rows(conn)] == ([0] + [1] * 4) * 3  # a look finds those behind it
    assert keeper.look() == 1 + 3 + 1


def test_a_late_commit_is_found(app: App, keeper: Doorkeeper, hands: Hands, dsn: str, conn: psycopg.Connection) -> None:
    task = limited(app, 1)
    declare(conn, app.queries, **{"task:t": 1})
    first = task.defer()
    with psycopg.connect(dsn) as caller:
        late = task.options(conn=caller).defer()
        keeper.look()
        (job,) = hands.claim()
        keeper.admit(["task:t"], finish(app.queries, hands, job))
        assert first.state == "succeeded" and keeper.look() == 0
    assert keeper.look() == 1 and hands.claim()[0].id == late.id


@pytest.mark.parametrize("how", ["delete", "replace", "cancel", "purge"])
def test_whatever_takes_a_job_away_frees_its_place(
    app: App, keeper: Doorkeeper, conn: psycopg.Connection, how: str
) -> None:
    task = limited(app, 1)
    declare(conn, app.queries, **{"task:t": 1})
    first = task.options(unique="x").defer()
    task.defer_many([()] * 3)
    assert keeper.look() == 1 and keeper.sweep() == set()
    match how:
        case "delete":
            conn.execute("delete from pgqueue.job where id = %s", [first.id])
        case "replace":
            limited(app, None, name="u").options(unique="x", on_duplicate="replace").defer()
            assert rows(conn)[-1] == ("queued", None, None)
        case "cancel":
            first.cancel()
        case "purge":
            assert app.purge(state="queued") == 1
    if how in ("delete", "replace"):  # nobody was told
        assert keeper.look() == 0 and keeper.sweep() == {"task:t"} and keeper.admit(["task:t"]).queued == 1
    else:
        assert keeper.look() == 1


@pytest.mark.parametrize("way", ["one", "many", "debounce"])
def test_a_job_that_is_moved_to_another_key_frees_its_place_at_once(
    app: App, keeper: Doorkeeper, conn: psycopg.Connection, way: str
) -> None:
    """Also where it is moved with others, of which one waits for that place."""
    task = limited(app, [Limit(1, key="key", name="tenant"), 2])
    declare(conn, app.queries, **{"tenant": 1, "task:t": 2})
    once = task.options(debounce=0, unique="x") if way == "debounce" else task.options(unique=True)
    moved, waits, next_one = once.defer("a", 1), task.options(unique=True).defer("a", 2), task.defer("a", 3)
    assert keeper.look() == 1 and moved.state == "queued" and keeper.sweep() == set()
    match way:
        case "one":
            task.options(unique=True, on_duplicate="replace", key="b", delay=3600).defer("a", 1)
        case "many":
            task.options(unique=True, on_duplicate="replace", key="b").defer_many([("a", 1), ("a", 2)])
        case "debounce":
            once.defer("b", 1)
    keeper.look()
    assert (next_one if way == "many" else waits).state == "queued" and keeper.sweep() == set()
    assert {gates[0] for state, gates, _ in rows(conn) if state != "waiting"} == {"tenant=a", "tenant=b"}


def test_a_retry_begins_at_the_first_gate(app: App, keeper: Doorkeeper, hands: Hands, conn: psycopg.Connection) -> None:
    declare(conn, app.queries, **{"task:t": 1})
    dead, late = limited(app, 1).defer(), limited(app, 1).options(delay=3600).defer()
    keeper.look()
    keeper.admit(["task:t"], end_as(app.queries, hands, hands.claim()[0], "dead"))
    assert (dead.state, late.state) == ("dead", "scheduled")
    assert dead.retry() and late.retry()
    assert rows(conn) == [("waiting", ["task:t"], 0)] * 2
    assert keeper.look() == 1 and hands.claim()[0].id == dead.id


def test_a_job_that_is_parked_waits_at_its_gates(
    app: App, keeper: Doorkeeper, hands: Hands, conn: psycopg.Connection
) -> None:
    declare(conn, app.queries, **{"task:t": 1})
    app.enqueue("t")
    (job,) = hands.claim()
    assert keeper.admit(["task:t"], end_as(app.queries, hands, job, "waiting", gates='{"task:t"}')).queued == 1
    (again,) = hands.claim()
    assert (again.id, again.gates, again.attempt) == (job.id, ["task:t"], 1)
    conn.execute("update pgqueue.job set state = 'queued', gate = 0, worker = null")  # as an older worker promotes
    (astray,) = hands.claim()
    assert astray.astray
    assert keeper.admit(["task:t"], end_as(app.queries, hands, astray, "waiting")).queued == 1
    assert rows(conn) == [("queued", ["task:t"], 2)]
    (job,) = hands.claim()
    job_handle = app.job(job.id)
    job_handle.cancel()
    keeper.admit(["task:t"], end_as(app.queries, hands, job, "waiting"))
    assert job_handle.state == "cancelled"  # a cancel that was asked for wins


def test_a_gate_whose_lock_another_holds_is_left_to_it(
    app: App, keeper: Doorkeeper, dsn: str, conn: psycopg.Connection
) -> None:
    declare(conn, app.queries, **{"task:t": 5})
    limited(app, 5).defer()
    with psycopg.connect(dsn) as other:
        db.run(other, app.queries.lock_gates(["task:t"]))
        admitted = keeper.admit(["task:t", "task:u"])
        assert (admitted.queued, admitted.taken) == (0, {"task:t"})
    assert keeper.look() == 1
    assert conn.execute(  # other tests of the same server have theirs
        "select count(*) from pg_locks where locktype = 'advisory' and classid = 1885827446 "
        "and database = (select oid from pg_database where datname = current_database())"
    ).fetchone() == (0,)


def test_a_closed_gate_keeps_its_limit(app: App, keeper: Doorkeeper, conn: psycopg.Connection) -> None:
    declare(conn, app.queries, **{"task:t": 2})
    for _ in range(4):
        limited(app, 2, name="t").defer()
    conn.execute("update pgqueue.gate set closed_at = now(), closed_until = now() + interval '1 hour'")
    assert keeper.look() == 0 and keeper.sweep() == set()
    (due_s,) = keeper.admit(["task:t"]).due_s.values()
    assert 3590 < due_s <= 3600
    conn.execute("update pgqueue.gate set closed_at = null, closed_until = null")
    assert keeper.sweep() == {"task:t"} and keeper.admit(["task:t"]).queued == 2


def test_many_gates_take_several_transactions(app: App, keeper: Doorkeeper, conn: psycopg.Connection) -> None:
    task = limited(app, Limit(1, key="key"))
    declare(conn, app.queries, **{"task:t": 1})
    task.defer_many([(str(number),) for number in range(250) for _ in range(2)])
    assert keeper.look() == 250 and counts(conn) == {"queued": 250, "waiting": 250}
    conn.execute("delete from pgqueue.job where state = 'queued'")
    assert len(keeper.sweep()) == 250


def test_why_names_the_gate_and_who_is_past_it(app: App, keeper: Doorkeeper, conn: psycopg.Connection) -> None:
    task = limited(app, Limit(1, key="key", name="tenant"))
    first, second, third = [task.defer("a") for _ in range(3)]
    assert app.why(second.id).reasons[0] == (
        "it waits at the gate tenant=a, whose limit no worker has declared yet: start one with the code that has it"
    )
    declare(conn, app.queries, tenant=1)
    keeper.sweep()
    keeper.look()
    assert app.why(second.id).reasons[0] == f"it waits at the gate tenant=a: 1 of 1 is past it ({first.id})"
    assert app.why(third.id).reasons[0].endswith(", 1 job before it")
    conn.execute(
        "update pgqueue.gate set closed_at = now(), closed_until = now() + interval '1 hour', closed_by = 'ann', "
        "closed_why = 'full'"
    )
    assert app.why(third.id).reasons[0] == (
        "the gate tenant=a is closed by ann (full), since 0.0 s, for 60 min more: `pgqueue resume tenant=a`"
    )


def test_a_job_that_expires_at_a_closed_gate_is_ended(app: App, keeper: Doorkeeper, conn: psycopg.Connection) -> None:
    declare(conn, app.queries, **{"task:t": 0})
    task = limited(app, 0)
    late = task.options(expires=60, unique="x").defer()
    stays = [task.options(expires=3600, priority=priority).defer() for priority in (5, 0, 0)]
    assert keeper.look() == 0
    conn.execute("update pgqueue.job set expires_at = now() - interval '1 second' where id = %s", [late.id])
    ended, position = 0, EXPIRY_BEGINS
    for _ in range(4):  # two at a time: the walk continues from where it was
        place, after, priority, seq = position
        (walk,) = db.run(
            conn,
            app.queries.expire(place=place, after=after, priority=priority, seq=seq, error="expired", limit=2),
        )
        ended += walk.ended
        position = walk.place, walk.after, walk.priority, walk.seq
        if position == EXPIRY_BEGINS:
            break
    assert position == EXPIRY_BEGINS
    assert (ended, late.state, [job.state for job in stays]) == (1, "cancelled", ["waiting"] * 3)
    assert task.options(unique="x").defer().id != late.id  # its key is free again


def test_what_is_let_through_just_now_does_not_expire(
    app: App, keeper: Doorkeeper, dsn: str, conn: psycopg.Connection
) -> None:
    """Neither does the walk wait for who lets it through, nor does it end a job that waits no longer."""
    declare(conn, app.queries, **{"task:t": 0})
    job = limited(app, 0).options(expires=60).defer()
    assert keeper.look() == 0
    conn.execute("update pgqueue.job set expires_at = now() - interval '1 second'")
    place, after, priority, seq = EXPIRY_BEGINS
    walk = app.queries.expire(place=place, after=after, priority=priority, seq=seq, error="expired")
    conn.execute("set lock_timeout = '10s'")
    with psycopg.connect(dsn) as other:
        other.execute("update pgqueue.job set state = 'queued', gate = 2")
        assert [found.ended for found in db.run(conn, walk)] == [0]
    assert [found.ended for found in db.run(conn, walk)] == [0]
    assert job.state == "queued"
