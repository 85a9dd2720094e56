"""What a job costs in statements, commits and rows, and which rows each statement reads: counted by the server, so that
no noise of the machine moves it.
"""

import itertools
import json
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple, TypeVar

import psycopg
import pytest

from benchmarks.chaos.cluster import Cluster
from benchmarks.filling import Filling
from benchmarks.session import Session
from pgqueue import App, db
from pgqueue.client.enqueue import COPY_CHUNK, enqueue_one
from pgqueue.client.options import Options
from pgqueue.job import State, new_id
from pgqueue.ops import stats
from pgqueue.ops.listing import WINDOW, Wanted, listing
from pgqueue.ops.purge import OLDER_THAN_ALL, deletions, window
from pgqueue.queries import Queries, Statement, Steps
from pgqueue.worker.settings import CLAIM_MAX, FRESH_S, GRACE_S, LEASE_S
from tests import tasks
from tests.answers import one_value
from tests.conftest import Worker, eventually
from tests.plans import Plan, fresh
from tests.servers import shop_server

T = TypeVar("T")
Start = Callable[..., Worker]
long = pytest.mark.long

JOBS = 5000
EACH = 1_000_000  # rows in each state
BLOCKS = 1000  # for ten jobs at most; the largest table has tens of thousands
# A server for figures that are counted: what it would keep through a crash only costs time here.
FAST = {
    "autovacuum": "off", "fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "shared_buffers": "256MB",
    "max_wal_size": "8GB", "wal_level": "minimal", "max_wal_senders": "0",
}  # fmt: skip
# Statements by how they begin; the server has put $1 and so on in the places of their constants.
CLAIMS = '^(with recursive|update "pgqueue".job)'
FINISH, SETTLE, PROMOTE = "^with done as", "^with verdict as", "^with due as"
NOBODY = "00000000-0000-7000-8000-000000000000"


@pytest.fixture(scope="module")
def counted() -> Iterator[Cluster]:
    """A server of this module's own that counts statements, and vacuums only when told to."""
    with shop_server(
        extension="pg_stat_statements", shared_preload_libraries="pg_stat_statements", autovacuum="off"
    ) as cluster:
        yield cluster


@pytest.fixture
def dsn(counted: Cluster) -> str:
    with counted.connect("shop") as conn:
        conn.execute("truncate pgqueue.job, pgqueue.history, pgqueue.attempt, pgqueue.worker")
        conn.execute(
            "select pgqueue.tidy(7, 30)"
        )  # or the first worker after midnight makes the partitions of one more day
        conn.execute("select pg_stat_reset()")
    return counted.dsn("shop")


class Counter:
    """What the server did for this database since the last reset, other than for the one who asks."""

    def __init__(self, conn: psycopg.Connection, *, inserted: int) -> None:
        self._conn = conn
        conn.execute("select pg_stat_clear_snapshot()")
        # A session tells of its rows at its end, a moment after its client has gone.
        eventually(lambda: self.rows("job")[0] >= inserted, what="the rows of the jobs are counted")
        conn.execute("select pg_stat_reset(), pg_stat_statements_reset()")

    def statements(self) -> dict[str, int]:
        """How often each was run, by its first words."""
        rows = self._conn.execute(
            "select left(query, 60), sum(calls)::int from pg_stat_statements where query not like '%pg_stat_%' group by 1"
        )
        return dict(rows.fetchall())

    def given_back(self) -> int:
        """Jobs claimed and not started: a child that gets no turn for a tenth of a second has them taken from it."""
        settled = "select coalesce(sum(rows), 0)::int from pg_stat_statements where query ~ %s"
        return int(one_value(self._conn, settled, [SETTLE]))

    def calls(self, beginning: str) -> int:
        """How often statements ran whose text matches."""
        called = "select coalesce(sum(calls), 0)::int from pg_stat_statements where query ~ %s"
        return int(one_value(self._conn, called, [beginning]))

    def commits(self) -> int:
        return int(one_value(self._conn, "select xact_commit from pg_stat_database where datname = 'shop'"))

    def rows(self, table: str) -> tuple[int, int, int]:
        """(inserted, updated, deleted) in a table with its partitions."""
        (row,) = self._conn.execute(
            "select coalesce(sum(n_tup_ins), 0)::int, coalesce(sum(n_tup_upd), 0)::int, coalesce(sum(n_tup_del), 0)::int "
            "from pg_stat_user_tables where relname ~ %s", [f"^{table}(_|$)"],
        )  # fmt: skip
        return row

    def rows_elsewhere(self) -> int:
        """InsertedRow, updated or deleted in other tables than those of jobs and history."""
        everything = "select tup_inserted + tup_updated + tup_deleted from pg_stat_database where datname = 'shop'"
        return int(one_value(self._conn, everything)) - sum(self.rows("job")) - sum(self.rows("history"))


