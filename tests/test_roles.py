"""`pgqueue migrate --roles`: each role may do its part and nothing else, asserted by logging in as a member of it."""

import asyncio
import json
import multiprocessing
import re
import shutil
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pgqueue import App, Config, Gap, Listening, NotAllowed, Notification, SchemaTooNew, db
from pgqueue.events.dispatch import dispatch_round
from pgqueue.events.subscription import Subscription, declare
from pgqueue.ops import doctor, stats
from pgqueue.queries import migrations, statement
from pgqueue.queries.events import Fence
from pgqueue.schedules import control
from pgqueue.schedules.declare import declare as declare_schedules
from pgqueue.schedules.declare import reconcile
from pgqueue.schedules.fire import fire_round
from pgqueue.schema import retention
from pgqueue.schema.upgrade import newest, roles_script, script
from pgqueue.worker.settings import CRASH_CAP, GRACE_S
from tests.conftest import TABLES, Worker, eventually
from tests.hands import Hands
from tests.shell import Shell

ROLES = ("owner", "producer", "worker", "reader", "admin")
CANARY = "canary-0815"
Refused = (NotAllowed, psycopg.errors.InsufficientPrivilege)


@dataclass(frozen=True)
class House:
    """A database whose schema has roles, with one login for each of them."""

    dsn: str  # of whoever made it all
    schema: str

    def dsn_of(self, role: str) -> str:
        return make_conninfo(self.dsn, user=f"{self.schema}_{role}_login", password="secret")

    @contextmanager
    def app(self, role: str | None = None) -> Iterator[App]:
        """An App that has logged in as a member of a role; without one, as the maker."""
        made = App(self.dsn_of(role) if role else self.dsn, schema=self.schema)
        yield made
        made.close()

    @contextmanager
    def session(self, role: str | None = None) -> Iterator[psycopg.Connection]:
        with psycopg.connect(self.dsn_of(role) if role else self.dsn, autocommit=True) as conn:
            yield conn

    def sql(self, text: str, role: str | None = None) -> list[tuple[Any, ...]]:
        """Run SQL as a role; `jobs.` stands for the schema."""
        with self.session(role) as conn:
            ran = conn.execute(text.replace("jobs.", f'"{self.schema}".'))
            return ran.fetchall() if ran.description else []


def drop_roles(admin: psycopg.Connection, schema: str) -> None:
    found = admin.execute("select rolname from pg_roles where starts_with(rolname, %s)", [f"{schema}_"]).fetchall()
    for (name,) in found:  # what they granted to each other first
        admin.execute(f'drop owned by "{name}"')
    for (name,) in found:
        admin.execute(f'drop role "{name}"')


@contextmanager
def building(server_dsn: str) -> Iterator[House]:
    """A database without tables and the names for its roles, which belong to the whole server; all are gone afterwards."""
    schema = f"roles_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(server_dsn, autocommit=True) as admin:
        admin.execute(f"create database {schema}")
        yield House(make_conninfo(server_dsn, dbname=schema), schema)
        admin.execute(f"drop database {schema} with (force)")
        drop_roles(admin, schema)


@pytest.fixture
def site(server_dsn: str) -> Iterator[House]:
    """A database that is still empty."""
    with building(server_dsn) as made:
        yield made


@pytest.fixture(scope="module")
def furnished(server_dsn: str) -> Iterator[House]:
    with building(server_dsn) as made:
        with made.app() as app:
            app.migrate(roles=True)
        for role in ROLES:
            made.sql(f"create role {made.schema}_{role}_login login password 'secret'")
            made.sql(f"grant {made.schema}_{role} to {made.schema}_{role}_login")
        yield made


@pytest.fixture
def house(furnished: House) -> House:
    """The one with roles and logins, its tables empty."""
    furnished.sql(f"truncate {', '.join(f'jobs.{table}' for table in TABLES.split(', '))}")
    return furnished


# -- S1: role by operation. Each sets its scene as the maker, acts as the role, and says whether it came about. --


def queued(house: House) -> str:
    with house.app() as app:
        return app.enqueue("tests.tasks.echo", [CANARY], {"k": CANARY}, headers={"h": CANARY}).id


def ended(house: House, state: str = "dead") -> str:
    with house.app() as app, house.session() as conn:
        job = app.enqueue("tests.tasks.echo", [CANARY], {"k": CANARY}, headers={"h": CANARY}, unique="a key")
        hands = Hands(conn, app.queries)
        if state == "dead":
            hands.settle(hands.claim()[0], "dead", f"ValueError: {CANARY}")
        else:
            hands.finish(hands.claim(), json.dumps(CANARY))
        return job.id


def enqueue_in_sql(house: House, role: str) -> bool:
    house.sql("select jobs.enqueue('t', unique_key => 'k'), jobs.enqueue('t', unique_key => 'k')", role)
    return house.sql("select count(*) from jobs.job where unique_key = 'k'") == [(1,)]


def defer(house: House, role: str) -> bool:
    with house.app(role) as app:
        later = app.enqueue("t", delay=60)
        with house.session(role) as conn, conn.transaction():
            now = app.task(name="t")(lambda a: a).options(conn=conn, headers={"a": 1}).defer(1)
    return house.sql("select id::text from jobs.job order by run_at") == [(now.id,), (later.id,)]


def defer_many(house: House, role: str) -> bool:
    with house.app(role) as app:
        made = app.task(name="t")(lambda a: a).defer_many((n,) for n in range(3))
    return house.sql("select count(*) from jobs.job") == [(len(made),)]


def defer_unique(house: House, role: str) -> bool:
    with house.app(role) as app:
        first, second = (app.enqueue("t", unique="key") for _ in range(2))
        many = app.task(name="t")(lambda a: a).options(unique=True).defer_many([(1,), (1,), (2,)])
    return first == second and not second.created and len({job.id for job in many}) == 2


