"""The heartbeat's statement: who may declare whom dead, and signing in twice."""

import asyncio
import time
import uuid
from collections.abc import Sequence
from typing import Any

import psycopg

from pgqueue import App, db
from pgqueue.worker.settings import FRESH_S, GRACE_S, LEASE_S
from pgqueue.worker.supervisor.connection import TroubleLog, WorkConnection
from tests.answers import one_value


def test_a_line_that_was_renewed_counts_as_lost(app: App) -> None:
    """Or a claim that is handed out again after a fail-over, which only the heartbeat noticed, would run beside itself."""

    async def renew() -> list[int]:
        line = WorkConnection(app.dsn, app.queries, name="pgqueue", troubles=TroubleLog())
        lost = []
        for _ in range(2):
            await line.run(app.queries.alive())
            lost.append(line.lost)
            line.renew()
        await line.close()
        return lost

    assert asyncio.run(renew()) == [0, 1]


class Beating:
    """A worker's row and its heartbeat, without a session lock as behind a pooler."""

    def __init__(self, conn: psycopg.Connection, app: App) -> None:
        self.id = str(uuid.uuid4())
        self._conn, self._queries = conn, app.queries
        self.register()

    def register(self) -> None:
        row: dict[str, Any] = {"pid": 1, "concurrency": 1, "name": "w", "version": "0", "app": "", "queues": None}
        db.run(self._conn, self._queries.register(worker=self.id, lease_s=LEASE_S, lock_key=None, tasks=[], **row))

    def beat(self, *, settled: bool = True) -> Sequence[Any]:
        """(state or None, the workers it would declare dead)"""
        counts = dict.fromkeys(("succeeded", "failed", "dead", "cancelled"), 0)
        beat = self._queries.beat(
            worker=self.id, lease_s=LEASE_S, grace_s=GRACE_S, fresh_s=FRESH_S, lock_key=None, sleeping=False,
            state="alive", settled=settled, look=False, **counts,
        )  # fmt: skip
        ((state, expired, *_),) = db.run(self._conn, beat)
        return state, expired


def passes(conn: psycopg.Connection, seconds: float) -> None:
    """What the rows look like so many seconds later."""
    conn.execute(
        "update pgqueue.worker set heartbeat_at = heartbeat_at - %(s)s * interval '1 second', "
        "lease_until = lease_until - %(s)s * interval '1 second'",
        {"s": seconds},
    )


def test_after_a_pause_of_the_server_nobody_buries_the_others(app: App, conn: psycopg.Connection) -> None:
    first, second, gone = (Beating(conn, app) for _ in range(3))
    passes(conn, 60)  # the server was frozen, and with it every heartbeat
    assert first.beat() == ("alive", [])
    passes(conn, 0.05)
    assert first.beat() == ("alive", [])  # a reconnect beats again at once
    passes(conn, 1.5)
    assert second.beat() == ("alive", [])
    assert first.beat() == ("alive", [gone.id])


def test_one_who_is_heard_buries_who_is_not(app: App, conn: psycopg.Connection) -> None:
    first, second = Beating(conn, app), Beating(conn, app)
    for _ in range(9):
        passes(conn, 1.5)
        assert first.beat() == ("alive", [])
    passes(conn, 1.5)
    assert first.beat() == ("alive", [second.id])


def test_one_who_had_to_reconnect_does_not_judge_by_a_lost_session(app: App, conn: psycopg.Connection) -> None:
    first, second = Beating(conn, app), Beating(conn, app)
    passes(conn, 1.5)
    first.beat()
    passes(conn, 1.5)
    conn.execute(
        "update pgqueue.worker set lock_key = 1, suspect_since = now() - interval '3 s' where id = %s", [second.id]
    )
    assert first.beat(settled=False) == ("alive", [])
    passes(conn, 1.5)
    assert first.beat() == ("alive", [second.id])


def test_a_clock_that_is_set_back_makes_no_lease_longer(app: App, conn: psycopg.Connection) -> None:
    first, second = Beating(conn, app), Beating(conn, app)
    passes(conn, -3600)
    assert first.beat() == ("alive", [])
    db.run(conn, app.queries.suspect([first.id, second.id]))  # as each beat does with whom it finds in the future
    passes(conn, LEASE_S - 1)
    assert first.beat() == ("alive", [])
    passes(conn, 1.5)
    assert first.beat() == ("alive", [second.id])


def test_a_lease_is_renewed_while_the_jobs_are_locked(app: App, conn: psycopg.Connection) -> None:
    worker = Beating(conn, app)
    with psycopg.connect(app.dsn) as migration:
        migration.execute("lock table pgqueue.job in access exclusive mode")
        conn.execute("set lock_timeout = '1s'")
        assert worker.beat() == ("alive", [])


def test_a_heartbeat_that_had_to_wait_does_not_put_a_lease_back(app: App, conn: psycopg.Connection) -> None:
    worker = Beating(conn, app)
    with conn.transaction():  # its clock stands still, as for a statement that waits for a lock
        conn.execute("select now()")
        time.sleep(0.1)
        worker.beat()
        left = "select extract(epoch from lease_until - clock_timestamp())::float8 from pgqueue.worker"
        assert one_value(conn, left) > LEASE_S - 0.1


def test_a_worker_signs_in_again_when_the_answer_was_lost(app: App, conn: psycopg.Connection) -> None:
    worker = Beating(conn, app)
    conn.execute("update pgqueue.worker set state = 'dead'")
    worker.register()
    assert worker.beat() == (None, [])  # it does not come back from the dead by that
