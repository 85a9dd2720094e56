"""Whatever a database, a role or a caller's session is set to, we write and read the same, and change nothing of the caller's."""

import ast
import asyncio
import contextlib
import importlib
import json
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_type_hints

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from benchmarks.chaos import pooler
from benchmarks.chaos.cluster import Cluster
from benchmarks.chaos.pooler import Pooler
from pgqueue import App, ConfigError, InvalidArguments, NotAllowed, db
from pgqueue.client.handle import Job
from pgqueue.db import narrow
from pgqueue.db.doors.text import ROOM_FOR_A_BELL
from pgqueue.ops import stats
from pgqueue.queries import Queries
from pgqueue.queries.client import UNGATED
from tests.answers import one_value
from tests.conftest import Worker, eventually
from tests.hands import Hands
from tests.servers import shop_server

SQL = Path(__file__).parent.parent / "pgqueue" / "sql"
DUE = datetime(2030, 3, 4, 5, 6, 7, 891011, tzinfo=UTC)  # a day and a month that can be taken for one another

SETTINGS = {
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Kathmandu",
    "array_nulls": "off",
    "bytea_output": "escape",
    "extra_float_digits": "0",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "search_path": "shop, pg_catalog",
    "statement_timeout": "1s",
    "lock_timeout": "100ms",
    "idle_in_transaction_session_timeout": "1s",
    "transaction_timeout": "1s",
    "idle_session_timeout": "1s",
    "standard_conforming_strings": "off",
}
OTHERS = {
    "DateStyle": ["German, YMD", "Postgres, MDY", "ISO, DMY"],
    "IntervalStyle": ["iso_8601", "postgres_verbose"],
    "default_transaction_isolation": ["repeatable read"],
    "TimeZone": ["<+0545>-5:45"],
}
TIMEOUTS = ["idle_session_timeout", "statement_timeout", "transaction_timeout"]
EACH = list(SETTINGS.items()) + [(name, v) for name, vs in OTHERS.items() for v in vs]


@contextlib.contextmanager
def patient(dsn: str) -> Iterator[psycopg.Connection]:
    """A test's own session, without the timeouts that this server knows."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        for (name,) in conn.execute("select name from pg_settings where name = any (%s)", [TIMEOUTS]).fetchall():
            conn.execute(f"set {name} = 0")
        yield conn


def set_for_all(dsn: str, settings: dict[str, str]) -> None:
    """For every new session in this database, if the server knows the setting. A test's own session is to live for longer."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        known = {name.lower() for (name,) in conn.execute("select name from pg_settings")}
        for name, value in settings.items():
            if name.lower() in known:
                text = value if name == "search_path" else f"'{value}'"
                conn.execute(f"alter database {conn.info.dbname} set {name} = {text}")


@pytest.fixture
def odd(fresh_dsn: str, request: pytest.FixtureRequest) -> str:
    """A database with settings of the test's, and our tables."""
    set_for_all(fresh_dsn, request.param)
    App(fresh_dsn).migrate()
    return fresh_dsn


def shop(dsn: str, **settings: Any) -> Any:
    """A task of an app of its own, found by name when a worker of tests.tasks runs it."""
    app = App(dsn, **settings)

    def echo(value: Any) -> Any: ...

    return app.task(name="tests.tasks.echo")(echo)


def look(job: Job[Any]) -> tuple[Any, ...]:
    found = job.snapshot()
    return (found.state, found.run_at, json.loads(found.args), found.error)


