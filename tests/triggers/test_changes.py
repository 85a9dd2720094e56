"""Which changes of a table make which jobs, events and notifications, on real tables."""

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from pgqueue import App
from pgqueue.channels.items import Listening, Notification
from tests.conftest import Worker, eventually
from tests.triggers.conftest import Shop

ALL = ["insert", "update", "delete", "truncate"]


@pytest.fixture(params=["statement", "row"])
def each(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_job_for_each_change(shop: Shop, each: str) -> None:
    shop.trigger(on=ALL, each=each)
    shop.sql("insert into shop.users values (1, 'a'), (2, 'b')")
    assert shop.jobs() == [["insert", 1], ["insert", 2]]
    shop.sql("update shop.users set plan = 'pro' where id = 2")
    assert shop.jobs() == [["update", 2]]
    shop.sql("delete from shop.users where id = 1")
    assert shop.jobs() == [["delete", 1]]
    shop.sql("truncate shop.users cascade")
    assert shop.jobs() == [["truncate"]]
    shop.sql("update shop.users set plan = 'none' where false")
    assert shop.jobs() == []


def test_a_rolled_back_change_makes_none(shop: Shop, each: str) -> None:
    shop.trigger(on=["insert"], each=each)
    with shop.conn.transaction(force_rollback=True):
        shop.sql("insert into shop.users values (1)")
    assert shop.jobs() == []


def test_24_unchanged_columns_make_none(shop: Shop, each: str) -> None:
    shop.trigger(on=["update"], columns=["email", "plan"], each=each)
    shop.sql("insert into shop.users select n, 'a', 'free' from generate_series(1, 100) as n")
    shop.sql("update shop.users set seen = now(), bio = '{}'")
    shop.sql("update shop.users set email = email, plan = 'free'")
    assert shop.jobs() == []
    shop.sql("update shop.users set plan = null where id = 7")
    shop.sql("update shop.users set email = id::text where id <= 2")
    assert shop.jobs() == [["update", 1], ["update", 2], ["update", 7]]


def test_without_columns_each_change_counts_also_of_a_type_without_equality(shop: Shop, each: str) -> None:
    shop.trigger(on=["update"], each=each)
    shop.sql("insert into shop.users (id, bio) values (1, '{}')")
    shop.sql("update shop.users set bio = '{}'")
    assert shop.jobs() == []
    shop.sql("update shop.users set bio = '[]'")
    assert shop.jobs() == [["update", 1]]


def test_columns_of_types_without_a_usable_equality(shop: Shop, each: str) -> None:
    shop.sql("create type shop.mood as enum ('well', 'ill'); create domain shop.note as json")
    shop.sql("create table shop.odd (id shop.mood primary key, area box, note shop.note, tags text[], mood shop.mood)")
    shop.trigger("shop.odd", on=["update"], columns=["area", "note", "tags", "mood"], each=each)
    shop.sql("insert into shop.odd values ('well', '((0,0),(2,2))', '{}', '{a}', 'well')")
    shop.sql("update shop.odd set note = '{}', tags = '{a}'")
    assert shop.jobs() == []
    for change in ("area = '((1,1),(3,3))'", "note = '[]'", "tags = '{b}'", "mood = 'ill'"):
        shop.sql(f"update shop.odd set {change}")
        assert shop.jobs() == [["update", "well"]], change


def test_when(shop: Shop, each: str) -> None:
    shop.trigger(on=["insert", "update"], when="new.plan = 'pro' -- '", each=each)
    shop.sql("insert into shop.users (id, plan) values (1, 'pro'), (2, 'free'), (3, null)")
    assert shop.jobs() == [["insert", 1]]
    shop.sql("update shop.users set plan = 'pro', seen = now()")
    assert shop.jobs() == [["update", 1], ["update", 2], ["update", 3]]
    shop.sql("update shop.users set plan = 'free'")
    assert shop.jobs() == []


def test_when_compares_with_what_was(shop: Shop, each: str) -> None:
    shop.trigger(on=["update"], when="old.plan = 'free' and new.plan = 'pro'", each=each)
    shop.sql("insert into shop.users (id, plan) values (1, 'pro'), (2, 'free')")
    shop.sql("update shop.users set plan = 'pro', seen = now()")
    assert shop.jobs() == [["update", 2]]


def test_25_a_changed_key_is_a_delete_and_an_insert(shop: Shop, each: str) -> None:
    shop.trigger(on=["update"], each=each)
    shop.sql("insert into shop.users values (1), (2)")
    shop.sql("update shop.users set id = 11 where id = 1")
    assert shop.jobs() == [["delete", 1], ["insert", 11]]


def test_25_on_conflict_counts_only_what_it_did(shop: Shop, each: str) -> None:
    shop.trigger(on=["insert", "update"], each=each)
    upsert = (
        "insert into shop.users values (1, 'a'), (2, 'b') on conflict (id) do update set email = excluded.email || '!'"
    )
    shop.sql("insert into shop.users values (1, 'x')")
    assert shop.jobs() == [["insert", 1]]
    shop.sql(upsert)
    assert shop.jobs() == [["insert", 2], ["update", 1]]
    shop.sql("insert into shop.users values (1) on conflict do nothing")
    assert shop.jobs() == []


def test_25_copy(shop: Shop, each: str) -> None:
    shop.trigger(on=["insert"], each=each)
    with shop.conn.cursor() as cursor, cursor.copy("copy shop.users (id) from stdin") as copy:
        for number in range(3):
            copy.write_row([number])
    assert shop.jobs() == [["insert", 0], ["insert", 1], ["insert", 2]]


def test_25_a_cascade(shop: Shop, each: str) -> None:
    shop.trigger("shop.orders", on=["update", "delete"], each=each)
    shop.sql("insert into shop.users values (1), (2)")
    shop.sql("insert into shop.orders values (7, 1), (8, 2)")
    shop.sql("update shop.users set id = 9 where id = 2")
    assert shop.jobs() == [["update", 8]]
    shop.sql("delete from shop.users where id = 1")
    assert shop.jobs() == [["delete", 7]]


PARTITIONED = """
create table shop.visits (id int, day int, page text, primary key (id, day)) partition by range (day);
create table shop.visits_1 partition of shop.visits for values from (0) to (10);
create table shop.visits_2 partition of shop.visits for values from (10) to (20);
"""


def test_25_a_partition_named_directly(shop: Shop) -> None:
    shop.sql(PARTITIONED)
    shop.trigger("shop.visits", on=["insert", "update", "delete"])
    shop.sql("insert into shop.visits values (1, 1), (2, 11)")
    shop.sql("insert into shop.visits_1 values (3, 3)")
    assert shop.jobs() == [["insert", 1, 1], ["insert", 2, 11], ["insert", 3, 3]]
    shop.sql("update shop.visits_2 set page = 'p'")
    shop.sql("update shop.visits set page = 'q' where id = 3")
    assert shop.jobs() == [["update", 2, 11], ["update", 3, 3]]
    shop.sql("update shop.visits set day = 12 where id = 3")  # to the other partition
    assert shop.jobs() == [["delete", 3, 3], ["insert", 3, 12]]
    shop.sql("create table shop.visits_3 partition of shop.visits for values from (20) to (30)")
    shop.sql("insert into shop.visits_3 values (4, 20)")
    assert shop.jobs() == [["insert", 4, 20]]


def test_25_a_forced_statement_trigger_misses_it_and_check_says_so(shop: Shop) -> None:
    shop.sql(PARTITIONED)
    shop.trigger("shop.visits", on=["insert"], each="statement")
    shop.sql("insert into shop.visits values (1, 1)")
    assert shop.jobs() == [["insert", 1, 1]]
    shop.sql("insert into shop.visits_1 values (3, 3)")
    assert shop.jobs() == []
    (fault,) = shop.app.triggers.check()
    assert fault.problem and "names a partition" in fault.what


def test_a_trigger_on_one_partition_is_by_row(shop: Shop) -> None:
    shop.sql(PARTITIONED)
    shop.trigger("shop.visits_1", on=["insert"])
    shop.sql("insert into shop.visits values (1, 1), (2, 11)")
    assert shop.jobs() == [["insert", 1, 1]]


@pytest.mark.parametrize(("always", "jobs"), [(False, []), (True, [["insert", 1]])])
def test_25_a_session_that_replicates(shop: Shop, each: str, always: bool, jobs: list[Any]) -> None:
    shop.trigger(on=["insert"], each=each, always=always)
    with shop.conn.transaction():
        shop.sql("set local session_replication_role = replica")
        shop.sql("insert into shop.users values (1)")
    assert shop.jobs() == jobs
    assert shop.app.triggers.check() == []


def test_25_composite_keys_and_names_that_must_be_quoted(shop: Shop, each: str) -> None:
    table, name = """"Ein ""Schema"."50% %s {task}\"""", 'it\'s "odd" {op} %s'
    shop.sql(f"""
        create schema "Ein ""Schema";
        create table {table} ("a b" int, "50%" text, "Q'" text, "select" int, primary key ("50%", "a b"));
    """)
    try:
        shop.trigger(table, on=ALL, columns=["Q'", "select"], each=each, payload="changes", name=name)
        shop.sql(f"insert into {table} values (1, 'k', 'q', 3)")
        shop.sql(f"""update {table} set "Q'" = 'r'""")
        assert shop.jobs() == [
            ["insert", "k", 1, {"Q'": [None, "q"], "select": [None, 3]}], ["update", "k", 1, {"Q'": ["q", "r"]}],
        ]  # fmt: skip
        assert shop.app.triggers.check() == []
        shop.app.triggers.drop([name])
        shop.sql(f"delete from {table}")
        assert shop.jobs() == []
    finally:
        shop.sql('drop schema "Ein ""Schema" cascade')


def test_payloads(shop: Shop, each: str) -> None:
    shop.trigger(on=ALL, each=each, payload="row", name="rows")
    shop.sql("insert into shop.users (id, email) values (1, 'ü')")
    row = {"id": 1, "email": "ü", "plan": None, "seen": None, "bio": None}
    assert shop.jobs() == [["insert", row]]
    shop.sql("update shop.users set plan = 'pro'")
    assert shop.jobs() == [["update", row | {"plan": "pro"}]]
    shop.sql("update shop.users set id = 2")
    assert shop.jobs() == [["delete", row | {"plan": "pro"}], ["insert", row | {"id": 2, "plan": "pro"}]]
    shop.sql("delete from shop.users")
    assert shop.jobs() == [["delete", row | {"id": 2, "plan": "pro"}]]


def test_payload_changes(shop: Shop, each: str) -> None:
    shop.trigger(on=["insert", "update", "delete"], each=each, payload="changes")
    shop.sql("insert into shop.users (id, email) values (1, 'a')")
    shop.sql("update shop.users set email = 'b', plan = 'pro'")
    shop.sql("delete from shop.users")
    assert shop.jobs() == [
        ["delete", 1, {"id": [1, None], "email": ["b", None], "plan": ["pro", None]}],
        ["insert", 1, {"id": [None, 1], "email": [None, "a"]}],
        ["update", 1, {"email": ["a", "b"], "plan": [None, "pro"]}],
    ]


def test_events(shop: Shop, each: str) -> None:
    shop.sql("truncate pgqueue.event")
    shop.trigger(on=ALL, each=each, event="user.changed", payload="changes", columns=["plan"])
    shop.sql("insert into shop.users (id, plan) values (1, 'free')")
    shop.sql("update shop.users set plan = 'pro'")
    shop.sql("truncate shop.users cascade")
    rows = shop.conn.execute("select type, key, payload from pgqueue.event order by seq").fetchall()
    assert [(type_, key, json.loads(payload)) for type_, key, payload in rows] == [
        ("user.changed", "users:1", {"op": "insert", "key": {"id": 1}, "changes": {"plan": [None, "free"]}}),
        ("user.changed", "users:1", {"op": "update", "key": {"id": 1}, "changes": {"plan": ["free", "pro"]}}),
        ("user.changed", "users", {"op": "truncate"}),
    ]
    assert shop.jobs() == []
    shop.sql("truncate pgqueue.event")


@pytest.mark.parametrize("channel", ["users", "ü" * 60])
def test_listeners_hear_of_rows_of_any_length(shop: Shop, each: str, channel: str) -> None:
    shop.trigger(on=["insert", "update", "delete", "truncate"], each=each, notify=channel, payload="row", name="users")
    with shop.app.listen(channel, timeout=60) as items:
        assert isinstance(next(items), Listening)
        shop.sql("insert into shop.users (id, email) values (1, repeat('ü', 10000)), (2, 'b')")
        shop.sql("delete from shop.users where id = 1")
        shop.sql("truncate shop.users cascade")
        heard = [item for item in (next(items) for _ in range(4)) if isinstance(item, Notification)]
    row = {"plan": None, "seen": None, "bio": None}
    long = row | {"id": 1, "email": "ü" * 10_000}
    assert [item.json for item in heard] == [
        {"op": "insert", "key": {"id": 1}, "row": long}, {"op": "insert", "key": {"id": 2}, "row": row | {"id": 2, "email": "b"}},
        {"op": "delete", "key": {"id": 1}, "row": long}, {"op": "truncate"},
    ]  # fmt: skip
    assert {item.channel for item in heard} == {channel}


def test_a_bell_for_each_statement(shop: Shop, dsn: str) -> None:
    shop.app.task(name="mails", queue="mail", priority=3, timeout=5)(lambda op, user: None)
    shop.trigger(on=["insert", "update"], task="mails")
    with psycopg.connect(dsn, autocommit=True) as listener:
        listener.execute("listen pgqueue_jobs")
        shop.sql("update shop.users set plan = 'x'")
        shop.sql("insert into shop.users select n from generate_series(1, 50) as n")
        shop.conn.execute("select pg_notify('pgqueue_jobs', '(mark)')")
        assert [note.payload for note in listener.notifies(timeout=60, stop_after=2)] == ["mail", "(mark)"]
    rows = shop.conn.execute("select distinct queue, priority, timeout_s, state::text from pgqueue.job").fetchall()
    assert rows == [("mail", 3, 5.0, "queued")]


def test_bulk_is_the_default_of_a_task_that_takes_a_list(shop: Shop) -> None:
    def many(op: str, ids: list[int]) -> None: ...

    shop.app.task(name="many")(many)
    shop.trigger(on=["insert", "update"], task="many")
    shop.sql("insert into shop.users select n from generate_series(1, 2500) as n")
    jobs = shop.jobs()
    assert sorted(len(ids) for _, ids in jobs) == [500, 1000, 1000]
    assert {id_ for _, ids in jobs for id_ in ids} == set(range(1, 2501))
    shop.sql("update shop.users set id = -1 where id = 1")
    assert shop.jobs() == [["delete", [1]], ["insert", [-1]]]


def test_secret_arguments_are_marked(shop: Shop) -> None:
    shop.app.task(name="login", redact=["row"])(lambda op, row: None)
    shop.trigger(on=["insert"], task="login", payload="row")
    shop.sql("insert into shop.users (id, email) values (1, 'a')")
    ((headers,),) = shop.conn.execute("select headers from pgqueue.job").fetchall()
    assert json.loads(headers) == {"pgqueue.redact": [1, "row"]}


@pytest.mark.parametrize("target", [{"task": "t"}, {"event": "e"}])
def test_skip_own(shop: Shop, each: str, target: Any) -> None:
    shop.sql("truncate pgqueue.event")
    shop.trigger(on=["insert"], each=each, skip_own=True, **target)

    def count() -> int:
        ((found,),) = shop.conn.execute(
            "select (select count(*) from pgqueue.job where args <> '[]') + count(*) from pgqueue.event"
        ).fetchall()
        return int(found)

    own, other = shop.app.enqueue("t").id, shop.app.enqueue("other").id
    with shop.conn.transaction():
        shop.sql("select set_config('pgqueue.attempt', %s, true)", f"{own}:1")  # as in an atomic task
        shop.sql("insert into shop.users values (1)")
    with shop.conn.transaction():
        shop.sql("set local pgqueue.origin = 't'")
        shop.sql("insert into shop.users values (2)")
    assert count() == 0
    with shop.conn.transaction():
        shop.sql("select set_config('pgqueue.attempt', %s, true)", f"{other}:1")
        shop.sql("insert into shop.users values (3)")
    assert count() == (1 if "task" in target else 0)
    shop.sql("insert into shop.users values (4)")
    assert count() == (2 if "task" in target else 1)
    shop.sql("truncate pgqueue.event")


def test_a_session_goes_with_the_table_when_it_changes(shop: Shop, dsn: str, each: str) -> None:
    shop.trigger(on=["update"], each=each, payload="row")
    shop.sql("insert into shop.users values (1, 'a', 'free')")
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute("update shop.users set plan = 'pro'")
        shop.sql("alter table shop.users add column more text, drop column seen")
        session.execute("update shop.users set more = 'x'")
    assert ["update", {"id": 1, "email": "a", "plan": "pro", "bio": None, "more": "x"}] in shop.jobs()
    assert shop.app.triggers.check() == []


@pytest.mark.parametrize("target", [{"task": "t"}, {"event": "e"}])
def test_where_nobody_is_to_be_notified_a_transaction_may_be_prepared(shop: Shop, dsn: str, target: Any) -> None:
    quiet = App(dsn, notify="never")
    quiet.task(name="t")(lambda op, id_: None)
    quiet.trigger("shop.users", on=["insert"], **target)
    quiet.triggers.sync()
    assert quiet.triggers.check() == []
    with psycopg.connect(dsn, autocommit=True) as listener:
        listener.execute("listen pgqueue_jobs")
        listener.execute("listen pgqueue_events")
        shop.sql("insert into shop.users values (1)")
        shop.sql("select pg_notify('pgqueue_jobs', '(mark)')")
        assert [note.payload for note in listener.notifies(timeout=60, stop_after=1)] == ["(mark)"]
    quiet.close()
    shop.sql("truncate pgqueue.event")


@pytest.mark.parametrize(("skip_own", "jobs"), [(True, 1), (False, 3)])
def test_an_atomic_task_that_writes_to_its_own_table(
    shop: Shop, each: str, start_worker: Callable[..., Worker], skip_own: bool, jobs: int
) -> None:
    name = "tests.triggers.shop_tasks.note"
    shop.app.task(name=name)(lambda what, id: None)
    shop.trigger(on=["insert", "update"], task=name, each=each, skip_own=skip_own)
    start_worker("-c", "1", app="tests.triggers.shop_tasks").ready()
    shop.sql("insert into shop.users values (7)")

    def ended() -> int:
        ((count,),) = shop.conn.execute("select count(*) from pgqueue.history where state = 'succeeded'").fetchall()
        return int(count)

    eventually(lambda: ended() >= jobs, what="the task has run")
    if skip_own:
        assert shop.app.jobs(state="queued") == shop.app.jobs(state="running") == []
    shop.sql("drop trigger pgqueue_users_note_update on shop.users")  # or it would go on without end


# -- 23: what it costs --


def timed_ms(conn: psycopg.Connection, text: bytes) -> float:
    began = time.perf_counter()
    conn.execute(text)
    return (time.perf_counter() - began) * 1000


@pytest.mark.long
def test_23_a_plan_made_for_one_row_serves_many_and_the_other_way_round(shop: Shop, dsn: str) -> None:
    shop.sql("insert into shop.users select n, 'a', 'free' from generate_series(1, 100000) as n")
    shop.sql("vacuum analyze shop.users")
    bare_ms = timed_ms(shop.conn, b"update shop.users set plan = plan || 'x'")
    shop.sql("vacuum shop.users")
    shop.trigger(on=["update"], columns=["email", "plan"])

    one, bulk = b"update shop.users set plan = 'y' || plan where id = %d", b"update shop.users set plan = plan || 'z'"
    with (
        psycopg.connect(dsn, autocommit=True) as planned_for_one,
        psycopg.connect(dsn, autocommit=True) as planned_for_many,
    ):
        for _ in range(10):
            timed_ms(planned_for_one, one % 7)
        assert timed_ms(planned_for_one, bulk) <= 10 * bare_ms
        timed_ms(planned_for_many, bulk)
        shop.sql("vacuum shop.users")
        pairs = [(timed_ms(planned_for_one, one % n), timed_ms(planned_for_many, one % n)) for n in range(1, 60)]
    assert statistics.median(many / few for few, many in pairs) <= 2
    ((plans,),) = shop.conn.execute(
        "select array_agg(proconfig::text) from pg_proc where proname = 'pgqueue_users_t_update'"
    ).fetchall()
    assert plans == ['{"search_path=pg_catalog, pg_temp",enable_nestloop=off,jit=off}']


# -- 26: rights --


def test_26_a_role_without_rights_on_jobs_writes_and_cannot_call_the_function(shop: Shop, app: App, dsn: str) -> None:
    shop.trigger(on=ALL)
    shop.sql("""
        drop role if exists shop_clerk;
        create role shop_clerk login;
        grant usage on schema shop to shop_clerk;
        grant all on shop.users, shop.orders to shop_clerk;
        create schema clerk authorization shop_clerk;
    """)
    try:
        with psycopg.connect(dsn, autocommit=True) as clerk:
            clerk.execute("set role shop_clerk")
            clerk.execute("insert into shop.users values (1)")
            clerk.execute("update shop.users set plan = 'x'")
            for wrong in (
                "select * from pgqueue.job", "insert into pgqueue.job (id, task) values (gen_random_uuid(), 't')",
                "select pgqueue.pgqueue_users_t_insert()",
            ):  # fmt: skip
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    clerk.execute(wrong.encode())
            clerk.execute("create table clerk.own (id int primary key)")
            shop.sql("grant usage on schema pgqueue to shop_clerk")
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="pgqueue_users_t_insert"):
                clerk.execute(
                    "create trigger mine after insert on clerk.own referencing new table as new_rows for each statement "
                    "execute function pgqueue.pgqueue_users_t_insert()"
                )
        assert shop.jobs() == [["insert", 1], ["update", 1]]
    finally:
        shop.sql("revoke all on schema pgqueue from shop_clerk; drop owned by shop_clerk cascade; drop role shop_clerk")
