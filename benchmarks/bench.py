"""What every measurement is given here: a database made for the run and dropped after it.

A schema, as `pgqueue bench` makes it, would not do: the server counts commits by database, and settings are set on one.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from benchmarks import tasks
from pgqueue import App
from pgqueue.bench import bench

CONCURRENCY = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench(bench.Bench):
    """database: the run's own. admin: a connection to another, so that looking disturbs nothing."""

    database: str
    admin: psycopg.Connection

    def connect(self) -> psycopg.Connection:
        """A bare autocommit connection, without anything of pgqueue's."""
        return psycopg.connect(self.app.dsn, autocommit=True)

    def query(self, text: LiteralString) -> sql.Composed:
        """A statement of our own, with the name of the schema in its place."""
        return sql.SQL(text).format(schema=sql.Identifier(self.app.config.schema))


@contextmanager
def opened(dsn: str | None, *, scale: float, repeat: int) -> Iterator[Bench]:
    """A fresh database with pgqueue's schema."""
    server = App(dsn).dsn
    with psycopg.connect(server, autocommit=True) as admin, database(admin, prefix="pgqueue_bench") as name:
        app = tasks.registered(App(make_conninfo(server, dbname=name)))
        app.migrate()
        try:
            yield Bench(
                app=app, tasks=tasks.__name__, concurrency=CONCURRENCY, scale=scale, repeat=repeat, database=name, admin=admin,
            )  # fmt: skip
        finally:
            app.close()


@contextmanager
def database(admin: psycopg.Connection, *, prefix: str) -> Iterator[str]:
    """The name of an empty database, made for the block over a connection to another and dropped after it."""
    name = f"{prefix}_{secrets.token_hex(4)}"
    admin.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    try:
        yield name
    finally:
        admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
