"""`pgqueue trigger`: sync, create, list, check and drop, and what check finds."""

import json
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from pgqueue.triggers import TriggerFault
from tests.shell import ROOT, Shell
from tests.triggers.conftest import Shop

Run = Callable[..., "subprocess.CompletedProcess[str]"]

CODE = """
from pgqueue import App

app = App()

@app.task(name="shop.sync_user", queue="sync")
def sync_user(op, id): ...

app.trigger("shop.users", on=["insert", "update"], columns=["plan"], task=sync_user)
app.trigger("shop.users", on=["delete"], event="user.deleted")
"""


@pytest.fixture
def run(shell: Shell, dsn: str, tmp_path: Path, shop: Shop) -> Run:
    (tmp_path / "code.py").write_text("")
    (tmp_path / "shopcode.py").write_text(CODE)

    def run(*words: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PGQUEUE_", "DATABASE_URL"))}
        told = shell.run(
            "trigger", *words, cwd=tmp_path, options=["-W", "error"],
            env={**clean, "PGQUEUE_DSN": dsn, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
        )  # fmt: skip
        done = subprocess.CompletedProcess(words, told.returncode, told.stdout.decode(), told.stderr.decode())
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done

    return run


def made(shop: Shop) -> list[str]:
    rows = shop.conn.execute(
        "select tgname from pg_trigger where tgrelid = 'shop.users'::regclass and not tgisinternal order by 1"
    )
    return [name for (name,) in rows]


def test_sync_writes_what_the_app_declares_and_no_more_than_that(run: Run, shop: Shop) -> None:
    assert "PROBLEM" in run("check", "-A", "shopcode", code=1).stdout
    assert run("sync", "-A", "shopcode").stdout.split() == ["created", "users_sync_user", "created", "users_deleted"]
    assert run("check", "-A", "shopcode").stdout == run("check").stdout == "no problems found\n"
    names = ["pgqueue_users_deleted_delete", "pgqueue_users_sync_user_insert", "pgqueue_users_sync_user_update"]
    assert made(shop) == names
    ids = "select array_agg(oid order by oid) from pg_trigger where not tgisinternal"
    before = shop.conn.execute(ids).fetchone()
    assert run("sync", "-A", "shopcode").stdout.split() == [
        "unchanged",
        "users_sync_user",
        "unchanged",
        "users_deleted",
    ]
    assert shop.conn.execute(ids).fetchone() == before
    shop.sql("insert into shop.users values (1)")
    assert shop.conn.execute("select queue, task from pgqueue.job").fetchall() == [("sync", "shop.sync_user")]
    (first, second) = json.loads(run("list", "--json").stdout)
    assert (first["name"], first["table"], first["on"], first["makes"], first["made_by"]) == (
        "users_deleted", "shop.users", "delete", "event user.deleted", "code",
    )  # fmt: skip
    assert "users_sync_user" in run("list").stdout and second["on"] == "insert,update"
    assert run("drop", "users_deleted", "users_sync_user").stdout == "dropped users_deleted\ndropped users_sync_user\n"
    assert made(shop) == [] and run("list").stdout == "no triggers\n"


def test_sync_changes_what_differs(run: Run, shop: Shop, tmp_path: Path) -> None:
    run("sync", "-A", "shopcode")
    changed = CODE.replace('["insert", "update"], columns=["plan"]', '["update", "truncate"], columns=["email"]')
    (tmp_path / "shopcode2.py").write_text(changed)
    found = run("check", "-A", "shopcode2", code=1).stdout
    assert "users_sync_user: the code declares it differently: columns, on" in found
    assert run("sync", "-A", "shopcode2").stdout.split()[:2] == ["changed", "users_sync_user"]
    assert made(shop) == [
        "pgqueue_users_deleted_delete",
        "pgqueue_users_sync_user_truncate",
        "pgqueue_users_sync_user_update",
    ]
    (tmp_path / "shopcode3.py").write_text(
        changed[: changed.rindex("app.trigger")].replace("shop.users", "shop.orders").replace("email", "id")
    )
    assert (
        "note     users_deleted: the code does not declare it any longer"
        in run("check", "-A", "shopcode3", code=1).stdout
    )
    run("sync", "-A", "shopcode3", code=0)
    assert "pgqueue_users_sync_user_update" in made(shop)  # another trigger: orders_sync_user


def test_create(run: Run, shop: Shop) -> None:
    words = [
        "create",
        "--table",
        "shop.users",
        "--on",
        "insert,update",
        "--columns",
        "email, plan",
        "--when",
        "new.plan = 'pro'",
    ]
    assert run(*words, "--task", "shop.sync_user", "-A", "shopcode").stdout == "created users_sync_user\n"
    shop.sql("insert into shop.users (id, plan) values (1, 'pro'), (2, 'free')")
    assert shop.jobs() == [["insert", 1]]
    again = run(*words, "--task", "shop.sync_user", "-A", "shopcode", code=2).stderr
    assert again == "pgqueue: there is a trigger users_sync_user on shop.users: drop it, or give another --name\n"
    unknown = run(*words, "--task", "shop.other", "-A", "shopcode", code=2).stderr
    assert "the app has no task 'shop.other'; it has shop.sync_user" in unknown
    assert run("drop", "no", code=2).stderr == "pgqueue: there is no trigger 'no'; there are users_sync_user\n"
    assert "empty name" in run("create", "--table", "shop.users", "--on", "insert,", "--notify", "n", code=2).stderr
    assert run("check", "-A", "shopcode", code=1).stdout.count("differently") == 1  # than the code does
    assert run("check").stdout == "no problems found\n"


def test_sql_prints_what_psql_can_run(run: Run, shop: Shop) -> None:
    text = run("create", "--table", "shop.users", "--on", "insert,update", "--notify", "users", "--sql").stdout
    assert made(shop) == [] and run("list").stdout == "no triggers\n"
    shop.sql(text)
    assert made(shop) == ["pgqueue_users_users_insert", "pgqueue_users_users_update"]
    assert run("check").stdout == "no problems found\n"
    run("drop", "users_users")
    shop.sql(run("sync", "-A", "shopcode", "--sql").stdout)
    assert run("check", "-A", "shopcode").stdout == "no problems found\n"


def faults(shop: Shop) -> list[str]:
    return [fault.what for fault in shop.app.triggers.check()]


@pytest.mark.parametrize(
    ("deed", "said"),
    [
        ("drop trigger pgqueue_users_t_insert on shop.users", "its trigger for insert is missing"),
        ("drop function pgqueue.pgqueue_users_t_insert cascade", "its function for insert is missing"),
        ("alter table shop.users disable trigger pgqueue_users_t_insert", "its trigger for insert is disabled"),
        ("alter table shop.users enable always trigger pgqueue_users_t_insert", "fires in sessions that replicate too"),
        ("alter function pgqueue.pgqueue_users_t_insert() reset enable_nestloop", "its function for insert was changed by hand"),
        ("grant execute on function pgqueue.pgqueue_users_t_insert() to public", "its function for insert was changed by hand"),
        (
            "create or replace function pgqueue.pgqueue_users_t_insert() returns trigger language plpgsql"
            " as 'begin return null; end'",
            "its function for insert was changed by hand",
        ),
        (
            "create or replace trigger pgqueue_users_t_insert after insert on shop.users for each row"
            " execute function pgqueue.pgqueue_users_t_insert()",
            "its trigger for insert was changed by hand",
        ),
        ("alter table shop.users rename to people", "its table shop.users is gone or has another name"),
        (
            "alter table shop.users drop constraint users_pkey cascade, alter email set not null, add primary key (email, id)",
            "the primary key of shop.users was (id) and is (email, id)",
        ),
        ("alter table shop.users drop constraint users_pkey cascade", "has no primary key"),
    ],
)  # fmt: skip
def test_check_finds_and_sync_mends(shop: Shop, deed: str, said: str) -> None:
    shop.trigger(on=["insert", "update"])
    assert faults(shop) == []
    shop.sql(deed)
    assert any(said in what for what in faults(shop)), faults(shop)
    if "rename" in deed:
        shop.sql("alter table shop.people rename to users")
    elif "constraint" in deed and "add" not in deed:
        shop.sql("alter table shop.users add primary key (id)")
    shop.app.triggers.sync()
    assert faults(shop) == []


def test_check_finds_a_disabled_partition_and_what_moves(shop: Shop) -> None:
    shop.sql("create table shop.v (id int primary key) partition by range (id)")
    shop.sql("create table shop.v1 partition of shop.v for values from (0) to (10)")
    shop.trigger("shop.v", on=["update"])
    (moved,) = shop.app.triggers.check()
    assert not moved.problem and "moves a row to another partition" in moved.what
    shop.sql("alter table shop.v1 disable trigger all")
    assert "its trigger for update is disabled on 1 partitions" in faults(shop)
    shop.app.triggers.sync()
    assert [fault.problem for fault in shop.app.triggers.check()] == [False]


def test_check_finds_what_is_not_wanted_any_longer(shop: Shop) -> None:
    shop.trigger(on=["insert"])
    shop.sql("delete from pgqueue.trigger")
    found = shop.app.triggers.check()
    assert found == [
        TriggerFault(True, "users_t", "it is declared in the code and not in the database", "run `pgqueue trigger sync`"),
        TriggerFault(
            False, "pgqueue_users_t_insert", "the function pgqueue.pgqueue_users_t_insert belongs to no trigger that is known",
            'drop function pgqueue."pgqueue_users_t_insert" cascade',
        ),
    ]  # fmt: skip
    shop.app.triggers.sync()
    assert shop.app.triggers.check() == []


def test_a_table_that_is_in_use_is_waited_for(shop: Shop, dsn: str) -> None:
    shop.app.trigger("shop.users", on=["insert"], task="t")
    with psycopg.connect(dsn) as other:
        other.execute("lock table shop.users in row exclusive mode")
        pid = other.info.backend_pid
        waits = "select count(*) from pg_stat_activity where %s = any (pg_blocking_pids(pid))"
        with ThreadPoolExecutor(1) as threads:
            done = threads.submit(shop.app.triggers.sync)
            while shop.conn.execute(waits, [pid]).fetchone() == (0,):
                assert not done.done()
            other.rollback()
            assert [change.what for change in done.result(60)] == ["created"]