def replace(house: House, role: str) -> bool:
    with house.app() as app:
        app.enqueue("t", ["theirs"], unique="key")
    with house.app(role) as app:
        app.enqueue("t", ["mine"], unique="key", on_duplicate="replace")
    return house.sql("select args from jobs.job") == [('["mine"]',)]


def claim(house: House, role: str) -> bool:
    job_id = queued(house)
    with house.session(role) as conn, house.app(role) as app:
        return [job.id for job in Hands(conn, app.queries).claim()] == [job_id]


def finish(house: House, role: str) -> bool:
    queued(house)
    with house.session() as conn, house.app() as app, house.session(role) as theirs:
        hands = Hands(conn, app.queries)
        jobs = hands.claim()
        hands._conn = theirs
        hands.finish(jobs, '"done"')
    return house.sql("select result from jobs.history") == [('"done"',)]


def run_a_worker(house: House, role: str) -> bool:
    """A whole `pgqueue worker`: a success, a failure with a retry, a death, an atomic job, a job that is taken back."""
    house.sql("drop schema if exists shop cascade; create schema shop; create table shop.paid (job uuid, amount int)")
    house.sql(
        f"grant usage on schema shop to {house.schema}_{role}; grant insert on shop.paid to {house.schema}_{role}"
    )
    with house.app() as app, house.session() as conn:
        app.enqueue("tests.tasks.echo", [1])
        app.enqueue("tests.tasks.now", delay=0.2)
        app.enqueue("tests.tasks.fail_until", [2])
        app.enqueue("tests.tasks.bad_result")
        app.enqueue("tests.tasks.pay", [5])
        app.enqueue("tests.tasks.crash_at", [1, 1], queue="deadly")
        app.enqueue("tests.tasks.echo", [2], queue="orphaned")
        dead = Hands(conn, app.queries, queues=["orphaned"])
        conn.execute(
            f"update {house.schema}.job set state = 'scheduled', run_at = 'tomorrow' where queue <> 'orphaned'"
        )
        dead.claim()
        conn.execute(f"update {house.schema}.job set state = 'queued', run_at = now() where queue <> 'orphaned'")
        conn.execute(f"update {house.schema}.worker set state = 'dead'")
    (last_day,) = house.sql("select to_char(now() at time zone 'utc' + '6 days', 'YYYYMMDD')")[0]
    house.sql(f"drop table if exists jobs.history_succeeded_{last_day}")  # to be made by whoever tidies up
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PGQUEUE_SCHEMA", house.schema)
        worker = Worker(house.dsn_of(role), "-c", "1")
    try:
        eventually(
            lambda: worker.process.poll() is not None or house.sql("select count(*) from jobs.job") == [(0,)],
            what="all have ended",
        )
        code = worker.stop()
    finally:
        worker.process.kill()
    if code == 1 and worker.lines[-1].endswith("pgqueue: permission denied for table worker"):
        raise NotAllowed(worker.output)
    assert code == 0 and "permission denied" not in worker.output, worker.output
    ends = house.sql("select state::text, count(*)::int from jobs.history group by state order by 1")
    partitions = house.sql("select count(*) from pg_class where relname ~ '^history_succeeded_2' and relkind = 'r'")
    assert (ends, partitions, house.sql("select * from jobs.audit")) == ([("dead", 2), ("succeeded", 5)], [(7,)], []), (
        worker.output
    )
    return True


def tidy(house: House, role: str) -> bool:
    house.sql(
        "create table jobs.history_ended_20200101 partition of jobs.history_ended for values from ('2020-01-01') to ('2020-01-02')"
    )
    try:
        house.sql("select jobs.tidy(7, 30)", role)
        return house.sql("select to_regclass('jobs.history_ended_20200101')") == [(None,)]
    finally:
        house.sql("drop table if exists jobs.history_ended_20200101")


def look_at_stats(house: House, role: str) -> bool:
    ended(house)
    with house.app(role) as app:
        found = json.dumps(app.run(stats.gather(app.queries, count_limit=1)).to_json())
        assert app.run(app.queries.alive()) == [1]
    return '"ValueError' in found


def read_arguments(house: House, role: str) -> bool:
    queued(house)
    return CANARY in house.sql("select args from jobs.job", role)[0][0]


def read_results(house: House, role: str) -> bool:
    ended(house, "succeeded")
    return CANARY in house.sql("select result from jobs.history", role)[0][0]


def read_errors(house: House, role: str) -> bool:
    ended(house)
    return CANARY in house.sql("select error from jobs.attempt", role)[0][0]


def show(house: House, role: str) -> bool:
    job_id = ended(house)
    with house.app(role) as app:
        return (
            app.snapshot(job_id).state == "dead" and len(app.attempts(job_id)) == 1 and app.why(job_id).state == "dead"
        )


def wait_for_a_result(house: House, role: str) -> bool:
    job_id = ended(house, "succeeded")
    with house.app(role) as app:
        return bool(app.job(job_id).result(60) == CANARY)


def cancel(house: House, role: str) -> bool:
    job_id = queued(house)
    with house.app(role) as app:
        return app.cancel(job_id) and house.sql("select state::text from jobs.history") == [("cancelled",)]


def retry(house: House, role: str) -> bool:
    job_id = ended(house)
    with house.app(role) as app:
        return app.retry(job_id) and house.sql("select state::text from jobs.job") == [("queued",)]


def purge(house: House, role: str) -> bool:
    ended(house), queued(house)
    with house.app(role) as app:
        return app.purge(state="queued") + app.purge(state="dead") == 2 and house.sql("select * from jobs.jobs") == []


def pause_and_resume(house: House, role: str) -> bool:
    with house.app(role) as app:
        app.pause("q")
        assert house.sql("select paused_by from jobs.queue") == [(f"{house.schema}_{role}_login",)]
        return app.resume("q")