def assert_all_is_well(dsn: str, send: Any, conn: psycopg.Connection | None) -> None:
    """Put jobs in by every way, run them by hand on a connection of ours, and read them back."""
    app = send.app
    sends = partial(send.options, conn=conn)
    one = sends(at=DUE).defer("Ä")
    many = [*sends(at=DUE, expires=timedelta(days=3000)).defer_many([("b",), ("c",)])]
    keyed = [*sends(unique=True, at=DUE).defer_many([("d",), ("d",), ("e",)])]
    late = sends(delay=timedelta(hours=1, seconds=0.5)).defer("f")
    now = [sends(timeout=0.1).defer("g"), *sends(timeout=0.1).defer_many([("h",)])]
    assert keyed[0].id == keyed[1].id != keyed[2].id
    for job, value in zip([one, *many, *keyed], ["Ä", "b", "c", "d", "d", "e"], strict=True):
        assert look(job) == ("scheduled", DUE, [value], None)
    assert [job.snapshot().run_at.utcoffset() is not None for job in many] == [True, True]
    due = late.snapshot()
    assert abs((due.run_at - due.created_at).total_seconds() - 3600.5) < 0.01
    with db.connect(dsn) as line:
        hands = Hands(line, app.queries)
        db.run(line, db.plan_steadily(line, app.queries))
        first, second = hands.claim()
        assert (first.timeout_s, second.timeout_s) == (0.1, 0.1) and 0 <= first.age_s < 60
        db.run(
            line,
            app.queries.progress(worker=hands.id, ids=[first.id], tokens=[first.token], fractions=[0.1], notes=[None]),
        )
        assert (app.job(first.id).snapshot().progress, app.job(first.id).snapshot().progress_note) == (0.1, None)
        hands.finish([first], result=None)
        hands.settle(second, "dead", None)
    assert look(app.job(second.id))[::3] == ("dead", None)
    assert app.job(second.id).retry()
    with db.connect(dsn) as line:
        (alive,) = db.run(line, app.queries.alive())
        Hands(line, app.queries).run_all('"done"')
    assert alive == 1 and now[1].result(60) == "done"
    assert app.run(stats.gather(app.queries)).to_json()["workers"]
    assert {job.id for job in app.jobs()} >= {one.id, late.id, now[1].id}
    app.run(app.queries.tidy(keep_succeeded_days=7, keep_dead_days=7))
    app.run(app.queries.prune())
    app.close()


@pytest.mark.parametrize("odd", [{name: value} for name, value in EACH], ids=lambda each: str(each), indirect=True)
def test_a_setting_of_the_database(odd: str) -> None:
    assert_all_is_well(odd, shop(odd), None)


CALLERS = {name: value for name, value in SETTINGS.items() if "timeout" not in name}  # a caller's own is his own


@pytest.mark.parametrize("odd", [SETTINGS], ids=["all"], indirect=True)
def test_our_own_sessions_are_as_we_need_them(odd: str) -> None:
    with db.connect(odd) as line, db.connect(odd, private=False) as tasks:
        shown = {name: one_value(line, f"select current_setting('{name}', true)") for name in SETTINGS}
        theirs = {name: one_value(tasks, f"select current_setting('{name}', true)") for name in SETTINGS}
    assert {name: value for name, value in shown.items() if "timeout" in name and value not in ("0", None)} == {}
    assert (shown["default_transaction_isolation"], shown["array_nulls"], shown["TimeZone"]) == (
        "read committed",
        "on",
        "UTC",
    )
    assert (shown["DateStyle"], shown["search_path"]) == ("ISO, YMD", "pg_catalog, pg_temp")
    assert {
        name: value for name, value in theirs.items() if value not in (SETTINGS[name], None)
    } == {}  # user code runs there


@pytest.mark.parametrize("odd", [CALLERS], ids=["all"], indirect=True)
def test_all_of_them_on_a_callers_connection_which_stays_as_it_was(odd: str) -> None:
    shown = "select name, setting from pg_settings order by name"
    with psycopg.connect(odd, autocommit=True) as caller:
        before = caller.execute(shown).fetchall()
        assert ("DateStyle", "SQL, DMY") in before
        assert_all_is_well(odd, shop(odd), caller)
        assert caller.execute(shown).fetchall() == before


@pytest.mark.parametrize("odd", [SETTINGS], ids=["all"], indirect=True)
def test_all_of_them_for_a_worker(odd: str, start_worker: Callable[..., Worker]) -> None:
    send = shop(odd)
    jobs = [send.defer(n) for n in range(3)]
    forgets = send.app.enqueue("tests.tasks.forget")
    atomic = send.app.enqueue("tests.tasks.answer_atomically", [[1.5, None]])
    fails = send.app.enqueue("tests.tasks.wrong_kind")
    worker = start_worker("-c", "2", "--burst", dsn=odd)
    assert worker.wait() == 0, worker.output
    assert [job.result(60) for job in jobs] == [0, 1, 2] and atomic.result(60) == [1.5, None]
    assert fails.state == "dead" and "not an OSError" in (fails.snapshot().error or "")
    assert "trying again" not in worker.output
    with patient(odd) as conn:
        assert conn.execute("select count(*) from pgqueue.jobs where id = %s", [forgets.id]).fetchone() == (0,)
    send.app.close()


