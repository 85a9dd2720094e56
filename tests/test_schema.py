"""The schema is made once, brought up to date by one at a time, and refused in words when it does not fit."""

import multiprocessing
import re
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from benchmarks.chaos.cluster import Cluster
from pgqueue import App, InvalidOption, NotAllowed, SchemaError, SchemaMissing, SchemaTooNew, SchemaTooOld, db
from pgqueue.queries import first_line, migrations, pieces, works_with
from pgqueue.schema.upgrade import migrate, newest, script, strangers
from tests.hands import Hands
from tests.shell import Shell

NAMES = [name for _, name in migrations()]

STRUCTURE = """
select format('%%s.%%s %%s %%s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull)
from pg_class as c join pg_attribute as a on a.attrelid = c.oid
where c.relnamespace = %(schema)s::text::regnamespace and a.attnum > 0
union all
select format('%%s %%s %%s %%s', relname, relkind, reloptions, relreplident)
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
    # Marks of jobs are called alike in all schemas.
    return sorted(re.sub(rf'"{schema}"\.|\b{schema}[._](?!lane)', "", line) for line in lines)


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
    execute(fresh_dsn, "delete from pgqueue.migration")
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


def test_newer_tables_that_this_code_may_run_on(fresh_dsn: str) -> None:
    """In the middle of a deploy an old worker restarts; each newer migration says down to which code that is safe."""
    app = App(fresh_dsn)
    app.migrate()
    columns = "pgqueue.migration (version, name, works_with)"
    execute(fresh_dsn, f"insert into {columns} values (9998, '9998_new.sql', {newest()}), (9999, '9999_more.sql', 1)")
    assert app.enqueue("t").state == "queued"
    assert app.migrate() == []  # as each start of an embedded server does
    with pytest.raises(SchemaTooNew, match="is at version 9999, newer than this code's"):  # it would take rights back
        app.migrate(roles=True)
    app.close()
    execute(fresh_dsn, f"update pgqueue.migration set works_with = {newest() + 1} where version = 9998")
    assert_refused(fresh_dsn, SchemaTooNew, f"is at version 9999, newer than this code's {newest()}")
    with pytest.raises(SchemaTooNew):
        app.migrate()


def test_every_migration_from_the_second_on_says_what_it_works_with(fresh_dsn: str) -> None:
    App(fresh_dsn).migrate()
    with psycopg.connect(fresh_dsn) as conn:
        rows = conn.execute("select version, works_with from pgqueue.migration order by 1").fetchall()
    assert rows == [(version, works_with(name)) for version, name in migrations()]
    assert rows[0] == (1, None) and all(1 <= oldest <= version for version, oldest in rows[1:])


def test_the_tables_of_the_first_code_are_brought_up_to_date(fresh_dsn: str) -> None:
    """As it left them: with its list of migrations, ended jobs, and the days that were made ahead."""
    app = App(fresh_dsn)
    for piece in pieces(app.queries.text("schema/prepare") + app.queries.text("migrations/0001_initial")):
        execute(fresh_dsn, piece)
    execute(fresh_dsn, "insert into pgqueue.migration (version, name) values (1, '0001_initial.sql')")
    execute(fresh_dsn, "select pgqueue.tidy(7, 7)")
    columns = "id, claim_token, run_at, created_at, state, attempt, crashes, priority, queue, task, args, kwargs"
    values = "gen_random_uuid(), 1, now(), now(), 'dead', 1, 0, 0, 'q', 't', '[]', '{}'"
    execute(fresh_dsn, f"insert into pgqueue.history ({columns}) values ({values})")
    assert_refused(fresh_dsn, SchemaTooOld, f"is at version 1 and this code needs {newest()}: run `pgqueue migrate`")
    assert app.migrate() == NAMES[1:]
    App(fresh_dsn, schema="fresh").migrate()
    assert structure(fresh_dsn) == structure(fresh_dsn, "fresh")
    (dead,) = app.jobs(state="dead")
    assert app.job(dead.id).retry() and app.job(dead.id).state == "queued"
    app.close()


def test_what_is_ours_is_told_from_what_is_not(fresh_dsn: str) -> None:
    """At each version: a table that we make later is a stranger until then."""
    app = App(fresh_dsn)
    names = {"event", "shelf", "colour", "count_up", "pg_trgm", "loans"}
    with psycopg.connect(fresh_dsn, autocommit=True) as conn, closing(app):
        for version, _ in migrations():
            db.run(conn, migrate(app.queries, schema="pgqueue", up_to=version))
            assert db.run(conn, strangers(app.queries)) == [], f"at {version}: is everything of ours in strangers.sql?"
            if version == 4:
                conn.execute("create table pgqueue.event (id serial)")
                conn.execute("create table pgqueue.shelf (id serial)")
                conn.execute("create type pgqueue.colour as enum ()")
                conn.execute("create view pgqueue.loans as select 1")
                conn.execute("create extension pg_trgm schema pgqueue")
                conn.execute("create function pgqueue.count_up() returns integer language sql as 'select 1'")
                found = db.run(conn, strangers(app.queries))
                assert {each.name for each in found} == names
                assert [each.name for each in found if each.is_needed] == ["event"]
                with pytest.raises(SchemaError, match=r"holds event, .*\(alter table pgqueue\.event set schema public"):
                    app.migrate()
                conn.execute("alter table pgqueue.event set schema public")
                for statement in ("table shelf", "type colour", "view loans", "function count_up"):
                    kind, name = statement.split()
                    conn.execute(f"drop {kind} pgqueue.{name}")
                conn.execute("drop extension pg_trgm")
        conn.execute("create table pgqueue.orders (id integer primary key)")
        assert [each.name for each in db.run(conn, strangers(app.queries))] == ["orders"]
        app.trigger("pgqueue.orders", on=["insert"], notify="orders")
        app.triggers.sync()
        assert [each.name for each in db.run(conn, strangers(app.queries))] == ["orders"]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("select 1; select 2", ["select 1;", "select 2"]),
        (
            "-- a; b\nselect ';', $$ ; $$, $x$ $$;$$ $x$, /* ; */ 1;\n-- end;\n",
            ["select ';', $$ ; $$, $x$ $$;$$ $x$, /* ; */ 1;"],
        ),
        ("select 'it''s; so', \"a;\" ;select 1", ["select 'it''s; so', \"a;\" ;", "select 1"]),
        ("-- why;\ndo $$\nbegin; end; $$;", ["why;"]),
        ("-- nothing;\n", []),
    ],
)
def test_a_text_is_cut_into_its_statements(text: str, lines: list[str]) -> None:
    assert [first_line(piece) for piece in pieces(text)] == lines


def test_an_account_that_may_make_no_schemas_uses_one_made_for_it(fresh_dsn: str) -> None:
    role = f"guest_{uuid.uuid4().hex[:8]}"
    dsn = make_conninfo(fresh_dsn, user=role)
    execute(fresh_dsn, f"create role {role} login")
    try:
        with pytest.raises(NotAllowed, match=f"may not create a schema .*`create schema pgqueue authorization {role}`"):
            App(dsn).migrate()
        # Somebody else's in which we may create, one of our own, and one for the printed script.
        execute(fresh_dsn, f"create schema pgqueue; create schema mine authorization {role}; create schema printed")
        with pytest.raises(
            NotAllowed, match=f"in the schema 'pgqueue': .*`grant usage, create on schema pgqueue to {role}`"
        ):
            App(dsn).migrate()
        execute(fresh_dsn, f"grant usage, create on schema pgqueue, printed to {role}")
        execute(dsn, "".join(script(App(dsn, schema="printed").queries)))
        for schema in "pgqueue", "mine", "printed":
            app = App(dsn, schema=schema)
            assert app.migrate() == ([] if schema == "printed" else NAMES) and app.migrate() == []
            assert app.enqueue("t").state == "queued"
            app.close()
    finally:
        execute(fresh_dsn, f"drop owned by {role} cascade; drop role {role}")


def test_a_failed_migration_leaves_nothing(fresh_dsn: str) -> None:
    # Its row type would have this name; nobody looks ahead for that.
    execute(fresh_dsn, "create schema pgqueue; create domain pgqueue.failures as integer")
    said = 'type "failures" already exists; this was `create view "pgqueue".failures as`, and nothing was changed'
    with pytest.raises(SchemaError, match=re.escape(said)):
        App(fresh_dsn).migrate()
    with psycopg.connect(fresh_dsn) as conn:
        names = "select relname::text from pg_class where relnamespace = 'pgqueue'::regnamespace"
        assert conn.execute(names).fetchall() == []
    execute(fresh_dsn, "drop domain pgqueue.failures")
    assert App(fresh_dsn).migrate() == NAMES


@pytest.mark.parametrize(
    ("theirs", "named"),
    [
        ("create table pgqueue.worker (mine int); create view pgqueue.jobs as select 1", "jobs, worker"),
        ("create table pgqueue.migration (id int)", "migration"),
        ("create function pgqueue.enqueue() returns int language sql as 'select 1'", "enqueue"),
        ("create type pgqueue.job_state as enum ('mine')", "job_state"),
    ],
)
def test_names_that_others_took_are_told_before_anything_is_written(fresh_dsn: str, theirs: str, named: str) -> None:
    execute(fresh_dsn, f"create schema pgqueue; {theirs}")
    count = "select count(*) from pg_depend join pg_namespace on refobjid = pg_namespace.oid where nspname = 'pgqueue'"
    with psycopg.connect(fresh_dsn, autocommit=True) as conn:
        before = conn.execute(count).fetchone()
        with pytest.raises(SchemaError, match=f"the schema 'pgqueue' holds {named}, which pgqueue did not create"):
            App(fresh_dsn).migrate()
        assert conn.execute(count).fetchone() == before
    execute(fresh_dsn, "create table pgqueue.attempts (id int)")  # not one of ours
    assert App(fresh_dsn, schema="other").migrate() == NAMES


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
    assert "%(" not in text and not re.search(r"\{\w", text)
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


# What Citus shows of itself and what it refuses, as far as migrate meets it. The product itself is tried outside of these tests.
CITUS = """
create function pg_catalog.citus_is_coordinator() returns boolean language sql as $$ select {coordinator} $$;
create table public.distributed (name text);
create view pg_catalog.citus_schemas as
  select oid::regnamespace as schema_name from pg_namespace join public.distributed on nspname = name;
