"""The schema is made once, brought up to date by one at a time, and refused in words when it does not fit."""

import multiprocessing
import re
import subprocess
import threading
from typing import Any

import psycopg
import pytest

from pgqueue import App, InvalidOption, SchemaMissing, SchemaTooNew, SchemaTooOld
from pgqueue.queries import migrations
from pgqueue.schema import newest, script
from tests.hands import Hands

NAMES = [name for _, name in migrations()]

STRUCTURE = """
select format('%%s.%%s %%s %%s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull)
from pg_class as c join pg_attribute as a on a.attrelid = c.oid
where c.relnamespace = %(schema)s::text::regnamespace and a.attnum > 0
union all
select format('%%s %%s %%s', relname, relkind, reloptions)
from pg_class where relnamespace = %(schema)s::text::regnamespace
union all
select indexdef from pg_indexes where schemaname = %(schema)s::text
union all
select pg_get_functiondef(oid) from pg_proc where pronamespace = %(schema)s::text::regnamespace
union all
select conrelid::regclass::text || conname || pg_get_constraintdef(oid)
from pg_constraint where connamespace = %(schema)s::text::regnamespace
"""


def structure(dsn: str, schema: str = "pgqueue") -> list[str]:
    """Every column, index, function and constraint of a schema, without its name."""
    with psycopg.connect(dsn) as conn:
        lines = [line for (line,) in conn.execute(STRUCTURE, {"schema": schema})]
    lines = [line for line in lines if not re.search(r"_2\d{7}", line)]  # the days that were made already
    assert len(lines) > 50
    return sorted(re.sub(rf'"{schema}"\.|\b{schema}[._]', "", line) for line in lines)