def test_a_job_through_a_worker(dsn: str, task_app: App, conn: psycopg.Connection) -> None:
    tasks.echo.defer_many((n,) for n in range(JOBS))
    task_app.close()
    counter = Counter(conn, inserted=JOBS)
    assert Worker(dsn, "-c", "2", "--burst").wait() == 0
    # One update claims a job; where a job was given back, one more did that, and one more claimed it again.
    assert counter.rows("job") == (0, JOBS + 2 * counter.given_back(), JOBS)
    assert counter.rows("history") == (JOBS, 0, 0)
    assert counter.rows("attempt") == (0, 0, 0)
    calls = sum(counter.statements().values())
    # 118 when this was written; up to 660 were seen beside much other load, as what ends slowly travels in smaller lots.
    assert calls < JOBS / 5, counter.statements()
    assert counter.commits() < JOBS / 5
    # All that is not a batch: to start, to end, and a heartbeat now and then. 25 when this was written.
    others = calls - sum(counter.calls(batch) for batch in (CLAIMS, FINISH, SETTLE))
    assert others < 100, counter.statements()
    assert counter.rows_elsewhere() < 100


def test_a_job_that_fails(dsn: str, task_app: App, conn: psycopg.Connection) -> None:
    tasks.wrong_kind.defer_many([()] * 1000)
    task_app.close()
    counter = Counter(conn, inserted=1000)
    assert Worker(dsn, "-c", "2", "--burst").wait() == 0
    assert counter.rows("job") == (0, 1000 + 2 * (counter.given_back() - 1000), 1000)
    assert counter.rows("history") == counter.rows("attempt") == (1000, 0, 0)
    assert sum(counter.statements().values()) < 500, counter.statements()


def test_a_delay_costs_one_update(dsn: str, task_app: App, conn: psycopg.Connection) -> None:
    tasks.echo.options(delay=3600).defer_many((n,) for n in range(2000))
    task_app.close()
    conn.execute("update pgqueue.job set run_at = now()")
    counter = Counter(conn, inserted=2000)
    assert Worker(dsn, "-c", "2", "--burst").wait() == 0
    assert counter.rows("job") == (0, 4000 + 2 * counter.given_back(), 2000)
    assert counter.rows("history") == (2000, 0, 0)
    assert counter.calls(PROMOTE) < 30


def test_a_due_job_that_somebody_locks_is_looked_for_now_and_then(
    start_worker: Start, task_app: App, conn: psycopg.Connection
) -> None:
    tasks.echo.options(delay=3600).defer(0)
    task_app.close()
    counter = Counter(conn, inserted=1)
    conn.execute("update pgqueue.job set run_at = now()")
    with conn.transaction():
        conn.execute("select from pgqueue.job for update")
        start_worker("-c", "1").ready()
        promoted, began_s = counter.calls(PROMOTE), time.monotonic()
        eventually(lambda: counter.calls(PROMOTE) >= promoted + 10, what="ten looks for the job that is due")
        assert time.monotonic() - began_s > 0.2  # without a pause between them it took a fraction of that


