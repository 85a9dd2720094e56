"""The claim: what it takes, in which order, from whom it keeps away, and what it costs with a million jobs waiting."""

import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import psycopg
import pytest

from benchmarks.session import Session
from pgqueue import App, db
from pgqueue.job import Claimed
from pgqueue.queries import Queries, Statement
from tests import hands
from tests.plans import Plan


def sign_in(conn: psycopg.Connection, state: str = "alive") -> str:
    worker = str(uuid.uuid4())
    conn.execute(
        "insert into pgqueue.worker (id, lease_until, pid, concurrency, name, version, app, tasks, state) "
        "values (%s, now() + interval '1 hour', 1, 1, 'test', '0', 'test', '{}', %s)",
        [worker, state],
    )
    return worker


@pytest.fixture
def worker(conn: psycopg.Connection) -> str:
    return sign_in(conn)


@pytest.fixture
def claim(conn: psycopg.Connection, queries: Queries, worker: str) -> Callable[..., list[Claimed]]:
    return partial(hands.claim, conn, queries, worker)


def test_larger_priority_then_order_of_becoming_runnable(app: App, claim: Callable[..., list[Claimed]]) -> None:
    ids = [app.enqueue("t", queue=f"q{n % 3}", priority=n % 4).id for n in range(40)]
    expected = sorted(range(40), key=lambda n: (-(n % 4), n))
    taken: list[str] = []
    while jobs := claim(limit=7):
        taken += [job.id for job in jobs]
    assert sorted(taken) == sorted(ids)
    # Within a priority a claim empties one queue before the next; across priorities the order is strict.
    assert [ids.index(id_) % 4 for id_ in taken] == [n % 4 for n in expected]
    for queue in range(3):
        for priority in range(4):
            mine = [ids.index(id_) for id_ in taken if ids.index(id_) % 3 == queue and ids.index(id_) % 4 == priority]
            assert mine == sorted(mine)


def test_only_named_queues_not_paused_ones_and_not_unknown_tasks(app: App, claim: Callable[..., list[Claimed]]) -> None:
    for queue in ("a", "b", "c"):
        app.enqueue("known", queue=queue)
        app.enqueue("unknown", queue=queue)
    app.pause("b")
    assert [(job.queue, job.task) for job in claim(queues=["a", "b"], unknown=["unknown"])] == [("a", "known")]
    assert sorted((job.queue, job.task) for job in claim()) == [("a", "unknown"), ("c", "known"), ("c", "unknown")]
    app.resume("b")
    assert len(claim()) == 2


def test_neither_what_is_due_later_nor_what_runs(app: App, claim: Callable[..., list[Claimed]]) -> None:
    app.enqueue("t", delay=60)
    first = app.enqueue("t")
    assert [(job.id, job.token, job.attempt) for job in claim()] == [(first.id, 1, 1)]
    assert claim() == []


@pytest.mark.parametrize("state", ["dead", "draining"])
def test_only_a_living_worker_claims(app: App, conn: psycopg.Connection, queries: Queries, state: str) -> None:
    app.enqueue("t")
    assert hands.claim(conn, queries, sign_in(conn, state)) == []
    assert hands.claim(conn, queries, sign_in(conn)) != []


def test_from_the_cursor_on(
    app: App, conn: psycopg.Connection, queries: Queries, worker: str, claim: Callable[..., list[Claimed]]
) -> None:
    app.enqueue("t")
    cursor = claim()[0].seq
    later = [app.enqueue("t").id for _ in range(3)]
    after = queries.claim(worker=worker, cursors=[("default", 0, cursor), ("none", 5, 0)], unknown=[], limit=2)
    assert {row[0] for row in db.run(conn, after)} == set(later[:2])  # ids of one millisecond are in no order
    behind = queries.claim(worker=worker, cursors=[("default", 0, cursor + 100)], unknown=[], limit=2)
    assert db.run(conn, behind) == []


def test_rows_locked_by_others_are_passed_over(app: App, dsn: str, claim: Callable[..., list[Claimed]]) -> None:
    held, free = app.enqueue("t"), app.enqueue("t")
    with psycopg.connect(dsn) as other:
        other.execute("select from pgqueue.job where id = %s for update", [held.id])
        assert [job.id for job in claim()] == [free.id]
        other.rollback()
    assert [job.id for job in claim()] == [held.id]