def mend(house: House, role: str) -> bool:
    queued(house)
    with house.app() as app, house.session() as conn:
        Hands(conn, app.queries).claim()
        house.sql("update jobs.worker set lease_until = 'yesterday'")
    with house.app(role) as app, house.session(role) as conn:
        with conn.transaction():
            done = db.run(conn, doctor.mend(app.queries, app.config, crash_cap=CRASH_CAP, grace_s=GRACE_S))
        assert db.run(conn, doctor.examine(app.queries, app.config, wire=db.wire(conn)))
        vacuumed = db.run(conn, doctor.vacuum(app.queries))
    assert vacuumed.endswith("is vacuumed" if role == "owner" else "only its owner may vacuum it")
    return "1 workers declared dead, 1 jobs rescued" in done[-1]


def migrate(house: House, role: str) -> bool:
    with house.app(role) as app:
        return app.migrate() == []


def migrate_with_roles(house: House, role: str) -> bool:
    with house.app(role) as app:
        return app.migrate(roles=True) == []


def make_a_table(house: House, role: str) -> bool:
    house.sql("create table jobs.mine (a int); drop table jobs.mine", role)
    return True


def delete_a_job(house: House, role: str) -> bool:
    queued(house)
    house.sql("delete from jobs.job", role)
    return house.sql("select * from jobs.job") == []


def delete_history(house: House, role: str) -> bool:
    ended(house)
    house.sql("delete from jobs.history where state = 'dead'", role)
    return house.sql("select * from jobs.history") == []


def change_a_job(house: House, role: str) -> bool:
    queued(house)
    house.sql("update jobs.job set args = '[\"forged\"]', task = 'forged'", role)
    return house.sql("select args from jobs.job") == [('["forged"]',)]


FORGED = "(id, claim_token, run_at, created_at, state, attempt, crashes, priority, queue, task, args, kwargs, result)"


def forge_a_result(house: House, role: str) -> bool:
    values = "(gen_random_uuid(), 1, now(), now(), 'succeeded', 1, 0, 0, 'q', 't', '[]', '{}', '\"forged\"')"
    house.sql(f"insert into jobs.history {FORGED} values {values}", role)
    return house.sql("select result from jobs.history") == [('"forged"',)]


def change_history(house: House, role: str) -> bool:
    ended(house, "succeeded")
    house.sql("update jobs.history set result = '\"forged\"'", role)
    return house.sql("select result from jobs.history") == [('"forged"',)]


def sign_the_audit_as_another(house: House, role: str) -> bool:
    house.sql("insert into jobs.audit (action, who, at) values ('cancel', 'somebody else', 'yesterday')", role)
    return True


def wipe_the_audit(house: House, role: str) -> bool:
    house.sql("insert into jobs.audit (action) values ('cancel')")
    house.sql("delete from jobs.audit", role)
    return house.sql("select * from jobs.audit") == []


def defer_debounced(house: House, role: str) -> bool:
    with house.app(role) as app:
        return app.enqueue("t", debounce=5).id == app.enqueue("t", debounce=5).id


def defer_once(house: House, role: str) -> bool:
    with house.app(role) as app:
        return app.enqueue("t", once_per="1h").id == app.enqueue("t", once_per="1h").id


def replace_a_limited_job(house: House, role: str) -> bool:
    with house.app(role) as app:
        made = [app.enqueue("t", unique="u", on_duplicate="replace", key=f"tenant={key}").id for key in "ab"]
        return len({*made}) == 1


def list_limits(house: House, role: str) -> bool:
    house.sql("insert into jobs.gate (name, slots) values ('task:t', 2)")
    house.sql("insert into jobs.job (id, task, gates, gate) values (gen_random_uuid(), 't', '{task:t}', 2)")
    with house.app(role) as app:
        (row,) = app.limits()
        return (row.gate, row.slots, row.past) == ("task:t", 2, None if role == "reader" else 1)


def lower_a_limit(house: House, role: str) -> bool:
    house.sql("insert into jobs.job (id, task, gates, gate) values (gen_random_uuid(), 't', '{task:t}', 2)")
    with house.app(role) as app:
        return app.limit("task:t", 0, now=True) == 1


def forget_periods(house: House, role: str) -> bool:
    house.sql("insert into jobs.period values ('k', now(), gen_random_uuid())")
    with house.app(role) as app:
        app.run(retention.forget_periods(app.queries))
    return house.sql("select from jobs.period where key = 'k'") == []


def notify_large(house: House, role: str) -> bool:
    with house.app(role) as app:
        app.notify("page", "x" * 8_000)
    return house.sql("select length(payload) from jobs.notice") == [(8_002,)]


MATRIX: dict[Callable[[House, str], bool], set[str]] = {
    enqueue_in_sql: {"owner", "producer", "admin"},
    defer: {"owner", "producer", "worker", "admin"},  # a worker makes the jobs of schedules
    defer_many: {"owner", "producer", "worker", "admin"},
    defer_unique: {"owner", "producer", "worker", "admin"},
    replace: {"owner", "admin"},
    defer_debounced: {"owner", "admin"},  # it replaces too
    defer_once: {"owner", "producer", "admin"},
    replace_a_limited_job: {"owner", "admin"},
    list_limits: {
        "owner",
        "worker",
        "reader",
        "admin",
    },  # a reader without the counts of jobs, whose gates are hidden from him
    lower_a_limit: {"owner", "admin"},
    forget_periods: {"owner", "worker"},
    claim: {"owner", "worker"},
    finish: {"owner", "worker"},
    run_a_worker: {"owner", "worker"},
    tidy: {"owner", "worker", "admin"},
    look_at_stats: {"owner", "reader", "admin"},
    read_arguments: {"owner", "worker", "admin"},  # a worker's are those of live jobs
    read_results: {"owner", "admin"},
    read_errors: {"owner", "admin"},
    show: {"owner", "admin"},
    wait_for_a_result: {"owner", "admin"},
    cancel: {"owner", "admin"},
    retry: {"owner", "admin"},
    purge: {"owner", "admin"},
    pause_and_resume: {"owner", "admin"},
    mend: {"owner", "admin"},
    migrate: {"owner"},
    migrate_with_roles: {"owner"},
    make_a_table: {"owner"},
    delete_a_job: {"owner", "worker", "admin"},  # to finish is to delete
    delete_history: {"owner", "admin"},
    change_a_job: {"owner", "admin"},
    forge_a_result: {"owner", "worker"},  # no grant tells it from an honest one
    change_history: {"owner"},
    sign_the_audit_as_another: {"owner"},
    wipe_the_audit: {"owner"},
    notify_large: {"owner", "producer", "worker", "admin"},
}


