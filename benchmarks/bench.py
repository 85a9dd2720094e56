"""What every measurement is given: a database made for the run and dropped after it, and how much to do in it."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from benchmarks.tasks import app
from pgqueue import App


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """database, dsn: the run's own. admin: a connection to another, so that looking disturbs nothing."""

    database: str
    dsn: str
    admin: psycopg.Connection
    scale: float
    repeat: int

    def count(self, full: int, *, least: int = 1) -> int:
        """So many things at full scale; fewer at a smaller one."""
        return max(least, round(full * self.scale))

    def connect(self) -> psycopg.Connection:
        """A bare autocommit connection, without anything of pgqueue's."""
        return psycopg.connect(self.dsn, autocommit=True)

    def empty(self) -> None:
        """Forget all jobs, so that each sample starts from the same tables."""
        with self.connect() as conn:
            conn.execute(query("truncate {schema}.job, {schema}.history"))


def query(text: LiteralString) -> sql.Composed:
    """A statement of our own, with the name of the schema in its place."""
    return sql.SQL(text).format(schema=sql.Identifier(app.config.schema))


@contextmanager
def opened(dsn: str | None, *, scale: float, repeat: int) -> Iterator[Bench]:
    """A fresh database with pgqueue's schema. Worker processes and the tasks' app find it by PGQUEUE_DSN."""
    server = App(dsn).dsn
    name = f"pgqueue_bench_{secrets.token_hex(4)}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        try:
            os.environ["PGQUEUE_DSN"] = own = make_conninfo(server, dbname=name)
            app.migrate()
            yield Bench(database=name, dsn=own, admin=admin, scale=scale, repeat=repeat)
        finally:
            app.close()
            admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
