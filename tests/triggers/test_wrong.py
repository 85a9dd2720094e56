"""What cannot be a trigger is refused with one line that names the thing and the cure, and nothing is written."""

from typing import Any

import psycopg
import pytest

from pgqueue import App
from pgqueue.errors import ConfigError, InvalidOption
from pgqueue.triggers.tasks import takes_list
from tests.triggers.conftest import Shop

GOOD: dict[str, Any] = {"table": "shop.users", "on": ["insert"], "task": "t"}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"on": "insert"}, r"on takes a list, as in on=\['insert'\]"),
        ({"on": ["upsert"]}, "on takes insert, update, delete, truncate, not 'upsert'"),
        ({"on": []}, "on is empty"),
        ({"task": None}, "one of task, event and notify, and this one has 0"),
        ({"event": "e"}, "and this one has 2: give one"),
        ({"task": None, "event": "user.*"}, "which only a subscription may have"),
        ({"columns": ["plan"]}, "on has no update: leave columns out"),
        ({"columns": "plan", "on": ["update"]}, "columns takes a list"),
        ({"payload": "everything"}, "payload must be pk or row or changes"),
        ({"each": "transaction"}, "each must be statement or row"),
        ({"task": None, "event": "e", "bulk": True}, "bulk puts rows together for a task"),
        ({"when": " "}, "when takes a condition of SQL"),
        ({"when": "$pgqueue$"}, "when takes a condition of SQL"),
        ({"table": ""}, "table must not be empty"),
        ({"table": "a\nb"}, "control character"),
        ({"name": "two\nlines"}, "control character"),
    ],
)
def test_what_is_seen_at_import(wrong: dict[str, Any], said: str) -> None:
    app = App("host=nowhere.invalid")
    with pytest.raises(InvalidOption, match=said):
        app.trigger(**GOOD | wrong)
    assert app.triggers.declared == {}


def test_two_of_one_name() -> None:
    app = App("host=nowhere.invalid")
    app.trigger(**GOOD)
    with pytest.raises(ConfigError, match="two triggers are called users_t: give one of them name="):
        app.trigger(**GOOD)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"table": "shop.nothing"}, "there is no table shop.nothing"),
        ({"table": "not a name"}, "invalid name syntax|there is no table"),
        ({"table": "shop.keyless"}, "shop.keyless has no primary key, by which a row is named: add one"),
        ({"table": "shop.seen"}, "is not a table but a view"),
        ({"table": "pgqueue.job"}, "is not a table of yours"),
        ({"table": "pg_catalog.pg_class"}, "is not a table of yours"),
        ({"table": "shop.parent"}, "is inherited by other tables"),
        ({"on": ["update"], "columns": ["pln"]}, "has no column 'pln'; it has id, email, plan, seen, bio"),
        ({"task": "unknown"}, "the app has no task 'unknown'; it has t"),
        ({"when": "new.plan ="}, 'trigger users_t: syntax error at or near "'),
        ({"when": "new.pln = 'pro'"}, "column new.pln does not exist; nothing was changed"),
        ({"when": "old.plan = 'pro'"}, "missing FROM-clause entry for table"),
        ({"when": "new.plan"}, "must be type boolean"),
        ({"when": "nothing(new.plan)"}, "function nothing.text. does not exist"),
        ({"when": "true) or (true"}, None),
        (
            {"when": "new.id in (select id from shop.orders)", "each": "row"},
            "cannot use subquery in trigger WHEN condition",
        ),
        ({"name": "n" * 60}, "is too long for an identifier: give name= of 46 bytes"),
        ({"task": None, "notify": "pgqueue_jobs"}, "is used by pgqueue itself"),
    ],
)
def test_what_the_database_refuses(shop: Shop, wrong: dict[str, Any], said: str | None) -> None:
    shop.sql("""
        create table shop.keyless (id int); create view shop.seen as select * from shop.users;
        create table shop.parent (id int primary key); create table shop.child () inherits (shop.parent);
    """)
    shop.app.trigger("shop.users", on=["delete"], task="t", name="good")
    shop.app.trigger(**GOOD | wrong)
    if said is None:  # odd, and the maker's own
        shop.app.triggers.sync()
        return
    with pytest.raises(ConfigError, match=said) as caught:
        shop.app.triggers.sync()
    assert "\n" not in str(caught.value)
    left = "select count(*) from pg_proc where proname like 'pgqueue_users_t_%' or proname like 'pgqueue_good_%'"
    assert shop.conn.execute(left.encode()).fetchone() == (0,)
    assert shop.conn.execute("select count(*) from pgqueue.trigger").fetchone() == (0,)


def test_none_of_our_own_tables_can_have_one(fresh_dsn: str) -> None:
    app = App(fresh_dsn)
    app.migrate()
    app.task(name="t")(lambda op: None)
    kept = "select oid::regclass::text from pg_class where relnamespace = 'pgqueue'::regnamespace and relkind in ('r', 'p')"
    with psycopg.connect(fresh_dsn) as conn:
        tables = [table for (table,) in conn.execute(kept.encode())]
    assert len(tables) > 20
    for table in tables:
        app.trigger(table, on=["truncate"], task="t", name="ours")
        with pytest.raises(ConfigError, match=f"{table} is not a table of yours"):
            app.triggers.sync()
        app.triggers.declared.clear()
    app.close()


def test_your_tables_may_be_in_our_schema(shop: Shop) -> None:
    shop.sql("create table pgqueue.yours (id int primary key)")
    try:
        shop.trigger("pgqueue.yours", on=["insert"])
        shop.sql("insert into pgqueue.yours values (1)")
        assert shop.jobs() == [["insert", 1]]
    finally:
        shop.sql("drop table pgqueue.yours")


@pytest.mark.parametrize("open_", [1, 2, 3])
def test_a_condition_is_no_way_to_send_another_statement(shop: Shop, open_: int) -> None:
    when = f"true{')' * open_}; drop table shop.orders; select {'(' * open_}true"
    shop.app.trigger(**GOOD | {"when": when})
    with pytest.raises(ConfigError):
        shop.app.triggers.sync()
    shop.sql("select from shop.orders")


def test_which_tasks_take_lists(app: App) -> None:
    def ids(op: str, ids: list[int]) -> None: ...
    def plain(op: str, ids: list) -> None: ...  # type: ignore[type-arg]
    def one(op: str, id_: int) -> None: ...
    def none() -> None: ...
    def unknown(op: str, ids: "Unknown") -> None: ...  # type: ignore[name-defined] # noqa: F821

    found = [takes_list(app.task(name=function.__name__)(function)) for function in (ids, plain, one, none, unknown)]
    assert found == [True, True, False, False, False]
