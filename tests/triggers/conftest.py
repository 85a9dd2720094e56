"""A shop whose tables have triggers, and none left of them afterwards."""

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pgqueue import App

TABLES = """
create schema shop;
create table shop.users (id bigint primary key, email text, plan text, seen timestamptz, bio json);
create table shop.orders (id int primary key, user_id bigint references shop.users on delete cascade on update cascade);
"""


class Shop:
    """A database of tables, and the app that declares triggers on them."""

    def __init__(self, app: App, conn: psycopg.Connection) -> None:
        self.app = app
        self.conn = conn

    def sql(self, text: str, *values: Any) -> int:
        """How many rows it changed."""
        return self.conn.execute(text.encode(), values or None).rowcount

    def trigger(self, table: str = "shop.users", **wanted: Any) -> None:
        """Declare it, of a task unless it has another target, and write it."""
        if not {"event", "notify", "task"} & wanted.keys():
            wanted["task"] = "t"
        self.app.trigger(table, **wanted)
        self.app.triggers.sync()

    def jobs(self) -> list[Any]:
        """The arguments of the jobs that there are, in order; they are gone afterwards."""
        rows = self.conn.execute(
            "with gone as (delete from pgqueue.job returning args) select args from gone"
        ).fetchall()
        return sorted((json.loads(args) for (args,) in rows), key=str)


@pytest.fixture
def shop(app: App, conn: psycopg.Connection) -> Iterator[Shop]:
    conn.execute(TABLES)
    app.task(name="t")(lambda op, *rest: None)
    yield Shop(app, conn)
    app.triggers.drop([name for (name,) in conn.execute("select name from pgqueue.trigger")])
    conn.execute("drop schema shop cascade")