def test_many_defers_are_one_copy_for_ten_thousand(dsn: str, task_app: App, conn: psycopg.Connection) -> None:
    tasks.echo.defer(0)  # looks at the schema
    task_app.close()
    counter = Counter(conn, inserted=1)
    tasks.echo.defer_many((n,) for n in range(2 * COPY_CHUNK + 1))
    task_app.close()
    eventually(lambda: counter.rows("job")[0] > 0, what="the rows of that session are counted")
    assert counter.rows("job") == (2 * COPY_CHUNK + 1, 0, 0)
    assert counter.calls("^copy") == 3
    assert sum(counter.statements().values()) < 15, counter.statements()


def test_a_defer_is_one_statement(dsn: str, task_app: App, conn: psycopg.Connection) -> None:
    tasks.echo.defer(0)  # looks at the schema
    task_app.close()
    counter = Counter(conn, inserted=1)
    for n in range(100):
        tasks.echo.defer(n)
    task_app.close()
    eventually(lambda: counter.rows("job")[0] >= 100, what="the session that ended has told of its rows")
    ours = {text: calls for text, calls in counter.statements().items() if calls >= 10}
    assert list(ours.values()) == [100], ours
    assert counter.rows("job") == (100, 0, 0)


def test_the_result_of_an_ended_job_costs_no_write(dsn: str, task_app: App, conn: psycopg.Connection) -> None:
    jobs = tasks.echo.defer_many((n,) for n in range(100))
    assert Worker(dsn, "-c", "1", "--burst").wait() == 0
    task_app.close()
    counter = Counter(conn, inserted=100)
    assert [job.result(30) for job in jobs] == list(range(100))
    assert task_app.enqueue("nobody.knows").cancel()
    task_app.close()
    eventually(lambda: counter.rows("job")[0] >= 1, what="the rows of that session are counted")
    assert counter.rows("awaited") == (0, 0, 0)


def test_an_atomic_job_adds_five_statements(dsn: str, task_app: App, conn: psycopg.Connection) -> None:
    conn.execute("create table if not exists shop_total (n int); insert into shop_total values (0)")
    tasks.tally.defer_many((1,) for _ in range(200))
    task_app.close()
    counter = Counter(conn, inserted=200)
    assert Worker(dsn, "-c", "1", "--burst").wait() == 0
    assert conn.execute("select n from shop_total").fetchone() == (200,)
    each = {text: calls for text, calls in counter.statements().items() if calls >= 200}
    # Begin and its mark, the task's own, finish, commit; and the worker's few transactions of its own.
    assert len(each) == 5 and sum(each.values()) < 1020, each


# -- which rows a statement reads --

CLAIM, WAITS, DUE, RUNNING, JOB, UNIQUE, ENDED = (
    "job_claim",
    "job_waits",
    "job_due",
    "job_running",
    "job_pkey",
    "job_unique",
    "history_id_idx",
)

# Every statement that runs for each batch, each heartbeat or each caller, with the indexes of jobs and history it may read.
# A worker's line prepares its statements; those about leases and those of callers are planned each time.
LINE: dict[str, set[str]] = {
    "heads": {CLAIM, WAITS},
    "heads of one queue": {CLAIM, WAITS},
    "claim": {CLAIM},
    "finish": {JOB},
    "settle": {JOB},
    "recorded": {ENDED, JOB},
    "progress": {JOB},
    "revoke": {JOB},
    "hand back": {JOB},
    "cancels": {JOB},
    "held": {RUNNING},
    "promote": {DUE, JOB},
    "drained": {CLAIM, DUE, WAITS},
    "drained of one queue": {CLAIM, DUE, WAITS},
    "prune": {RUNNING},
}
# Behind a pooler nothing is prepared, and the session is not ours to set. Only the end of a burst may cost more there: once,
# 36 ms were spent on an index.
POOLED = {name: indexes for name, indexes in LINE.items() if name != "drained"}
LEASE: dict[str, set[str]] = {
    "beat": set(),
    "beat that looks": {DUE, RUNNING},
    "suspect": set(),
    "bury": set(),
    "rescue": {RUNNING, JOB},
}
CALLERS: dict[str, set[str]] = {
    "insert": set(),
    "insert of a key": {UNIQUE},
    "insert of many": set(),
    "insert of a debounced call": {UNIQUE, JOB},
    "ring": set(),
    "cancel": {JOB},
    "retry": {JOB, ENDED},
    "ends": {JOB, ENDED},
    "one job": {JOB, ENDED},
}