create function public.spread() returns event_trigger language plpgsql as $$
begin
  if tg_tag = 'CREATE SCHEMA' and current_setting('citus.enable_schema_based_sharding', true) is distinct from 'off' then
    raise 'a schema that is sharded';
  elsif not {coordinator} and tg_tag in ('CREATE SCHEMA', 'CREATE TYPE', 'CREATE FUNCTION')
    and current_setting('citus.enable_ddl_propagation', true) is distinct from 'off'
  then
    raise 'operation is not allowed on this node';
  end if;
end $$;
"""
TRIGGER = "create event trigger spread on ddl_command_end execute function public.spread()"


@pytest.fixture(scope="module")
def citus() -> Iterator[Callable[[bool], str]]:
    """Makes databases with a stand-in for the extension; that takes a server of one's own, PostgreSQL 18."""
    with Cluster(allow_system_table_mods="on", fsync="off") as cluster:
        with cluster.connect() as conn:
            if conn.info.server_version < 180000:
                pytest.skip("extension_control_path came with PostgreSQL 18")
        folder = cluster.home / "extension"
        folder.mkdir()
        (folder / "citus.control").write_text("default_version = '1'\n")
        cluster.settings["extension_control_path"] = f"{cluster.home}:$system"
        cluster.restart()

        def make(coordinator: bool) -> str:
            (folder / "citus--1.sql").write_text(CITUS.format(coordinator=str(coordinator).lower()))
            name = f"citus_{uuid.uuid4().hex[:8]}"
            with cluster.connect() as conn:
                conn.execute(f"create database {name}")
            with cluster.connect(name) as conn:
                conn.execute("create extension citus")
                conn.execute(TRIGGER)
            return cluster.dsn(name)

        yield make


