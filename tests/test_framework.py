"""An App that is bound to a framework asks it for its settings whenever it needs them, and for the open transaction."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
import pytest

from pgqueue import App, ConfigError
from pgqueue.task import AnyTask


class Told:
    """A framework that says what it was told."""

    def __init__(self, **settings: Any) -> None:
        self.said: Mapping[str, Any] = settings
        self.open: Any = None
        self.refusal: Exception | None = None

    def settings(self) -> Mapping[str, Any]:
        return self.said

    def transaction(self) -> Any:
        return self.open

    def check(self) -> None:
        if self.refusal is not None:
            raise self.refusal


@pytest.fixture
def told(dsn: str) -> Told:
    return Told(dsn=dsn)


@pytest.fixture
def bound(told: Told) -> Iterator[App]:
    made = App()
    made.bind(told)
    yield made
    made.close()


@pytest.fixture
def hello(bound: App) -> AnyTask:
    return bound.task(name="hello")(lambda: None)


def count(dsn: str) -> int:
    with psycopg.connect(dsn) as conn:
        (found,) = conn.execute("select count(*) from pgqueue.job").fetchone() or (0,)
    return int(found)


def sessions(dsn: str) -> int:
    with psycopg.connect(dsn) as conn:
        mine = (
            "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'pgqueue'"
        )
        (found,) = conn.execute(mine).fetchone() or (0,)
    return int(found)


def test_a_framework_names_the_database_against_the_environment(
    hello: AnyTask, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGQUEUE_DSN", "postgresql://127.0.0.1:1/nowhere")
    hello.defer()
    assert count(dsn) == 1


def test_arguments_of_the_app_win(told: Told) -> None:
    app = App("host=here", notify="never")
    app.bind(told)
    told.said = {"dsn": "host=there", "notify": "always", "schema": "jobs"}
    assert (app.config.dsn, app.config.notify, app.config.schema) == ("host=here", "never", "jobs")


def test_a_new_word_counts_at_once_and_ends_the_old_sessions(
    told: Told, hello: AnyTask, bound: App, dsn: str, fresh_dsn: str
) -> None:
    hello.defer()
    App(fresh_dsn).migrate()
    assert sessions(dsn) == 1
    told.said = {"dsn": fresh_dsn}
    hello.defer()
    hello.defer()
    assert (count(dsn), count(fresh_dsn)) == (1, 2)
    assert (sessions(dsn), sessions(fresh_dsn)) == (0, 1)
    told.said = {"dsn": dsn, "schema": "other"}
    assert bound.queries.pause("x", for_s=None).sql.count("other")
    with pytest.raises(ConfigError):
        told.said = {"dsn": ""}
        hello.defer()


def test_its_async_sessions_follow(told: Told, hello: AnyTask, dsn: str, fresh_dsn: str) -> None:
    App(fresh_dsn).migrate()

    async def both() -> None:
        await hello.defer_async()
        told.said = {"dsn": fresh_dsn}
        await hello.defer_async()

    asyncio.run(both())
    assert (count(dsn), count(fresh_dsn)) == (1, 1)
    assert (sessions(dsn), sessions(fresh_dsn)) == (0, 0)


def test_a_defer_joins_the_transaction_that_is_open(told: Told, hello: AnyTask, bound: App, dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        told.open = conn
        job = hello.defer()
        assert len(hello.defer_many([()] * 3)) == 3
        assert job.snapshot().state == "queued" and count(dsn) == 0
        conn.rollback()
        told.open = None
    assert count(dsn) == 0


def test_conn_and_using_come_first(told: Told, hello: AnyTask, bound: App, dsn: str) -> None:
    with psycopg.connect(dsn) as open_one, psycopg.connect(dsn, autocommit=True) as conn:
        told.open = open_one
        hello.options(conn=conn).defer()
        with bound.using(conn):
            hello.defer()
        assert count(dsn) == 2
        open_one.rollback()


def test_async_calls_do_not_join_it(told: Told, hello: AnyTask, dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        told.open = conn
        asyncio.run(hello.defer_async())
        assert count(dsn) == 1


def test_a_framework_may_refuse_connections_of_ours(told: Told, hello: AnyTask, dsn: str) -> None:
    told.refusal = RuntimeError("no database in this test")
    with pytest.raises(RuntimeError, match="no database"):
        hello.defer()
    with pytest.raises(RuntimeError, match="no database"):
        asyncio.run(hello.defer_async())
    with psycopg.connect(dsn) as conn:
        told.open = conn
        hello.defer()
    assert count(dsn) == 1
