"""In a block of `using`, orders and questions take the caller's connection too: what they do commits with it, or not at all."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from pgqueue import App, ConfigError, JobNotFound
from pgqueue.ops import stats
from tests.doors.callers import ASYNC, SYNC, Caller


@contextmanager
def by_psycopg(dsn: str) -> Iterator[Caller]:
    with psycopg.connect(dsn) as conn:
        yield Caller(conn, conn.commit, conn.rollback, conn.transaction)


KINDS = {"psycopg": by_psycopg, **SYNC}


class Jobs:
    """One job for each order."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.to_cancel, self.to_retry, self.to_purge, self.waiting = (
            app.enqueue("t", [name], queue=name).id for name in ("cancel", "retry", "purge", "waiting")
        )
        app.cancel(self.to_retry, reason="by mistake")

    def order(self) -> None:
        assert self.app.cancel(self.to_cancel, reason="no need")
        assert self.app.retry(self.to_retry)
        self.app.pause("closed")
        assert self.app.resume("open")
        assert self.app.purge(state="queued", queue="purge") == 1
        assert self.app.purge(state="cancelled", queue="cancel") == 1

    def look(self) -> list[Any]:
        """What each question is answered."""
        app = self.app
        with pytest.raises(JobNotFound):
            app.find(self.waiting[-12:])
        told = stats.gather(app.queries)
        return [
            app.snapshot(self.waiting), app.snapshot(self.to_retry), list(app.jobs()), list(app.jobs(state="queued", since=3600.0)),
            app.why(self.waiting), app.why(self.to_retry), app.attempts(self.to_retry),
            [deed[1:] for deed in app.audit(self.to_retry)],
            [queue.name for queue in app.run(told).queues],
        ]  # fmt: skip

    def done(self, conn: psycopg.Connection) -> set[str]:
        """The orders that were carried out, as others see it."""
        live = {id_ for (id_,) in conn.execute("select id::text from pgqueue.job")}
        paused = [name for (name,) in conn.execute("select name from pgqueue.queue where paused_at is not null")]
        deeds = {
            "cancel": self.to_cancel not in live, "retry": self.to_retry in live, "purge": self.to_purge not in live,
            "pause": "closed" in paused, "resume": "open" not in paused,
        }  # fmt: skip
        return {deed for deed, is_done in deeds.items() if is_done}


ALL = {"cancel", "retry", "purge", "pause", "resume"}


@pytest.fixture
def jobs(app: App) -> Jobs:
    app.pause("open")
    return Jobs(app)


@pytest.mark.parametrize("kind", KINDS)
def test_orders_are_of_the_callers_transaction(jobs: Jobs, dsn: str, conn: psycopg.Connection, kind: str) -> None:
    for end in ("rollback", "commit"):
        with KINDS[kind](dsn) as caller:
            with jobs.app.using(caller.conn):
                jobs.order()
                assert jobs.done(conn) == set(), "seen before the commit"
            getattr(caller, end)()
        assert jobs.done(conn) == (ALL if end == "commit" else set()), end


@pytest.mark.parametrize("kind", SYNC)
def test_questions_are_answered_alike(jobs: Jobs, dsn: str, kind: str) -> None:
    answers = []
    for opened in (by_psycopg, SYNC[kind]):
        with opened(dsn) as caller, jobs.app.using(caller.conn):
            answers.append(jobs.look())
    assert answers[0] == answers[1]


def test_orders_inside_run_sync_go_through_asyncpg(jobs: Jobs, dsn: str, conn: psycopg.Connection) -> None:
    wanted = jobs.look()

    def inside(session: Any) -> list[Any]:
        with jobs.app.using(session):
            answers = jobs.look()
            jobs.order()
            return answers

    async def scenario() -> list[Any]:
        async with ASYNC["AsyncSession on asyncpg"](dsn) as caller:
            answers: list[Any] = await caller.conn.run_sync(inside)
            assert jobs.done(conn) == set()
            await caller.commit()
        return answers

    assert asyncio.run(scenario()) == wanted
    assert jobs.done(conn) == ALL


ORDERS: dict[str, Callable[[Jobs], Any]] = {
    "cancel": lambda jobs: jobs.app.cancel(jobs.to_cancel),
    "retry": lambda jobs: jobs.app.retry(jobs.to_retry),
    "pause": lambda jobs: jobs.app.pause("closed"),
    "resume": lambda jobs: jobs.app.resume("open"),
    "purge": lambda jobs: jobs.app.purge(state="queued"),
    "state": lambda jobs: jobs.app.job(jobs.waiting).state,
}


@pytest.mark.parametrize("kind", ASYNC)
def test_no_order_can_await_an_async_connection(jobs: Jobs, dsn: str, conn: psycopg.Connection, kind: str) -> None:
    """Nor does it take another: that one could wait for what this transaction holds, without end."""

    async def scenario() -> None:
        async with ASYNC[kind](dsn) as caller:
            with jobs.app.using(caller.conn):
                for order in ORDERS.values():
                    with pytest.raises(
                        ConfigError, match=r"this is an async connection: .* outside of the block of using"
                    ):
                        order(jobs)
            await caller.commit()

    asyncio.run(scenario())
    assert jobs.done(conn) == set()
