"""Names of channels: whatever they are, both ends mean the same, and other programs reach those of up to 63 bytes as they are."""

import uuid

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pgqueue import App, InvalidArguments
from pgqueue.channels.names import native
from tests.channels.ways import Loop

LONG = {
    "64 bytes": "n" * 64,
    "200 bytes": "t" * 200,
    "long and not ASCII": "tenant:" + "é" * 60,
    "cut within one": "é" * 19 + "x" + "é" * 30,
}
SHORT = {
    "63 bytes": "n" * 63, "quotes": 'we"ird', "an apostrophe": "o'clock", "a statement": '"; drop table job; --',
    "a percent": "100%s %(a)s",
    "emoji": "🐘" * 15, "case": "Orders",
    "a colon": "tenant:42", "spaces": " a b ", "a newline": "a\nb", "a backslash": "a\\b",
}  # fmt: skip


@pytest.mark.parametrize("name", SHORT.values(), ids=SHORT)
def test_c4_a_name_of_up_to_63_bytes_is_the_servers_own(app: App, conn: psycopg.Connection, name: str) -> None:
    assert native(name) == name
    with Loop(app, name) as loop:
        conn.execute(sql.SQL("notify {}, '1'").format(sql.Identifier(name)))
        app.notify(name, 2)
        assert loop.heard(2) == [1, 2]
        assert {item.channel for item in loop.items[1:]} == {name}


@pytest.mark.parametrize("name", LONG.values(), ids=LONG)
def test_c4_a_longer_one_has_a_native_name_that_both_ends_know(app: App, conn: psycopg.Connection, name: str) -> None:
    assert len(native(name).encode()) <= 63 and native(name)[:19] == name[:19]
    with Loop(app, name) as loop:
        app.notify(name, 1)
        app.notify(name + "x", "another")
        conn.execute("select pg_notify(%s, '2')", [native(name)])
        assert loop.heard(2) == [1, 2]
        assert {item.channel for item in loop.items[1:]} == {name}


def test_case_counts(app: App, conn: psycopg.Connection) -> None:
    with Loop(app, "Orders", "orders") as loop:
        conn.execute("notify Orders, '1'")  # PostgreSQL folds what is not quoted
        conn.execute("notify \"Orders\", '2'")
        loop.heard(2)
        assert [(item.channel, item.payload) for item in loop.items[1:]] == [("orders", "1"), ("Orders", "2")]


@given(st.text(min_size=1, max_size=200).filter(lambda name: "\0" not in name))
def test_no_native_name_is_cut(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        return
    assert 0 < len(native(name).encode()) <= 63
    assert native(native(name)) == native(name)


def test_a_name_that_the_database_cannot_hold_fails_alone(server_dsn: str) -> None:
    name = f"pgqueue_latin_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_dsn, autocommit=True) as admin:
        admin.execute(f"create database {name} encoding 'LATIN1' locale 'C' template template0")
        app = App(make_conninfo(server_dsn, dbname=name))
        app.migrate()
        with Loop(app, "orders", "caf\u00e9") as loop:
            with pytest.raises(InvalidArguments, match="the database cannot hold this text"):
                next(app.listen("good", "\u6f22"))
            with pytest.raises(InvalidArguments, match="the database cannot hold this text"):
                app.notify("\u6f22", 1)
            app.notify("caf\u00e9", "\u00e9")
            assert loop.heard(1) == ["\u00e9"]
        app.close()
        admin.execute(f"drop database {name} with (force)")