def test_s1_a_worker_may_do_what_batches_need(house: House) -> None:
    fence = Fence("none", 0, 1, 0, str(uuid.uuid4()), 1, str(uuid.uuid4()))
    with house.app("worker") as app, house.session("worker") as conn:
        queries = app.queries
        with conn.transaction():
            jobs = Subscription(name="jobs", mode="job", types=["t"], task="t")
            batches = Subscription(name="batches", mode="batch", types=["t"], task="t", batch=2)
            db.run(conn, declare(queries, jobs, batches))
        with house.app("producer") as producer:
            producer.publish("t")
        done = db.run(conn, dispatch_round(queries))
        assert (done.events, done.jobs, done.due_s) == (2, 2, None)
        for statement in (
            queries.batch_place("none", 0),
            queries.batch_done(fence, (1, 0), events=1, suspects=None, skipped=[]),
            queries.batch_failed(fence, suspects=1, error="e"),
            queries.batch_alone(
                fence, (1, 0), events=1, args="[]", ended=False, error="e", suspects=None, skipped=[1]
            ),
            queries.batch_skip(fence, seqs=[1], args=["[]"], error="e"),
            queries.batch_freed(subscription="none", lane=0, job=fence.id, given_up=True),
            queries.unfinished(["none"], most=1), queries.hold(["none"], why="e"),
        ):  # fmt: skip
            db.run(conn, statement)


def test_s1_what_schedules_need(house: House) -> None:
    code = App("dbname=nowhere")
    code.schedule(
        "s", "t", kwargs={"k": CANARY}, every=1, jitter=1, unique="one", expires=5, priority=3, overlap="queue"
    )
    with house.app("worker") as app, house.session("worker") as conn, conn.transaction():
        queries = app.queries
        row: dict[str, Any] = {
            "pid": 1,
            "concurrency": 1,
            "name": "w",
            "version": "0",
            "app": "",
            "queues": None,
            "tasks": [],
        }
        prints = [made.fingerprint for made in code.schedules.made()]
        db.run(conn, queries.register(worker=str(uuid.uuid4()), lease_s=60, lock_key=None, schedules=prints, **row))
        assert db.run(conn, declare_schedules(queries, code.schedules.made())) == {}
        (now,) = db.run(conn, queries.schedules_now())
        assert db.run(conn, fire_round(queries, ring="idle", now=now + timedelta(minutes=1))).jobs == 1
        assert db.run(conn, reconcile(queries)) == {} and not db.run(conn, queries.forget_schedules())
        for statement in (
            queries.schedule_patience(), queries.fail_schedule("s", error="e", next_run_at=None),
            queries.correct("s", now, job_id=None, skipped="why"),
        ):  # fmt: skip
            db.run(conn, statement)
    with house.app("reader") as app:
        (listed,) = app.run(app.queries.listed_schedules())
        assert (listed.name, listed.last_state) == ("s", "scheduled")
        with pytest.raises(Refused):  # its arguments are in it
            app.run(app.queries.schedules())
    with house.app("admin") as app, house.session("admin") as conn, conn.transaction():
        assert db.run(conn, control.pause(app.queries, "s")).name == "s"
        assert db.run(conn, control.resume(app.queries, "s"))
        assert db.run(conn, control.change(app.queries, "s", {"every": 5})).every_s == 5
        assert db.run(conn, control.reset(app.queries, "s")) and db.run(
            conn, control.run_now(app.queries, "s", ring="idle")
        )


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("operation", MATRIX, ids=lambda operation: operation.__name__)
def test_s1_s35_role_by_operation(house: House, operation: Callable[[House, str], bool], role: str) -> None:
    if role in MATRIX[operation]:
        assert operation(house, role)
    else:
        with pytest.raises(Refused) as refused:
            operation(house, role)
        if refused.type is NotAllowed:
            assert "permission denied" in str(refused.value) or f"member of {house.schema}_owner" in str(refused.value)


@pytest.mark.parametrize(("role", "hears"), [("producer", True), ("worker", True), ("admin", True), ("reader", False)])
def test_s1_who_hears_what_is_too_large_for_notify(house: House, role: str, hears: bool) -> None:
    """Everybody hears what is small: PostgreSQL has no right for that."""
    with house.app("producer") as sender, house.app(role) as app:
        listener = app.listen("page")
        assert next(listener) == Listening()
        sender.notify("page", "x" * 8_000)
        sender.notify("page", "small")
        first, second = next(listener), next(listener)
        large = Notification("page", f'"{"x" * 8_000}"')
        assert first == (large if hears else Gap("page", "a large payload cannot be read or is not kept any longer"))
        assert second == Notification("page", '"small"')
        listener.close()


# -- S1: what can be read, by hand and by all means --

READABLE = """
select c.relname, string_agg(quote_ident(a.attname), ', ')
from pg_class as c
join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where
  c.relnamespace = 'jobs'::regnamespace and c.relkind in ('r', 'p', 'v')
  and has_column_privilege(c.oid, a.attnum, 'select')
group by c.relname
"""


def seen_by(house: House, role: str) -> str:
    """Every value in the schema that a role may select."""
    tables = house.sql(READABLE.replace("'jobs'", f"'{house.schema}'"), role)
    return str([house.sql(f"select {columns} from jobs.{table}", role) for table, columns in tables])


@pytest.fixture
def secrets(house: House) -> House:
    """A canary in arguments, headers, results and errors of live and ended jobs."""
    ended(house), ended(house, "succeeded"), queued(house)
    with house.session() as conn, house.app() as app:
        Hands(conn, app.queries)  # somebody to look at
    house.sql(f"update jobs.attempt set traceback = '{CANARY}'")
    return house