class Known(NamedTuple):
    """A worker that lives and one that has died; ten jobs that the first runs, ten that ended, and a time when ten are due."""

    alive: str
    dead: str
    ids: list[str]
    ended: list[str]
    first_due: datetime


class Loaded(NamedTuple):
    """The full tables, and a session of a worker's line that has planned all it says while they were empty."""

    conn: psycopg.Connection
    queries: Queries
    session: Session
    browser: Session
    """Of somebody who looks at lists, with one plan for whatever he asks."""
    known: Known


# A process of the test runner fills the tables for one of the two, and not both for both.
VACUUMED = [
    pytest.param(text, marks=pytest.mark.xdist_group(text)) for text in ("never vacuumed", "vacuumed while empty")
]


@pytest.fixture(scope="module", params=VACUUMED)
def loaded(request: pytest.FixtureRequest) -> Iterator[Loaded]:
    """A million rows in each state but one: few jobs run. Of a table that was vacuumed the server knows that it was empty."""
    with Cluster(**FAST) as cluster:
        with cluster.connect() as conn:
            conn.execute("create database million")
        app = App(cluster.dsn("million"))
        app.migrate()
        with (
            cluster.connect("million") as conn,
            cluster.connect("million") as line,
            cluster.connect("million") as other,
        ):
            conn.prepare_threshold = None
            browser = Session(other, app.queries)
            other.execute(
                "set enable_sort = off"
            )  # the rest of in_index_order.sql is set in every session that plans steadily
            if request.param == "vacuumed while empty":
                conn.execute("vacuum analyze")
            alive, dead = (_sign_in(conn, app.queries) for _ in range(2))
            session = Session(line, app.queries)
            for statement in line_says(app.queries, Known(alive, dead, [NOBODY], [NOBODY], datetime.now(UTC))).values():
                session.prepare(statement)
            _fill(Filling(conn, app.config.schema), [alive, dead])
            conn.execute(
                "update pgqueue.worker set state = 'dead', heartbeat_at = now() - interval '2 days' where id = %s",
                [dead],
            )
            yield Loaded(
                conn, app.queries, session, browser, Known(alive, dead, *_some_ids(conn, alive), _first_due(conn))
            )
        app.close()


def _fill(tables: Filling, workers: list[str]) -> None:
    """Not emptied before: that alone would let every session plan anew."""
    tables.queue(EACH, queues=5, priorities=3)
    tables.schedule(EACH)
    tables.start(20, workers=workers)
    tables.end(EACH)
    tables.end(EACH, state="dead")


def _first_due(conn: psycopg.Connection) -> datetime:
    """When some ten jobs of a million in a day have fallen due."""
    due: datetime = one_value(
        conn, "select min(run_at) + interval '1 second' from pgqueue.job where state = 'scheduled'"
    )
    return due


def _sign_in(conn: psycopg.Connection, queries: Queries) -> str:
    worker = str(uuid.uuid4())
    row: dict[str, Any] = {
        "pid": 0, "concurrency": 1, "name": "w", "version": "0", "app": "a", "queues": None, "tasks": [],
    }  # fmt: skip
    db.run(conn, queries.register(worker=worker, lease_s=3600, lock_key=None, **row))
    return worker


def _some_ids(conn: psycopg.Connection, worker: str) -> tuple[list[str], list[str]]:
    """Of the ten jobs that this worker runs, and of ten that have ended."""
    held = conn.execute("select id::text from pgqueue.job where worker = %s order by id", [worker]).fetchall()
    ended = conn.execute("select id::text from pgqueue.history_ended limit 10").fetchall()
    return [id_ for (id_,) in held], [id_ for (id_,) in ended]