def test_nothing_runs_twice_and_nothing_is_left(app: App, dsn: str, conn: psycopg.Connection, queries: Queries) -> None:
    """Four claimers with finishes and releases, and an administrator who moves priorities about at the same time."""
    with psycopg.connect(dsn, autocommit=True) as loader:
        loader.execute(
            "insert into pgqueue.job (id, queue, priority, task) "
            "select gen_random_uuid(), 'q' || n % 5, n % 3, 't' from generate_series(1, 3000) as n"
        )
    finished: Counter[str] = Counter()
    lock, over = threading.Lock(), threading.Event()

    def work(seed: int) -> None:
        dice = random.Random(seed)
        with psycopg.connect(dsn, autocommit=True) as mine:
            me = sign_in(mine)
            while jobs := hands.claim(mine, queries, me, limit=dice.randint(1, 40)):
                back = [job for job in jobs if dice.random() < 0.2]
                done = sorted(set(jobs) - set(back))
                kept = db.run(
                    mine,
                    queries.finish(
                        worker=me, ids=[j.id for j in done], tokens=[j.token for j in done], results=["1"] * len(done)
                    ),
                )
                db.run(mine, queries.settle(worker=me, worker_name="w", columns=released(back)))
                with lock:
                    finished.update(row[0] for row in kept)

    def reprioritise() -> None:
        with psycopg.connect(dsn, autocommit=True) as admin:
            while not over.wait(0.002):
                admin.execute(
                    "update pgqueue.job set priority = (random() * 3)::int where id in "
                    "(select id from pgqueue.job where state = 'queued' order by id limit 100 for update skip locked)"
                )

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    admin = threading.Thread(target=reprioritise)
    for thread in (*threads, admin):
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    admin.join()
    # A claimer may have found everything locked for a moment and gone; what it left is still there to be claimed.
    work(99)
    assert len(finished) == 3000 and set(finished.values()) == {1}
    assert conn.execute("select count(*) from pgqueue.job").fetchone() == (0,)


def released(jobs: list[Claimed]) -> dict[str, list[Any]]:
    """The columns of settle.sql that give jobs back."""
    same: dict[str, Any] = {
        "states": "queued",
        "delays": 0.0,
        "refunds": 1,
        "crashes": 0,
        "causes": None,
        "errors": None,
        "tracebacks": None,
        "gates": None,
    }
    columns: dict[str, list[Any]] = {name: [value] * len(jobs) for name, value in same.items()}
    return columns | {"ids": [j.id for j in jobs], "tokens": [j.token for j in jobs]}


# -- what it costs --


@pytest.fixture(scope="module")
def loaded(server_dsn: str) -> Iterator[tuple[psycopg.Connection, Queries]]:
    """A database of its own, since a million rows would slow every other test's truncate."""
    name = f"pgqueue_million_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(server_dsn, autocommit=True) as admin:
        admin.execute(f"create database {name}")
    dsn = psycopg.conninfo.make_conninfo(server_dsn, dbname=name)
    app = App(dsn)
    app.migrate()
    with psycopg.connect(dsn, autocommit=True) as conn:
        yield conn, app.queries
    app.close()
    with psycopg.connect(server_dsn, autocommit=True) as admin:
        admin.execute(f"drop database {name} with (force)")


def load(conn: psycopg.Connection, count: int) -> None:
    """So many jobs more."""
    conn.execute(
        "insert into pgqueue.job (id, queue, priority, task) "
        "select gen_random_uuid(), 'q' || n %% 5, n %% 3, 't' from generate_series(1, %s) as n", [count],
    )  # fmt: skip


def best_ms(session: Session, statement: Statement[Any], *, rows: int) -> float:
    """The best of many: whatever else the machine does can only add to it."""
    took = []
    for _ in range(40):
        with session.undone():
            began = time.perf_counter()
            assert len(session.send(statement)) == rows
            took.append((time.perf_counter() - began) * 1e3)
    return min(took)


@pytest.mark.long
def test_a_look_and_a_claim_cost_the_same_with_a_million_jobs(loaded: tuple[psycopg.Connection, Queries]) -> None:
    """In a session that planned it when there were none."""
    conn, queries = loaded
    session = Session(conn, queries)
    pairs = [(f"q{queue}", priority, 0) for priority in (2, 1, 0) for queue in range(5)]
    statements: dict[str, tuple[Statement[Any], int, set[str]]] = {
        "heads": (queries.heads(queues=None, unknown=[]), 1, {"job_claim", "job_waits"}),
        "claim": (queries.claim(worker=sign_in(conn), cursors=pairs, unknown=[], limit=10), 10, {"job_claim"}),
    }
    for statement, *_ in statements.values():
        session.prepare(statement)
    measured: dict[str, list[tuple[int, float]]] = {name: [] for name in statements}
    for count in (1_000, 999_000):
        load(conn, count)
        for name, (statement, rows, indexes) in statements.items():
            plan = [Plan(session.plan(statement)) for _ in range(3)][-1]
            assert plan.scanned == set() and plan.indexes == indexes
            measured[name].append((plan.blocks, best_ms(session, statement, rows=rows)))
    print(f"(blocks, ms) by rows that were added: {measured}")
    for (small_blocks, small_ms), (large_blocks, large_ms) in measured.values():
        assert large_blocks < 4 * small_blocks, measured
        assert large_ms < 5 * small_ms, measured


