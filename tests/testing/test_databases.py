"""The databases of tests: emptied however full, dropped in the end, and what is said where that cannot be."""

import threading

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pgqueue import App, ConfigError
from pgqueue.testing import drain
from pgqueue.testing.databases import Cleaner, clone
from pgqueue.testing.kept import kept
from tests.answers import one_value
from tests.tables import own_tables
from tests.testing import tasks

TABLES = """
select table_name from information_schema.tables
where table_schema = 'pgqueue' and table_type = 'BASE TABLE' and table_name <> 'migration'
"""


def filled(conn: psycopg.Connection) -> set[str]:
    ours = own_tables()
    names = [name for (name,) in conn.execute(TABLES) if name in ours or name.partition("_2")[0] in ours]
    return {name.partition("_2")[0] for name in names if one_value(conn, f"select exists (select from pgqueue.{name})")}


def test_all_tables_are_emptied(app: App, dsn: str, conn: psycopg.Connection) -> None:
    job = tasks.add.defer(-1, 2)
    tasks.add.defer(1, 2)
    drain(app=app, raises=False)
    app.pause("x")
    job.cancel()
    tasks.add.defer(1, 2)
    conn.execute("insert into pgqueue.throughput values (now(), %s, 1, 1, 1, 1)", [job.id])
    conn.execute("insert into pgqueue.awaited values (%s, now())", [job.id])
    assert filled(conn) >= {
        "job",
        "history_succeeded",
        "history_ended",
        "attempt",
        "queue",
        "throughput",
        "awaited",
        "audit",
    }
    cleaner = Cleaner(dsn, app.config)
    cleaner.clean()
    cleaner.close()
    assert filled(conn) == {"event_era"}  # of the schema itself, as its migrations


def test_a_transaction_that_was_left_open_is_named(app: App, dsn: str) -> None:
    tasks.add.defer(1, 2)
    cleaner = Cleaner(dsn, app.config)
    with psycopg.connect(dsn) as left_open:
        left_open.execute("select from pgqueue.job for update")
        with pytest.raises(ConfigError, match="a test before this one left a transaction open, or a worker running"):
            cleaner.clean()
    cleaner.clean()
    cleaner.close()


def test_a_role_that_may_not_make_one(server_dsn: str, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    with psycopg.connect(server_dsn, autocommit=True) as conn:
        role = f"pgqueue_kit_{threading.get_native_id()}"
        conn.execute(f"create role {role} login")
        try:
            monkeypatch.setenv("PGQUEUE_TEST_DSN", make_conninfo(server_dsn, user=role))
            with pytest.raises(
                ConfigError, match=r"permission denied to create database; PGQUEUE_TEST_DSN takes a role"
            ):
                with clone(app.config):
                    pass
        finally:
            conn.execute(f"drop role {role}")


def test_a_connection_that_was_cut_is_opened_again(app: App, conn: psycopg.Connection) -> None:
    tasks.add.defer(1, 2)
    conn.execute("select pg_terminate_backend(%s)", [kept(app).info.backend_pid])
    with pytest.raises(psycopg.OperationalError):
        kept(app).execute("select 1")
    assert [ran.result for ran in drain(app=app)] == [3]