async def _async_defers(send: Any, dsn: str) -> list[datetime]:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as caller:
        jobs = [
            await send.options(at=DUE).defer_async(1),
            await send.options(at=DUE, conn=caller).defer_async(2),
            *await send.options(at=DUE, conn=caller).defer_many_async([(3,)]),
        ]
        return [(await asyncio.to_thread(job.snapshot)).run_at for job in jobs]


@pytest.mark.parametrize("odd", [CALLERS], ids=["all"], indirect=True)
def test_all_of_them_for_asyncio(odd: str) -> None:
    assert asyncio.run(_async_defers(shop(odd), odd)) == [DUE] * 3


@pytest.mark.parametrize("odd", [SETTINGS], ids=["all"], indirect=True)
def test_a_slow_copy_of_ours_outlives_the_roles_timeouts(odd: str) -> None:
    """Its rows come out of the caller's generator, here one that waits longer than each of them."""
    with patient(odd) as conn:

        def calls() -> Iterator[tuple[int]]:
            yield (1,)
            conn.execute("select pg_sleep(1.5)")
            yield (2,)

        assert len(shop(odd).defer_many(calls())) == 2


def role_of(fresh_dsn: str, settings: dict[str, str]) -> tuple[str, str]:
    """A DSN of a role that owns the database, with these settings of its own; and its name."""
    role = f"odd_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(fresh_dsn, autocommit=True) as conn:
        conn.execute(f"create role {role} login")
        conn.execute(f"alter database {conn.info.dbname} owner to {role}")
        for name, value in settings.items():
            conn.execute(f"alter role {role} set {name} = '{value}'")
    return make_conninfo(fresh_dsn, user=role), role


def defers(send: Any) -> Job[Any] | None:
    try:
        job: Job[Any] = send.defer(2)
    except NotAllowed:
        return None
    return job


def drop_role(fresh_dsn: str, role: str) -> None:
    with psycopg.connect(fresh_dsn, autocommit=True) as conn:
        conn.execute(f"reassign owned by {role} to current_user; drop owned by {role}; drop role {role}")


def test_a_read_only_default_is_named_with_its_cure(fresh_dsn: str, start_worker: Callable[..., Worker]) -> None:
    said = "default_transaction_read_only is on for role odd_.* alter role or database .* options=-cdefault_transaction_read"
    dsn, role = role_of(fresh_dsn, {"default_transaction_read_only": "on"})
    try:
        with pytest.raises(NotAllowed, match=said):
            App(dsn).migrate()
        App(fresh_dsn).migrate()
        with psycopg.connect(fresh_dsn, autocommit=True) as conn:
            conn.execute(f"grant usage on schema pgqueue to {role}")
            conn.execute(f"grant all on all tables in schema pgqueue to {role}")
            conn.execute(f"grant all on all sequences in schema pgqueue to {role}")
        send = shop(dsn)
        assert send.app.jobs() == []  # who only reads is not disturbed
        with pytest.raises(NotAllowed, match=said) as caught:
            send.defer(1)
        assert "\n" not in str(caught.value)
        with pytest.raises(NotAllowed, match=said):
            send.defer_many([(1,)])
        with pytest.raises(NotAllowed, match=said):
            asyncio.run(send.defer_async(1))
        worker = start_worker("-c", "1", dsn=dsn)
        assert worker.wait() != 0 and re.search(said, worker.output)
        cured = shop(make_conninfo(dsn, options="-cdefault_transaction_read_only=off"))
        assert cured.defer(1).state == "queued"
        with psycopg.connect(fresh_dsn, autocommit=True) as conn:
            conn.execute(f"alter role {role} reset default_transaction_read_only")
        # And the other one, in the same process: its pool may still hold a session from before.
        assert eventually(partial(defers, send), what="it writes").state == "queued"
        send.app.close()
        cured.app.close()
    finally:
        drop_role(fresh_dsn, role)