@pytest.mark.parametrize(
    ("role", "sees"), [("producer", False), ("reader", False), ("worker", True), ("admin", True), ("owner", True)]
)
def test_s1_nobody_reads_more_than_he_needs(secrets: House, role: str, sees: bool) -> None:
    seen = seen_by(secrets, role)
    assert (CANARY in seen) is sees
    assert ("a key" in seen_by(secrets, "reader")) is False
    # Of what has ended a worker sees whether it was its own, and nothing else.
    if role == "worker":
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            secrets.sql("select args from jobs.history", role)


def run(shell: Shell, house: House, role: str, *words: str) -> subprocess.CompletedProcess[str]:
    return shell.text(*words, dsn=house.dsn_of(role), PGQUEUE_SCHEMA=house.schema)


def test_s1_what_a_reader_is_shown(shell: Shell, secrets: House) -> None:
    shown = run(shell, secrets, "reader", "stats", "--json")
    assert shown.returncode == 0 and CANARY not in shown.stdout
    assert [failure["error"] for failure in json.loads(shown.stdout)["failures"]] == ["ValueError"]
    assert CANARY in run(shell, secrets, "admin", "stats", "--json").stdout
    for words in (("workers",), ("health",), ("migrate", "--check")):
        assert run(shell, secrets, "reader", *words).returncode == 0


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("ValueError: secret", "ValueError"), ("f.<locals>.Wrong: secret", "f.<locals>.Wrong"), ("KeyError", "KeyError"),
        ("secret words", "exception"), ("a secret: b", "exception"), ("", "exception"), ("x" * 5000, "exception"),
        ("\n: secret", "exception"),
    ],
)  # fmt: skip
def test_s1_of_an_error_a_reader_sees_the_kind(house: House, error: str, kind: str) -> None:
    ended(house)
    with house.session() as conn:
        conn.execute(f"update {house.schema}.attempt set error = %s", [error])
    assert house.sql("select error from jobs.failures", "reader") == [(kind,)]
    assert house.sql("select error from jobs.failures", "admin") == [(error[:1000],)]


def test_s1_a_producer_cannot_leave_what_nobody_can_clear_away(house: House) -> None:
    forged = "insert into jobs.job (id, task, {0}) values (gen_random_uuid(), 't', {1}) returning id::text"
    for column, value in (("state", "'running'"), ("worker", "gen_random_uuid()"), ("claim_token", "7")):
        with pytest.raises((psycopg.errors.CheckViolation, psycopg.errors.InsufficientPrivilege)):
            house.sql(forged.format(column, value), "producer")
    for state in ("waiting", "succeeded", "dead", "cancelled"):
        ((job_id,),) = house.sql(forged.format("state", f"'{state}'"), "producer")
        with house.app("admin") as app:
            assert app.cancel(job_id)
    assert house.sql("select * from jobs.job") == []


def test_s1_roles_add_up(house: House) -> None:
    house.sql(
        f"create role {house.schema}_both login password 'secret' in role {house.schema}_producer, {house.schema}_worker"
    )
    with psycopg.connect(
        make_conninfo(house.dsn, user=f"{house.schema}_both", password="secret"), autocommit=True
    ) as conn:
        with house.app() as app:
            app.enqueue("t", conn=conn)
            assert len(Hands(conn, app.queries).run_all()) == 1


@pytest.mark.parametrize(("role", "ended_sessions"), [("worker", 1), ("admin", 0)])
def test_s1_a_worker_ends_the_sessions_of_a_dead_one_with_the_same_login(
    house: House, role: str, ended_sessions: int
) -> None:
    with house.app("worker") as app, house.session("worker") as frozen, house.session(role) as conn:
        dead = Hands(frozen, app.queries)
        frozen.execute("select set_config('application_name', 'pgqueue:' || %s, false)", [dead.id])
        house.sql("update jobs.worker set lease_until = 'yesterday'")
        assert db.run(conn, app.queries.bury([dead.id], grace_s=GRACE_S)) == [(dead.id, "by hand", ended_sessions)]


# -- what is said to who may not --


def test_a_refusal_is_one_line_that_names_the_roles(shell: Shell, house: House) -> None:
    job_id = queued(house)
    with house.app("producer") as app:
        for ask in (
            lambda: app.cancel(job_id),
            lambda: app.snapshot(job_id),
            lambda: app.pause("q"),
            lambda: app.job(job_id).result(),
        ):
            with pytest.raises(NotAllowed) as refused:
                ask()
            assert re.fullmatch(
                r"permission denied for (table|view) \w+: connect as a role with this right, .*", str(refused.value)
            )
            assert f"{house.schema}_admin" in str(refused.value)
        with pytest.raises(NotAllowed, match="permission denied for table history"):
            asyncio.run(app.job(job_id).result_async())
    refusal = run(shell, house, "reader", "cancel", job_id)
    assert refusal.returncode == 1 and refusal.stderr.startswith("pgqueue: permission denied for table job: connect as")
    assert refusal.stderr.count("\n") == 1


def test_who_has_no_role_is_told_so(house: House) -> None:
    house.sql(f"create role {house.schema}_stranger login password 'secret'")
    with pytest.raises(
        NotAllowed, match=f"permission denied for schema {house.schema}: connect as a role with this right"
    ):
        App(make_conninfo(house.dsn, user=f"{house.schema}_stranger", password="secret"), schema=house.schema).enqueue(
            "t"
        )


def test_a_refusal_of_the_callers_own_table_stays_as_it_is(house: House) -> None:
    house.sql("drop schema if exists shop cascade; create schema shop; create table shop.mine (a int)")
    house.sql(f"grant usage on schema shop to {house.schema}_producer")

    def calls() -> Iterator[tuple[int]]:
        house.sql("select a from shop.mine", "producer")
        yield (1,)

    with house.app("producer") as app, pytest.raises(psycopg.errors.InsufficientPrivilege, match="for table mine"):
        app.task(name="t")(lambda a: a).defer_many(calls())


