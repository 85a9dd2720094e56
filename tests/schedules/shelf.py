"""Schedules as rows of a test: put there by hand, and fired on a connection as a worker does."""

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from pgqueue import App, db
from pgqueue.job import new_id
from pgqueue.schedules.declare import declare, reconcile
from pgqueue.schedules.fire import Firing, fire_round
from pgqueue.schedules.schedule import Schedule

NOON = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


class Shelf:
    """The schedules of a database, on one connection."""

    def __init__(self, app: App, conn: psycopg.Connection) -> None:
        self.app = app
        self.conn = conn
        self._numbers = itertools.count()

    def put(
        self, name: str = "s", *, cron: str | None = "* * * * *", next_run_at: datetime = NOON, **columns: Any
    ) -> None:
        """One that is due at noon, and each minute from then on."""
        row = {
            "name": name,
            "cron": cron,
            "task": "tests.tasks.echo",
            "args": '["x"]',
            "next_run_at": next_run_at,
            **columns,
        }
        names = ", ".join(row)
        places = ", ".join(f"%({column})s" for column in row)
        self.conn.execute(f"insert into pgqueue.schedule ({names}) values ({places})", row)

    def fire(self, now: datetime | None = NOON, *, most: int | None = None) -> Firing:
        """One round, at this time."""
        with self.conn.transaction():
            return db.run(self.conn, fire_round(self.app.queries, ring="never", now=now, most=most))

    def fired(self, name: str = "s") -> list[tuple[str, str | None]]:
        """(due time, why it made no job)"""
        rows = self.conn.execute(
            "select due_at, skipped from pgqueue.fired where schedule = %s order by due_at", [name]
        )
        return [(f"{due_at.astimezone(UTC):%H:%M}", skipped) for due_at, skipped in rows]

    def made(self) -> list[str]:
        """For which times there are jobs."""
        rows = self.conn.execute("select headers::json ->> 'pgqueue.due_at' from pgqueue.jobs order by 1")
        return [f"{datetime.fromisoformat(text):%H:%M}" for (text,) in rows]

    def next(self, name: str = "s") -> datetime | None:
        ((at,),) = self.conn.execute("select next_run_at from pgqueue.schedule where name = %s", [name]).fetchall()
        return at.astimezone(UTC) if at else None

    def last_job(self, name: str = "s") -> str | None:
        """The job that was made last."""
        ((job,),) = self.conn.execute("select last_job::text from pgqueue.schedule where name = %s", [name]).fetchall()
        return None if job is None else str(job)

    def end_jobs(self) -> None:
        self.conn.execute("delete from pgqueue.job")

    # -- workers --

    def worker(self, *schedules: Schedule, lives: bool = True) -> str:
        """A worker whose code declares these, at its start."""
        id_ = new_id()
        row: dict[str, Any] = {"pid": 1, "concurrency": 1, "version": "0", "app": "", "queues": None, "tasks": []}
        fingerprints = [schedule.fingerprint for schedule in schedules]
        queries = self.app.queries
        name = f"w{next(self._numbers)}"
        db.run(
            self.conn, queries.register(worker=id_, lease_s=60, lock_key=None, name=name, schedules=fingerprints, **row)
        )
        with self.conn.transaction():
            db.run(self.conn, declare(queries, schedules))
        if not lives:
            self.leave(id_)
        return id_

    def leave(self, worker: str) -> None:
        db.run(self.conn, self.app.queries.depart(worker=worker))

    def reconcile(self) -> None:
        with self.conn.transaction():
            assert db.run(self.conn, reconcile(self.app.queries)) == {}

    def rows(self, *columns: str) -> list[tuple[Any, ...]]:
        return self.conn.execute(f"select {', '.join(columns)} from pgqueue.schedule order by name").fetchall()

    def passes(self, span: timedelta) -> None:
        """For what is noted of missing code."""
        self.conn.execute("update pgqueue.schedule set undeclared_at = undeclared_at - %s", [span])
        self.conn.execute("update pgqueue.declared set seen_at = seen_at - %s", [span])


def schedules(app: App, *named: tuple[str, str], **options: Any) -> Sequence[Schedule]:
    """As code declares them: names and expressions."""
    for name, cron in named:
        app.schedule(name, "tests.tasks.echo", args=[name], cron=cron, **options)
    return app.schedules.made()