RESULT_TYPES = {
    "bigint", "bigint[]", "boolean", "date", "double precision", "integer", "jsonb", "smallint", "smallint[]", "text", "text[]",
    "timestamp with time zone", "timestamp with time zone[]", "uuid", "void",
}  # fmt: skip


TYPED = {
    "succeeded": "int",
    "failed": "int",
    "dead": "int",
    "cancelled": "int",
    "count_limit": "bigint",
    "queue_limit": "bigint",
}
READS = re.compile(r"^(select|with|insert|update|delete|\()", re.MULTILINE)
NOT_READ = (
    "migrations/", "roles/create", "roles/grant", "client/insert_", "lease/beat_", "events/window", "events/wanted",
    "ops/poked", "triggers/forget", "triggers/record.", "triggers/state", "triggers/try",
)  # fmt: skip


def test_all_answers_are_of_types_that_are_read_from_binary(app: App, conn: psycopg.Connection) -> None:
    """An enum would arrive as bytes, and a real as 0.10000000149: they are turned into text or float8 where they are selected."""
    if conn.info.server_version < 160000:
        pytest.skip("this server does not tell the types of a prepared statement")
    seen = set()
    for file in sorted(SQL.rglob("*.sql")):
        name = str(file.relative_to(SQL).with_suffix(""))
        if f"{name}.".startswith(NOT_READ) or not READS.search(file.read_text("utf-8")):
            continue
        conn.execute(_prepared(app.queries, name))
        ((types,),) = conn.execute("select result_types::text[] from pg_prepared_statements where name = 'asked'")
        conn.execute("deallocate asked")
        assert set(types or ()) <= RESULT_TYPES, name
        seen.add(name)
    assert {
        "worker/claim",
        "worker/heads",
        "client/job",
        "ops/jobs/window",
        "lease/beat",
        "worker/finish",
        "ops/why",
        "ops/stats_queues",
        "ops/doctor/server",
    } <= seen, seen


def typed_statements() -> dict[str, str]:
    """The file of each statement whose rows have a type, and the name of that type; from the builders' sources."""
    found = {}
    for path in sorted((SQL.parent / "queries").glob("*.py")):
        for builder in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(builder, ast.FunctionDef):
                continue
            calls = [node for node in ast.walk(builder) if isinstance(node, ast.Call)]
            of = {
                ast.unparse(node.func): str(node.args[0].value)
                for node in reversed(calls)
                if node.args and isinstance(node.args[0], ast.Constant)
            }
            file = of.get("self._say") or of.get("self.text") or of.get("sql_file", "").removesuffix(".sql")
            rows = [node.args[1] for node in calls if len(node.args) == 2 and ast.unparse(node.func) == "self._say"]
            makers = [word.value for node in calls for word in node.keywords if word.arg == "row"]
            rows += [
                maker.value for maker in makers if isinstance(maker, ast.Attribute) and maker.attr in ("_make", "of")
            ]
            if file and rows:
                found[file] = f"{path.stem}.{ast.unparse(rows[0])}"
    return found


def fields_of(row: type, columns: Sequence[str] = ()) -> list[str]:
    """The names of a NamedTuple's fields; one that is a NamedTuple itself, or may be, stands for those of its own, unless it
    comes in one of the columns, as JSON."""
    names = []
    for name, kind in get_type_hints(row).items():
        parts = [part for part in (kind, *get_args(kind)) if hasattr(part, "_fields")]
        names += fields_of(parts[0]) if parts and name not in columns else [name]
    return names