def line_says(queries: Queries, known: Known) -> dict[str, Statement[Any]]:
    """Each statement of LINE, as for a batch of ten."""
    worker, ids, ended = known.alive, known.ids, known.ended
    held: dict[str, Any] = {"worker": worker, "ids": ids, "tokens": [1] * len(ids)}
    cursors = [(f"q{queue}", priority, 0) for queue in range(5) for priority in range(3)]
    return {
        "heads": queries.heads(queues=None, unknown=["u"]),
        "heads of one queue": queries.heads(queues=["q0"], unknown=["u"]),
        "claim": queries.claim(worker=worker, cursors=cursors, unknown=["u"], limit=10),
        "finish": queries.finish(**held, results=["1"] * len(ids)),
        "settle": queries.settle(worker=worker, worker_name="w", columns=_verdicts(ids)),
        "recorded": queries.recorded(worker=worker, ids=ended, tokens=[1] * len(ended), kept=[True] * len(ended)),
        "progress": queries.progress(**held, fractions=[0.5] * len(ids), notes=["n"] * len(ids)),
        "revoke": queries.revoke(worker=worker, job_id=ids[0], token=1),
        "hand back": queries.hand_back(worker=worker, job_id=ids[0], token=1),
        "cancels": queries.cancels(ids),
        "held": queries.held(worker=worker),
        "promote": queries.promote(worker=worker, now=known.first_due),
        "drained": queries.drained(queues=None, unknown=[]),
        "drained of one queue": queries.drained(queues=["empty"], unknown=[]),
        "prune": queries.prune(),
    }


def lease_says(queries: Queries, known: Known) -> dict[str, Statement[Any]]:
    """Each statement of LEASE."""
    beat = {
        "worker": known.alive, "lease_s": LEASE_S, "grace_s": GRACE_S, "fresh_s": FRESH_S, "lock_key": None, "sleeping": True,
        "state": "alive", "settled": True, **dict.fromkeys(("succeeded", "failed", "dead", "cancelled"), 1),
    }  # fmt: skip
    return {
        "beat": queries.beat(look=False, **beat),
        "beat that looks": queries.beat(look=True, **beat),
        "suspect": queries.suspect([known.alive]),
        "bury": queries.bury([known.alive], grace_s=GRACE_S),
        "rescue": queries.rescue([known.dead], crash_cap=3),
    }


def callers_say(queries: Queries, known: Known) -> dict[str, Statement[Any]]:
    """Each statement of CALLERS."""
    return {
        "insert": _insert(queries, Options()),
        "insert of a key": _insert(queries, Options(unique="k", on_duplicate="ignore")),
        "insert of a debounced call": _insert(queries, Options(debounce=5)),
        "insert of many": queries.insert_many(_rows(10), on_duplicate="none", ring="idle"),
        "ring": queries.ring("q0", ring="idle"),
        "cancel": queries.cancel(known.ids[0], reason="r"),
        "retry": queries.retry(known.ended[0]),
        "ends": queries.ends([*known.ids, *known.ended, NOBODY]),
        "one job": queries.job(known.ids[0]),
    }


def _insert(queries: Queries, options: Options) -> Statement[Any]:
    return next(enqueue_one(queries, "t", ("[]", "{}"), job_id=new_id(), options=options, ring="idle"))


def _rows(count: int) -> str:
    columns = {"task": "t", "args": "[]", "kwargs": "{}", **Options().columns(where="t")}
    return json.dumps([{"id": new_id(), **columns} for _ in range(count)])


def _verdicts(ids: list[str]) -> dict[str, list[Any]]:
    """Every second one may try again later."""
    same = {
        "tokens": 1,
        "delays": 1.0,
        "refunds": 0,
        "crashes": 0,
        "causes": "e",
        "errors": "e",
        "tracebacks": "",
        "gates": None,
    }
    states = ["dead" if place % 2 else "scheduled" for place in range(len(ids))]
    return {"ids": ids, "states": states} | {name: [value] * len(ids) for name, value in same.items()}