OTHER = {
    "state": "alive", "lease": "1 hour", "queues": None, "tasks": ["t"], "code": "new",
}  # fmt: skip


@pytest.mark.parametrize(
    ("other", "job", "given_back"),
    [
        ({}, "", True),
        ({"queues": ["q", "default"]}, "", True),
        ({"code": None}, "", True),  # a version of ours that does not tell
        ({}, "handed_back_at = now() - interval '59 minutes'", True),
        (None, "", False),
        ({"code": "old"}, "", False),
        ({"queues": ["q"]}, "", False),
        ({"tasks": ["u"]}, "", False),
        ({"state": "draining"}, "", False),
        ({"state": "dead"}, "", False),
        ({"lease": "-1 seconds"}, "", False),
        ({}, "handed_back_at = now() - interval '61 minutes'", False),
        ({}, "cancel_requested_at = now()", False),
        ({}, "claim_token = claim_token + 1", False),
        ({}, "worker = gen_random_uuid()", False),
    ],
)
def test_a_job_that_this_code_cannot_take_goes_back_to_those_who_may(
    conn: psycopg.Connection, app: App, queries: Queries, worker: str, claim: Callable[..., list[Claimed]],
    other: dict[str, Any] | None, job: str, given_back: bool,
) -> None:  # fmt: skip
    conn.execute("update pgqueue.worker set code = 'old', tasks = '{t}'")
    if other is not None:
        conn.execute(
            "insert into pgqueue.worker (id, lease_until, pid, concurrency, name, version, app, state, queues, tasks, code) "
            "values (gen_random_uuid(), now() + %(lease)s::interval, 1, 1, '', '', '', %(state)s, %(queues)s, %(tasks)s, %(code)s)",
            OTHER | other,
        )
    app.enqueue("t")
    (claimed,) = claim()
    if job:
        conn.execute(f"update pgqueue.job set {job}")
    before = conn.execute("select * from pgqueue.job").fetchall()
    rows = db.run(conn, queries.hand_back(worker=worker, job_id=claimed.id, token=claimed.token))
    if not given_back:
        assert rows == [] and conn.execute("select * from pgqueue.job").fetchall() == before
        return
    look = (
        "select state::text, attempt, worker, crashes, seq, run_at > now(), handed_back_at is not null from pgqueue.job"
    )
    assert conn.execute(look).fetchall() == [("scheduled", 0, None, 0, claimed.seq, True, True)]
    assert rows[0][0] == "t" and 1 <= rows[0][1] <= 60


def test_it_waits_as_long_as_it_waited_so_far(
    conn: psycopg.Connection, app: App, queries: Queries, worker: str, claim: Callable[..., list[Claimed]]
) -> None:
    conn.execute("update pgqueue.worker set code = 'old'")
    other = sign_in(conn)
    conn.execute("update pgqueue.worker set tasks = '{t}' where id = %s", [other])
    app.enqueue("t")
    waits = []
    for past_s in (0, 0.3, 5, 50, 100, 3000):
        (claimed,) = claim()
        conn.execute("update pgqueue.job set handed_back_at = handed_back_at - %s * interval '1 second'", [past_s])
        ((_, delay_s),) = db.run(conn, queries.hand_back(worker=worker, job_id=claimed.id, token=claimed.token))
        waits.append(round(delay_s))
        conn.execute("update pgqueue.job set state = 'queued'")
    assert waits == [1, 1, 5, 55, 60, 60]


def test_a_replaced_job_has_not_been_given_back_yet(conn: psycopg.Connection, app: App) -> None:
    app.enqueue("t", unique="k")
    conn.execute("update pgqueue.job set handed_back_at = now()")
    app.enqueue("t", [1], unique="k", on_duplicate="replace")
    assert conn.execute("select handed_back_at from pgqueue.job").fetchall() == [(None,)]