def test_the_columns_of_each_typed_statement_are_the_fields_of_its_rows(app: App, conn: psycopg.Connection) -> None:
    """Rows are read by the names of a type; a column that is added in the middle must not give each the next one's value."""
    typed = typed_statements()
    assert {"worker/claim", "client/job", "client/insert", "lease/beat", "ops/why", "ops/doctor/server"} <= typed.keys()
    assert {"client/session_of_others", "ops/stats_current", "ops/jobs/window"} <= typed.keys()
    assert len(typed) >= 35
    for file, row in typed.items():
        module, name = row.split(".")
        conn.execute(_prepared(app.queries, file))
        told = conn.pgconn.describe_prepared(b"asked")
        columns = [(told.fname(number) or b"").decode() for number in range(told.nfields)]
        conn.execute("deallocate asked")
        fields = fields_of(getattr(importlib.import_module(f"pgqueue.queries.{module}"), name), columns)
        assert [column for column in columns if column] == fields, file


def test_a_statement_whose_rows_are_values_has_one_column(app: App, conn: psycopg.Connection) -> None:
    sources = "".join(path.read_text("utf-8") for path in (SQL.parent / "queries").glob("*.py"))
    files = re.findall(r'self\._values\("([\w/]+)"', sources)
    assert "ops/stats_sample_dead" in files
    for file in files:
        conn.execute(_prepared(app.queries, file))
        assert conn.pgconn.describe_prepared(b"asked").nfields == 1, file
        conn.execute("deallocate asked")


def _prepared(queries: Queries, name: str) -> str:
    poked = {"poked": (SQL / "ops" / "poked.sql").read_text().rstrip()}
    pieces = {
        "client/insert": {
            "source": (SQL / "client" / "insert_source_one.sql").read_text(),
            "on_conflict": "",
            "period": "",
            **UNGATED,
            "calm": "",
        },
        "lease/beat": {"jobs": (SQL / "lease" / "beat_asks_jobs.sql").read_text()},
        "schema/applied": {"version": "1", "name": "x", "works_with": "null"},
        "ops/jobs/of_state": {"source": (SQL / "ops" / "jobs" / "by_due.sql").read_text()},
        "ops/jobs/window": {"live": "true", "states": "'dead'"},
        **dict.fromkeys(("ops/cancel", "ops/purge", "ops/poke", "ops/take_back"), poked),
        "ops/jobs/purge_window": {"table": "history_ended", "finished_at": "finished_at", "states": "'dead'"},
    }
    of_events = {
        part: (SQL / "events" / f"{file}.sql").read_text()
        for part, file in (("window", "window"), ("wanted", "wanted_by_lane"))
    }
    text = queries.text(name, **pieces.get(name, of_events))
    text = "\n".join(line for line in text.splitlines() if not line.startswith("--")).strip().rstrip(";")
    places = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", text)))
    for number, place in enumerate(places, 1):
        text = text.replace(f"%({place})s", f"${number}")
    types = ", ".join(TYPED.get(place, "unknown") for place in places)
    return f"prepare asked {f'({types})' if types else ''} as {text.replace('%%', '%')}"


def test_no_text_of_ours_holds_a_backslash() -> None:
    """On a caller's connection with standard_conforming_strings off it would mean something else."""
    assert [file.name for file in SQL.rglob("*.sql") if "\\" in file.read_text("utf-8")] == []


@pytest.fixture(scope="module")
def two_phase() -> Iterator[Cluster]:
    """A server of this module's own that prepares transactions, which few do."""
    with shop_server(max_prepared_transactions="5") as cluster:
        yield cluster


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("notify", ["idle", "always"])
def test_a_two_phase_transaction_with_jobs_in_it(two_phase: Cluster, end: str, notify: str) -> None:
    send = shop(two_phase.dsn("shop"), notify=notify)
    app = send.app
    waiting, ended = send.options(delay=3600).defer("waits"), app.enqueue("t")
    assert ended.cancel()
    with two_phase.connect("shop") as ear, psycopg.connect(two_phase.dsn("shop")) as caller:
        Hands(ear, app.queries).sleep()
        ear.execute('listen "pgqueue_jobs"')
        caller.tpc_begin(caller.xid(1, f"{end}-{notify}", "here"))
        put = [send.options(conn=caller).defer(1), *send.options(conn=caller).defer_many([(2,)])]
        put += send.options(conn=caller, unique=True).defer_many([((end, notify, n),) for n in (3, 4)])
        with app.using(caller):
            assert waiting.cancel() and ended.retry()
            app.pause("default")
            assert app.resume("default")
        caller.tpc_prepare()
        (caller.tpc_commit if end == "commit" else caller.tpc_rollback)()
        there = ear.execute(
            "select count(*) from pgqueue.job where id = any (%s)", [[job.id for job in put]]
        ).fetchone()
        assert there == (4 if end == "commit" else 0,)
        assert list(ear.notifies(timeout=0.1)) == []
        # The next transaction on the same connection is an ordinary one.
        send.options(conn=caller).defer(5)
        caller.commit()
        assert len(list(ear.notifies(timeout=60, stop_after=1))) == 1
    app.close()