def execute(dsn: str, sql: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(sql)


def test_once_and_again(fresh_dsn: str) -> None:
    app = App(fresh_dsn)
    assert app.migrate() == NAMES and app.migrate() == []
    with psycopg.connect(fresh_dsn) as conn:
        rows = conn.execute("select version, name, applied_at <= now() from pgqueue.migration order by 1").fetchall()
    assert rows == [(version, name, True) for version, name in migrations()]
    assert app.enqueue("t").state == "queued"
    app.close()


def test_two_at_once_in_threads(fresh_dsn: str) -> None:
    start = threading.Barrier(4)
    results: list[Any] = []

    def migrate() -> None:
        start.wait()
        try:
            results.append(App(fresh_dsn).migrate())
        except Exception as error:
            results.append(error)

    threads = [threading.Thread(target=migrate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results, key=len) == [[], [], [], NAMES]


def _migrate(dsn: str) -> list[str]:
    return App(dsn).migrate()


def test_two_at_once_in_processes(fresh_dsn: str) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert sorted(pool.map(_migrate, [fresh_dsn] * 2, chunksize=1), key=len) == [[], NAMES]


def assert_refused(dsn: str, error: type[Exception], match: str) -> None:
    app = App(dsn)
    with psycopg.connect(dsn) as caller:
        for ask in (
            lambda: app.enqueue("t"),
            lambda: app.enqueue("t", conn=caller),
            lambda: app.jobs(),
            lambda: app.job("01a208e7-51ed-7198-a687-0270704ff6cf").result(1),
        ):
            with pytest.raises(error, match=match) as caught:
                ask()
            assert "\n" not in str(caught.value)
        assert caller.execute("select 1").fetchone() == (1,)
    app.close()


def test_missing(fresh_dsn: str) -> None:
    assert_refused(fresh_dsn, SchemaMissing, "the schema 'pgqueue' has no pgqueue tables: run `pgqueue migrate`")
    execute(fresh_dsn, "create schema pgqueue; create table pgqueue.job (mine int)")  # somebody else's
    assert_refused(fresh_dsn, SchemaMissing, "run `pgqueue migrate`")


def test_b53_older(fresh_dsn: str) -> None:
    App(fresh_dsn).migrate()
    execute(fresh_dsn, f"update pgqueue.migration set version = version - {newest()}")
    execute(fresh_dsn, "insert into pgqueue.migration values (-1, '')")
    with psycopg.connect(fresh_dsn, autocommit=True) as conn:
        conn.execute("delete from pgqueue.migration")
    assert_refused(fresh_dsn, SchemaMissing, "run `pgqueue migrate`")
    execute(fresh_dsn, "insert into pgqueue.migration values (-1, 'older than all')")
    assert_refused(fresh_dsn, SchemaTooOld, f"is at version -1 and this code needs {newest()}: run `pgqueue migrate`")


def test_b53_newer(fresh_dsn: str) -> None:
    app = App(fresh_dsn)
    app.migrate()
    before = structure(fresh_dsn)
    execute(fresh_dsn, "insert into pgqueue.migration values (9999, '9999_future.sql')")
    message = f"is at version 9999, newer than this code's {newest()}: upgrade pgqueue-jobs here"
    assert_refused(fresh_dsn, SchemaTooNew, message)
    with pytest.raises(SchemaTooNew, match=message):
        app.migrate()
    assert structure(fresh_dsn) == before


def test_a_failed_migration_leaves_nothing(fresh_dsn: str) -> None:
    execute(fresh_dsn, "create schema pgqueue; create table pgqueue.worker (mine int)")
    with pytest.raises(psycopg.errors.DuplicateTable):
        App(fresh_dsn).migrate()
    with psycopg.connect(fresh_dsn) as conn:
        tables = conn.execute("select tablename from pg_tables where schemaname = 'pgqueue'").fetchall()
    assert tables == [("worker",)]


@pytest.mark.parametrize("schema", ["jobs_two", "user", "x" * 48, "_1"])
def test_b28_another_name(fresh_dsn: str, schema: str) -> None:
    one, two = App(fresh_dsn), App(fresh_dsn, schema=schema)
    one.migrate()
    with pytest.raises(SchemaMissing, match=f"the schema '{schema}' has no pgqueue tables"):
        two.enqueue("t")
    assert two.migrate() == NAMES
    assert structure(fresh_dsn, schema) == structure(fresh_dsn)
    with psycopg.connect(fresh_dsn, autocommit=True) as conn:
        conn.execute(f'listen "{two.config.jobs_channel}"')
        with conn.transaction():
            job = two.enqueue("t", [1], conn=conn)
            many = two.task(name="t")(structure).options(conn=conn, unique=True).defer_many([("a",), ("a",)])
        assert [note.payload for note in conn.notifies(timeout=60, stop_after=1)] == ["default"]
        later = conn.execute(f'select "{schema}".enqueue(%s)::text', ["t"]).fetchone()
        assert one.jobs() == [] and len(two.jobs()) == 3 and len(many) == 2
        assert Hands(conn, two.queries).run_all('"two"') == [job.id, many[0].id, *(later or ())]
        assert two.job(job.id).result(60) == "two"
        one.pause("default")
        two.enqueue("t").cancel()
        assert len(Hands(conn, two.queries).claim()) == 0 and one.jobs() == []
    for app in (one, two):
        app.close()


def test_two_names_can_be_migrated_at_once(fresh_dsn: str) -> None:
    apps = [App(fresh_dsn, schema=f"jobs_{n}") for n in range(3)]
    threads = [threading.Thread(target=app.migrate) for app in apps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [app.migrate() for app in apps] == [[], [], []]


@pytest.mark.parametrize(
    "schema",
    ["", "Jobs", "a-b", 'a"b', "a b", "pg_jobs", "1a", "x" * 49, "ü", "a;drop", "a\0", "a.b", 5, "information_schema"],
)
def test_b28_names_that_are_refused(dsn: str, schema: Any) -> None:
    with pytest.raises(InvalidOption, match=r"^schema .* cannot be used: take lower-case letters") as caught:
        App(dsn, schema=schema).enqueue("t")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("schema", ["pgqueue", "jobs_two"])
def test_the_script_for_psql_makes_the_same(fresh_dsn: str, schema: str) -> None:
    app = App(fresh_dsn, schema=schema)
    text = "".join(script(app.queries))
    assert text.startswith("begin;") and text.rstrip().endswith("commit;")
    assert "%(" not in text and "{" not in text.replace("'{}'", "")
    execute(fresh_dsn, text)
    App(fresh_dsn, schema="migrated").migrate()
    assert structure(fresh_dsn, schema) == structure(fresh_dsn, "migrated") and app.migrate() == []
    assert app.enqueue("t").state == "queued"
    app.close()


def test_the_script_in_psql_itself(fresh_dsn: str) -> None:
    try:
        subprocess.run(["psql", "--version"], check=True, capture_output=True)
    except OSError:
        pytest.skip("there is no psql here")
    text = "".join(script(App(fresh_dsn).queries))
    ran = subprocess.run(
        ["psql", fresh_dsn, "-X", "-q", "-v", "ON_ERROR_STOP=1"], input=text, capture_output=True, text=True
    )
    assert (ran.returncode, ran.stderr) == (0, "") and App(fresh_dsn).migrate() == []


def test_the_schema_may_vanish_under_a_running_app(fresh_dsn: str) -> None:
    app = App(fresh_dsn)
    app.migrate()
    app.enqueue("t")
    execute(fresh_dsn, "drop schema pgqueue cascade")
    with pytest.raises(SchemaMissing, match="run `pgqueue migrate`"):
        app.enqueue("t")
    app.migrate()
    app.enqueue("t")
    app.close()