@pytest.mark.parametrize("coordinator", [True, False])
def test_on_citus_the_tables_are_local(citus: Callable[[bool], str], coordinator: bool) -> None:
    dsn = citus(coordinator)
    with pytest.raises(psycopg.errors.RaiseException, match="a schema that is sharded"):
        execute(dsn, "create schema pgqueue")
    app = App(dsn)
    assert app.migrate() == NAMES and app.enqueue("t").state == "queued"
    app.close()
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("".join(script(App(dsn, schema="printed").queries)))
        for name in "citus.enable_schema_based_sharding", "citus.enable_ddl_propagation":  # for the transaction alone
            assert conn.execute("select nullif(current_setting(%s, true), '')", [name]).fetchone() == (None,)


def test_a_schema_that_citus_has_distributed_is_refused(citus: Callable[[bool], str], shell: Shell) -> None:
    dsn = citus(True)
    execute(dsn, "drop event trigger spread; create schema pgqueue; insert into public.distributed values ('pgqueue')")
    said = 'the schema "pgqueue" is distributed by Citus, .*: take another schema .*citus_schema_undistribute'
    with pytest.raises(SchemaError, match=said):
        App(dsn).migrate()
    assert App(dsn, schema="other").migrate() == NAMES
    execute(dsn, "truncate public.distributed")
    App(dsn).migrate()
    execute(dsn, "insert into public.distributed values ('pgqueue')")
    found = shell.text("doctor", dsn=dsn)
    assert found.returncode == 1 and "is distributed by Citus" in found.stdout