def test_a_two_phase_transaction_of_asyncio(two_phase: Cluster) -> None:
    send = shop(two_phase.dsn("shop"))

    async def scenario() -> str:
        async with await psycopg.AsyncConnection.connect(two_phase.dsn("shop")) as caller:
            await caller.tpc_begin("async")
            job = await send.options(conn=caller).defer_async(1)
            await caller.tpc_prepare()
            await caller.tpc_commit()
            return str(job.id)

    assert send.app.job(asyncio.run(scenario())).state == "queued"
    send.app.close()


def test_prepared_by_hand_with_an_app_that_never_rings(two_phase: Cluster) -> None:
    with two_phase.connect("shop") as caller:
        for notify, said in (
            ("idle", "cannot PREPARE a transaction that has executed LISTEN, UNLISTEN, or NOTIFY"),
            ("never", None),
        ):
            send = shop(two_phase.dsn("shop"), notify=notify)
            caller.execute("begin")
            send.options(conn=caller).defer(notify)
            try:
                caller.execute("prepare transaction 'by hand'")
                caller.execute("commit prepared 'by hand'")
            except psycopg.errors.FeatureNotSupported as error:
                assert said == str(error)
            else:
                assert said is None and send.app.jobs()[0].args == '["never"]'
            send.app.close()


def test_each_bell_asks_for_room_first() -> None:
    """By that it is silenced in a two-phase transaction."""
    files = [file for file in SQL.rglob("*.sql") if "migrations" not in file.parts]
    counts = {
        file.name: (file.read_text("utf-8").count("pg_notify("), file.read_text("utf-8").count(ROOM_FOR_A_BELL))
        for file in files
    }
    assert sum(bells for bells, _ in counts.values()) >= 10
    assert {name for name, (bells, asks) in counts.items() if bells != asks} == set()