@long
def test_no_statement_reads_more_than_its_rows(loaded: Loaded) -> None:
    """With few running, as mostly, and then with a million of them, which no worker has more of than one may claim.

    Each before anything is known of the new rows, and once they have been analyzed, which lets a line plan anew.
    """
    workers = [str(uuid.uuid4()) for _ in range(EACH // CLAIM_MAX)]
    faults = _look(loaded, "few run, new")
    loaded.conn.execute("analyze")
    faults += _look(loaded, "few run")
    Filling(loaded.conn, "pgqueue").start(EACH, workers=workers)
    faults += _look(loaded, "a million run, new")
    loaded.conn.execute("analyze")
    faults += _look(loaded, "a million run")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("queues", [None, ["q0"]])
def test_a_look_reads_dead_entries_once(
    counted: Cluster, task_app: App, conn: psycopg.Connection, queues: list[str] | None
) -> None:
    """Whoever looks at an old snapshot keeps them; the longer he does, the more of a look is this."""
    tables = Filling(conn, task_app.config.schema)
    with counted.connect("shop") as old, old.transaction():
        old.execute("set transaction isolation level repeatable read")
        old.execute("select from pgqueue.job")
        tables.queue(20_000)
        walk = fresh(
            conn, Statement("select seq from pgqueue.job where state = 'queued' order by queue, priority desc, seq", {})
        )
        conn.execute("delete from pgqueue.job")
        tables.queue(10)
        look = fresh(conn, task_app.queries.heads(queues=queues, unknown=[]))
        assert walk.indexes == {CLAIM}
        assert 0.9 < look.blocks / walk.blocks < 1.5


def _look(loaded: Loaded, when: str) -> list[str]:
    conn, queries, session, known = loaded.conn, loaded.queries, loaded.session, loaded.known
    line = {name: Plan(session.plan(each)) for name, each in line_says(queries, known).items()}
    pooled = {f"{name}, pooled": each for name, each in line_says(queries, known).items() if name in POOLED}
    others = lease_says(queries, known) | callers_say(queries, known) | pooled
    plans = line | {name: fresh(conn, each) for name, each in others.items()}
    allowed = LINE | LEASE | CALLERS | {f"{name}, pooled": indexes for name, indexes in POOLED.items()}
    assert plans.keys() == allowed.keys()
    faults = [
        f"{when}: {name} {fault}" for name, plan in plans.items() for fault in _faults(plan, allowed=allowed[name])
    ]
    return faults + [f"{when}: {name} is parallel" for name, plan in line.items() if plan.parallel]


# -- what a list of jobs reads --

LISTED = 25_000  # blocks, of a list of twenty jobs whatever it is asked for
FILTERS: list[dict[str, Any]] = [
    {}, {"queue": "nobody's"}, {"task": "nobody's"}, {"since": timedelta(days=40)},
    {"queue": "q0", "task": "nobody's", "since": datetime.now(UTC) - timedelta(minutes=10)},
]  # fmt: skip


@long
def test_no_list_of_jobs_reads_more_than_a_window(loaded: Loaded) -> None:
    """With a million in each of the seven states, before and after anything is known of the new rows.

    No wish has an index that serves it, and most of these are for nothing, or for jobs far below a million others.
    """
    tables = Filling(loaded.conn, "pgqueue")
    tables.wait(EACH)
    tables.end(EACH, state="cancelled")
    if len(loaded.conn.execute("select from pgqueue.job where state = 'running' limit 21").fetchall()) < 21:
        tables.start(EACH, workers=[str(uuid.uuid4()) for _ in range(EACH // CLAIM_MAX)])
    conn, browser = loaded.conn, loaded.browser
    faults = _listed(loaded, "new", plan_of=partial(fresh, conn))
    conn.execute("analyze")
    faults += _listed(loaded, "analyzed", plan_of=partial(fresh, conn))
    faults += _listed(loaded, "planned for anything", plan_of=lambda each: Plan(browser.plan(each)))
    assert not faults, "\n".join(faults)


@long
@pytest.mark.parametrize("known", ["new", "analyzed"])
def test_no_statement_of_a_purge_reads_more_than_a_window(loaded: Loaded, known: str) -> None:
    """Whatever is purged: jobs side by side, some that lie behind a million others, or none at all."""
    if known == "analyzed":
        loaded.conn.execute("analyze")
    conn, queries = loaded.conn, loaded.queries
    faults = []
    for state, wish in itertools.product(State, [{}, {"queue": "q0"}, {"task": "nobody's"}]):
        first = conn.execute(
            "select id::text from pgqueue.jobs where state = %s order by id limit 1", [state]
        ).fetchone()
        for after in {OLDER_THAN_ALL, *(first or ())} if state != "running" else ():
            filters: dict[str, Any] = {"queue": None, "task": None, **wish}
            with db.in_index_order(conn, queries):
                plans, rows = _plans_of(
                    conn, window(queries, state, after=after, **filters), plan_of=partial(fresh, conn)
                )
            plans += [fresh(conn, each) for each in itertools.islice(deletions(queries, state, rows, **filters), 2)]
            assert len(plans) > 1 or after == OLDER_THAN_ALL or wish
            read = [plan.blocks for plan in plans]
            if max(read) > LISTED or len(rows) > WINDOW or any(plan.scanned or plan.parallel for plan in plans):
                faults.append(f"{state} {wish} after {after} reads {read} blocks, {[plan.scanned for plan in plans]}")
    assert not faults, "\n".join(faults)


@long
@pytest.mark.parametrize("known", ["new", "analyzed"])
def test_no_statement_of_stats_reads_more_than_it_may(loaded: Loaded, known: str) -> None:
    """With a million in a state and where no page is known to be visible to all, so that each entry counted costs a page."""
    if known == "analyzed":
        loaded.conn.execute("analyze")
    elif len(loaded.conn.execute("select from pgqueue.job where state = 'running' limit 21").fetchall()) < 21:
        Filling(loaded.conn, "pgqueue").start(EACH, workers=[str(uuid.uuid4()) for _ in range(EACH // CLAIM_MAX)])
    with db.in_index_order(loaded.conn, loaded.queries):
        plans, _ = _plans_of(loaded.conn, stats.gather(loaded.queries), plan_of=partial(fresh, loaded.conn))
    read = [plan.blocks for plan in plans]
    assert len(read) == 9 and max(read) <= LISTED and not any(plan.parallel for plan in plans), read


def _listed(loaded: Loaded, when: str, *, plan_of: Callable[[Statement[Any]], Plan]) -> list[str]:
    """What lists of twenty jobs read too much: each wish in each state, and the pages from some id in the middle on."""
    wishes = [*FILTERS, {"after": loaded.known.ended[0]}]
    faults = []
    for state, wish in itertools.product([None, *State], wishes):
        with db.in_index_order(loaded.conn, loaded.queries):
            steps = listing(loaded.queries, Wanted(state=state, **wish), limit=20)
            plans, page = _plans_of(loaded.conn, steps, plan_of=plan_of)
        blocks = sum(plan.blocks for plan in plans)
        if blocks > LISTED or page.looked_at > 10_000 or any(plan.scanned or plan.parallel for plan in plans):
            faults.append(f"{when}: {state} {wish} reads {blocks} blocks, looks at {page.looked_at} jobs")
    return faults


def _plans_of(
    conn: psycopg.Connection, steps: Steps[T], *, plan_of: Callable[[Statement[Any]], Plan]
) -> tuple[list[Plan], T]:
    """The plans of all that steps say, and what they return."""
    plans = []
    try:
        statement = next(steps)
        while True:
            plans.append(plan_of(statement))
            statement = steps.send(db.run(conn, statement))
    except StopIteration as done:
        return plans, done.value


def _faults(plan: Plan, *, allowed: set[str]) -> list[str]:
    faults = [f"scans {table}" for table in plan.scanned] + [f"uses {index}" for index in plan.indexes - allowed]
    return faults + [f"reads {plan.blocks} blocks"] * (plan.blocks > BLOCKS)