# -- S2 to S4: functions --

FUNCTIONS = """
select
  p.proname, p.prosecdef, p.proconfig, p.prosrc, format_type(t.type, null) as type, r.rolname, r.rolsuper,
  has_function_privilege('public', p.oid, 'execute') as everybody
from pg_proc as p
join pg_roles as r on r.oid = p.proowner
left join unnest(p.proargtypes) as t (type) on true
where p.pronamespace = 'jobs'::regnamespace
"""


def functions(house: House) -> list[dict[str, Any]]:
    with house.session() as conn, conn.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        rows = cursor.execute(FUNCTIONS.replace("jobs", house.schema)).fetchall()
    assert {row["proname"] for row in rows} >= {"enqueue", "tidy", "uuid7"}
    return rows


def test_s2_no_function_is_everybodys(house: House) -> None:
    assert [row for row in functions(house) if row["everybody"]] == []


def test_s2_nor_is_a_new_one(house: House) -> None:
    house.sql(
        f"set role {house.schema}_owner; create function jobs.more() returns int language sql as 'select 1'", "owner"
    )
    try:
        for role in ("producer", "worker", "reader", "admin"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                house.sql("select jobs.more()", role)
        test_s2_no_function_is_everybodys(house)
    finally:
        house.sql("drop function jobs.more")


def test_s2_nothing_else_is_everybodys(house: House) -> None:
    granted = """
        select relname from pg_class, aclexplode(relacl) as acl where relnamespace = 'jobs'::regnamespace and acl.grantee = 0
        union all select nspname from pg_namespace, aclexplode(nspacl) as acl where nspname = 'jobs' and acl.grantee = 0
    """
    assert house.sql(granted.replace("'jobs'", f"'{house.schema}'")) == []


def test_s3_a_function_with_its_owners_rights_pins_its_search_path(house: House) -> None:
    definers = [row for row in functions(house) if row["prosecdef"]]
    assert {row["proname"] for row in definers} == {"begin_era", "enqueue", "publish", "tidy", "tidy_events"}
    assert {row["proconfig"][0] for row in definers} == {"search_path=pg_catalog, pg_temp"}


TRAP = "$$ begin perform evil.hijack(); end $$"
HIJACK = """
create schema evil;
grant usage on schema evil to public;
create function evil.hijack() returns void language plpgsql as $$ begin raise 'hijacked by %', current_user; end $$;
"""
# Whatever the bodies call by name: the same name and kinds of argument, found first by whoever does not look at pg_catalog.
TRAPS = {
    "now": ("", "timestamptz"), "gen_random_uuid": ("", "uuid"), "clock_timestamp": ("", "timestamptz"),
    "pg_notify": ("text, text", "void"), "sha256": ("bytea", "bytea"), "convert_to": ("text, name", "bytea"),
    "encode": ("bytea, text", "text"), "uuid_send": ("uuid", "bytea"), "int8send": ("bigint", "bytea"),
    "length": ("text", "integer"), "to_char": ("timestamptz, text", "text"), "to_regclass": ("text", "regclass"),
    "timezone": ("text, timestamptz", "timestamp"), "generate_series": ("integer, integer", "setof integer"),
    "set_bit": ("bytea, bigint, integer", "bytea"), "format": ('text, variadic "any"', "text"),
}  # fmt: skip


@pytest.fixture
def evil(house: House) -> Iterator[House]:
    """A schema of functions, operators, tables and types with the names that our functions use."""
    house.sql(HIJACK)
    for name, (arguments, result) in TRAPS.items():
        if "any" not in arguments:
            house.sql(f"create function evil.{name}({arguments}) returns {result} language plpgsql as {TRAP}")
    for name, kind, result in (
        ("is_more", "timestamptz", "boolean"),
        ("plus", "date, integer", "date"),
        ("joined", "text, text", "text"),
    ):
        left, _, right = kind.partition(", ")
        sign = {"is_more": ">", "plus": "+", "joined": "||"}[name]
        house.sql(
            f"create function evil.{name}({left}, {right or left}) returns {result} language plpgsql as"
            f" {TRAP};"
            f"create operator evil.{sign} (leftarg = {left}, rightarg = {right or left}, function = evil.{name})"
        )
    house.sql("create table evil.pg_class (relname name); create table evil.pg_inherits (inhrelid oid)")
    house.sql(
        "create domain evil.text as pg_catalog.text check (evil.hijack() is null); create domain evil.uuid as pg_catalog.uuid"
    )
    yield house
    house.sql("drop schema evil cascade")


@pytest.mark.parametrize(
    ("role", "call", "table"),
    [
        ("producer", "select {0}.enqueue('t', unique_key => repeat('k', 300), run_at => '2100-01-01', headers => '{{}}')", "job"),
        ("worker", "select {0}.tidy(7, 30)", "history"),
    ],
)  # fmt: skip
def test_s3_no_name_of_theirs_is_found(evil: House, role: str, call: str, table: str) -> None:
    day = evil.sql("select to_char(now() at time zone 'utc' + '6 days', 'YYYYMMDD')")[0][0]
    evil.sql(f"drop table jobs.history_ended_{day}")
    evil.sql("insert into jobs.audit (action, at) values ('cancel', now() - interval '2 years')")
    with evil.session(role) as conn:
        conn.execute("set search_path = evil, pg_catalog")
        with pytest.raises(psycopg.errors.RaiseException, match="hijacked"):
            conn.execute("select now()")
        # The temporary tables come first of all, where nothing says otherwise.
        with evil.session() as maker:
            maker.execute(f"grant temporary on database {evil.schema} to public")
        conn.execute("set search_path = pg_catalog")
        conn.execute("create temp table pg_class (relname name); create temp table pg_inherits (inhrelid oid)")
        conn.execute(f"create temp table {table} (id uuid); create temp table audit (at timestamptz)")
        conn.execute("set search_path = evil, pg_temp, pg_catalog")
        conn.execute(call.format(evil.schema))
        conn.execute("set search_path = pg_catalog")
        assert conn.execute(f"select count(*) from pg_temp.{table}").fetchone() == (0,)
    if role == "producer":
        assert evil.sql("select count(*) from jobs.job") == [(1,)]
    else:
        assert evil.sql(f"select to_regclass('jobs.history_ended_{day}') is not null") == [(True,)]
        assert evil.sql("select count(*) from jobs.audit") == [(0,)]
    evil.sql("select jobs.tidy(7, 30)")


def test_s4_the_owner_of_functions_owns_nothing_else_and_is_nobody(house: House) -> None:
    owner = f"{house.schema}_owner"
    assert {(row["rolname"], row["rolsuper"]) for row in functions(house)} == {(owner, False)}
    assert house.sql(f"select * from pg_auth_members where member = '{owner}'::regrole") == []
    traits = "rolcanlogin, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, rolsuper"
    assert house.sql(f"select {traits} from pg_roles where rolname = '{owner}'") == [(False,) * 6]
    elsewhere = (
        f"relowner = '{owner}'::regrole and relnamespace::regnamespace::text not in ('{house.schema}', 'pg_toast')"
    )
    assert house.sql(f"select relname from pg_class where {elsewhere}") == []
    others = f"relowner <> '{owner}'::regrole and relnamespace = '{house.schema}'::regnamespace"
    assert house.sql(f"select relname from pg_class where {others}") == []


def test_s4_what_is_made_of_text_is_made_of_our_own(house: House) -> None:
    # They make names of days, or a number; who calls them gives numbers.
    dynamic = {
        row["proname"] for row in functions(house) if row["prosecdef"] and re.search(r"\bexecute\b", row["prosrc"])
    }
    assert dynamic == {"begin_era", "tidy", "tidy_events"}
    assert {row["type"] for row in functions(house) if row["proname"] in dynamic} == {"integer"}


# -- S32: who did what, and when --


def test_s32_whoever_changes_something_is_recorded(house: House) -> None:
    who = f"{house.schema}_admin_login"
    with house.app("admin") as app:
        dead, waiting = ended(house), queued(house)
        app.cancel(waiting, reason=CANARY)
        app.retry(dead)
        app.purge(state="queued", queue="default")
        app.pause("q")
        app.resume("q")
        # What changes nothing leaves no trace.
        assert not app.cancel(ended(house)) and app.purge(state="scheduled") == 0 and not app.resume("never paused")
    columns = (
        "action, who, job_id::text, queue, task, state::text, jobs, at between now() - interval '1 minute' and now()"
    )
    assert house.sql(f"select {columns} from jobs.audit order by at", "reader") == [
        ("cancel", who, waiting, "default", "tests.tasks.echo", "queued", 1, True),
        ("retry", who, dead, "default", "tests.tasks.echo", "dead", 1, True),
        ("purge", who, None, "default", None, "queued", 1, True),
        ("pause", who, None, "q", None, None, 1, True),
        ("resume", who, None, "q", None, None, 1, True),
    ]
    assert CANARY not in str(house.sql("select * from jobs.audit"))


def test_s32_a_login_that_acts_as_another_signs_with_its_own_name(house: House) -> None:
    job_id = queued(house)
    with house.session("admin") as conn, house.app() as app:
        conn.execute(f"set role {house.schema}_admin")
        with app.using(conn):
            app.cancel(job_id)
    assert house.sql("select who from jobs.audit") == [(f"{house.schema}_admin_login",)]


def test_s32_one_who_cancels_a_running_job_is_recorded_too_and_shown(shell: Shell, house: House) -> None:
    job_id = queued(house)
    with house.session() as conn, house.app() as maker, house.app("admin") as app:
        Hands(conn, maker.queries).claim()
        assert app.cancel(job_id)
    assert house.sql("select state::text from jobs.audit") == [("running",)]
    shown = run(shell, house, "admin", "show", job_id)
    assert f"cancel by {house.schema}_admin_login, it was running" in shown.stdout
    (deed,) = json.loads(run(shell, house, "admin", "show", job_id, "--json").stdout)["audit"]
    assert (deed["action"], deed["who"], deed["state"]) == ("cancel", f"{house.schema}_admin_login", "running")


def test_s32_a_job_that_cancels_itself_is_no_deed_of_a_person(house: House) -> None:
    queued(house)
    with house.session() as conn, house.app() as app:
        hands = Hands(conn, app.queries)
        hands.settle(hands.claim()[0], "cancelled", "no longer wanted")
    assert house.sql("select * from jobs.audit") == []


# -- S35: who migrates, and how --

GRANTS = """
select relname, a.attname, (aclexplode(coalesce(attacl, relacl))).*
from pg_class as c left join pg_attribute as a on a.attrelid = c.oid and attacl is not null
where relnamespace = 'jobs'::regnamespace and relname !~ '_2[0-9]{7}$' -- the days: nobody needs a right on them
union all
select proname, prosecdef::text, (aclexplode(proacl)).* from pg_proc where pronamespace = 'jobs'::regnamespace
"""


def grants(house: House) -> list[tuple[Any, ...]]:
    """Every right on every table, column and function, in a fixed order."""
    found = house.sql(GRANTS.replace("'jobs'", f"'{house.schema}'"))
    assert len(found) > 100
    return sorted(found, key=str)


def migrate_there(dsn: str, schema: str) -> list[str]:
    app = App(dsn, schema=schema)
    try:
        return app.migrate(roles=True)
    finally:
        app.close()


def test_s35_two_at_once_and_again(site: House) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        done = pool.starmap(migrate_there, [(site.dsn, site.schema)] * 2, chunksize=1)
    assert sorted(done, key=len) == [[], [name for _, name in migrations()]]
    before = grants(site)
    assert migrate_there(site.dsn, site.schema) == [] and grants(site) == before


def test_s35_two_databases_at_once_share_the_roles(site: House, server_dsn: str) -> None:
    second = f"{site.schema}_two"
    with psycopg.connect(server_dsn, autocommit=True) as admin:
        admin.execute(f"create database {second}")
        start, failed = threading.Barrier(2), []

        def migrate(dsn: str) -> None:
            start.wait()
            try:
                migrate_there(dsn, site.schema)
            except Exception as error:
                failed.append(error)

        threads = [
            threading.Thread(target=migrate, args=[dsn]) for dsn in (site.dsn, make_conninfo(server_dsn, dbname=second))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        admin.execute(f"drop database {second} with (force)")
    assert failed == [] and len(grants(site)) > 100


def test_s35_neither_goes_back(house: House) -> None:
    house.sql("insert into jobs.migration values (9999, 'from the future')")
    try:
        for role in ("owner", "admin"):
            with house.app(role) as app, pytest.raises((SchemaTooNew, NotAllowed)) as refused:
                app.migrate(roles=True)
            assert refused.type is (SchemaTooNew if role == "owner" else NotAllowed)
    finally:
        house.sql("delete from jobs.migration where version = 9999")


def test_s35_a_later_migration_belongs_to_the_owner_whoever_runs_it(
    site: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate_there(site.dsn, site.schema)
    folder = shutil.copytree(statement.SQL, tmp_path / "sql")
    (folder / "migrations" / f"{newest() + 1:04}_more.sql").write_text(
        "create table {schema}.more (a int);\n"
        "create or replace function {schema}.tidy(keep_succeeded_days integer, keep_dead_days integer) returns void\n"
        "language sql set search_path = pg_catalog, pg_temp as '';\n"
    )
    monkeypatch.setattr(statement, "SQL", folder)
    with site.app() as app:
        assert app.migrate() == [f"{newest():04}_more.sql"]
    owner = f"{site.schema}_owner"
    assert site.sql("select tableowner::text from pg_tables where tablename = 'more'") == [(owner,)]
    assert site.sql("select proowner::regrole::text, prosecdef from pg_proc where proname = 'tidy'") == [(owner, True)]
    allowed = f"select has_function_privilege('{site.schema}_worker', 'jobs.tidy(integer, integer)', 'execute')"
    assert site.sql(allowed) == [(True,)]


def test_s35_the_script_for_psql_does_the_same(shell: Shell, site: House) -> None:
    with site.app() as app:
        site.sql("".join(script(app.queries)))
        app.run(app.queries.tidy(keep_succeeded_days=7, keep_dead_days=30))
        for _ in range(2):
            site.sql("".join(roles_script(app.queries)))
            by_script = grants(site)
    migrate_there(site.dsn, site.schema)
    assert grants(site) == by_script
    printed = shell.text("migrate", "--roles", "--sql", dsn=site.dsn, PGQUEUE_SCHEMA=site.schema)
    assert printed.returncode == 0, printed.stderr
    site.sql(printed.stdout)
    assert grants(site) == by_script and "%(" not in printed.stdout


def test_s35_a_role_that_may_create_roles_will_do(site: House) -> None:
    site.sql(f"create role {site.schema}_dba login createrole password 'secret'")
    site.sql(f"create role {site.schema}_app login password 'secret'")
    for login in ("dba", "app"):
        site.sql(f"grant create on database {site.schema} to {site.schema}_{login}")
    dsn = {login: make_conninfo(site.dsn, user=f"{site.schema}_{login}", password="secret") for login in ("dba", "app")}
    with pytest.raises(psycopg.errors.InsufficientPrivilege) as refused:
        migrate_there(dsn["app"], site.schema)
    assert str(refused.value).splitlines()[0] == (
        f"role {site.schema}_app may not create roles: give it CREATEROLE, or let a superuser run `pgqueue migrate --roles`"
        " (--sql prints it for psql)"
    )
    assert site.sql(f"select count(*) from pg_namespace where nspname = '{site.schema}'") == [(0,)]
    assert migrate_there(dsn["dba"], site.schema) and migrate_there(dsn["dba"], site.schema) == []
    assert site.sql("select distinct tableowner::text from pg_tables where schemaname = current_database()") == [
        (f"{site.schema}_owner",)
    ]
    with pytest.raises(NotAllowed, match=f"only a member of {site.schema}_owner may change the schema"):
        migrate_there(dsn["app"], site.schema)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("create role {0}_owner superuser", "role {0}_owner is more than a group"),
        ("create role {0}_reader login", "role {0}_reader is more than a group"),
        ("create role {0}_owner; grant pg_monitor to {0}_owner", 'role {0}_owner"? is a member of pg_monitor'),
    ],
)
def test_s4_a_role_that_was_there_and_may_more_is_refused(site: House, statement: str, said: str) -> None:
    site.sql(statement.format(site.schema))
    with pytest.raises(psycopg.errors.RaiseException, match=said.format(site.schema).replace("role ", 'role "?', 1)):
        migrate_there(site.dsn, site.schema)
    assert site.sql(f"select count(*) from pg_namespace where nspname = '{site.schema}'") == [(0,)]


# -- and without --roles --


def test_without_them_nothing_is_granted_and_nothing_runs_as_another(fresh_dsn: str) -> None:
    App(fresh_dsn).migrate()
    with psycopg.connect(fresh_dsn) as conn:
        roles = conn.execute("select count(*) from pg_roles where starts_with(rolname, 'pgqueue_')").fetchone()
        acls = conn.execute(
            "select count(*) from pg_class where relnamespace = 'pgqueue'::regnamespace and relacl is not null"
        ).fetchone()
        definers = conn.execute(
            "select count(*) from pg_proc where pronamespace = 'pgqueue'::regnamespace and prosecdef"
        ).fetchone()
    assert (roles, acls, definers) == ((0,), (0,), (0,))


def test_names_fit_into_63_bytes() -> None:
    longest = Config(schema="x" * 48).roles.values()
    assert len(set(longest)) == 5 and max(map(len, longest)) <= 63