@pytest.fixture(params=["LATIN1", "SQL_ASCII", "WIN1252", "EUC_JP"])
def narrow_dsn(server_dsn: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A migrated database in another encoding."""
    name = f"narrow_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_dsn, autocommit=True) as admin:
        admin.execute(f"create database {name} encoding '{request.param}' locale 'C' template template0")
        yield make_conninfo(server_dsn, dbname=name)
        admin.execute(f"drop database {name} with (force)")


@pytest.mark.parametrize(
    "said",
    [
        "permission denied for table job",
        "keine Berechtigung für Tabelle job",
        "droit refusé pour la table « job »",
        "テーブルjobへのアクセスが拒否されました",
        "对表 job 权限不够",
        "нет доступа к таблице job",
    ],
)
def test_a_right_that_is_missing_is_told_in_any_language_of_the_server(said: str) -> None:
    (ours,) = {type(db.explain(psycopg.errors.InsufficientPrivilege(said), schema="pgqueue"))}
    theirs = psycopg.errors.InsufficientPrivilege(said.replace("job", "jobs_of_mine"))
    assert ours is NotAllowed and db.explain(theirs, schema="pgqueue") is None


def test_roles_for_a_login_that_becomes_another_role(fresh_dsn: str) -> None:
    dsn, role = role_of(fresh_dsn, {})
    schema, group = f"as_{uuid.uuid4().hex[:8]}", f"{role}_group"
    with psycopg.connect(fresh_dsn, autocommit=True) as conn:
        conn.execute(f"create role {group} createrole")
        conn.execute(f"grant {group} to {role}")
        conn.execute(f"grant create on database {conn.info.dbname} to {group}")
        conn.execute(f"alter role {role} noinherit; alter role {role} set role = '{group}'")
    app = App(dsn, schema=schema)
    try:
        assert app.migrate(roles=True) and app.migrate(roles=True) == []
        assert app.enqueue("t").state == "queued"
        app.close()
    finally:
        with psycopg.connect(fresh_dsn, autocommit=True) as conn:
            for name in app.config.roles.values():
                conn.execute(f"drop owned by {name} cascade; drop role {name}")
            conn.execute(f"drop owned by {group} cascade; drop role {group}")
        drop_role(fresh_dsn, role)


HARD = "\u20ac \U0001f600 \u65e5\u672c \u00e4"  # no encoding but UTF8 has all of them


def test_an_encoding_that_cannot_hold_every_text(
    narrow_dsn: str, start_worker: Callable[..., Worker], caplog: pytest.LogCaptureFixture
) -> None:
    with psycopg.connect(narrow_dsn) as conn:
        encoding = str(conn.info.parameter_status("server_encoding"))
    warned = f"the database's encoding is {encoding}, which cannot hold every text"
    escaped = HARD.encode("unicode_escape").decode()
    assert App(narrow_dsn).migrate() and warned in caplog.text
    send = shop(narrow_dsn)
    refused = 0
    for bulk in (False, True):
        for unique in (False, True):
            sends = send.options(unique=unique)
            try:
                (job,) = sends.defer_many([(HARD + str(bulk),)]) if bulk else [sends.defer(HARD)]
                assert json.loads(job.snapshot().args) == [HARD + (str(bulk) if bulk else "")]
            except InvalidArguments as error:
                refused += 1
                assert "\n" not in str(error) and "recreate the database with encoding UTF8" in str(error)
    assert refused == (0 if encoding == "SQL_ASCII" else 4)
    errs, tells = (send.app.enqueue("tests.tasks.tell", [escaped, how]) for how in ("error", "note"))
    worker = start_worker("-c", "2", "--burst", dsn=narrow_dsn)
    noted = eventually(lambda: tells.snapshot().progress_note, what="the note came through")
    assert worker.wait() == 0 and warned in worker.output and "trying again" not in worker.output
    assert errs.state == "dead" and tells.state == "succeeded"
    shown = HARD.encode(narrow._codec(encoding), "backslashreplace").decode(narrow._codec(encoding))
    assert r"\U0001f600" in shown and (noted, errs.snapshot().error) == (shown, f"ValueError: {shown}")
    late = send.options(delay=60).defer("x")
    assert late.cancel(reason=HARD) and late.snapshot().error == shown
    assert send.app.run(stats.gather(send.app.queries)).to_json()
    send.app.close()


@pytest.mark.skipif(pooler.find() is None, reason="pgbouncer is not installed (Debian: apt-get install pgbouncer)")
def test_behind_a_pooler_where_nothing_can_be_set() -> None:
    with Cluster(fsync="off") as cluster, Pooler(cluster, sessions=2) as made:
        with cluster.connect() as admin:
            admin.execute("create database shop")
            admin.execute("alter database shop set array_nulls = off")
        direct, pooled = cluster.dsn("shop"), cluster.dsn("shop", port=made.port)
        App(direct).migrate()
        said = "array_nulls is off behind a pooler, .*: alter the role or the database to set array_nulls = on"
        with pytest.raises(ConfigError, match=said):
            shop(pooled).defer(1)
        with cluster.connect() as admin:
            admin.execute("alter database shop reset array_nulls")
            admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = 'shop'")
            rest = {name: value for name, value in CALLERS.items() if name != "array_nulls"}
        set_for_all(direct, rest)
        send = shop(pooled)
        jobs = [send.options(at=DUE).defer(1), *send.options(at=DUE).defer_many([(2,)])]
        assert [look(job)[:2] for job in jobs] == [("scheduled", DUE)] * 2
        now = [send.defer(n) for n in range(20)]
        assert Worker(pooled, "-c", "2", "--burst").wait() == 0
        assert [job.result(60) for job in now] == list(range(20))
        send.app.close()
